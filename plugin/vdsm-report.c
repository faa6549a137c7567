/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   document   member                                            what the engine does with it
 *   stats      hugepages.KIB."vm.free_hugepages"                 room for a VM: filter, and display
 *   stats      numaNodeMemFree.NODE.hugepages.KIB.freePages      room on the node for pinned VMs
 *   caps       numaNodes.NODE.hugepages.KIB.totalPages           display
 *   caps       memSize                                           what VMs may have in all
 *   stats      memAvailable, memFree                             room for a VM: filter, and display
 *
 * The first two are set to what a VM could have: without what is claimed, promised or
 * reserved, with the growth that is likely where growth is allowed. That may be more
 * than nr_hugepages, which the engine shows beside it as the total: it has to be, or
 * no VM would ever be placed on a host that adds pages when one starts. nr_hugepages
 * itself stays: the engine takes that memory off what other VMs may have.
 *
 * VDSM keeps the third as it was when libvirt's capabilities last changed; set to the
 * pool's count of now. The list of page sizes is right.
 *
 * The last two only on a host that keeps the memory of VMs in files: file_backed_memory stands in
 * place of the host's own memory, and what VMs have claimed of it in place of what is in use.
 *
 * Only values that are there are replaced, each in the notation that it had.
 */
#include "vdsm-report.h"

#include "door.h"
#include "glance-files.h"
#include "json-span.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZES_DIRECTORY "/sys/kernel/mm/hugepages"

typedef struct {
    JsonSpan value;
    guint64 count;
} Change;

typedef struct {
    JsonSpan figures;
    JsonSpan document;
    GArray *changes;   /* Change */
    const char *lacks; /* the first member that was not there; NULL: none */
} Edit;

static void change_at(Edit *edit, const char *const *path, guint64 count)
{
    JsonSpan value = edit->document;
    guint64 old;
    for (guint i = 0; path[i] != NULL; i++) {
        if (json_span_member(value, path[i], &value))
            continue;
        edit->lacks = edit->lacks != NULL ? edit->lacks : g_intern_string(path[i]);
        return;
    }
    if (!json_span_count(value, &old))
        edit->lacks = edit->lacks != NULL ? edit->lacks : "a count";
    else if (old != count)
        g_array_append_val(edit->changes, ((Change){value, count}));
}

static gboolean figure(JsonSpan row, const char *name, guint64 *out_count)
{
    JsonSpan value;
    return json_span_member(row, name, &value) && json_span_count(value, out_count);
}

static void edit_sizes(Edit *edit, const char *name)
{
    JsonSpan rows, row;
    if (!json_span_member(edit->figures, "sizes", &rows))
        return;
    while (json_span_next(&rows, &row)) {
        guint64 size_kib, count;
        if (!figure(row, "size_kib", &size_kib) || !figure(row, name, &count))
            continue;
        g_autofree char *kib = g_strdup_printf("%" G_GUINT64_FORMAT, size_kib);
        change_at(edit, (const char *const[]){"hugepages", kib, "vm.free_hugepages", NULL}, count);
    }
}

static void edit_pools(Edit *edit, const char *name, const char *list, const char *member)
{
    JsonSpan rows, row;
    if (!json_span_member(edit->figures, "pools", &rows))
        return;
    while (json_span_next(&rows, &row)) {
        guint64 size_kib, count, node;
        if (!figure(row, "size_kib", &size_kib) || !figure(row, "node", &node) ||
            !figure(row, name, &count))
            continue;
        g_autofree char *kib = g_strdup_printf("%" G_GUINT64_FORMAT, size_kib);
        g_autofree char *id = g_strdup_printf("%" G_GUINT64_FORMAT, node);
        change_at(edit, (const char *const[]){list, id, "hugepages", kib, member, NULL}, count);
    }
}

/* A host that keeps the memory of VMs in files has no other for them. The names are VDSM's, in MiB.
 */
static void edit_memory(Edit *edit, VdsmReport which)
{
    JsonSpan files;
    guint64 capacity_kib, used_kib, free_kib;
    if (!json_span_member(edit->figures, "file_backed", &files) ||
        !figure(files, "capacity_kib", &capacity_kib) || !figure(files, "used_kib", &used_kib))
        return;
    guint64 left_kib = capacity_kib > used_kib ? capacity_kib - used_kib : 0;
    /* or a host that cannot start a VM would look like the emptiest of all */
    if (figure(files, "file_system_free_kib", &free_kib))
        left_kib = MIN(left_kib, free_kib);
    if (which == VDSM_REPORT_CAPS) {
        change_at(edit, (const char *const[]){"memSize", NULL}, capacity_kib / 1024);
        return;
    }
    change_at(edit, (const char *const[]){"memAvailable", NULL}, left_kib / 1024);
    change_at(edit, (const char *const[]){"memFree", NULL}, left_kib / 1024);
}

