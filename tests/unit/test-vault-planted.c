/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Links and strange files where the vault is to be. The vault's path is the machine's:
 * so each test is a process in a mount namespace of its own, with a /run of its own,
 * and asks for no page. Needs root.
 */
#include "vault.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE "/run/hugevm"
#define VAULT STORE "/vault"
#define NAMESPACE VAULT "/namespace"
#define OUTSIDE "/run/outside"
#define LIMIT_US (5 * G_USEC_PER_SEC)

static const HvVaultName name = {
    .uuid = "00000000-0000-4000-8000-00000000000a", .generation = 1, .size_kib = 2048};

/* FALSE: not here. The process is its own from now on, and ends with the test. */
static gboolean enter_own_run(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0)
        return FALSE;
    g_assert_cmpint(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), ==, 0);
    g_assert_cmpint(mount("hugevm-test", "/run", "tmpfs", 0, "mode=0755"), ==, 0);
    g_assert_cmpint(mkdir(STORE, 0755), ==, 0);
    g_assert_cmpint(mkdir(OUTSIDE, 0755), ==, 0);
    return TRUE;
}

/* Runs this test once more in a process that may do so; TRUE: this is that process. */
static gboolean in_own_run(void)
{
    if (g_test_subprocess()) {
        if (enter_own_run())
            return TRUE;
        g_printerr("cannot have a mount namespace\n");
        exit(0);
    }
    g_test_trap_subprocess(NULL, LIMIT_US, (GTestSubprocessFlags)0);
    g_test_trap_assert_passed();
    if (geteuid() != 0)
        g_test_skip("only root can have a mount namespace");
    return FALSE;
}

static guint count_mounts(void)
{
    g_autofree char *text = NULL;
    guint count = 0;
    g_assert_true(g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL));
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        count++;
    return count;
}

/* Everything that visits the vault, and makes one where it may. */
static void visit(void)
{
    g_autoptr(GArray) names = NULL;
    hv_vault_list(&names);
    g_assert_cmpuint(names->len, ==, 0);
    g_assert_cmpint(hv_vault_put(&name, 0), !=, 0);
    g_assert_cmpint(hv_vault_put(&name, 0), !=, 0);
    hv_vault_drop(&name);
}

static void assert_nothing_outside(void)
{
    g_autoptr(GDir) dir = g_dir_open(OUTSIDE, 0, NULL);
    const char *found = g_dir_read_name(dir);
    g_assert_cmpstr(found, ==, NULL);
}

static void assert_vault_is_made(void)
{
    int errsv = hv_vault_put(&name, 0);
    if (errsv != ENODEV) /* a kernel without huge pages */
        g_assert_cmpint(errsv, ==, 0);
    g_assert_true(g_file_test(NAMESPACE, G_FILE_TEST_EXISTS));
    hv_vault_drop(&name);
}

static void test_vault_is_made_where_nothing_is_planted(void)
{
    if (in_own_run())
        assert_vault_is_made();
}

static void go_to_cpu(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    g_assert_cmpint(sched_setaffinity(0, sizeof one, &one), ==, 0);
}

/* One processor's namespaces have greater ids than the other's: which one is not known. */
static void assert_vault_is_made_by_another(gboolean is_last_first)
{
    cpu_set_t allowed;
    int cpus[2] = {-1, -1};
    g_assert_cmpint(sched_getaffinity(0, sizeof allowed, &allowed), ==, 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[cpus[0] >= 0] = cpu;
    if (cpus[1] < 0) {
        g_test_skip("only one processor");
        return;
    }
    if (g_test_subprocess())
        go_to_cpu(cpus[is_last_first]);
    if (!in_own_run())
        return;
    go_to_cpu(cpus[!is_last_first]);
    assert_vault_is_made();
}

static void test_vault_is_made_by_a_later_processor(void)
{
    assert_vault_is_made_by_another(FALSE);
}

static void test_vault_is_made_by_an_earlier_processor(void)
{
    assert_vault_is_made_by_another(TRUE);
}

static void test_link_to_a_directory_is_not_followed(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(symlink(OUTSIDE, VAULT), ==, 0);
    guint before = count_mounts();
    visit();
    g_assert_cmpuint(count_mounts(), ==, before);
    assert_nothing_outside();
}

/* Somebody else's file system behind the link must not be unmounted either. */
static void test_mount_behind_a_link_stays(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(mount("theirs", OUTSIDE, "tmpfs", 0, "mode=0755"), ==, 0);
    g_assert_cmpint(symlink(OUTSIDE, VAULT), ==, 0);
    guint before = count_mounts();
    visit();
    g_assert_cmpuint(count_mounts(), ==, before);
    assert_nothing_outside();
}

static void test_dangling_link_is_not_made(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(symlink(OUTSIDE "/missing", VAULT), ==, 0);
    visit();
    assert_nothing_outside();
}

static void test_file_instead_of_the_vault_is_left_alone(void)
{
    if (!in_own_run())
        return;
    g_assert_true(g_file_set_contents(VAULT, "precious", -1, NULL));
    guint before = count_mounts();
    visit();
    g_assert_cmpuint(count_mounts(), ==, before);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(VAULT, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
}

static void test_link_instead_of_the_namespace_is_not_followed(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(mkdir(VAULT, 0700), ==, 0);
    g_assert_cmpint(symlink(OUTSIDE "/missing", NAMESPACE), ==, 0);
    visit();
    assert_nothing_outside();
}

/* The one of this process: entering it and unmounting there would hit the host. */
static void test_link_to_a_namespace_is_not_entered(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(mkdir(VAULT, 0700), ==, 0);
    g_assert_cmpint(symlink("/proc/1/ns/mnt", NAMESPACE), ==, 0);
    visit();
}

static void test_fifo_instead_of_the_namespace_is_no_long_wait(void)
{
    if (!in_own_run())
        return;
    g_assert_cmpint(mkdir(VAULT, 0700), ==, 0);
    g_assert_cmpint(mkfifo(NAMESPACE, 0600), ==, 0);
    visit();
}

#define ADD(name, function) g_test_add_func("/vault/planted/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("vault-is-made-where-nothing-is-planted", test_vault_is_made_where_nothing_is_planted);
    ADD("vault-is-made-by-a-later-processor", test_vault_is_made_by_a_later_processor);
    ADD("vault-is-made-by-an-earlier-processor", test_vault_is_made_by_an_earlier_processor);
    ADD("link-to-a-directory-is-not-followed", test_link_to_a_directory_is_not_followed);
    ADD("mount-behind-a-link-stays", test_mount_behind_a_link_stays);
    ADD("dangling-link-is-not-made", test_dangling_link_is_not_made);
    ADD("file-instead-of-the-vault-is-left-alone", test_file_instead_of_the_vault_is_left_alone);
    ADD("link-instead-of-the-namespace-is-not-followed",
        test_link_instead_of_the_namespace_is_not_followed);
    ADD("link-to-a-namespace-is-not-entered", test_link_to_a_namespace_is_not_entered);
    ADD("fifo-instead-of-the-namespace-is-no-long-wait",
        test_fifo_instead_of_the_namespace_is_no_long_wait);
    return g_test_run();
}
