/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process.h"

#include "maps.h"
#include "page-size.h"

#include <string.h>
#include <sys/stat.h>

#define STAT_MAX_BYTES 4096
#define STATUS_MAX_BYTES (64 * 1024)
#define MAPS_MAX_BYTES (64 * 1024 * 1024)
#define CMDLINE_MAX_BYTES (1024 * 1024)
#define POLL_US (10 * 1000)

/* Fields behind the command name, which itself may hold blanks and parentheses. */
#define FIELD_STATE 0
#define FIELD_THREADS 17
#define FIELD_START 19

HvProcess hv_process_identify(const HvRoot *root, gint64 pid)
{
    HvProcess none = {0};
    if (pid <= 0)
        return none;
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *text = hv_root_read_text(root, path, STAT_MAX_BYTES, NULL);
    const char *behind_name = text != NULL ? strrchr(text, ')') : NULL;
    if (behind_name == NULL || behind_name[1] != ' ')
        return none;
    g_auto(GStrv) fields = g_strsplit(behind_name + 2, " ", FIELD_START + 2);
    HvProcess process = {.pid = pid};
    guint64 threads;
    if (g_strv_length(fields) <= FIELD_START || fields[FIELD_STATE][0] == 0 ||
        !hv_parse_u64(fields[FIELD_THREADS], &threads) ||
        !hv_parse_u64(fields[FIELD_START], &process.start_ticks))
        return none;
    /* a first thread that has ended is a zombie while others still hold the memory */
    gboolean is_dead = strchr("ZXx", fields[FIELD_STATE][0]) != NULL && threads <= 1;
    return is_dead ? none : process;
}

gboolean hv_process_is_alive(const HvRoot *root, const HvProcess *process)
{
    HvProcess now = hv_process_identify(root, process->pid);
    return now.pid != 0 && now.start_ticks == process->start_ticks;
}

/*
 * Does a command line (words ended by NUL) run this VM? Whatever the emulator is
 * called: to overlook one means giving away the pages of a VM that runs.
 */
static gboolean is_qemu_of(const char *words, gsize n, const char *uuid)
{
    const char *end = words + n;
    for (const char *word = words; word < end; word += strlen(word) + 1) {
        const char *value = word + strlen(word) + 1;
        if (strcmp(word, "-uuid") == 0 && value < end)
            return g_ascii_strcasecmp(value, uuid) == 0;
    }
    return FALSE;
}

/* A user as hosts use them for daemons and QEMU; not one that people log in as. */
static gboolean is_system_user(guint64 uid)
{
    return uid < 1000 || (uid >= 60000 && uid < 65000);
}

/* The number behind "KEY:" in /proc/PID/status; FALSE: there is none. */
static gboolean status_number(const char *status, const char *key, guint64 *out_value)
{
    const char *found = strstr(status, key);
    if (found == NULL)
        return FALSE;
    const char *value = found + strlen(key) + strspn(found + strlen(key), " \t");
    g_autofree char *digits = g_strndup(value, strspn(value, "0123456789"));
    return hv_parse_u64(digits, out_value);
}

char *hv_process_read(const HvRoot *root, const char *pid, const char *file, gsize max_bytes)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/%s", pid, file);
    return hv_root_read_text(root, path, max_bytes, NULL);
}

static char *read_status(const HvRoot *root, const char *pid)
{
    return hv_process_read(root, pid, "status", STATUS_MAX_BYTES);
}

/* How much of a mapping counts, in KiB. */
typedef guint64 (*Measure)(const HvRoot *root, const HvMapping *mapping);

static guint64 mapped_kib(const HvRoot *root, const HvMapping *mapping)
{
    (void)root;
    return (mapping->end - mapping->start) / 1024;
}

/* What the kernel has written back it may have taken from the process: its own count says less. */
static guint64 allocated_kib(const HvRoot *root, const HvMapping *mapping)
{
    struct stat st;
    g_autofree char *path = hv_root_path(root, mapping->path);
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    return MIN((guint64)st.st_blocks / 2, mapped_kib(root, mapping)); /* blocks of 512 bytes */
}

