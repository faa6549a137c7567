/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files in /run/hugevm: ledger.json and its twin ledger.copy.json (0644, so that
 * reports work without root), ledger.lock and size-<KiB>.lock (0600, never
 * removed: a lock on a removed file protects nothing).
 *
 * All are opened relative to the directory's descriptor and without following
 * symlinks. Writing: a new file, then rename; the twin first, so that at each
 * moment at least one of the two is whole. No fsync: /run does not outlive the
 * boot that the ledger speaks of.
 */
#include "store.h"

#include "error.h"
#include "ledger-json.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DIRECTORY "/run/hugevm"
#define LEDGER "ledger.json"
#define LEDGER_COPY "ledger.copy.json"
#define LEDGER_NEW "ledger.new"
#define LEDGER_LOCK "ledger.lock"
#define LOCK_POLL_US (2 * 1000)

struct HvStore {
    const HvRoot *root;
    char *path; /* for messages */
    char *boot_id;
    HvFd directory;
};

static void set_store_error(GError **error, const HvStore *store, const char *name, int errsv)
{
    gboolean is_permission = errsv == EACCES || errsv == EPERM;
    hv_set_error(error, is_permission ? HV_ERROR_PERMISSION : HV_ERROR_LEDGER,
                 is_permission ? "run it as root"
                 : errsv == ELOOP || errsv == EISDIR || errsv == EEXIST
                     ? "it must be a plain file: remove it"
                 : errsv == ENOSPC ? "make room on that file system"
                 : errsv == EFBIG  ? "hugevm did not write it: move it away"
                                   : NULL,
                 "cannot use %s%s%s: %s", store->path, name[0] != '\0' ? "/" : "", name,
                 g_strerror(errsv));
}

static gboolean check_directory(const HvStore *store, GError **error)
{
    struct stat st;
    if (fstat(store->directory, &st) != 0) {
        set_store_error(error, store, "", errno);
        return FALSE;
    }
    gboolean is_ours = st.st_uid == 0 || st.st_uid == geteuid();
    if (is_ours && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return TRUE;
    hv_set_error(error, HV_ERROR_LEDGER, "it must belong to root and be writable by root alone",
                 "%s is not safe to use (owner %u, mode %04o)", store->path, st.st_uid,
                 st.st_mode & 07777);
    return FALSE;
}

/* Without it nothing can be said of a ledger: one that seems to be of another boot is forgotten. */
static char *read_boot_id(const HvRoot *root, GError **error)
{
    g_autoptr(GError) local = NULL;
    char *text = hv_root_read_text(root, "/proc/sys/kernel/random/boot_id", 64, &local);
    if (text != NULL)
        return g_strstrip(text);
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot tell which boot this is: %s",
                 local->message);
    return NULL;
}

HvStore *hv_store_open(const HvRoot *root, gboolean create, GError **error)
{
    g_autoptr(HvStore) store = g_new0(HvStore, 1);
    store->root = root;
    store->path = hv_root_path(root, DIRECTORY);
    store->directory = -1;
    if (create && mkdir(store->path, 0755) == 0 && chmod(store->path, 0755) != 0) {
        set_store_error(error, store, "", errno); /* the umask had taken bits away */
        return NULL;
    }
    store->directory = open(store->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (store->directory < 0 && errno == ENOENT && !create) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "no %s", store->path);
        return NULL;
    }
    if (store->directory < 0) {
        set_store_error(error, store, "", errno);
        return NULL;
    }
    if (!check_directory(store, error))
        return NULL;
    store->boot_id = read_boot_id(root, error);
    return store->boot_id != NULL ? g_steal_pointer(&store) : NULL;
}

void hv_store_free(HvStore *store)
{
    if (store == NULL)
        return;
    hv_fd_clear(&store->directory);
    g_free(store->path);
    g_free(store->boot_id);
    g_free(store);
}

