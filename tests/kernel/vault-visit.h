// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What processes do in a vault, for probe-vault: each visits it for one act, and ends.
//
// An act is a body for in_child(); it returns 0 or errno. The mover does its work in steps, and
// waits after each, so that the world may be looked at there, or the mover be killed.

#pragma once

#include "probe.h"

#define PLACE "/tmp/vault" // a private mount
#define KEPT PLACE "/namespace"
#define VM "/tmp/vm"
#define LAUNCH "/launch" // the mount, as seen in the vault
#define SOURCE "probe-vault"

enum { PAGES = 8, OWNER = 107, MODE = 0750 };

// Namespaces are made on this processor: a later one of it can be kept in an earlier one.
void stay_on_processor(int processor);

struct making {
    const struct pool *pool;
    int processor;
};

// A vault kept by KEPT, with a mount in it; ends with SIGKILL (data: struct making).
int make_vault_and_die(void *data);
// Makes the mount (data: struct pool).
int put(void *data);
// Detaches it (data: none).
int drop(void *data);
// Attaches a tree there (data: its file descriptor).
int put_tree(void *data);

// The steps in which a mount is brought from the vault to the VM's directory.
enum step { ENTER, CLONE, RETURN, ATTACH, STEPS };

struct mover {
    pid_t pid;
    int channel;
};

struct mover mover_start(void);
// 0, or the errno of the step.
int mover_step(const struct mover *mover, enum step step);
// All steps up to this one; 0, or the errno of the first that failed.
int mover_steps(const struct mover *mover, enum step last);
void mover_kill(const struct mover *mover);
// All steps, by a mover of its own.
int move(void);
// A clone of the mount at path, attached nowhere; -1 with errno.
int clone_of(const char *path);
