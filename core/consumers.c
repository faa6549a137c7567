/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Of most processes one link is read, /proc/PID/exe, which kernel threads do not have, and comm:
 * this is done under the ledger's lock. Of those that are meant, status tells whether they hold
 * huge pages at all; then numa_maps has pages and nodes, and maps the files, line by line of
 * the same mappings. A vhost back end maps the memory of its VMs beside its own.
 *
 * The same page may be mapped by several processes, as by a primary and a secondary of DPDK,
 * or twice by one. It is told by its file and the offset at which it is mapped; of what several
 * map there the most that one has touched counts, since nothing tells which pages these are.
 */
#include "consumers.h"

#include "node-set.h"
#include "page-size.h"
#include "platform.h"
#include "process.h"
#include "residence.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define CONSUMERS_OF_A_NAME_MAX 64 /* a database has a process per connection */
#define COMM_MAX_BYTES 64
#define COMM_CUT_CHARS 15 /* the kernel keeps no more of a name */

/* Some 100 000 mappings: DPDK may have one per page, and the kernel's own limit is 65 530. */
#define MAPS_MAX_BYTES (16 * 1024 * 1024)

HvConsumer *hv_consumer_new(gint64 pid, const char *comm, const char *process)
{
    HvConsumer *consumer = g_new0(HvConsumer, 1);
    consumer->pid = pid;
    consumer->comm = g_strdup(comm);
    consumer->process = g_strdup(process);
    consumer->is_readable = TRUE;
    consumer->placed = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    return consumer;
}

void hv_consumer_free(gpointer data)
{
    HvConsumer *consumer = data;
    if (consumer == NULL)
        return;
    g_free(consumer->comm);
    g_free(consumer->process);
    g_array_unref(consumer->placed);
    g_free(consumer);
}

/* --- who is meant ---------------------------------------------------------------------------- */

gboolean hv_consumer_is_meant(const char *process, const char *name)
{
    gsize n = strlen(process);
    if (n > COMM_CUT_CHARS && strlen(name) == COMM_CUT_CHARS)
        return strncmp(process, name, COMM_CUT_CHARS) == 0;
    return strncmp(process, name, n) == 0 && (name[n] == '\0' || strchr("-_.", name[n]) != NULL);
}

/* The most exact of those that mean a program of this name; NULL: none does. */
static const char *find_meant(const HvSettings *settings, const char *name)
{
    const char *found = NULL;
    for (guint i = 0; name != NULL && i < settings->reserved->len; i++) {
        const char *process = g_array_index(settings->reserved, HvReserved, i).process;
        if (process != NULL && hv_consumer_is_meant(process, name) &&
            (found == NULL || strlen(process) > strlen(found)))
            found = process;
    }
    return found;
}

/* The name of its program, "" where that may not be seen; NULL: a kernel thread, or it has ended.
 */
static char *read_program(const HvRoot *root, const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/exe", pid);
    g_autofree char *real = hv_root_path(root, path);
    char target[PATH_MAX];
    ssize_t n = readlink(real, target, sizeof target - 1);
    if (n < 0)
        return errno == ENOENT ? NULL : g_strdup("");
    target[n] = '\0';
    if (g_str_has_suffix(target, " (deleted)")) /* it was upgraded meanwhile */
        target[strlen(target) - strlen(" (deleted)")] = '\0';
    return g_path_get_basename(target);
}

/* NULL: no reservation is for this process. */
static HvConsumer *identify(const HvRoot *root, const HvSettings *settings, const char *name)
{
    guint64 pid;
    if (!hv_parse_u64(name, &pid) || pid == 0 || pid > G_MAXINT32)
        return NULL;
    g_autofree char *program = read_program(root, name);
    g_autofree char *comm =
        program != NULL ? hv_process_read(root, name, "comm", COMM_MAX_BYTES) : NULL;
    if (comm == NULL)
        return NULL;
    g_strchomp(comm);
    const char *process = find_meant(settings, program);
    if (process == NULL)
        process = find_meant(settings, comm);
    if (process == NULL || !hv_process_is_systems(root, (gint64)pid))
        return NULL;
    g_autofree char *valid = g_utf8_make_valid(comm, -1);
    return hv_consumer_new((gint64)pid, valid, process);
}

