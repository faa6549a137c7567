/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A slot is N below /run/hugevm/embed, locked by flock on N.lock as long as its
 * process lives. QEMU survives its agent; whose lock is free, but whose pid files
 * name a live QEMU, is a run that was killed.
 */
#include "agent-slot.h"

#include "error.h"
#include "fd.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARENT "/run/hugevm"
#define SLOTS PARENT "/embed"
#define MAX_SLOTS 256
#define TERM_WAIT_MS 5000
#define KILL_WAIT_MS 5000

/* virtlogd is a daemon of its own; without one, QEMU's output goes to plain files. */
#define QEMU_CONF "stdio_handler = \"file\"\n"

static gboolean make_directory(const char *path, GError **error)
{
    struct stat st;
    if (mkdir(path, 0755) == 0 && chmod(path, 0755) == 0)
        return TRUE;
    if (errno == EEXIST && lstat(path, &st) == 0)
        errno = !S_ISDIR(st.st_mode) ? ENOTDIR : st.st_uid != geteuid() ? EACCES : 0;
    if (errno == 0)
        return TRUE;
    hv_set_error(error, errno == EACCES ? HV_ERROR_PERMISSION : HV_ERROR_SYSTEM,
                 errno == EACCES ? "run it as root" : NULL, "cannot use the directory %s: %s", path,
                 g_strerror(errno));
    return FALSE;
}

/* The slot's lock; -1: somebody has it, or an error is set. */
static int lock_slot(const char *directory, GError **error)
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

static void end_process(const HvRoot *root, gint64 pid, const char *directory)
{
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

static void end_leftovers(const char *directory)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_autofree char *run = g_strconcat(directory, "/run/qemu", NULL);
    g_auto(GStrv) names = hv_root_list(root, run, NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        if (!g_str_has_suffix(names[i], ".pid"))
            continue;
        g_autofree char *path = g_strdup_printf("%s/%s", run, names[i]);
        guint64 pid = 0;
        if (hv_root_read_u64(root, path, &pid, NULL) && pid > 1 && pid < G_MAXINT32)
            end_process(root, (gint64)pid, directory);
    }
}

static gboolean fill_slot(const char *directory, GError **error)
{
    g_autofree char *etc = g_strconcat(directory, "/etc", NULL);
    g_autofree char *conf = g_strconcat(etc, "/qemu.conf", NULL);
    return make_directory(directory, error) && make_directory(etc, error) &&
           g_file_set_contents(conf, QEMU_CONF, -1, error);
}

AgentSlot *agent_slot_take(GError **error)
{
    AgentSlot *taken = NULL;
    if (!make_directory(PARENT, error) || !make_directory(SLOTS, error))
        return NULL;
    for (guint i = 0; i < MAX_SLOTS; i++) {
        g_autofree char *directory = g_strdup_printf(SLOTS "/%u", i);
        if (taken != NULL && access(directory, F_OK) != 0)
            break;
        g_autoptr(GError) local = NULL;
        g_auto(HvFd) lock = lock_slot(directory, &local);
        if (local != NULL) {
            g_propagate_error(error, g_steal_pointer(&local));
            break;
        }
        if (lock < 0)
            continue;
        end_leftovers(directory);
        if (taken != NULL)
            continue;
        if (!fill_slot(directory, error))
            return NULL;
        taken = g_new0(AgentSlot, 1);
        taken->directory = g_steal_pointer(&directory);
        taken->lock = hv_fd_steal(&lock);
    }
    return taken;
}

/* Where the driver makes directories in a hugetlbfs mount: named by a hash of its root. */
static char *embed_directory_name(const AgentSlot *slot)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, slot->directory, -1);
    hash[8] = '\0';
    return g_strdup_printf("qemu-embed-%s", hash);
}

static void clean_mount(const char *mount, const char *name)
{
    g_autofree char *parent = g_strconcat(mount, "/libvirt", NULL);
    g_autofree char *path = g_strconcat(parent, "/", name, NULL);
    /* empty directories only: rmdir refuses all else */
    if (rmdir(path) == 0)
        rmdir(parent);
}

static void clean_mounts(const AgentSlot *slot)
{
    g_autofree char *mounts = NULL;
    g_autofree char *name = embed_directory_name(slot);
    if (!g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(mounts, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) fields = g_strsplit(lines[i], " ", 4);
        if (g_strv_length(fields) < 4 || strcmp(fields[2], "hugetlbfs") != 0)
            continue;
        g_autofree char *mount = g_strcompress(fields[1]); /* blanks stand there as \040 */
        clean_mount(mount, name);
    }
}

void agent_slot_free(AgentSlot *slot)
{
    if (slot == NULL)
        return;
    clean_mounts(slot);
    g_free(slot->directory);
    hv_fd_clear(&slot->lock);
    g_free(slot);
}

char *agent_slot_uri(const AgentSlot *slot)
{
    return g_strdup_printf("qemu:///embed?root=%s", slot->directory);
}
