/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A slot is N below /run/hugevm/embed, locked by flock on N.lock as long as its process lives. */
#include "agent-slot.h"

#include "error.h"
#include "fd.h"
#include "hugetlbfs.h"
#include "leftovers.h"
#include "root.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARENT "/run/hugevm"
#define MAX_SLOTS 256

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

static gboolean fill_slot(const char *directory, const char *memory_dir, GError **error)
{
    g_autofree char *etc = g_strconcat(directory, "/etc", NULL);
    g_autofree char *conf = g_strconcat(etc, "/qemu.conf", NULL);
    g_autofree char *text =
        memory_dir != NULL ? g_strdup_printf(QEMU_CONF "memory_backing_dir = \"%s\"\n", memory_dir)
                           : g_strdup(QEMU_CONF);
    return make_directory(directory, error) && make_directory(etc, error) &&
           g_file_set_contents(conf, text, -1, error);
}

AgentSlot *agent_slot_take(const char *memory_dir, GError **error)
{
    if (!make_directory(PARENT, error) || !make_directory(SLOTS_DIRECTORY, error))
        return NULL;
    slots_end_leftovers();
    for (guint i = 0; i < MAX_SLOTS; i++) {
        g_autofree char *directory = g_strdup_printf(SLOTS_DIRECTORY "/%u", i);
        g_autoptr(GError) local = NULL;
        g_auto(HvFd) lock = slot_lock(directory, &local);
        if (local != NULL || (lock >= 0 && !fill_slot(directory, memory_dir, &local))) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
        if (lock < 0)
            continue;
        AgentSlot *slot = g_new0(AgentSlot, 1);
        slot->directory = g_steal_pointer(&directory);
        slot->lock = hv_fd_steal(&lock);
        return slot;
    }
    hv_set_error(error, HV_ERROR_CONFLICT, "wait for one of them to end",
                 "hugevmctl run runs %d times already", MAX_SLOTS);
    return NULL;
}

gint64 agent_slot_qemu_pid(const AgentSlot *slot, const char *name)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_autofree char *path = g_strdup_printf("%s/run/qemu/%s.pid", slot->directory, name);
    guint64 pid = 0;
    return hv_root_read_u64(root, path, &pid, NULL) && pid < G_MAXINT32 ? (gint64)pid : 0;
}

/* Where the driver makes directories in a hugetlbfs mount: named by a hash of its root. */
static char *embed_directory_name(const AgentSlot *slot)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, slot->directory, -1);
    hash[8] = '\0';
    return g_strdup_printf("qemu-embed-%s", hash);
}

char **agent_slot_memory_directories(const AgentSlot *slot)
{
    g_autofree char *name = embed_directory_name(slot);
    g_autofree char *path = g_strconcat("libvirt/", name, NULL);
    return hugetlbfs_directories(path);
}

/* Those of VMs that ended while another's launch mount lay over them. */
static void clean_below(const char *directory)
{
    GDir *dir = g_dir_open(directory, 0, NULL);
    for (const char *entry; dir != NULL && (entry = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = g_build_filename(directory, entry, NULL);
        rmdir(path);
    }
    if (dir != NULL)
        g_dir_close(dir);
}

/* Empty directories only: rmdir refuses all else. */
static void clean_mounts(const AgentSlot *slot)
{
    g_auto(GStrv) directories = agent_slot_memory_directories(slot);
    for (guint i = 0; directories[i] != NULL; i++) {
        g_autofree char *parent = g_path_get_dirname(directories[i]);
        clean_below(directories[i]);
        if (rmdir(directories[i]) == 0)
            rmdir(parent);
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
