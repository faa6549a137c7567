/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void test_directory_and_files_have_their_modes(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    mode_t old_mask = umask(077);
    {
        g_autoptr(HvStore) store = open_store(&fixture);
        g_auto(HvFd) lock = hv_store_lock_size(store, 2048, seconds_from_now(1), NULL);
        g_assert_cmpint(lock, >=, 0);
        write_generation(store, 1);
    }
    umask(old_mask);
    g_assert_cmpuint(mode_of(&fixture, ""), ==, 0755);
    g_assert_cmpuint(mode_of(&fixture, LEDGER), ==, 0644);
    g_assert_cmpuint(mode_of(&fixture, LEDGER_COPY), ==, 0644);
    g_assert_cmpuint(mode_of(&fixture, "ledger.lock"), ==, 0600);
    g_assert_cmpuint(mode_of(&fixture, "size-2048.lock"), ==, 0600);
}

static void test_open_without_create_makes_nothing(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_assert_null(hv_store_open(fixture.root, FALSE, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_autofree char *path = store_path(&fixture, "");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_no_ledger_reads_as_an_empty_one(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_assert_cmpuint(read_generation(store), ==, 0);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_cmpuint(transaction->ledger->claims->len, ==, 0);
    g_assert_null(transaction->warning);
}

static void test_what_is_committed_is_read_again(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 42);
    g_autoptr(HvStore) other = open_store(&fixture);
    g_assert_cmpuint(read_generation(other), ==, 42);
    g_autoptr(HvTransaction) transaction = begin(other);
    g_assert_cmpuint(transaction->ledger->last_generation, ==, 42);
    g_autofree char *ledger = store_text(&fixture, LEDGER);
    g_autofree char *copy = store_text(&fixture, LEDGER_COPY);
    g_assert_cmpstr(copy, ==, ledger);
}

static void test_what_is_not_committed_is_forgotten(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 1);
    {
        g_autoptr(HvTransaction) transaction = begin(store);
        transaction->ledger->last_generation = 2;
        transaction->is_changed = TRUE;
    }
    g_assert_cmpuint(read_generation(store), ==, 1);
}

static void test_unchanged_ledger_is_not_written(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_true(hv_transaction_commit(transaction, NULL));
    g_autofree char *path = store_path(&fixture, LEDGER);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_committed_transaction_can_go_on(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvTransaction) transaction = begin(store);
    for (guint64 generation = 1; generation <= 3; generation++) {
        transaction->ledger->last_generation = generation;
        commit(transaction);
        g_assert_cmpuint(read_generation(store), ==, generation);
    }
}

/* Nobody else could use the store while we look. */
static void assert_begin_times_out(const StoreFixture *fixture, const char *holder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvStore) store = open_store(fixture);
    gint64 start_us = g_get_monotonic_time();
    g_assert_null(hv_transaction_begin(store, start_us + 50 * 1000, &error));
    gint64 took_us = g_get_monotonic_time() - start_us;
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "ledger.lock"));
    g_assert_nonnull(strstr(error->message, holder));
    g_assert_cmpint(took_us, >=, 50 * 1000);
    g_assert_cmpint(took_us, <, 10 * G_USEC_PER_SEC);
}

static void test_lock_wait_ends_and_names_the_holder(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_nonnull(transaction);
    g_autofree char *holder = g_strdup_printf("process '%d'", (int)getpid());
    assert_begin_times_out(&fixture, holder);
}

static void test_holder_in_the_lock_file_is_shown_in_quotes(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_cmpint(pwrite(transaction->lock, "\x1b[2J\n", 5, 0), ==, 5);
    assert_begin_times_out(&fixture, "\\x1b[2J");
}

static void test_end_lets_go_of_the_lock(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    for (int i = 0; i < 3; i++) {
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_nonnull(transaction);
    }
}

static void test_passed_deadline_still_tries_once(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, 0, NULL);
    g_assert_nonnull(transaction);
}

