/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes told apart for good: a pid alone may be somebody else's tomorrow. */
#pragma once

#include "root.h"

/* A file of /proc/PID; pid as its directory is called. NULL: it is not there, or not to be read. */
char *hv_process_read(const HvRoot *root, const char *pid, const char *file, gsize max_bytes);

typedef struct {
    gint64 pid;          /* 0: not known */
    guint64 start_ticks; /* field 22 of /proc/PID/stat */
} HvProcess;

/* The process that has this pid now; pid 0 in the result: there is none (or only its zombie). */
HvProcess hv_process_identify(const HvRoot *root, gint64 pid);

/* Is exactly this process alive? FALSE for pid 0. */
gboolean hv_process_is_alive(const HvRoot *root, const HvProcess *process);

/*
 * The QEMU that runs this VM: its command line has "-uuid UUID", it maps huge
 * pages, and its user is none that people log in as; pid 0: none.
 */
HvProcess hv_process_find_qemu(const HvRoot *root, const char *uuid);

/* The same of a VM whose memory is in files below the directory, which it maps. */
HvProcess hv_process_find_qemu_of_files(const HvRoot *root, const char *uuid,
                                        const char *directory);

/* What the process maps of files below the directory, in KiB. */
guint64 hv_process_file_kib(const HvRoot *root, gint64 pid, const char *directory);

/* Of that, what their file system has allocated. */
guint64 hv_process_allocated_file_kib(const HvRoot *root, gint64 pid, const char *directory);

/* Does it run as a user of the system's, as daemons and QEMU do; not as one that people log in as?
 */
gboolean hv_process_is_systems(const HvRoot *root, gint64 pid);

/* Is this one of the words of its command line? TRUE as well where that cannot be read. */
gboolean hv_process_has_word(const HvRoot *root, gint64 pid, const char *word);

/* Huge pages that the process has touched, of all sizes, in KiB. */
guint64 hv_process_hugetlb_kib(const HvRoot *root, gint64 pid);

/* Waits until the process has ended and its memory is free, at most timeout_ms. */
gboolean hv_process_wait_end(const HvRoot *root, const HvProcess *process, guint64 timeout_ms);
