/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guards and mounts are read before the ledger, which is written before they go; the
 * locks of the sizes before and after it, since an intent is open only under one.
 */
#include "audit.h"

#include "consumers.h"
#include "domain-xml.h"
#include "ledger-json.h"
#include "lifecycle-private.h"
#include "page-size.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define STORE "/run/hugevm"
#define LOCKS_MAX_BYTES (16 * 1024 * 1024)
#define COMM_MAX_BYTES 64
#define CMDLINE_MAX_BYTES (1024 * 1024)

static void facts_clear(gpointer data)
{
    HvClaimFacts *facts = data;
    g_clear_pointer(&facts->holders, g_ptr_array_unref);
}

static void huge_process_free(gpointer data)
{
    HvHugeProcess *process = data;
    g_free(process->name);
    g_free(process->uuid);
    g_free(process->vm_name);
    g_free(process);
}

HvAuditView *hv_audit_view_new(void)
{
    HvAuditView *view = g_new0(HvAuditView, 1);
    view->ledger = hv_ledger_new();
    view->facts = g_array_new(FALSE, TRUE, sizeof(HvClaimFacts));
    g_array_set_clear_func(view->facts, facts_clear);
    view->processes = g_ptr_array_new_with_free_func(huge_process_free);
    view->guards = g_array_new(FALSE, TRUE, sizeof(HvGuard));
    view->vault = g_array_new(FALSE, TRUE, sizeof(HvVaultName));
    view->mounts = g_ptr_array_new_with_free_func(hv_launch_mount_free);
    view->busy_sizes = g_array_new(FALSE, TRUE, sizeof(guint64));
    view->left_pids = g_array_new(FALSE, TRUE, sizeof(gint64));
    return view;
}

void hv_audit_view_free(HvAuditView *view)
{
    if (view == NULL)
        return;
    hv_snapshot_free(view->snapshot);
    hv_settings_free(view->settings);
    hv_ledger_free(view->ledger);
    g_array_unref(view->facts);
    g_ptr_array_unref(view->processes);
    g_array_unref(view->guards);
    g_array_unref(view->vault);
    g_ptr_array_unref(view->mounts);
    g_array_unref(view->busy_sizes);
    g_array_unref(view->left_pids);
    g_strfreev(view->running_uuids);
    g_free(view);
}

/* --- the ledger ------------------------------------------------------------------------------ */

