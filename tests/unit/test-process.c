/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process.h"

#include "store-fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

/* A line of /proc/PID/stat with the fields that count; the rest are other numbers. */
static void make_process(const StoreFixture *fixture, int pid, const char *name, char state,
                         guint64 start_ticks)
{
    g_autofree char *path = g_strdup_printf("%s/proc/%d/stat", fixture->directory, pid);
    g_autofree char *text = g_strdup_printf(
        "%d (%s) %c 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 %" G_GUINT64_FORMAT " 20 21 22\n",
        pid, name, state, start_ticks);
    make_text(path, text);
}

static void set_stat(const StoreFixture *fixture, int pid, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/proc/%d/stat", fixture->directory, pid);
    make_text(path, text);
}

/* What /proc/PID/status says of a process's user and of the huge pages that it maps. */
static void set_status(const StoreFixture *fixture, int pid, guint uid, guint64 huge_kib)
{
    g_autofree char *path = g_strdup_printf("%s/proc/%d/status", fixture->directory, pid);
    g_autofree char *text = g_strdup_printf(
        "Name:\tqemu\nUid:\t%u\t%u\t%u\t%u\nHugetlbPages:\t%8" G_GUINT64_FORMAT " kB\n", uid, uid,
        uid, uid, huge_kib);
    make_text(path, text);
}

/* The words of a command line, each ended by a NUL byte, of a process that holds huge pages. */
static void set_cmdline(const StoreFixture *fixture, int pid, const char *const *words)
{
    set_status(fixture, pid, 107, 2048);
    g_autoptr(GString) text = g_string_new(NULL);
    for (; *words != NULL; words++)
        g_string_append_len(text, *words, (gssize)strlen(*words) + 1);
    g_autofree char *path = g_strdup_printf("%s/proc/%d/cmdline", fixture->directory, pid);
    g_assert_true(g_file_set_contents(path, text->str, (gssize)text->len, NULL));
}

static void test_this_process_is_alive(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    HvProcess self = hv_process_identify(root, getpid());
    g_assert_cmpint(self.pid, ==, getpid());
    g_assert_cmpuint(self.start_ticks, >, 0);
    g_assert_true(hv_process_is_alive(root, &self));
}

static void test_same_pid_with_another_start_is_another_process(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    HvProcess other = hv_process_identify(root, getpid());
    other.start_ticks--;
    g_assert_false(hv_process_is_alive(root, &other));
}

static void test_unknown_process_is_not_alive(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    static const gint64 pids[] = {0, -1, 1, G_MAXINT64};
    for (guint i = 0; i < G_N_ELEMENTS(pids); i++) {
        HvProcess process = {pids[i], 0};
        g_assert_cmpint(hv_process_identify(fixture.root, pids[i]).pid, ==, 0);
        g_assert_false(hv_process_is_alive(fixture.root, &process));
    }
}

static void test_zombie_is_dead(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    siginfo_t info;
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        pause();
        _exit(0);
    }
    HvProcess process = hv_process_identify(root, child);
    g_assert_true(hv_process_is_alive(root, &process));
    kill(child, SIGKILL);
    g_assert_cmpint(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), ==, 0);
    g_assert_false(hv_process_is_alive(root, &process)); /* still in the process table */
    g_assert_cmpint(hv_process_identify(root, child).pid, ==, 0);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    g_assert_false(hv_process_is_alive(root, &process));
}

static void test_states_that_are_dead(void)
{
    static const struct {
        char state;
        gboolean is_alive;
    } cases[] = {{'R', TRUE}, {'S', TRUE},  {'D', TRUE},  {'T', TRUE}, {'t', TRUE},
                 {'I', TRUE}, {'Z', FALSE}, {'X', FALSE}, {'x', FALSE}};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    HvProcess process = {77, 123};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        make_process(&fixture, 77, "qemu", cases[i].state, 123);
        g_assert_true(hv_process_is_alive(fixture.root, &process) == cases[i].is_alive);
    }
}