static void test_page_sizes_are_locked_apart(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_auto(HvFd) small = hv_store_lock_size(store, 2048, 0, NULL);
    g_auto(HvFd) large = hv_store_lock_size(store, 1048576, 0, NULL);
    g_assert_cmpint(small, >=, 0);
    g_assert_cmpint(large, >=, 0);
    g_assert_cmpint(hv_store_lock_size(store, 2048, 0, &error), ==, -1);
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "size-2048.lock"));
    hv_fd_clear(&small);
    small = hv_store_lock_size(store, 2048, 0, NULL);
    g_assert_cmpint(small, >=, 0);
}

#define GREEDY_ROUNDS 100
static gint greedy_rounds; /* atomic */

/* As an agent that grows a pool step by step: lets go of the lock, and takes it again at once. */
static gpointer be_greedy(gpointer data)
{
    g_autoptr(HvStore) store = open_store(data);
    while (g_atomic_int_get(&greedy_rounds) < GREEDY_ROUNDS) {
        g_auto(HvFd) lock = hv_store_lock_size(store, 2048, seconds_from_now(10), NULL);
        g_assert_cmpint(lock, >=, 0);
        g_atomic_int_inc(&greedy_rounds);
        g_usleep(5 * 1000);
    }
    return NULL;
}

static void test_who_waits_for_a_page_size_is_next(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_atomic_int_set(&greedy_rounds, 0);
    GThread *greedy = g_thread_new("greedy", be_greedy, &fixture);
    while (g_atomic_int_get(&greedy_rounds) == 0)
        g_usleep(1000);
    for (guint i = 0; i < 3; i++) {
        gint before = g_atomic_int_get(&greedy_rounds);
        g_auto(HvFd) lock = hv_store_lock_size(store, 2048, seconds_from_now(10), NULL);
        g_assert_cmpint(lock, >=, 0);
        g_assert_cmpint(g_atomic_int_get(&greedy_rounds), <=, before + 3);
    }
    g_atomic_int_set(&greedy_rounds, GREEDY_ROUNDS);
    g_thread_join(greedy);
}

static void test_locks_do_not_pass_to_programs_we_start(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_auto(HvFd) lock = hv_store_lock_size(store, 2048, 0, NULL);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_cmpint(fcntl(lock, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(fcntl(transaction->lock, F_GETFD) & FD_CLOEXEC, !=, 0);
}

#define THREADS 4
#define ROUNDS 100

static gpointer increment(gpointer data)
{
    g_autoptr(HvStore) store = open_store(data);
    for (int i = 0; i < ROUNDS; i++) {
        g_autoptr(HvTransaction) transaction = begin(store);
        transaction->ledger->last_generation++;
        commit(transaction);
    }
    return NULL;
}

static void test_threads_lose_nothing(void)
{
    g_auto(StoreFixture) fixture;
    GThread *threads[THREADS];
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    for (int i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("increment", increment, &fixture);
    for (int i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(read_generation(store), ==, THREADS * ROUNDS);
}

static void test_processes_lose_nothing(void)
{
    g_auto(StoreFixture) fixture;
    pid_t children[THREADS];
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    for (int i = 0; i < THREADS; i++) {
        children[i] = fork();
        g_assert_cmpint(children[i], >=, 0);
        if (children[i] == 0) {
            increment(&fixture);
            _exit(0);
        }
    }
    guint64 last = 0;
    for (int i = 0; i < THREADS; i++) {
        int status;
        guint64 now = read_generation(store); /* readers take no lock, and see no half ledger */
        g_assert_cmpuint(now, >=, last);
        last = now;
        g_assert_cmpint(waitpid(children[i], &status, 0), ==, children[i]);
        g_assert_cmpint(status, ==, 0);
    }
    g_assert_cmpuint(read_generation(store), ==, THREADS * ROUNDS);
}

static void test_killed_holder_leaves_no_lock(void)
{
    g_auto(StoreFixture) fixture;
    int status;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        hv_transaction_begin(store, seconds_from_now(5), NULL);
        raise(SIGKILL);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, 0, NULL);
    g_assert_nonnull(transaction);
}

static void test_leftover_of_a_killed_writer_is_no_obstacle(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, "ledger.new", "half a led");
    write_generation(store, 5);
    g_assert_cmpuint(read_generation(store), ==, 5);
    g_autofree char *path = store_path(&fixture, "ledger.new");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_planted_symlink_is_not_written_through(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autofree char *victim = hv_root_path(fixture.root, "/victim");
    g_autofree char *link_path = store_path(&fixture, "ledger.new");
    make_text(victim, "precious");
    g_assert_cmpint(symlink(victim, link_path), ==, 0);
    write_generation(store, 5);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(victim, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
}

/* SIGXFSZ is ignored, so that a write beyond the limit fails as on a full file system. */
static gboolean commit_without_space(HvStore *store, rlim_t bytes, GError **error)
{
    g_autoptr(HvTransaction) transaction = begin(store);
    struct rlimit old_limit, limit;
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old_limit), ==, 0);
    limit = (struct rlimit){bytes, old_limit.rlim_max};
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);
    transaction->ledger->last_generation = 99;
    transaction->is_changed = TRUE;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    gboolean is_good = hv_transaction_commit(transaction, error);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old_limit), ==, 0);
    signal(SIGXFSZ, old_handler);
    return is_good;
}