static int by_position(gconstpointer a, gconstpointer b)
{
    const Change *one = a, *other = b;
    return one->value.begin < other->value.begin ? -1 : one->value.begin > other->value.begin;
}

static char *edited(const Edit *edit, const char *document, gsize n)
{
    GString *out = g_string_sized_new(n + 256);
    const char *rest = document;
    g_array_sort(edit->changes, by_position);
    for (guint i = 0; i < edit->changes->len; i++) {
        const Change *change = &g_array_index(edit->changes, Change, i);
        const char *quote = json_span_is_text(change->value) ? "\"" : "";
        g_string_append_len(out, rest, change->value.begin - rest);
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT "%s", quote, change->count, quote);
        rest = change->value.end;
    }
    g_string_append_len(out, rest, document + n - rest);
    return g_string_free(out, FALSE);
}

char *vdsm_report_edit(VdsmReport which, const char *figures, const char *document, gsize n,
                       char **out_problem)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(Change));
    Edit edit = {.changes = changes};
    *out_problem = NULL;
    if (!json_span_whole(figures, strlen(figures), &edit.figures)) {
        *out_problem = g_strdup("the module's figures are no JSON");
        return NULL;
    }
    if (!json_span_whole(document, n, &edit.document)) {
        *out_problem = g_strdup("what VDSM reports is no JSON: it stays as it is");
        return NULL;
    }
    if (which == VDSM_REPORT_STATS) {
        edit_sizes(&edit, "allocatable");
        edit_pools(&edit, "allocatable", "numaNodeMemFree", "freePages");
    } else {
        edit_pools(&edit, "total", "numaNodes", "totalPages");
    }
    edit_memory(&edit, which);
    if (edit.lacks != NULL)
        *out_problem = g_strdup_printf("what VDSM reports lacks %s where memory is told: "
                                       "that part stays as it is",
                                       edit.lacks);
    return changes->len > 0 ? edited(&edit, document, n) : NULL;
}

/* A kernel without huge pages, or none configured: there is nothing to put right. */
static gboolean has_page_sizes(void)
{
    GDir *directory = g_dir_open(SIZES_DIRECTORY, 0, NULL);
    gboolean has = directory != NULL && g_dir_read_name(directory) != NULL;
    g_clear_pointer(&directory, g_dir_close);
    return has;
}

/* Figures of the module; NULL: none, and a problem. */
static char *ask_module(VdsmReport which, char **out_problem)
{
    g_auto(Door) door = {0};
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_result *result = NULL;
    if (!door_open(&door, "vdsm", 0, out_problem))
        return NULL;
    int32_t code = which == VDSM_REPORT_STATS ? door.plugin->get_stats(door.handle, &result, &error)
                                              : door.plugin->get_caps(door.handle, &result, &error);
    if (code != HUGEVM_OK) {
        *out_problem = door_problem(&error);
        return NULL;
    }
    char *figures = g_strdup(door.plugin->result_json(result));
    door.plugin->result_free(result);
    return figures;
}

static gboolean is_switched_on(const char *figures)
{
    JsonSpan whole, value;
    return !json_span_whole(figures, strlen(figures), &whole) ||
           !json_span_member(whole, "enabled", &value) || json_span_is_true(value);
}

static char *read_document(const char *path, gsize *out_bytes)
{
    struct stat st;
    char *text = NULL;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        text = door_read(fd, out_bytes);
    if (fd >= 0)
        close(fd);
    return text;
}

static void rewrite(VdsmReport which, char **out_problem)
{
    const char *path = g_getenv("_hook_json");
    gsize n = 0;
    g_autofree char *figures = ask_module(which, out_problem);
    if (figures == NULL || !is_switched_on(figures))
        return;
    g_autofree char *document = read_document(path, &n);
    if (document == NULL) {
        *out_problem = g_strdup("cannot read the file that _hook_json names");
        return;
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *text = vdsm_report_edit(which, figures, document, n, out_problem);
    if (text == NULL ||
        g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        return;
    g_free(*out_problem);
    *out_problem = g_strdup_printf("cannot change what VDSM reports: %s", error->message);
}

int vdsm_report_main(VdsmReport which)
{
    g_autofree char *problem = NULL;
    if (has_page_sizes() || glance_host_keeps_files())
        rewrite(which, &problem);
    if (problem != NULL)
        fprintf(stderr, "hugevm: %s\n", problem);
    return 0;
}
