/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU survives its agent. A slot whose lock is free, but whose pid files name a
 * live process, belonged to a run that was killed: its VM, or a QEMU that libvirt
 * was only asking for its capabilities.
 */
#include "leftovers.h"

#include "error.h"
#include "fd.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TERM_WAIT_MS 5000
#define KILL_WAIT_MS 5000

int slot_lock(const char *directory, GError **error)
{
    g_autofree char *path = g_strconcat(directory, ".lock", NULL);
    g_auto(HvFd) fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot open %s: %s", path, g_strerror(errno));
        return -1;
    }
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? hv_fd_steal(&fd) : -1;
}

/* Does this process run a VM of the slot? Its command line names the slot's directory. */
static gboolean is_of_slot(const HvRoot *root, gint64 pid, const char *directory)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/cmdline", pid);
    g_autofree char *real = hv_root_path(root, path);
    g_autofree char *words = NULL;
    g_autofree char *needle = g_strconcat(directory, "/", NULL);
    gsize n = 0;
    return g_file_get_contents(real, &words, &n, NULL) && n > 0 &&
           memmem(words, n, needle, strlen(needle)) != NULL;
}

/* What is done with a process of a slot that nobody has locked. */
typedef void (*Visit)(const HvRoot *root, const char *directory, gint64 pid, gpointer data);

static void end_process(const HvRoot *root, const char *directory, gint64 pid, gpointer data)
{
    (void)data;
    HvProcess process = hv_process_identify(root, pid);
    g_auto(HvFd) handle = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    /* checked after the handle is open: from here on it cannot be another process */
    if (process.pid == 0 || handle < 0 || !is_of_slot(root, pid, directory))
        return;
    fprintf(
        stderr,
        "hugevmctl: ending a VM that was left by a killed run (QEMU is process %" G_GINT64_FORMAT
        ")\n",
        pid);
    syscall(SYS_pidfd_send_signal, handle, SIGTERM, NULL, 0);
    if (hv_process_wait_end(root, &process, TERM_WAIT_MS))
        return;
    syscall(SYS_pidfd_send_signal, handle, SIGKILL, NULL, 0);
    hv_process_wait_end(root, &process, KILL_WAIT_MS);
}

static void note_process(const HvRoot *root, const char *directory, gint64 pid, gpointer data)
{
    if (hv_process_identify(root, pid).pid != 0 && is_of_slot(root, pid, directory))
        g_array_append_val((GArray *)data, pid);
}

static gint64 pid_in_file(const HvRoot *root, const char *path)
{
    guint64 pid = 0;
    return hv_root_read_u64(root, path, &pid, NULL) && pid > 1 && pid < G_MAXINT32 ? (gint64)pid
                                                                                   : 0;
}

static void visit_slot(const char *directory, Visit visit, gpointer data)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_autofree char *run = g_strconcat(directory, "/run/qemu", NULL);
    g_autofree char *probes = g_strconcat(directory, "/lib/qemu", NULL);
    g_auto(GStrv) vms = hv_root_list(root, run, NULL);
    g_auto(GStrv) dirs = hv_root_list(root, probes, NULL);
    for (guint i = 0; vms != NULL && vms[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", run, vms[i]);
        if (g_str_has_suffix(vms[i], ".pid"))
            visit(root, directory, pid_in_file(root, path), data);
    }
    for (guint i = 0; dirs != NULL && dirs[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("%s/%s/qmp.pid", probes, dirs[i]);
        if (g_str_has_prefix(dirs[i], "qmp-"))
            visit(root, directory, pid_in_file(root, path), data);
    }
}

static void visit_free_slots(Visit visit, gpointer data)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_auto(GStrv) names = hv_root_list(root, SLOTS_DIRECTORY, NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        if (strchr(names[i], '.') != NULL)
            continue;
        g_autofree char *directory = g_strdup_printf(SLOTS_DIRECTORY "/%s", names[i]);
        g_auto(HvFd) lock = slot_lock(directory, NULL);
        if (lock >= 0)
            visit_slot(directory, visit, data);
    }
}

void slots_end_leftovers(void)
{
    visit_free_slots(end_process, NULL);
}

GArray *slots_list_leftovers(void)
{
    GArray *pids = g_array_new(FALSE, TRUE, sizeof(gint64));
    visit_free_slots(note_process, pids);
    return pids;
}
