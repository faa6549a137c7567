/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A key: 12 bits that say hugevm, 5 bits log2(page size in KiB), 15 bits of the
 * claim's generation. IPC_STAT does not tell a segment's page size.
 *
 * A key alone is no proof: ftok() may give the same one to others. What is taken for
 * a guard, and may be removed, was made by root for root alone and never attached.
 */
#include "guard.h"

#include "page-size.h"

#include <errno.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define KEY_MAGIC 0x487u
#define KEY_MAGIC_SHIFT 20
#define KEY_SIZE_SHIFT 15
#define KEY_SIZE_MASK 0x1fu
#define MODE 0600
#define LIST_MAX_BYTES (8 * 1024 * 1024)

/* Columns of /proc/sysvipc/shm */
enum { KEY, SHMID, PERMS, SIZE, CPID, LPID, NATTCH, UID, GID, CUID, CGID, ATIME, N_COLUMNS };

static guint log2_of(guint64 value)
{
    return (guint)__builtin_ctzll(value);
}

static key_t key_of(guint64 generation, guint64 size_kib)
{
    return (key_t)(KEY_MAGIC << KEY_MAGIC_SHIFT | log2_of(size_kib) << KEY_SIZE_SHIFT |
                   (guint)(generation & HV_GUARD_GENERATION_MASK));
}

int hv_guard_make(guint64 generation, guint64 size_kib, guint64 bytes)
{
    unsigned page_bits = log2_of(size_kib) + 10;
    unsigned size = page_bits << 26; /* SHM_HUGE_SHIFT */
    int flags = IPC_CREAT | IPC_EXCL | SHM_HUGETLB | (int)size | MODE;
    return shmget(key_of(generation, size_kib), bytes, flags) >= 0 ? 0 : errno;
}

/* One line of the list; FALSE: it is no guard. */
static gboolean read_line(const char *line, HvGuard *out_guard)
{
    guint64 column[N_COLUMNS] = {0};
    const char *at = line;
    for (guint i = 0; i < N_COLUMNS; i++) {
        char *end = NULL;
        /* PERMS is octal; a negative key wraps round, and is none of ours */
        column[i] = g_ascii_strtoull(at, &end, i == PERMS ? 8 : 10);
        if (end == at)
            return FALSE;
        at = end;
    }
    guint64 key = column[KEY];
    *out_guard =
        (HvGuard){.id = (int)column[SHMID],
                  .generation_bits = key & HV_GUARD_GENERATION_MASK,
                  .size_kib = G_GUINT64_CONSTANT(1) << (key >> KEY_SIZE_SHIFT & KEY_SIZE_MASK),
                  .bytes = column[SIZE]};
    return key >> KEY_MAGIC_SHIFT == KEY_MAGIC && column[PERMS] == MODE && column[UID] == 0 &&
           column[CUID] == 0 && column[NATTCH] == 0 && column[ATIME] == 0;
}

GArray *hv_guard_list(const HvRoot *root)
{
    GArray *guards = g_array_new(FALSE, TRUE, sizeof(HvGuard));
    g_autofree char *text = hv_root_read_text(root, "/proc/sysvipc/shm", LIST_MAX_BYTES, NULL);
    for (const char *line = text; line != NULL && *line != '\0';) {
        HvGuard guard;
        if (read_line(line, &guard))
            g_array_append_val(guards, guard);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return guards;
}

void hv_guard_drop(const HvGuard *guard)
{
    shmctl(guard->id, IPC_RMID, NULL);
}

gboolean hv_guard_survives_its_maker(const HvRoot *root)
{
    guint64 forced = 0;
    hv_root_read_u64(root, "/proc/sys/kernel/shm_rmid_forced", &forced, NULL);
    return forced == 0;
}
