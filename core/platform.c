/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Of the machine itself, libc and uname(2) know. Another root may be a copy of any
 * machine's files, and then tells by its own:
 *   /proc/self/smaps       text, readable by all, and its first mapping is a program: in normal
 *                          pages. (/proc/self/auxv has the size too, but in the word size and byte
 *                          order of that machine.)
 *   /proc/sys/kernel/arch  since kernel 6.1
 * A root without smaps is taken for one of this machine: its page size is the best guess there is,
 * whereas a wrong architecture would bring rules of its own along.
 */
#include "platform.h"

#include "page-size.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SMAPS_MAX_BYTES (4 * 1024 * 1024)

/* 0: the root does not say. */
static guint64 read_page_kib(const HvRoot *root)
{
    static const char key[] = "\nKernelPageSize:";
    guint64 kib = 0;
    g_autofree char *smaps = hv_root_read_text(root, "/proc/self/smaps", SMAPS_MAX_BYTES, NULL);
    const char *found = smaps != NULL ? strstr(smaps, key) : NULL;
    if (found == NULL)
        return 0;
    found += strlen(key) + strspn(found + strlen(key), " ");
    g_autofree char *digits = g_strndup(found, strcspn(found, " \n"));
    return hv_parse_u64(digits, &kib) ? kib : 0;
}

guint64 hv_platform_base_page_kib(const HvRoot *root)
{
    guint64 kib = hv_root_is_machine(root) ? 0 : read_page_kib(root);
    return kib != 0 ? kib : (guint64)sysconf(_SC_PAGESIZE) / 1024;
}

char *hv_platform_arch(const HvRoot *root)
{
    struct utsname name;
    if (hv_root_is_machine(root))
        return g_strdup(uname(&name) == 0 ? name.machine : "unknown");
    g_autofree char *text = hv_root_read_text(root, "/proc/sys/kernel/arch", 64, NULL);
    return g_strdup(text != NULL ? g_strstrip(text) : "unknown");
}

/* "6.1.0-13-amd64" */
guint hv_platform_kernel_version(const HvRoot *root)
{
    unsigned major, minor;
    g_autofree char *text = hv_root_read_text(root, "/proc/sys/kernel/osrelease", 128, NULL);
    return text != NULL && sscanf(text, "%3u.%3u", &major, &minor) == 2
               ? HV_KERNEL_VERSION(major, minor)
               : 0;
}

gboolean hv_version_parse(const char *text, guint *out_version)
{
    static const guint limits[] = {4000, 1000, 1000}; /* so that the sum fits */
    g_auto(GStrv) parts = g_strsplit(text, ".", -1);
    guint n = g_strv_length(parts), version = 0;
    if (n < 2 || n > G_N_ELEMENTS(limits))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(limits); i++) {
        guint64 part = 0;
        if (i < n && (!hv_parse_u64(parts[i], &part) || part >= limits[i]))
            return FALSE;
        version = version * 1000 + (guint)part;
    }
    *out_version = version;
    return TRUE;
}

static char *version_if_old(const char *name, guint version, guint needed)
{
    if (version == 0 || version >= needed)
        return NULL;
    return g_strdup_printf("%s %u.%u.%u", name, version / 1000000, version / 1000 % 1000,
                           version % 1000);
}

char *hv_versions_find_old(const HvVersions *versions, const HvVersions *needed)
{
    char *libvirt = version_if_old("libvirt", versions->libvirt, needed->libvirt);
    return libvirt != NULL ? libvirt : version_if_old("QEMU", versions->qemu, needed->qemu);
}