/* --- what it holds --------------------------------------------------------------------------- */

/* What is mapped from this offset of a file on, as far as it is on this node. */
typedef struct {
    HvFileId file;
    guint64 offset;
    int node;
    guint64 counted_pages; /* no part of the key */
} Part;

/* What is counted already, and the files of VMs, each as the part WHOLE_FILE. */
#define WHOLE_FILE G_MAXUINT64

static guint part_hash(gconstpointer data)
{
    const Part *part = data;
    guint64 mixed = (part->file.inode * 31 + part->offset / 4096) * 31 + (guint)part->node;
    return (guint)(mixed ^ mixed >> 32);
}

static gboolean part_equal(gconstpointer a, gconstpointer b)
{
    const Part *x = a, *y = b;
    return x->offset == y->offset && x->node == y->node &&
           memcmp(&x->file, &y->file, sizeof x->file) == 0;
}

static Part *find_part(GHashTable *parts, const Part *key)
{
    Part *part = g_hash_table_lookup(parts, key);
    if (part == NULL) {
        part = g_new(Part, 1);
        *part = *key;
        g_hash_table_add(parts, part);
    }
    return part;
}

static GHashTable *parts_of_vms(const HvLedger *ledger)
{
    GHashTable *parts = g_hash_table_new_full(part_hash, part_equal, g_free, NULL);
    for (guint i = 0; i < ledger->claims->len; i++) {
        const GArray *files = ((HvClaim *)g_ptr_array_index(ledger->claims, i))->files;
        for (guint k = 0; k < files->len; k++) {
            Part whole = {g_array_index(files, HvFileId, k), WHOLE_FILE, HV_NODE_UNKNOWN, 0};
            find_part(parts, &whole);
        }
    }
    return parts;
}

/* As QEMU calls the files of its memory, also where the ledger does not know them yet. */
static gboolean is_named_by_qemu(const char *path)
{
    static const char *const names[] = {"/qemu_back_mem.", "/memfd:memory-backend-memfd"};
    gsize n = strcspn(path, "\n");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_strstr_len(path, (gssize)n, names[i]) != NULL)
            return TRUE;
    return FALSE;
}

static gboolean is_of_vm(GHashTable *parts, const HvFileId *file, const char *path)
{
    Part whole = {*file, WHOLE_FILE, HV_NODE_UNKNOWN, 0};
    return g_hash_table_contains(parts, &whole) || is_named_by_qemu(path);
}

/* Of pages that others map from there as well, only what is more than was seen with them. */
static void count(HvConsumer *consumer, GHashTable *parts, const Part *key,
                  const HvPlacedPages *seen)
{
    Part *part = find_part(parts, key);
    hv_placed_add(consumer->placed, key->node, seen->size_kib,
                  hv_minus(seen->pages, part->counted_pages));
    part->counted_pages = MAX(part->counted_pages, seen->pages);
}

/* Moves on to the mapping that starts there: both texts are in the order of addresses. */
static gboolean find_mapping(const char **maps, guint64 start, HvMapping *out_mapping)
{
    for (const char *line = *maps; *line != '\0';) {
        const char *end = strchr(line, '\n');
        const char *next = end != NULL ? end + 1 : line + strlen(line);
        gboolean is_good = hv_mapping_parse(line, out_mapping);
        if (is_good && out_mapping->start > start)
            return FALSE;
        *maps = line = next;
        if (is_good && out_mapping->start == start)
            return TRUE;
    }
    return FALSE;
}

/* A mapping that is in one text only came or went in between: not counted. */
static void count_by_nodes(HvConsumer *consumer, char *numa_maps, const char *maps,
                           GHashTable *parts)
{
    g_autoptr(GArray) counts = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    HvNumaLine line = {.counts = counts};
    for (char *one; (one = hv_next_line(&numa_maps)) != NULL;) {
        HvMapping mapping;
        if (!hv_numa_line_parse(one, &line) || !line.is_huge || counts->len == 0 ||
            !find_mapping(&maps, line.start, &mapping) ||
            is_of_vm(parts, &mapping.file, mapping.path))
            continue;
        for (guint i = 0; i < counts->len; i++) {
            HvPlacedPages *seen = &g_array_index(counts, HvPlacedPages, i);
            Part key = {mapping.file, mapping.offset, seen->node, 0};
            seen->size_kib = line.page_kib;
            count(consumer, parts, &key, seen);
        }
    }
}

