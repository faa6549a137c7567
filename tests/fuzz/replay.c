/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a fuzz target without a fuzzer: each file of the directories given, its
 * truncations, and a bounded number of mutations that are the same on every
 * machine. One TAP line per file. A target says "no" by crashing, so the file's
 * name is printed before it runs.
 *
 * Each input stands in an allocation of its exact size, for the sanitizers.
 */
#include <glib.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MAX_TRUNCATIONS 2048u
#define N_MUTATIONS 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const guint8 *data, gsize size)
{
    guint8 *copy = g_malloc(MAX(size, 1));
    memcpy(copy, data, size);
    /* libFuzzer hands out a pointer for an empty input, too. */
    LLVMFuzzerTestOneInput(copy, size);
    g_free(copy);
}

static void run_truncations(const guint8 *data, gsize size)
{
    gsize step = size / MAX_TRUNCATIONS + 1;
    for (gsize n = 0; n < size; n += step)
        run(data, n);
}

/* Sets a byte, swaps two, drops a stretch or repeats one. */
static void mutate(GRand *rand, GByteArray *bytes)
{
    static const char likely[] = "<>/'\"&;= \n\r\t-0129\xff\x80";
    gint32 end = (gint32)bytes->len;
    guint at = (guint)g_rand_int_range(rand, 0, end);
    guint other = (guint)g_rand_int_range(rand, 0, end);
    guint n = (guint)g_rand_int_range(rand, 1, 33);
    n = MIN(n, bytes->len - at);
    guint8 byte = bytes->data[at];
    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        bytes->data[at] = (guint8)likely[g_rand_int_range(rand, 0, sizeof likely - 1)];
        break;
    case 1:
        bytes->data[at] = (guint8)g_rand_int_range(rand, 0, 256);
        break;
    case 2:
        bytes->data[at] = bytes->data[other];
        bytes->data[other] = byte;
        break;
    case 3:
        g_byte_array_remove_range(bytes, at, n);
        break;
    default: {
        /* A copy: appending may move the bytes it would read from. */
        g_autofree guint8 *stretch = g_memdup2(bytes->data + at, n);
        g_byte_array_append(bytes, stretch, n);
        break;
    }
    }
}

static void run_mutations(const guint8 *data, gsize size)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    for (guint i = 0; i < N_MUTATIONS && size > 0; i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_byte_array_append(bytes, data, (guint)size);
        for (gint32 n = g_rand_int_range(rand, 1, 4); n > 0 && bytes->len > 0; n--)
            mutate(rand, bytes);
        run(bytes->data, bytes->len);
    }
}

/* FALSE if the file cannot be read. */
static gboolean run_file(const char *directory, const char *name)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autofree char *text = NULL;
    gsize size;
    if (!g_file_get_contents(path, &text, &size, NULL))
        return FALSE;
    printf("# %s\n", path);
    fflush(stdout);
    const guint8 *data = (const guint8 *)text;
    run(data, size);
    run_truncations(data, size);
    run_mutations(data, size);
    return TRUE;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static GPtrArray *names_in(const char *directory)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL)
        g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, compare_names);
    return names;
}

int main(int argc, char **argv)
{
    guint n_tests = 0, n_failed = 0;
    for (int i = 1; i < argc; i++) {
        g_autoptr(GPtrArray) names = names_in(argv[i]);
        for (guint j = 0; j < names->len; j++) {
            const char *name = g_ptr_array_index(names, j);
            gboolean is_ok = run_file(argv[i], name);
            printf("%s %u - %s\n", is_ok ? "ok" : "not ok", ++n_tests, name);
            n_failed += is_ok ? 0 : 1;
        }
        /* A directory that gives nothing is a mistake in the build, not a success. */
        if (names->len == 0) {
            printf("not ok %u - %s has no files\n", ++n_tests, argv[i]);
            n_failed++;
        }
    }
    printf("1..%u\n", n_tests);
    return n_tests > 0 && n_failed == 0 ? 0 : 1;
}