static guint64 sum_below(const HvRoot *root, const char *pid, const char *directory,
                         Measure measure)
{
    g_autofree char *text = hv_process_read(root, pid, "maps", MAPS_MAX_BYTES);
    guint64 sum_kib = 0;
    HvMapping mapping;
    char *next = text, *line;
    while (text != NULL && (line = hv_next_line(&next)) != NULL)
        if (hv_mapping_parse(line, &mapping) && hv_mapping_is_below(&mapping, directory))
            sum_kib = hv_plus(sum_kib, measure(root, &mapping));
    return sum_kib;
}

guint64 hv_process_file_kib(const HvRoot *root, gint64 pid, const char *directory)
{
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    return sum_below(root, digits, directory, mapped_kib);
}

guint64 hv_process_allocated_file_kib(const HvRoot *root, gint64 pid, const char *directory)
{
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    return sum_below(root, digits, directory, allocated_kib);
}

/*
 * A command line is anybody's to write: a stranger who copies one must not be able
 * to keep a VM's pages. So QEMU is only who holds huge pages, or files that libvirt made, and
 * runs as a user of the system's.
 */
static gboolean is_trusted(const HvRoot *root, const char *pid, const char *directory)
{
    g_autofree char *status = read_status(root, pid);
    guint64 uid, huge_kib;
    if (status == NULL || !status_number(status, "\nUid:", &uid) || !is_system_user(uid))
        return FALSE;
    if (directory != NULL)
        return sum_below(root, pid, directory, mapped_kib) > 0;
    return status_number(status, "\nHugetlbPages:", &huge_kib) && huge_kib > 0;
}

gboolean hv_process_is_systems(const HvRoot *root, gint64 pid)
{
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    g_autofree char *status = read_status(root, digits);
    guint64 uid;
    return status != NULL && status_number(status, "\nUid:", &uid) && is_system_user(uid);
}

guint64 hv_process_hugetlb_kib(const HvRoot *root, gint64 pid)
{
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    g_autofree char *status = read_status(root, digits);
    guint64 kib = 0;
    if (status != NULL)
        status_number(status, "\nHugetlbPages:", &kib);
    return kib;
}

/* The words, each ended by NUL; NULL where they cannot be read, or are too many. */
static char *read_words(const HvRoot *root, const char *pid, gsize *out_n)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid);
    g_autofree char *real = hv_root_path(root, path);
    g_autofree char *words = NULL;
    /* GLib ends the bytes with a NUL of its own, so the last word always ends */
    if (!g_file_get_contents(real, &words, out_n, NULL) || *out_n > CMDLINE_MAX_BYTES)
        return NULL;
    return g_steal_pointer(&words);
}

static gboolean has_command_line_of(const HvRoot *root, const char *pid, const char *uuid)
{
    gsize n = 0;
    g_autofree char *words = read_words(root, pid, &n);
    return words != NULL && is_qemu_of(words, n, uuid);
}

gboolean hv_process_has_word(const HvRoot *root, gint64 pid, const char *word)
{
    gsize n = 0;
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    g_autofree char *words = read_words(root, digits, &n);
    if (words == NULL)
        return TRUE;
    for (const char *at = words; at < words + n; at += strlen(at) + 1)
        if (strcmp(at, word) == 0)
            return TRUE;
    return FALSE;
}

static HvProcess find_qemu(const HvRoot *root, const char *uuid, const char *directory)
{
    HvProcess none = {0};
    g_auto(GStrv) names = hv_root_list(root, "/proc", NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        guint64 pid;
        if (!hv_parse_u64(names[i], &pid) || !has_command_line_of(root, names[i], uuid) ||
            !is_trusted(root, names[i], directory))
            continue;
        HvProcess process = hv_process_identify(root, (gint64)pid);
        if (process.pid != 0)
            return process;
    }
    return none;
}

HvProcess hv_process_find_qemu(const HvRoot *root, const char *uuid)
{
    return find_qemu(root, uuid, NULL);
}

HvProcess hv_process_find_qemu_of_files(const HvRoot *root, const char *uuid, const char *directory)
{
    return find_qemu(root, uuid, directory);
}

gboolean hv_process_wait_end(const HvRoot *root, const HvProcess *process, guint64 timeout_ms)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    while (hv_process_is_alive(root, process)) {
        if (g_get_monotonic_time() >= deadline_us)
            return FALSE;
        g_usleep(POLL_US);
    }
    return TRUE;
}