/* A kernel without NUMA has no numa_maps, and one node. */
static void count_on(HvConsumer *consumer, char *smaps, guint64 base_page_kib, int node,
                     GHashTable *parts)
{
    g_autoptr(GArray) mappings = g_array_new(FALSE, TRUE, sizeof(HvSmap));
    if (!hv_smaps_parse(smaps, base_page_kib, mappings))
        return;
    for (guint i = 0; i < mappings->len; i++) {
        const HvSmap *one = &g_array_index(mappings, HvSmap, i);
        Part key = {one->file, one->offset, node, 0};
        if (!one->is_huge || one->page_kib == 0 || is_of_vm(parts, &one->file, one->path))
            continue;
        guint64 kib = hv_plus(one->hugetlb_kib[0], one->hugetlb_kib[1]);
        HvPlacedPages seen = {node, one->page_kib, kib / one->page_kib};
        count(consumer, parts, &key, &seen);
    }
}

static void read_pages(const HvRoot *root, HvConsumer *consumer, const HvSnapshot *snapshot,
                       GHashTable *parts)
{
    g_autofree char *pid = g_strdup_printf("%" G_GINT64_FORMAT, consumer->pid);
    if (hv_process_hugetlb_kib(root, consumer->pid) == 0)
        return;
    g_autofree char *maps = hv_process_read(root, pid, "maps", MAPS_MAX_BYTES);
    g_autofree char *numa_maps = hv_process_read(root, pid, "numa_maps", MAPS_MAX_BYTES);
    consumer->is_readable = maps != NULL;
    if (maps != NULL && numa_maps != NULL) {
        count_by_nodes(consumer, numa_maps, maps, parts);
    } else if (maps != NULL && snapshot->nodes->len == 1) {
        g_autofree char *smaps = hv_process_read(root, pid, "smaps", MAPS_MAX_BYTES);
        int node = g_array_index(snapshot->nodes, HvNode, 0).id;
        if (smaps != NULL)
            count_on(consumer, smaps, hv_platform_base_page_kib(root), node, parts);
    }
}

static gboolean is_one_too_many(const GPtrArray *consumers, const char *process)
{
    guint n = 0;
    for (guint i = 0; i < consumers->len; i++)
        n += strcmp(((HvConsumer *)g_ptr_array_index(consumers, i))->process, process) == 0;
    return n >= CONSUMERS_OF_A_NAME_MAX;
}

static gboolean has_names(const HvSettings *settings)
{
    for (guint i = 0; i < settings->reserved->len; i++)
        if (g_array_index(settings->reserved, HvReserved, i).process != NULL)
            return TRUE;
    return FALSE;
}

void hv_consumers_read(const HvRoot *root, const HvSettings *settings, const HvLedger *ledger,
                       HvSnapshot *snapshot)
{
    if (!has_names(settings))
        return;
    g_clear_pointer(&snapshot->consumers, g_ptr_array_unref);
    snapshot->consumers = g_ptr_array_new_with_free_func(hv_consumer_free);
    g_auto(GStrv) names = hv_root_list(root, "/proc", NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        HvConsumer *consumer = identify(root, settings, names[i]);
        if (consumer != NULL && is_one_too_many(snapshot->consumers, consumer->process))
            g_clear_pointer(&consumer, hv_consumer_free);
        if (consumer != NULL)
            g_ptr_array_add(snapshot->consumers, consumer);
    }
    if (snapshot->consumers->len == 0)
        return;
    g_autoptr(GHashTable) parts = parts_of_vms(ledger);
    for (guint i = 0; i < snapshot->consumers->len; i++)
        read_pages(root, g_ptr_array_index(snapshot->consumers, i), snapshot, parts);
}
