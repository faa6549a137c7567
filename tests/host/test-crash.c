/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An agent is killed at every point where what others can see changes: before and
 * after each pool write, and each rename that makes a ledger valid. Wherever it
 * was, one recovery brings back the pools and the ledger as they were.
 */
#include "vm-fixture.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MAX_POINTS 1000
#define DOOMED 1000
#define SURVIVOR 1001

static int points_left; /* until the kill; 0: never */

static void pass_point(void)
{
    if (points_left > 0 && --points_left == 0)
        raise(SIGKILL);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    pass_point();
    int result = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
    pass_point();
    return result;
}

typedef void (*Life)(const HvAgent *agent);

/* TRUE: it came to its end before the kill. */
static gboolean run_and_kill(Life life, const HvAgent *agent, int point)
{
    int status;
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        points_left = point;
        fake.before_write = fake.after_write = pass_point;
        life(agent);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status) || WTERMSIG(status) == SIGKILL);
    g_assert_true(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

/* What must hold at any moment, dead agent or not. */
static void assert_nothing_static_is_lost(void)
{
    g_assert_cmpuint(fake_get(0, SIZE_2M, "nr_hugepages"), >=, 10);
    g_assert_cmpuint(fake_get(1, SIZE_2M, "nr_hugepages"), >=, 20);
}

static void assert_recovers(void)
{
    g_autoptr(HvAgent) survivor = new_agent(SURVIVOR);
    assert_nothing_static_is_lost();
    recover(survivor);
    assert_untouched();
    claim_vm(survivor, UUID_B, 60, 60); /* and it works as ever */
    assert_counts(0, SIZE_2M, 30, 30, 0);
    g_assert_true(tell(hv_lifecycle_gone, survivor, UUID_B, 0, 0));
    assert_untouched();
}

/* before: what is done unharmed; life: what is killed at each point in turn. */
static void kill_at_every_point(Life before, Life life)
{
    int point = 0;
    gboolean is_done = FALSE;
    while (!is_done) {
        g_assert_cmpint(++point, <, MAX_POINTS);
        fake_init(TWO_NODES DYNAMIC);
        g_autoptr(HvAgent) doomed = new_agent(DOOMED);
        g_autoptr(HvStore) store = hv_store_open(fake.root, TRUE, NULL);
        g_assert_nonnull(store);
        if (before != NULL)
            before(doomed);
        is_done = run_and_kill(life, doomed, point);
        g_test_message("killed at point %d", point);
        end_process(DOOMED);
        assert_recovers();
        fake_clear();
    }
    g_assert_cmpint(point, >, 10); /* else the points were not where they should be */
}

static void claim_both_nodes(const HvAgent *agent)
{
    claim_vm(agent, UUID_A, 60, 60);
}

static void release(const HvAgent *agent)
{
    tell(hv_lifecycle_gone, agent, UUID_A, 0, 0);
}

static void launch(const HvAgent *agent)
{
    tell(hv_lifecycle_launching, agent, UUID_A, 0, 0);
    tell(hv_lifecycle_started, agent, UUID_A, 0, 0);
    release(agent);
}

static void claim_more_than_there_is(const HvAgent *agent)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    fake.room_kib[1] = 3 * SIZE_2M;
    g_assert_null(try_claim(agent, xml, NULL, &error));
}

static void test_killed_while_claiming(void)
{
    kill_at_every_point(NULL, claim_both_nodes);
}

static void test_killed_while_releasing(void)
{
    kill_at_every_point(claim_both_nodes, release);
}

static void test_killed_in_the_life_of_a_vm(void)
{
    kill_at_every_point(claim_both_nodes, launch);
}

static void test_killed_while_rolling_back(void)
{
    kill_at_every_point(NULL, claim_more_than_there_is);
}

/* A recovery that is itself killed is done by the next one. */
static void recover_at(const HvAgent *agent)
{
    (void)agent;
    g_autoptr(HvAgent) survivor = new_agent(SURVIVOR + 1);
    recover(survivor);
}

static void claim_and_die(const HvAgent *agent)
{
    g_assert_false(run_and_kill(claim_both_nodes, agent, 15));
    end_process(DOOMED);
}

static void test_killed_while_recovering(void)
{
    int point = 0;
    gboolean is_done = FALSE;
    while (!is_done) {
        g_assert_cmpint(++point, <, MAX_POINTS);
        fake_init(TWO_NODES DYNAMIC);
        g_autoptr(HvAgent) doomed = new_agent(DOOMED);
        claim_and_die(doomed);
        is_done = run_and_kill(recover_at, doomed, point);
        assert_recovers();
        fake_clear();
    }
    g_assert_cmpint(point, >, 5);
}

static gboolean die_late(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)data, (void)total, (void)what;
    if (done >= 20)
        raise(SIGKILL);
    return FALSE;
}

static void claim_and_die_in_callback(const HvAgent *agent)
{
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    try_claim(agent, xml, die_late, NULL);
}

static void test_killed_by_its_own_progress_callback(void)
{
    fake_init(TWO_NODES DYNAMIC);
    g_autoptr(HvAgent) doomed = new_agent(DOOMED);
    g_assert_false(run_and_kill(claim_and_die_in_callback, doomed, 0));
    assert_counts(0, SIZE_2M, 30, 30, 0); /* it had begun */
    end_process(DOOMED);
    assert_recovers();
    fake_clear();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/killed-while-claiming", test_killed_while_claiming);
    g_test_add_func("/crash/killed-while-releasing", test_killed_while_releasing);
    g_test_add_func("/crash/killed-in-the-life-of-a-vm", test_killed_in_the_life_of_a_vm);
    g_test_add_func("/crash/killed-while-rolling-back", test_killed_while_rolling_back);
    g_test_add_func("/crash/killed-while-recovering", test_killed_while_recovering);
    g_test_add_func("/crash/killed-by-its-own-progress-callback",
                    test_killed_by_its_own_progress_callback);
    return g_test_run();
}
