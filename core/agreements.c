/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt or QEMU would refuse is refused here as well, before pages are taken for it, and
 * with the reason; what they let pass, though it does harm, is said.
 *
 * The manual page hugevm-agreements(7) is made from this table, reasons and all (doc/agreements.c):
 * "Seen" there means that libvirt 9.0.0 and QEMU 7.2 did so when they were asked.
 */
#include "agreements.h"

#include "agreements-find.h"
#include "file-backed.h"
#include "sharing.h"

#include <string.h>

const HvAgreement hv_agreements[] = {
    /* where the pages come from */
    {.id = "ondemand-hugepages",
     .parties = "<allocation mode='ondemand'/> and <hugepages>",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for huge pages, and for memory that is allocated on demand; libvirt "
                "does not start it so",
     .hint = "take <allocation mode='ondemand'/> out of <memoryBacking>",
     .reason = "Huge pages are always allocated at the start of a VM, so that it cannot run out of "
               "them later. Seen: libvirt does not even define it (\"hugepages are not allowed "
               "with memory allocation ondemand\"), but lets it pass where only a memory device "
               "has huge pages and <hugepages> is not there.",
     .find = hv_find_ondemand},
    {.id = "anonymous-hugepages",
     .parties = "<source type='anonymous'/> and <hugepages>",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for huge pages, and for memory without a file; libvirt does not start "
                "it so",
     .hint = "take <source type='anonymous'/> out of <memoryBacking>",
     .reason = "QEMU gets huge pages from a file of hugetlbfs, or from a memfd. Seen: libvirt does "
               "not define it (\"hugepages are not allowed with anonymous memory source\"), with "
               "the same exception.",
     .find = hv_find_anonymous},
    {.id = "memfd-bare",
     .parties = "<source type='memfd'/>, <hugepages/> without a size, and no hugetlbfs",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} has a memfd of huge pages of no particular size: libvirt takes the size "
                "from a hugetlbfs, and none of the default size is mounted",
     .hint =
         "name the size in <hugepages>, as <page size='2048' unit='KiB'/>, or mount a hugetlbfs",
     .reason = "A memfd needs no hugetlbfs, but libvirt asks one for the size. Seen: without any, "
               "\"hugetlbfs filesystem is not mounted or disabled by administrator config\"; with "
               "one of 1 GiB only, the VM gets pages of 1 GiB, whatever the kernel's default is.",
     .find = hv_find_memfd_bare},
    {.id = "memfd-old",
     .parties =
         "<source type='memfd'/>, huge pages, and libvirt before 5.3.0 or QEMU before 2.12.0",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "huge pages from a memfd take libvirt 5.3.0 and QEMU 2.12.0; this is {}",
     .hint = "take <source type='memfd'/> out of <memoryBacking>",
     .reason =
         "An older libvirt makes a memfd of normal pages, and says nothing; an older QEMU has "
         "none of huge pages. From libvirt's release notes; not tried.",
     .find = hv_find_memfd_old},
    {.id = "memfd-unknown",
     .parties = "<source type='memfd'/>, huge pages, and a libvirt that nobody names",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} takes huge pages from a memfd, and the version of libvirt is not known: "
                "before 5.3.0 it would get normal pages",
     .hint = "tell the version: --libvirt-version, or libvirt_version of struct hugevm_vm",
     .reason = "As above. Not said in libvirt's own hook.",
     .find = hv_find_memfd_unknown},
    {.id = "shared-without-cells",
     .parties = "shared memory, no guest cell, and libvirt before 6.9.0 or QEMU before 5.0.0",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "shared memory of a guest without NUMA cells takes libvirt 6.9.0 and QEMU 5.0.0; "
                "this is {}",
     .hint = "give the guest one <cell> in <cpu><numa>, with all of its memory",
     .reason = "Before, QEMU had no backend for the memory of such a guest that could be shared. "
               "Seen: now it has. From libvirt's release notes; old versions were not tried.",
     .find = hv_find_shared_without_cells},
    {.id = "file-source",
     .parties = "<source type='file'/> and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} has <source type='file'/>, which is without effect where it has huge pages",
     .hint = "take <source type='file'/> out of <memoryBacking>",
     .reason =
         "Seen: QEMU gets the hugetlbfs as its path, not the directory of memory_backing_dir.",
     .find = hv_find_file_source},
    {.id = "file-cell",
     .parties = "a guest cell with normal pages beside those with huge ones, and a file or access",
     .effect = HV_AGREEMENT_WARNS,
     .message = "{} has normal pages, and libvirt makes a file in its memory_backing_dir for them",
     .hint = "give the cell a <page> in <hugepages>, or take memoryBacking's <source> and the "
             "access out",
     .reason = "With <source type='file'/>, <access> or memAccess every cell needs a file: one "
               "without huge pages gets it where the file system may be a disk. Seen: ram-node1 "
               "under libvirt's ram directory.",
     .find = hv_find_file_cell},
    /* what locks them */
    {.id = "locked-limit",
     .parties = "<locked/> or SEV, and a <hard_limit> below the guest's memory",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the guest's memory is to be locked, but <hard_limit> is only {}: QEMU cannot "
                "start so",
     .hint = "raise <hard_limit> above all of the guest's memory and what QEMU itself takes, or "
             "take it out",
     .reason = "libvirt makes <hard_limit> the limit of what QEMU may lock (RLIMIT_MEMLOCK), and "
               "the kernel counts huge pages for that. Seen: mlockall fails as soon as mapped huge "
               "pages exceed the limit; QEMU says \"locking memory failed\". Without <locked/> a "
               "small <hard_limit> does no harm, and does not bound huge pages: the memory cgroup "
               "does not count them. <locked/> without <hard_limit> has no limit.",
     .find = hv_find_locked_limit},
    {.id = "locked-virtio-mem",
     .parties = "<locked/> and virtio-mem",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} locks its memory, and has a virtio-mem device; QEMU does not start so",
     .hint = "take <locked/> out, or use <memory model='dimm'>",
     .reason = "Locked memory cannot be given back, which is what virtio-mem is for. Seen: libvirt "
               "defines it, QEMU ends with \"Incompatible with mlock\".",
     .find = hv_find_locked_virtio_mem},
    /* what gives them back */
    {.id = "virtio-mem",
     .parties = "virtio-mem and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} has huge pages in a virtio-mem device: what is requested is counted for it, "
                "but QEMU does not reserve them, so another program may take what the guest has "
                "not touched yet",
     .hint = "keep pages from other programs: reserved pages, or a memory device of model dimm",
     .reason = "Seen: libvirt makes the backend with reserve=off, and the device with prealloc=on. "
               "By QEMU's documentation a guest that asks for more than there is then gets none, "
               "and goes on.",
     .find = hv_find_virtio_mem},
    {.id = "virtio-mem-old",
     .parties = "virtio-mem, huge pages, and QEMU before 7.0.0",
     .effect = HV_AGREEMENT_WARNS,
     .message =
         "virtio-mem in huge pages without QEMU 7.0.0, this is {}: where pages lack when the "
         "guest touches them, the VM ends by SIGBUS",
     .hint = "use a newer QEMU, or <memory model='dimm'>",
     .reason = "Before, the device cannot preallocate what it gives to the guest. Not tried.",
     .find = hv_find_virtio_mem_old},
    {.id = "free-page-reporting",
     .parties = "<memballoon freePageReporting='on'/> and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} reports free pages: its huge pages among them go back to the pool, and if "
                "another program takes them, the VM ends by SIGBUS when it wants them again",
     .hint = "set freePageReporting='off'",
     .reason = "QEMU punches them out of the file, and the kernel's reservation for them is used "
               "up. hugevm does not hand such a VM's pages over to the kernel. Guests report no "
               "piece as large as a page of 1 GiB, so those stay.",
     .find = hv_find_free_page_reporting},
    {.id = "balloon",
     .parties = "<currentMemory> below the guest's memory, a balloon, and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} is to start with an inflated balloon (<currentMemory> is below its memory): "
                "huge pages in it go back to the pool, and if another program takes them, the VM "
                "ends by SIGBUS when it wants them again",
     .hint = "set <currentMemory> to all of the memory, or <memballoon model='none'/>",
     .reason =
         "All pages are allocated at the start nevertheless; QEMU gives back a huge page once "
         "the balloon has all of its parts. A balloon that stays empty does no harm.",
     .find = hv_find_balloon},
    /* encrypted guests */
    {.id = "sev-unlocked",
     .parties = "SEV or SEV-ES, neither <locked/> nor <hard_limit>, and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} is encrypted by SEV, so that its memory is pinned, but nothing raises the "
                "limit of what QEMU may lock",
     .hint = "add <locked/> to <memoryBacking>, or a <hard_limit> above all of the guest's memory",
     .reason = "KVM counts pinned memory against RLIMIT_MEMLOCK, which libvirt raises for "
               "<hard_limit> and <locked/>. Huge pages are never moved and suit such a guest. From "
               "the documentation; it takes AMD's hardware and was not tried.",
     .find = hv_find_sev_unlocked},
    {.id = "guest-memfd",
     .parties = "SEV-SNP or TDX, and huge pages",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "a guest encrypted by {} has its memory in normal pages: huge pages would be taken "
                "for it and not used",
     .hint = "take <hugepages> out of the domain, or the VM property hugepages",
     .reason = "What such a guest keeps to itself, KVM allocates beside QEMU's memory "
               "(guest_memfd), in normal pages; nothing says so when it starts. From the "
               "documentation; it takes AMD's or Intel's hardware and was not tried.",
     .find = hv_find_guest_memfd},
    {.id = "s390-pv",
     .parties = "s390-pv and huge pages",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} is a protected one (s390-pv), which cannot have huge pages",
     .hint = "take <hugepages> out of the domain, or the VM property hugepages",
     .reason = "The hardware protects single pages of 4 KiB. From the documentation; it takes IBM "
               "Z and was not tried.",
     .find = hv_find_s390_pv},
    {.id = "encryption-unknown",
     .parties = "another <launchSecurity>, and huge pages",
     .effect = HV_AGREEMENT_WARNS,
     .message = "VM {} has a <launchSecurity> that hugevm does not know: its memory may be "
                "elsewhere than in the huge pages that are taken for it",
     .hint = "see after the start with hugevmctl verify",
     .reason = "As for SEV-SNP and TDX.",
     .find = hv_find_unknown_encryption},
    /* elements without effect, and devices with wishes */
    {.id = "discard-old",
     .parties = "<discard/>, and libvirt before 4.4.0 or QEMU before 2.10.0",
     .effect = HV_AGREEMENT_WARNS,
     .message = "<discard/> takes libvirt 4.4.0 and QEMU 2.10.0; this is {}",
     .hint = "take <discard/> out of <memoryBacking>",
     .reason = "An older libvirt passes it over. It is no security feature in any version: QEMU "
               "drops memory that it need not write back when it ends in order, and does not "
               "overwrite it; killed, it drops nothing. Not tried.",
     .find = hv_find_discard_old},
    {.id = "discard-without-effect",
     .parties = "<discard/>, huge pages, and private memory or a memfd",
     .effect = HV_AGREEMENT_WARNS,
     .message = "<discard/> is without effect on {}",
     .hint = "take <discard/> out of <memoryBacking>",
     .reason = "Seen: for a memfd libvirt leaves it out; in private memory the kernel refuses it "
               "(MADV_REMOVE: EACCES). Huge pages need none: QEMU's file has no name and is never "
               "written back.",
     .find = hv_find_discard_without_effect},
    {.id = "blob-memfd",
     .parties = "<video> with blob='on', huge pages, no memfd, and libvirt of 9.2.0 on or unknown",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} has a video device with blob='on', which takes memory from a memfd",
     .hint = "add <source type='memfd'/> to <memoryBacking>, or take blob='on' out",
     .reason = "QEMU hands the guest's memory to the display by udmabuf, which takes pages of a "
               "memfd. libvirt 9.2.0, which brought the attribute, refuses it as well. Seen: "
               "9.0.0 passes it over.",
     .find = hv_find_blob},
    /* who shares the memory */
    {.id = "device-shares",
     .parties = "A device that needs shared memory, and memory of which nothing is said",
     .effect = HV_AGREEMENT_WARNS,
     .message = "shared memory is needed by {}, and the guest's memory is made shared",
     .hint = "set the VM property hugepages_shared=true to have it so without this warning",
     .reason =
         "The other side of the device is a process that maps the guest's memory. With "
         "shared_memory = auto, as it is by default, the XML gets what it lacks. Seen: libvirt "
         "refuses virtiofs and vhostuser disks with private memory, and starts what has been "
         "given to it so.",
     .find = hv_sharing_find_auto},
    {.id = "device-explicit",
     .parties = "A device that needs shared memory, and shared_memory = explicit",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "shared memory is needed by {}, but the guest's memory is private, and "
                "shared_memory = explicit leaves it so",
     .hint = "set the VM property hugepages_shared=true, or share the memory in the domain XML",
     .reason = "The device would not work: its other side is a process that has to map the "
               "guest's memory. Seen: libvirt plugs a vhostuser interface into a VM with private "
               "memory, and neither it nor QEMU says a word.",
     .find = hv_sharing_find_explicit},
    {.id = "device-private",
     .parties = "A device that needs shared memory, and memory that the XML makes private",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "shared memory is needed by {}",
     .hint = "take that out of the domain XML, or the device",
     .reason = "Such a device reaches all of the guest's memory, as its buffers may be anywhere; "
               "and what is written is not changed to its opposite. Seen: libvirt looks at guest "
               "cells alone, and starts virtiofs beside a private memory device.",
     .find = hv_sharing_find_private_part},
    {.id = "device-denied",
     .parties = "A device that needs shared memory, and hugepages_shared=false",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the VM property hugepages_shared is false, but shared memory is needed by {}",
     .hint = "remove the property or the device",
     .reason = "The device would not work.",
     .find = hv_sharing_find_denied},
    {.id = "shared-private",
     .parties = "hugepages_shared=true, and memory that the XML makes private",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the VM property hugepages_shared is true, but {}",
     .hint = "take that out of the domain XML, or remove the property",
     .reason = "Of two who say the opposite neither can be taken at its word; the XML gets only "
               "what it does not say.",
     .find = hv_sharing_find_private_against_property},
    {.id = "unshared-shared",
     .parties = "hugepages_shared=false, and memory that the XML shares",
     .effect = HV_AGREEMENT_WARNS,
     .message = "the VM property hugepages_shared is false, but {}, and it stays shared",
     .hint = "take that out of the domain XML, or remove the property",
     .reason = "The VM works, and where false is what a manager says by default it means nothing.",
     .find = hv_sharing_find_shared_against_property},
    /* hosts whose VMs have their memory in files */
    {.id = "device-pages-file-backed",
     .parties = "<pagesize> of a memory device and file_backed_memory",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "{} asks for huge pages, but this host keeps the memory of all VMs in files "
                "(file_backed_memory)",
     .hint = "take <pagesize> out of the memory device, or use a host without file_backed_memory",
     .reason = "A host with file_backed_memory counts files, and gives memory to nothing else.",
     .find = hv_files_find_device_pages},
    {.id = "hugepages-file-backed",
     .parties = "huge pages and file_backed_memory",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for huge pages, but this host keeps the memory of all VMs in files "
                "(file_backed_memory)",
     .hint = "start it on a host without file_backed_memory, or without huge pages in its "
             "properties and its XML",
     .reason = "A host with file_backed_memory counts files, and gives memory to nothing else.",
     .find = hv_files_find_hugepages},
    {.id = "version-file-backed",
     .parties = "file_backed_memory and old versions",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "this host keeps the memory of all VMs in files (file_backed_memory), which {} "
                "does not do",
     .hint = "it takes libvirt 4.0.0 and QEMU 2.6.0",
     .reason = "Older versions would start the VM with other memory, and say nothing.",
     .find = hv_files_find_old_version},
    {.id = "source-file-backed",
     .parties = "<source type='anonymous'/> or 'memfd' and file_backed_memory",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the domain XML says {}, but this host keeps the memory of all VMs in files "
                "(file_backed_memory)",
     .hint = "take <source> out of <memoryBacking>",
     .reason = "Such memory would come on top of what the files are allowed to take.",
     .find = hv_files_find_source},
    {.id = "ondemand-file-backed",
     .parties = "<allocation mode='ondemand'/> and file_backed_memory",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for memory that is allocated on demand, but this host keeps the "
                "memory of all VMs in files (file_backed_memory)",
     .hint = "take <allocation mode='ondemand'/> out of <memoryBacking>",
     .reason = "A file system that is full when the guest needs its memory ends the VM.",
     .find = hv_files_find_ondemand},
    {.id = "private-file-backed",
     .parties = "private access and file_backed_memory",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the domain XML says {}, but this host keeps the memory of all VMs in files "
                "(file_backed_memory), and files are shared",
     .hint = "take it out of the domain XML",
     .reason = "Of a private mapping of a file all that the guest writes is memory of the host.",
     .find = hv_files_find_private},
    {.id = "private-property-file-backed",
     .parties = "hugepages_shared=false and file_backed_memory",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the VM property hugepages_shared of VM {} is false, but this host keeps the "
                "memory of all VMs in files (file_backed_memory), and files are shared",
     .hint = "remove the property, or start it on a host without file_backed_memory",
     .reason = "Of a private mapping of a file all that the guest writes is memory of the host.",
     .find = hv_files_find_private_wish},
    {.id = "encryption-file-backed",
     .parties = "<launchSecurity> and file_backed_memory",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} is an encrypted guest, but this host keeps the memory of all VMs in files "
                "(file_backed_memory)",
     .hint = "start it on a host without file_backed_memory",
     .reason = "Its pages are pinned, which the kernel refuses for most file systems, or are no "
               "part of the file at all.",
     .find = hv_files_find_encryption},
    {.id = "discard-file-backed",
     .parties = "<discard/> and unknown or old versions",
     .is_of_files = TRUE,
     .effect = HV_AGREEMENT_WARNS,
     .message = "<discard/> is not added: it takes libvirt 4.4.0 and QEMU 2.10.0, and {}; "
                "what the guest has written may go to the disk when it ends",
     .reason = "Without it the kernel writes the memory of a VM that has ended to its files.",
     .find = hv_files_find_no_discard},
};