/* The whole file; NULL with errno. O_NONBLOCK keeps a planted FIFO from hanging us. */
static char *read_file(const HvStore *store, const char *name)
{
    g_auto(HvFd) fd =
        openat(store->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size > HV_LEDGER_MAX_BYTES) {
        errno = S_ISREG(st.st_mode) ? EFBIG : EISDIR;
        return NULL;
    }
    gsize size = (gsize)st.st_size, done = 0;
    g_autofree char *text = g_try_malloc(size + 1);
    if (text == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    while (done < size) {
        ssize_t n = read(fd, text + done, size - done);
        if (n < 0 && errno != EINTR)
            return NULL;
        if (n == 0)
            break;
        done += n > 0 ? (gsize)n : 0;
    }
    text[done] = '\0';
    if (strlen(text) != done) /* there is no NUL in ours: damaged, whatever stands before it */
        text[0] = '\0';
    return g_steal_pointer(&text);
}

/* Loads one of the two files. DAMAGED also where it is missing. FALSE: the file system said no. */
static gboolean load(const HvStore *store, const char *name, HvLedgerText *out_text,
                     HvLedger **out_ledger, GError **error)
{
    g_autofree char *text = read_file(store, name);
    if (text == NULL && errno != ENOENT) {
        set_store_error(error, store, name, errno);
        return FALSE;
    }
    *out_text = text != NULL ? hv_ledger_from_json(text, store->boot_id, out_ledger)
                             : HV_LEDGER_TEXT_DAMAGED;
    if (*out_text != HV_LEDGER_TEXT_NEWER_FORMAT)
        return TRUE;
    hv_set_error(error, HV_ERROR_LEDGER,
                 "restart the program that says so: it still has the version from before the "
                 "upgrade",
                 "%s/%s was written by a newer hugevm", store->path, name);
    return FALSE;
}

static gboolean is_missing(const HvStore *store, const char *name)
{
    struct stat st;
    return fstatat(store->directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

HvLedger *hv_store_read(HvStore *store, GError **error)
{
    HvLedger *ledger = NULL;
    HvLedgerText text = HV_LEDGER_TEXT_DAMAGED, copy_text;
    gboolean is_lost = is_missing(store, LEDGER);
    if (!is_lost && !load(store, LEDGER, &text, &ledger, error))
        return NULL;
    if (ledger != NULL)
        return ledger;
    if (!load(store, LEDGER_COPY, &copy_text, &ledger, error))
        return NULL;
    if (ledger == NULL && is_lost)
        return hv_ledger_new();
    if (ledger == NULL)
        hv_set_error(error, HV_ERROR_LEDGER,
                     "the next VM start, or hugevmctl drain as root, sets it aside",
                     "%s/" LEDGER " is damaged, and so is its second copy", store->path);
    return ledger;
}

HvLedger *hv_ledger_read(const HvRoot *root, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(HvStore) store = hv_store_open(root, FALSE, &local);
    if (store != NULL)
        return hv_store_read(store, error);
    if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return hv_ledger_new();
    g_propagate_error(error, g_steal_pointer(&local));
    return NULL;
}

/* Keeps a damaged ledger under a name of its own, for whoever wants to know. */
static void set_aside(const HvStore *store, const char *name, char **out_new_name)
{
    g_autofree char *aside =
        g_strdup_printf("%s.damaged-%" G_GINT64_FORMAT, name, g_get_real_time());
    if (renameat(store->directory, name, store->directory, aside) == 0)
        *out_new_name = g_steal_pointer(&aside);
}

/* The second copy, where the ledger itself is damaged or missing; empty where that is no use. */
static gboolean load_copy(HvTransaction *transaction, gboolean *out_is_good, GError **error)
{
    HvLedgerText text;
    if (!load(transaction->store, LEDGER_COPY, &text, &transaction->ledger, error))
        return FALSE;
    *out_is_good = text == HV_LEDGER_TEXT_GOOD;
    if (transaction->ledger == NULL)
        transaction->ledger = hv_ledger_new();
    return TRUE;
}

static gboolean load_locked(HvTransaction *transaction, GError **error)
{
    HvStore *store = transaction->store;
    HvLedgerText text = HV_LEDGER_TEXT_DAMAGED;
    gboolean has_copy = FALSE;
    if (is_missing(store, LEDGER))
        return load_copy(transaction, &has_copy, error);
    if (!load(store, LEDGER, &text, &transaction->ledger, error))
        return FALSE;
    if (text != HV_LEDGER_TEXT_DAMAGED)
        return TRUE;
    if (!load_copy(transaction, &has_copy, error))
        return FALSE;
    g_autofree char *aside = NULL;
    set_aside(store, LEDGER, &aside);
    transaction->is_changed = TRUE;
    transaction->warning = g_strdup_printf(
        "the ledger %s/" LEDGER " was damaged and is set aside as %s; %s", store->path,
        aside != NULL ? aside : "(could not be renamed)",
        has_copy ? "its second copy is used"
                 : "there is no good copy: pages added before now stay in the pools");
    return TRUE;
}

static void set_lock_timeout(GError **error, const HvStore *store, const char *name, int fd)
{
    char holder[64] = "";
    ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
    holder[n > 0 ? n : 0] = '\0';
    g_autofree char *quoted = hv_quote(g_strstrip(holder));
    hv_set_error(error, HV_ERROR_TIMEOUT, "see what that process is doing, then try again",
                 "%s/%s was held too long by process %s", store->path, name, quoted);
}

/* The pid in the file is for the message of others that wait in vain; the lock is flock's. */
static void write_holder(int fd)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) < 0)
        return;
}