/* What can be set aside. */
static gboolean is_plain_file(const HvRoot *root, const char *path)
{
    struct stat st;
    g_autofree char *real = hv_root_path(root, path);
    return lstat(real, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= HV_LEDGER_MAX_BYTES;
}

static HvLedgerText text_of(const HvRoot *root, const char *path)
{
    g_autoptr(HvLedger) ledger = NULL;
    g_autofree char *boot_id = hv_root_read_text(root, "/proc/sys/kernel/random/boot_id", 64, NULL);
    g_autofree char *text = hv_root_read_text(root, path, HV_LEDGER_MAX_BYTES, NULL);
    if (text == NULL)
        return HV_LEDGER_TEXT_DAMAGED;
    return hv_ledger_from_json(text, boot_id != NULL ? g_strstrip(boot_id) : "", &ledger);
}

static HvLedgerFound found_where_readable(const HvRoot *root)
{
    if (!hv_root_exists(root, STORE "/ledger.json"))
        return hv_root_exists(root, STORE "/ledger.copy.json") ? HV_LEDGER_FOUND_GOOD
                                                               : HV_LEDGER_FOUND_NONE;
    switch (text_of(root, STORE "/ledger.json")) {
    case HV_LEDGER_TEXT_DAMAGED:
        return HV_LEDGER_FOUND_COPY;
    case HV_LEDGER_TEXT_OTHER_BOOT:
        return HV_LEDGER_FOUND_OTHER_BOOT;
    case HV_LEDGER_TEXT_GOOD:
    case HV_LEDGER_TEXT_NEWER_FORMAT:
        break;
    }
    return HV_LEDGER_FOUND_GOOD;
}

/* Damaged text is a finding; a ledger that is no file, or of a newer hugevm, is an error. */
static gboolean read_ledger(const HvRoot *root, HvAuditView *view, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(HvStore) store = hv_store_open(root, FALSE, &local);
    view->found = HV_LEDGER_FOUND_NONE;
    if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    HvLedger *ledger = store != NULL ? hv_store_read(store, &local) : NULL;
    if (ledger != NULL) {
        hv_ledger_free(view->ledger);
        view->ledger = ledger;
        view->found = found_where_readable(root);
        return TRUE;
    }
    if (store != NULL && is_plain_file(root, STORE "/ledger.json") &&
        is_plain_file(root, STORE "/ledger.copy.json") &&
        text_of(root, STORE "/ledger.json") == HV_LEDGER_TEXT_DAMAGED &&
        text_of(root, STORE "/ledger.copy.json") == HV_LEDGER_TEXT_DAMAGED) {
        view->found = HV_LEDGER_FOUND_DAMAGED;
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* --- processes ------------------------------------------------------------------------------- */

/* The word behind an option; NULL: there is no such option. Words end with NUL bytes. */
static const char *option_value(const char *words, gsize n, const char *option)
{
    const char *end = words + n;
    for (const char *word = words; word < end; word += strlen(word) + 1) {
        const char *value = word + strlen(word) + 1;
        if (strcmp(word, option) == 0 && value < end)
            return value;
    }
    return NULL;
}

/* "guest=NAME,debug-threads=on", as libvirt writes it, or "NAME". */
static char *name_of_guest(const char *value)
{
    if (value == NULL)
        return NULL;
    const char *name = g_str_has_prefix(value, "guest=") ? value + strlen("guest=") : value;
    return g_strndup(name, strcspn(name, ","));
}

static void read_command_line(const HvRoot *root, HvHugeProcess *process)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/cmdline", process->pid);
    g_autofree char *real = hv_root_path(root, path);
    g_autofree char *words = NULL;
    gsize n = 0;
    if (!g_file_get_contents(real, &words, &n, NULL) || n > CMDLINE_MAX_BYTES)
        return;
    const char *uuid = option_value(words, n, "-uuid");
    process->uuid = uuid != NULL ? hv_uuid_normalize(uuid) : NULL;
    if (process->uuid != NULL)
        process->vm_name = name_of_guest(option_value(words, n, "-name"));
}

static void read_processes(const HvRoot *root, GPtrArray *processes)
{
    g_auto(GStrv) names = hv_root_list(root, "/proc", NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        guint64 pid, kib;
        if (!hv_parse_u64(names[i], &pid) || pid == 0 || pid > G_MAXINT32)
            continue;
        kib = hv_process_hugetlb_kib(root, (gint64)pid);
        if (kib == 0)
            continue;
        g_autofree char *path = g_strdup_printf("/proc/%s/comm", names[i]);
        g_autofree char *comm = hv_root_read_text(root, path, COMM_MAX_BYTES, NULL);
        HvHugeProcess *process = g_new0(HvHugeProcess, 1);
        process->pid = (gint64)pid;
        process->name = g_strdup(comm != NULL ? g_strstrip(comm) : "?");
        process->huge_kib = kib;
        read_command_line(root, process);
        g_ptr_array_add(processes, process);
    }
}

static void read_facts(const HvRoot *root, HvAuditView *view)
{
    for (guint i = 0; i < view->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(view->ledger->claims, i);
        HvClaimFacts facts = {.is_owner_alive = hv_process_is_alive(root, &claim->owner)};
        if (claim->state != HV_CLAIM_DRAINING)
            facts.qemu_pid = claim->device_of == NULL ? hv_claim_live_qemu(root, claim).pid
                             : hv_process_is_alive(root, &claim->qemu) ? claim->qemu.pid
                                                                       : 0;
        if (facts.qemu_pid == 0)
            facts.holders = hv_backing_holders(root, claim->files);
        g_array_append_val(view->facts, facts);
    }
}

/* --- locks ----------------------------------------------------------------------------------- */

/* "1: FLOCK  ADVISORY  WRITE PID MAJOR:MINOR:INODE 0 EOF" */
static gboolean is_locked(const char *locks, const struct stat *st)
{
    for (const char *line = locks; line != NULL && *line != '\0';) {
        unsigned major_number, minor_number;
        unsigned long long inode;
        if (sscanf(line, "%*d: FLOCK ADVISORY WRITE %*d %x:%x:%llu", &major_number, &minor_number,
                   &inode) == 3 &&
            major_number == major(st->st_dev) && minor_number == minor(st->st_dev) &&
            inode == st->st_ino)
            return TRUE;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return FALSE;
}

/* Looked up, not tried: a lock that is held for a moment makes others pass over the size. */
static void read_busy_sizes(const HvRoot *root, GArray *sizes)
{
    g_auto(GStrv) names = hv_root_list(root, STORE, NULL);
    g_autofree char *locks = hv_root_read_text(root, "/proc/locks", LOCKS_MAX_BYTES, NULL);
    for (guint i = 0; locks != NULL && names != NULL && names[i] != NULL; i++) {
        struct stat st;
        guint64 size_kib;
        if (!g_str_has_prefix(names[i], "size-") || !g_str_has_suffix(names[i], ".lock"))
            continue;
        g_autofree char *digits = g_strndup(names[i] + 5, strlen(names[i]) - 10);
        g_autofree char *path = g_strdup_printf(STORE "/%s", names[i]);
        g_autofree char *real = hv_root_path(root, path);
        if (hv_parse_u64(digits, &size_kib) && lstat(real, &st) == 0 && is_locked(locks, &st))
            g_array_append_val(sizes, size_kib);
    }
}

gboolean hv_audit_read_own(const HvRoot *root, HvAuditView *view, GError **error)
{
    g_array_unref(view->guards);
    g_ptr_array_unref(view->mounts);
    view->guards = hv_guard_list(root);
    if (geteuid() == 0 && hv_root_is_machine(root)) {
        g_array_unref(view->vault);
        view->sees_vault = hv_vault_list(&view->vault) == 0;
    }
    view->mounts = hv_launch_mount_list(root);
    view->guards_die = !hv_guard_survives_its_maker(root);
    read_busy_sizes(root, view->busy_sizes);
    return read_ledger(root, view, error);
}

HvAuditView *hv_audit_read(const HvAgent *agent, GError **error)
{
    const HvRoot *root = agent->root;
    g_autoptr(HvAuditView) view = hv_audit_view_new();
    view->settings = hv_settings_load(root, (const char *const *)agent->conf_files, error);
    if (view->settings == NULL || !hv_audit_read_own(root, view, error))
        return NULL;
    view->snapshot = hv_snapshot_read(root, error);
    if (view->snapshot == NULL)
        return NULL;
    hv_consumers_read(root, view->settings, view->ledger, view->snapshot);
    read_busy_sizes(root, view->busy_sizes);
    read_processes(root, view->processes);
    read_facts(root, view);
    return g_steal_pointer(&view);
}
