/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hook sees of file-backed memory before it loads the module. */
#include "glance-files.h"

#include <string.h>

static void assert_conf(const char *text, gboolean keeps_files)
{
    g_test_message("%s", text);
    g_assert_cmpint(glance_conf_keeps_files(text, strlen(text)), ==, keeps_files);
}

static void settings_that_keep_files(void)
{
    assert_conf("[hugevm]\nfile_backed_memory = 1024\n", TRUE);
    assert_conf("[hugevm]\nfile_backed_memory: 1024", TRUE);
    assert_conf("[hugevm]\n\tFile_Backed_Memory=10\r\n", TRUE);
    assert_conf("file_backed_memory = %(size)s\n", TRUE);
    assert_conf("file_backed_memory = 0\nfile_backed_memory = 1\n", TRUE);
}

static void settings_that_do_not(void)
{
    assert_conf("", FALSE);
    assert_conf("[hugevm]\n#file_backed_memory = 1024\n", FALSE);
    assert_conf("; file_backed_memory = 1024\n", FALSE);
    assert_conf("[hugevm]\nfile_backed_memory = 0\n", FALSE);
    assert_conf("[hugevm]\nfile_backed_memory = 00 \r\nenabled = true\n", FALSE);
    assert_conf("file_backed_memory", FALSE);
    assert_conf("memory = file_backed_memory 1\n", FALSE);
}

static void assert_vm(const char *xml, gboolean is_in, gboolean comes_from)
{
    g_test_message("%s", xml);
    g_assert_cmpint(glance_may_be_in_files(xml, strlen(xml)), ==, is_in);
    g_assert_cmpint(glance_may_come_from_files(xml, strlen(xml)), ==, comes_from);
}

static void vms_in_files(void)
{
    assert_vm("<source type='file'/>", TRUE, FALSE);
    assert_vm("<source type=\"file\"/>\n<allocation mode=\"immediate\"/>", TRUE, TRUE);
    assert_vm("<source type='file'/><allocation mode='immediate'/>", TRUE, TRUE);
    assert_vm("<source type='memfd'/><allocation mode='immediate'/>", FALSE, FALSE);
    assert_vm("<disk type='file'><source file='/x'/></disk>", FALSE, FALSE);
}

#define ADD(test) g_test_add_func("/glance-files/" #test, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(settings_that_keep_files);
    ADD(settings_that_do_not);
    ADD(vms_in_files);
    return g_test_run();
}
