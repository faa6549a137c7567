/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file descriptor that closes with its scope: g_auto(HvFd) fd = open(...). */
#pragma once

#include <errno.h>
#include <glib.h>
#include <unistd.h>

typedef int HvFd;

static inline void hv_fd_clear(HvFd *fd)
{
    int errsv = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = errsv;
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvFd, hv_fd_clear)

static inline int hv_fd_steal(HvFd *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}
