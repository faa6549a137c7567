/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose page size and architecture count: those of the tree, not of the machine that looks at it.
 */
#include "rooted-tree.h"

#include "backing.h"
#include "platform.h"

#include <sys/utsname.h>
#include <unistd.h>

#define SMAPS "/proc/self/smaps"

static guint64 page_kib_of_this_machine(void)
{
    return (guint64)sysconf(_SC_PAGESIZE) / 1024;
}

static void test_this_machine_tells_of_itself(void)
{
    struct utsname name;
    g_autoptr(HvRoot) root = hv_root_new("/");
    g_autofree char *arch = hv_platform_arch(root);
    g_assert_cmpint(uname(&name), ==, 0);
    g_assert_cmpstr(arch, ==, name.machine);
    g_assert_cmpuint(hv_platform_base_page_kib(root), ==, page_kib_of_this_machine());
    g_assert_cmpuint(hv_platform_kernel_version(root), >, HV_KERNEL_VERSION(3, 0));
}

static void test_tree_tells_of_its_own_machine(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "arch aarch64\npage 64\nfile /proc/sys/kernel/osrelease 5.14.0-503.el9\n");
    g_autofree char *arch = hv_platform_arch(tree.root);
    g_assert_cmpstr(arch, ==, "aarch64");
    g_assert_cmpuint(hv_platform_base_page_kib(tree.root), ==, 64);
    g_assert_cmpuint(hv_platform_kernel_version(tree.root), ==, HV_KERNEL_VERSION(5, 14));
}

/* As from a kernel before 6.1, and with files that nobody copied. */
static void test_tree_that_does_not_tell(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "");
    g_autofree char *smaps = g_strconcat(tree.directory, SMAPS, NULL);
    g_assert_cmpint(g_remove(smaps), ==, 0);
    g_autofree char *arch = hv_platform_arch(tree.root);
    g_assert_cmpstr(arch, ==, "unknown");
    g_assert_cmpuint(hv_platform_base_page_kib(tree.root), ==, page_kib_of_this_machine());
    g_assert_cmpuint(hv_platform_kernel_version(tree.root), ==, 0);
}

static void test_page_size_that_is_none_is_not_believed(void)
{
    static const char *const values[] = {
        "",       "\n",        "0 kB\n",    "-4 kB\n",
        "64kB\n", "0x40 kB\n", "many kB\n", "99999999999999999999 kB\n"};
    g_auto(Tree) tree;
    tree_init(&tree, "page 64");
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        g_test_message("'%s'", values[i]);
        tree_printf(tree.directory, SMAPS, "Size: 4 kB\nKernelPageSize: %s", values[i]);
        g_assert_cmpuint(hv_platform_base_page_kib(tree.root), ==, page_kib_of_this_machine());
    }
}

/* QEMU's program and libraries must not be taken for the files of its guest's memory. */
static void test_files_in_normal_pages_back_no_vm(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "page 64");
    tree_write(tree.directory, "/proc/2000/smaps",
               "aaaaaaaa0000-aaaaaaad0000 r-xp 00000000 fe:01 4711 /usr/bin/qemu-system-aarch64\n"
               "KernelPageSize:       64 kB\n"
               "fffe00000000-fffe20000000 rw-p 00000000 00:31 4712 /1-vm/ram (deleted)\n"
               "KernelPageSize:   524288 kB\n");
    g_autoptr(GArray) files = hv_backing_of(tree.root, 2000);
    g_assert_cmpuint(files->len, ==, 1);
    g_assert_cmpuint(g_array_index(files, HvFileId, 0).inode, ==, 4712);
}

#define ADD(name, function) g_test_add_func("/platform/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("this-machine-tells-of-itself", test_this_machine_tells_of_itself);
    ADD("tree-tells-of-its-own-machine", test_tree_tells_of_its_own_machine);
    ADD("tree-that-does-not-tell", test_tree_that_does_not_tell);
    ADD("page-size-that-is-none-is-not-believed", test_page_size_that_is_none_is_not_believed);
    ADD("files-in-normal-pages-back-no-vm", test_files_in_normal_pages_back_no_vm);
    return g_test_run();
}