static void test_command_name_cannot_pretend_to_be_fields(void)
{
    static const char *const names[] = {"a b", "a) Z 1 2 3", ")", "((", "", "x\ny"};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        make_process(&fixture, 77, names[i], 'S', 123);
        HvProcess process = hv_process_identify(fixture.root, 77);
        g_assert_cmpint(process.pid, ==, 77);
        g_assert_cmpuint(process.start_ticks, ==, 123);
    }
}

static void test_malformed_stat_is_no_process(void)
{
    static const char *const texts[] = {
        "",
        "77",
        "77 (x",
        "77 (x)",
        "77 (x) ",
        "77 (x) S",
        "77 (x)S 1 2 3",
        "77 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18",
        "77 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -5 20",
        "77 (x)  S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        set_stat(&fixture, 77, texts[i]);
        g_assert_cmpint(hv_process_identify(fixture.root, 77).pid, ==, 0);
    }
}

static void test_qemu_is_found_by_its_uuid(void)
{
    static const char *const other[] = {"/usr/bin/qemu-system-x86_64", "-uuid",
                                        "00000000-0000-0000-0000-000000000001", NULL};
    static const char *const qemu[] = {
        "/usr/bin/qemu-system-x86_64",          "-name", "guest=vm", "-uuid",
        "C7A5FDBD-edaf-9455-926a-d65c16db1809", NULL};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    make_process(&fixture, 10, "qemu", 'S', 100);
    set_cmdline(&fixture, 10, other);
    make_process(&fixture, 20, "qemu", 'S', 200);
    set_cmdline(&fixture, 20, qemu);
    HvProcess found = hv_process_find_qemu(fixture.root, UUID);
    g_assert_cmpint(found.pid, ==, 20);
    g_assert_cmpuint(found.start_ticks, ==, 200);
}

/* Overlooking one would give away the pages of a VM that runs. */
static void test_emulator_of_any_name_is_found(void)
{
    static const char *const names[] = {"/usr/libexec/qemu-kvm", "/usr/bin/kvm", "/opt/emulator",
                                        ""};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    make_process(&fixture, 10, "x", 'S', 100);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *const words[] = {names[i], "-uuid", UUID, NULL};
        set_cmdline(&fixture, 10, words);
        g_assert_cmpint(hv_process_find_qemu(fixture.root, UUID).pid, ==, 10);
    }
}

static void test_others_that_know_the_uuid_are_no_qemu(void)
{
    static const char *const lines[][6] = {
        {"/usr/bin/virsh", "start", UUID, NULL},
        {"/usr/bin/hugevmctl", "release", UUID, NULL},
        {"/usr/bin/qemu-system-x86_64", "-name", UUID, NULL},
        {"/usr/bin/qemu-system-x86_64", UUID, NULL},
        {"/usr/bin/qemu-system-x86_64", "-uuid", NULL},
        {"", NULL},
        {NULL},
    };
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    make_process(&fixture, 10, "x", 'S', 100);
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        set_cmdline(&fixture, 10, lines[i]);
        g_test_message("line %u", i);
        g_assert_cmpint(hv_process_find_qemu(fixture.root, UUID).pid, ==, 0);
    }
}

/* Anybody can write the command line of a VM: pages are not held back for that. */
static void test_stranger_with_the_command_line_is_no_qemu(void)
{
    static const char *const qemu[] = {"/usr/bin/qemu-kvm", "-uuid", UUID, NULL};
    static const struct {
        guint uid;
        guint64 huge_kib;
        gboolean is_found;
    } cases[] = {{1000, 2048, FALSE}, {65534, 2048, FALSE}, {107, 0, FALSE},
                 {64055, 2048, TRUE}, {0, 2048, TRUE},      {107, 2048, TRUE}};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    make_process(&fixture, 10, "qemu", 'S', 5);
    set_cmdline(&fixture, 10, qemu);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        set_status(&fixture, 10, cases[i].uid, cases[i].huge_kib);
        g_assert_true((hv_process_find_qemu(fixture.root, UUID).pid != 0) == cases[i].is_found);
    }
}