static int lock_file(const HvStore *store, const char *name, gint64 deadline_us, GError **error)
{
    g_auto(HvFd) fd = openat(store->directory, name,
                             O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        set_store_error(error, store, name, errno);
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1) {
        /* our pid is going to be written into it: not into what has another name too */
        set_store_error(error, store, name, EISDIR);
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            set_store_error(error, store, name, errno);
            return -1;
        }
        if (g_get_monotonic_time() >= deadline_us) {
            set_lock_timeout(error, store, name, fd);
            return -1;
        }
        g_usleep(LOCK_POLL_US);
    }
    write_holder(fd);
    return hv_fd_steal(&fd);
}

int hv_store_lock_size(HvStore *store, guint64 size_kib, gint64 deadline_us, GError **error)
{
    g_autofree char *name = g_strdup_printf("size-%" G_GUINT64_FORMAT ".lock", size_kib);
    g_autofree char *turn_name = g_strdup_printf("size-%" G_GUINT64_FORMAT ".turn", size_kib);
    g_autoptr(GError) local = NULL;
    /* Whoever waits is next. Else an agent that grows a pool in steps takes the lock again at
     * once each time, and a libvirt that waits for the end of a VM waits for all of its growth. */
    g_auto(HvFd) turn = lock_file(store, turn_name, deadline_us, &local);
    if (turn < 0 && !g_error_matches(local, HV_ERROR, HV_ERROR_TIMEOUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return -1;
    }
    return lock_file(store, name, turn >= 0 ? deadline_us : 0, error);
}

/* *out_culprit: the file that a failure is about. */
static gboolean write_file(const HvStore *store, const char *name, const char *text,
                           const char **out_culprit)
{
    *out_culprit = LEDGER_NEW;
    g_auto(HvFd) fd = openat(store->directory, LEDGER_NEW,
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 || fchmod(fd, 0644) != 0)
        return FALSE;
    *out_culprit = name;
    gsize size = strlen(text);
    for (gsize done = 0; done < size;) {
        ssize_t n = write(fd, text + done, size - done);
        if (n < 0 && errno != EINTR)
            return FALSE;
        done += n > 0 ? (gsize)n : 0;
    }
    return renameat(store->directory, LEDGER_NEW, store->directory, name) == 0;
}

gboolean hv_transaction_commit(HvTransaction *transaction, GError **error)
{
    HvStore *store = transaction->store;
    if (!transaction->is_changed)
        return TRUE;
    g_autofree char *text = hv_ledger_to_json(transaction->ledger, store->boot_id);
    const char *culprit;
    if (write_file(store, LEDGER_COPY, text, &culprit) &&
        write_file(store, LEDGER, text, &culprit)) {
        transaction->is_changed = FALSE;
        return TRUE;
    }
    int errsv = errno;
    unlinkat(store->directory, LEDGER_NEW, 0);
    set_store_error(error, store, culprit, errsv);
    return FALSE;
}

HvTransaction *hv_transaction_begin(HvStore *store, gint64 deadline_us, GError **error)
{
    g_autoptr(HvTransaction) transaction = g_new0(HvTransaction, 1);
    transaction->store = store;
    transaction->lock = lock_file(store, LEDGER_LOCK, deadline_us, error);
    if (transaction->lock < 0)
        return NULL;
    unlinkat(store->directory, LEDGER_NEW, 0); /* left by a writer that was killed */
    if (!load_locked(transaction, error))
        return NULL;
    /* what was set aside is replaced at once: not every transaction has something to commit */
    if (transaction->is_changed && !hv_transaction_commit(transaction, error))
        return NULL;
    return g_steal_pointer(&transaction);
}

void hv_transaction_end(HvTransaction *transaction)
{
    if (transaction == NULL)
        return;
    hv_fd_clear(&transaction->lock);
    hv_ledger_free(transaction->ledger);
    g_free(transaction->warning);
    g_free(transaction);
}
