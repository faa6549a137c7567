/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the hook programs of libvirt and of VDSM share on their way to the module. */
#pragma once

#include "hugevm/plugin.h"

#include <glib.h>

/* Whose claims are those of libvirt's hook. */
#define DOOR_LIBVIRT "libvirt"

typedef struct {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
} Door;

/*
 * Loads the installed module and opens a handle. owner_name (static text) and
 * owner_pid: whose claims these will be. FALSE: *out_problem is one line for people.
 */
gboolean door_open(Door *door, const char *owner_name, gint64 owner_pid, char **out_problem);
void door_clear(Door *door);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Door, door_clear)

/* SIGTERM and SIGINT cancel the getting of pages: what has been got is given back. */
void door_catch_signals(void);
gboolean door_is_interrupted(void);
#define DOOR_INTERRUPTED "interrupted; what had been got is given back"

/* Message and hint as one line. */
char *door_problem(const struct hugevm_error *error);

/* One of the slots for a VM that is known by its UUID; neither a VM without claim is a
 * problem, nor a module that does not do this. vm needs no size. */
typedef int32_t (*DoorEvent)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                             struct hugevm_error *error);
gboolean door_tell(const Door *door, DoorEvent event, struct hugevm_vm_ref *vm, char **out_problem);

/* Lets go of a claim that was just made; generation 0: there is none. */
void door_take_back(const Door *door, const char *uuid, uint64_t generation);

/* All of a file or pipe; NULL: it cannot be read, or is larger than a hook takes in (errno). */
char *door_read(int fd, gsize *out_bytes);

/* Does the ledger, or its copy, speak of this VM? TRUE as well where one cannot be read. */
gboolean door_ledger_names(const char *uuid);