static void test_no_space_leaves_the_old_ledger_whole(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 7);
    g_assert_false(commit_without_space(store, 20, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(error->message, "ledger.copy.json"));
    g_assert_cmpuint(read_generation(store), ==, 7);
    g_autofree char *path = store_path(&fixture, "ledger.new");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    write_generation(store, 8); /* and it works again */
    g_assert_cmpuint(read_generation(store), ==, 8);
}

static void test_nothing_can_be_ended_and_freed(void)
{
    hv_transaction_end(NULL);
    hv_store_free(NULL);
}

#define ADD(name, function) g_test_add_func("/store/" name, function)

static void add_tests_of_locks(void)
{
    ADD("lock-wait-ends-and-names-the-holder", test_lock_wait_ends_and_names_the_holder);
    ADD("holder-in-the-lock-file-is-shown-in-quotes",
        test_holder_in_the_lock_file_is_shown_in_quotes);
    ADD("end-lets-go-of-the-lock", test_end_lets_go_of_the_lock);
    ADD("passed-deadline-still-tries-once", test_passed_deadline_still_tries_once);
    ADD("page-sizes-are-locked-apart", test_page_sizes_are_locked_apart);
    g_test_add_func("/store/who waits for a page size is next",
                    test_who_waits_for_a_page_size_is_next);
    ADD("locks-do-not-pass-to-programs-we-start", test_locks_do_not_pass_to_programs_we_start);
    ADD("threads-lose-nothing", test_threads_lose_nothing);
    ADD("processes-lose-nothing", test_processes_lose_nothing);
    ADD("killed-holder-leaves-no-lock", test_killed_holder_leaves_no_lock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("directory-and-files-have-their-modes", test_directory_and_files_have_their_modes);
    ADD("open-without-create-makes-nothing", test_open_without_create_makes_nothing);
    ADD("no-ledger-reads-as-an-empty-one", test_no_ledger_reads_as_an_empty_one);
    ADD("what-is-committed-is-read-again", test_what_is_committed_is_read_again);
    ADD("what-is-not-committed-is-forgotten", test_what_is_not_committed_is_forgotten);
    ADD("unchanged-ledger-is-not-written", test_unchanged_ledger_is_not_written);
    ADD("committed-transaction-can-go-on", test_committed_transaction_can_go_on);
    add_tests_of_locks();
    ADD("leftover-of-a-killed-writer-is-no-obstacle",
        test_leftover_of_a_killed_writer_is_no_obstacle);
    ADD("planted-symlink-is-not-written-through", test_planted_symlink_is_not_written_through);
    ADD("no-space-leaves-the-old-ledger-whole", test_no_space_leaves_the_old_ledger_whole);
    ADD("nothing-can-be-ended-and-freed", test_nothing_can_be_ended_and_freed);
    return g_test_run();
}
