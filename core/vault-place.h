/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the vault is: found, made, and entered. For vault.c. */
#pragma once

#include <glib.h>

/*
 * The calling thread goes into the vault, whose root is then its "/"; host_fd is the
 * mount namespace that it is in. may_make: where there is no vault it makes one. The
 * thread must share neither its root nor its directory, and is to end after its visit,
 * in whatever namespace it then is. 0, or -1 with errno. ENOENT: there is no vault;
 * EBUSY: what others have mounted hides where it is, or would be.
 */
int hv_vault_enter(int host_fd, gboolean may_make);

/* Without entering it: is there a vault of this mount namespace? */
gboolean hv_vault_is_here(void);

/* Unmounts the vault of this mount namespace, if there is one. 0, or errno. */
int hv_vault_unmount(void);

/* May there be one at all? FALSE: nobody on this host has made one. */
gboolean hv_vault_may_exist(void);