const guint hv_n_agreements = G_N_ELEMENTS(hv_agreements);

static char *fill(const char *message, const char *found)
{
    const char *place = strstr(message, "{}");
    return place == NULL
               ? g_strdup(message)
               : g_strdup_printf("%.*s%s%s", (int)(place - message), message, found, place + 2);
}

static void refuse(HvBuild *build, const HvAgreement *row, const char *message)
{
    HvRefusal *refusal = hv_refusal_new(row->code, row->hint, "%s", message);
    refusal->agreement = row->id;
    hv_build_refuse(build, refusal);
}

/* With hugepages=any: normal pages, which the row does not speak of, will do for all of it. */
static gboolean may_be_normal(const HvBuild *build)
{
    const HvRequest *request = build->request;
    for (guint i = 0; i < request->needs->len; i++)
        if (g_array_index(request->needs, HvNeed, i).memory_kib == 0)
            return FALSE;
    return request->open.may_be_normal;
}

void hv_agreements_check(HvBuild *build)
{
    gboolean has_huge_pages = build->request->needs->len > 0;
    gboolean has_files = build->request->file_kib > 0;
    for (guint i = 0; i < hv_n_agreements; i++) {
        const HvAgreement *row = &hv_agreements[i];
        gboolean is_concerned = row->is_of_files ? has_files : has_huge_pages;
        g_autofree char *found = is_concerned ? row->find(build) : NULL;
        if (found == NULL)
            continue;
        g_autofree char *message = fill(row->message, found);
        if (row->effect == HV_AGREEMENT_REFUSES && !may_be_normal(build)) {
            refuse(build, row, message);
            continue;
        }
        if (row->effect == HV_AGREEMENT_REFUSES)
            g_array_set_size(build->request->open.sizes, 0);
        if (row->hint != NULL)
            hv_build_warn(build, "%s: %s", message, row->hint);
        else
            hv_build_warn(build, "%s", message);
    }
}