/* The first thread may end before the others: the memory is still held. */
static void test_zombie_with_living_threads_is_alive(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    HvProcess process = {77, 123};
    set_stat(&fixture, 77,
             "77 (qemu) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 2 18 123 20 21 22\n");
    g_assert_true(hv_process_is_alive(fixture.root, &process));
}

static void test_dead_qemu_is_not_found(void)
{
    static const char *const qemu[] = {"qemu-kvm", "-uuid", UUID, NULL};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    make_process(&fixture, 10, "qemu", 'Z', 100);
    set_cmdline(&fixture, 10, qemu);
    g_assert_cmpint(hv_process_find_qemu(fixture.root, UUID).pid, ==, 0);
    make_process(&fixture, 11, "qemu", 'S', 101);
    set_cmdline(&fixture, 11, qemu);
    g_assert_cmpint(hv_process_find_qemu(fixture.root, UUID).pid, ==, 11);
}

static void test_waiting_for_the_dead_does_not_wait(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    HvProcess none = {0};
    gint64 start_us = g_get_monotonic_time();
    g_assert_true(hv_process_wait_end(root, &none, 60 * 1000));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 5 * G_USEC_PER_SEC);
}

static void test_waiting_for_the_living_ends(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    HvProcess self = hv_process_identify(root, getpid());
    gint64 start_us = g_get_monotonic_time();
    g_assert_false(hv_process_wait_end(root, &self, 30));
    g_assert_cmpint(g_get_monotonic_time() - start_us, >=, 30 * 1000);
}

static gpointer end_soon(gpointer data)
{
    g_usleep(30 * 1000);
    make_process(data, 77, "qemu", 'Z', 123);
    return NULL;
}

static void test_waiting_sees_the_end(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    HvProcess process = {77, 123};
    make_process(&fixture, 77, "qemu", 'S', 123);
    GThread *thread = g_thread_new("end", end_soon, &fixture);
    g_assert_true(hv_process_wait_end(fixture.root, &process, 60 * 1000));
    g_thread_join(thread);
}

#define ADD(name, function) g_test_add_func("/process/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("this-process-is-alive", test_this_process_is_alive);
    ADD("same-pid-with-another-start-is-another-process",
        test_same_pid_with_another_start_is_another_process);
    ADD("unknown-process-is-not-alive", test_unknown_process_is_not_alive);
    ADD("zombie-is-dead", test_zombie_is_dead);
    ADD("states-that-are-dead", test_states_that_are_dead);
    ADD("command-name-cannot-pretend-to-be-fields", test_command_name_cannot_pretend_to_be_fields);
    ADD("malformed-stat-is-no-process", test_malformed_stat_is_no_process);
    ADD("qemu-is-found-by-its-uuid", test_qemu_is_found_by_its_uuid);
    ADD("emulator-of-any-name-is-found", test_emulator_of_any_name_is_found);
    ADD("others-that-know-the-uuid-are-no-qemu", test_others_that_know_the_uuid_are_no_qemu);
    ADD("dead-qemu-is-not-found", test_dead_qemu_is_not_found);
    ADD("stranger-with-the-command-line-is-no-qemu",
        test_stranger_with_the_command_line_is_no_qemu);
    ADD("zombie-with-living-threads-is-alive", test_zombie_with_living_threads_is_alive);
    ADD("waiting-for-the-dead-does-not-wait", test_waiting_for_the_dead_does_not_wait);
    ADD("waiting-for-the-living-ends", test_waiting_for_the_living_ends);
    ADD("waiting-sees-the-end", test_waiting_sees_the_end);
    return g_test_run();
}
