/* SPDX-License-Identifier: 0BSD */
/*
 * hugevm plugin ABI, version 1.0: huge-page memory for virtual machines.
 *
 * A host management agent opens hugevm.so with dlopen(RTLD_NOW | RTLD_LOCAL),
 * finds hugevm_plugin_negotiate() and calls the slots it returns through a VM's
 * life:
 *
 *     negotiate -> open -> before_vm_start -> [vm_launching] -> (host starts QEMU)
 *               -> after_vm_start ... after_vm_destroy -> close
 *                                  \-> vm_start_failed where starting failed
 *
 * The promise: within a major version structs and the slot table only grow at
 * the end, a slot's signature never changes, codes are never renumbered. Each
 * struct starts with its own size; the smaller of both sides' sizes counts, and
 * what the smaller side lacks is zero. Of a struct that is larger than this
 * library knows, the unknown tail must be zero: else INVALID_ARGUMENT.
 *
 * Rules for everything below, unless a function says otherwise:
 *   Threads     any slot may be called from any thread at any time, also at once,
 *               also with the same handle; only close needs the handle to be idle.
 *   Blocking    slots marked "may block" wait for the kernel and for locks, for
 *               each lock 10 s at most; the others do not. Getting pages ends at
 *               the timeout of the call, and is followed by one bounded step and
 *               by giving back.
 *   Ownership   the caller owns what it passes in, and nothing is kept after the
 *               call returns. Strings in results live until result_free.
 *   Text        UTF-8; domain XML too. Messages are one line without control
 *               characters.
 *   Errors      0 is success, else one of HUGEVM_ERROR_*; `error` may be NULL.
 *               A refusal takes nothing and leaves nothing behind.
 *   Processes   never forks, changes signal masks, locale, environment or the
 *               working directory, never prints; files are close-on-exec. It is
 *               linked with -z nodelete: dlclose does not unload it.
 *   Privileges  reading (plan) works as any user that can read the pools and the
 *               ledger; everything that takes or gives pages needs root.
 */
#ifndef HUGEVM_PLUGIN_H
#define HUGEVM_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HUGEVM_ABI_MAJOR 1u
#define HUGEVM_ABI_MINOR 0u

#define HUGEVM_NEGOTIATE_SYMBOL "hugevm_plugin_negotiate"

/* Error codes: a frozen list. New ones are only ever added; treat an unknown one as SYSTEM. */
#define HUGEVM_OK 0
#define HUGEVM_ERROR_INVALID_ARGUMENT 1 /* the host broke a rule of this header */
#define HUGEVM_ERROR_NOT_SUPPORTED 2    /* this plugin does not do this: for later slots */
#define HUGEVM_ERROR_ABI_MISMATCH 3     /* major versions differ */
#define HUGEVM_ERROR_BAD_PROPERTY 4     /* a VM property's value means nothing */
#define HUGEVM_ERROR_BAD_XML 5          /* the domain XML cannot be used */
#define HUGEVM_ERROR_BAD_CONFIG 6       /* an error in a configuration file */
#define HUGEVM_ERROR_CONFLICT 7         /* wishes that exclude each other; a VM that runs already */
#define HUGEVM_ERROR_SHORTAGE 8         /* not enough pages, and none may or can be had */
#define HUGEVM_ERROR_TIMEOUT 9          /* the time allowed is over */
#define HUGEVM_ERROR_CANCELLED 10       /* the host's progress callback said stop */
#define HUGEVM_ERROR_PERMISSION 11      /* root is needed */
#define HUGEVM_ERROR_LEDGER 12          /* /run/hugevm cannot be used */
#define HUGEVM_ERROR_SYSTEM 13          /* the kernel or a file said no */
#define HUGEVM_ERROR_UNKNOWN_VM 14      /* no claim for this VM (vm_launching, after_vm_start) */

/* Log levels of the host's callback. */
#define HUGEVM_LOG_DEBUG 1u
#define HUGEVM_LOG_INFO 2u
#define HUGEVM_LOG_WARNING 3u

/*
 * Filled by the plugin on failure. The caller sets size (sizeof) and owns the
 * memory. message: what was asked, where, what was found. hint: what to do,
 * empty where there is nothing to say. Since 1.0.
 */
struct hugevm_error {
    uint32_t size;
    int32_t code;
    int32_t system_errno; /* 0 in version 1.0: the message has it in words */
    uint32_t reserved;
    char message[1024];
    char hint[1024];
};

/*
 * What the host offers. Copied by negotiate and open: the struct need not live
 * longer, but name, opaque and the callbacks must until the process ends or the
 * last handle is closed. The callbacks may be called from the thread that is
 * inside a slot, never from another, and never under a lock of the plugin.
 */
struct hugevm_host {
    uint32_t size;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t features; /* reserved: 0 */
    const char *name;  /* "vdsm", "hugevmctl run": shown with its claims; NULL: "unnamed" */
    void *opaque;      /* handed back to the callbacks */
    /* A finished line: debug lines, and warnings of vm_launching. May be NULL. Since 1.0. */
    void (*log)(void *opaque, uint32_t level, const char *domain, const char *text);
    /*
     * Pages got so far and wanted, and what is going on ("growing 2 MiB pages on
     * node 0"); called between bounded steps and after the last. Non-zero cancels: what
     * was taken is given back and the slot returns CANCELLED. May be NULL. Since 1.0.
     */
    int32_t (*progress)(void *opaque, uint64_t done_pages, uint64_t total_pages, const char *what);
    /*
     * The process whose end means that nobody will report for its VMs any more;
     * 0: the process that calls. Since 1.0.
     */
    int64_t owner_pid;
};

/* Options of a handle. All may be 0 / NULL. */
struct hugevm_options {
    uint32_t size;
    uint32_t reserved;
    const char *root;              /* prefix of every kernel and system path; NULL: "/" */
    const char *const *conf_files; /* NULL-terminated; replaces all standard files; NULL: those */
};

struct hugevm_property {
    const char *name;
    const char *value;
};

/* Flags of a VM description. */
/* vm_launching comes right before QEMU is started. Until then the kernel keeps the pages for nobody
 * but this VM, so without that call QEMU gets none of them. */
#define HUGEVM_VM_WILL_CALL_LAUNCHING 1u
/* The host starts its own XML, whatever we return: refuse what would need an edit. */
#define HUGEVM_VM_CANNOT_EDIT_XML 2u
/* Where another agent of this host has claimed pages for this start already, go on with its claim:
 * from now on it is the caller's, under the same generation. Without: CONFLICT. */
#define HUGEVM_VM_ADOPT_CLAIM 4u
/* The host serves nobody else until the call returns: hook_timeout counts, where it is the shorter.
 */
#define HUGEVM_VM_HOST_WAITS 8u
/* The system's libvirtd will start it: refuse page sizes whose hugetlbfs it does not know. */
#define HUGEVM_VM_BY_LIBVIRTD 16u

/* A VM that is about to start. */
struct hugevm_vm {
    uint32_t size;
    uint32_t flags;   /* HUGEVM_VM_* */
    const char *uuid; /* NULL: the XML's; added to an XML that has none */
    const char *domain_xml;
    uint64_t domain_xml_bytes;                /* without a terminating NUL */
    const struct hugevm_property *properties; /* custom properties, only ours are looked at */
    uint64_t property_count;
    uint32_t timeout_ms; /* for getting pages; 0: as configured */
    uint32_t reserved;
    /*
     * What will start the VM: major * 1000000 + minor * 1000 + release, as libvirt counts; 0: not
     * known. Then the XML gets no <discard/>, and what only newer versions do is warned of rather
     * than refused: hugevm-agreements(7). Since 1.0.
     */
    uint32_t libvirt_version;
    uint32_t qemu_version;
};

/* Flags of a reference. */
/* For the end of a run that may be reported late: a claim for a start to come is meant only if a
 * host of the caller's name has made it or taken it over; another's is unknown. */
#define HUGEVM_VM_REF_OWN_CLAIM 1u
/* The host serves nobody else until the call returns: it waits for locks as long as hook_timeout,
 * not longer. Pages that it could not give back then go with a later call. */
#define HUGEVM_VM_REF_HOST_WAITS 2u

/*
 * A VM that hugevm has a claim for. generation tells one start of a VM from the
 * next (result_generation); 0: whichever is current. qemu_pid counts in
 * after_vm_start only; 0: the plugin looks for the QEMU with this UUID on its
 * command line.
 *
 * memory_directories counts in vm_launching only: a NULL-terminated list of the
 * directories in which QEMU will make its memory files, each on a hugetlbfs; one per
 * page size that the VM uses. They are mounted over until after_vm_start, so that
 * nobody else gets the VM's pages meanwhile. They must exist, be empty, and be the
 * same directories for QEMU as for the caller, who therefore is in the mount namespace
 * of whoever starts QEMU. NULL, or none for a size: the pages are open to others from
 * vm_launching on.
 */
struct hugevm_vm_ref {
    uint32_t size;
    uint32_t flags; /* HUGEVM_VM_REF_* */
    const char *uuid;
    uint64_t generation;
    int64_t qemu_pid;
    const char *const *memory_directories;
};

struct hugevm_handle; /* opaque */
struct hugevm_result; /* opaque, immutable, may be read from any thread */

/*
 * The slots. None is NULL. Host programs that may meet an older plugin check
 * `size` before they use a slot that was added later than 1.0.
 */
struct hugevm_plugin {
    uint32_t size;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t features;   /* reserved: 0 */
    const char *version; /* of the plugin, "0.1.0"; static */

    /*
     * Makes a handle. Reads no configuration yet: that happens in the calls that
     * need it, so a broken file never hurts a VM without huge pages. options may
     * be NULL. Does not block. Errors: INVALID_ARGUMENT. Since 1.0.
     */
    int32_t (*open)(const struct hugevm_host *host, const struct hugevm_options *options,
                    struct hugevm_handle **out_handle, struct hugevm_error *error);

    /* Frees a handle (NULL is fine). Claims stay: they belong to VMs, not to handles. Since 1.0. */
    void (*close)(struct hugevm_handle *handle);

    /*
     * Before QEMU is started, normally or from a saved state: works out the
     * pages, gets them, records the claim, and says what XML to start. A VM
     * without huge pages gets its XML back unchanged at once and no claim,
     * whatever state pools, configuration and ledger are in; but where the
     * configuration has file_backed_memory, its memory is put into files and
     * claimed. May block. Root. *out_result
     * is owned by the caller (result_free), unchanged on failure.
     * Errors: INVALID_ARGUMENT, BAD_PROPERTY, BAD_XML, BAD_CONFIG, CONFLICT,
     * SHORTAGE, TIMEOUT, CANCELLED, PERMISSION, LEDGER, SYSTEM. Since 1.0.
     */
    int32_t (*before_vm_start)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                               struct hugevm_result **out_result, struct hugevm_error *error);

    /*
     * Right before QEMU is executed, for VMs described with WILL_CALL_LAUNCHING: the
     * pages that were kept for the VM are made QEMU's to map. Where the host allows no
     * mounts they are open to others instead, and the log says so. On an error do not
     * start it, and call vm_start_failed; a caller whose VM may have no claim may go
     * on after UNKNOWN_VM. May block for the ledger. Root. Errors: UNKNOWN_VM, SHORTAGE
     * (others took pages at this very moment), INVALID_ARGUMENT, TIMEOUT, LEDGER,
     * PERMISSION, SYSTEM. Since 1.0.
     */
    int32_t (*vm_launching)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                            struct hugevm_error *error);

    /*
     * QEMU runs and has its memory. May block for the ledger. Root. A VM without
     * claim gives UNKNOWN_VM, which a host may ignore. Other errors as above. Since 1.0.
     */
    int32_t (*after_vm_start)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                              struct hugevm_error *error);

    /*
     * QEMU is gone, for whatever reason. Lets go of the claim and gives back the
     * pages that hugevm added and nobody needs. Waits for a QEMU that is still
     * dying, 5 s at most. Twice, or for an unknown VM, an older generation, or a
     * claim that the flags do not mean:
     * success, and nothing happens. May block. Root.
     * Errors: INVALID_ARGUMENT, CONFLICT (QEMU is alive), TIMEOUT, LEDGER, PERMISSION, SYSTEM.
     * Since 1.0.
     */
    int32_t (*after_vm_destroy)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                struct hugevm_error *error);

    /* As before_vm_start, with the source's XML; the result's XML may be ignored. Since 1.0. */
    int32_t (*before_vm_migrate_destination)(struct hugevm_handle *handle,
                                             const struct hugevm_vm *vm,
                                             struct hugevm_result **out_result,
                                             struct hugevm_error *error);

    /* The incoming VM runs here: as after_vm_start. Since 1.0. */
    int32_t (*after_vm_migrate_destination)(struct hugevm_handle *handle,
                                            const struct hugevm_vm_ref *vm,
                                            struct hugevm_error *error);

    /*
     * The VM has left this host, and its QEMU has ended or is about to: as after_vm_destroy,
     * which may still come and then finds nothing, but for a claim that has run: one for a
     * start to come is never meant. Since 1.0.
     */
    int32_t (*after_vm_migrate_source)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                       struct hugevm_error *error);

    /*
     * Before QEMU is started from a saved state: as before_vm_start, for the XML that was
     * saved. What properties say today counts for nothing. A host that has called
     * before_vm_start for the same start has its claim corrected, which may mean that
     * there is none any more (result_generation 0). Since 1.0.
     */
    int32_t (*before_vm_dehibernate)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                                     struct hugevm_result **out_result, struct hugevm_error *error);

    /* The VM has been saved, and runs no more: as after_vm_migrate_source. Since 1.0. */
    int32_t (*after_vm_hibernate)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                  struct hugevm_error *error);

    /*
     * Starting failed after before_vm_start: as after_vm_destroy. Since 1.0.
     */
    int32_t (*vm_start_failed)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                               struct hugevm_error *error);

    /*
     * Before a memory device is plugged into a VM that runs, or virtio-mem is asked to grow:
     * gets its pages and records a claim for it, beside the VM's. device_xml is one <memory>
     * element; of virtio-mem that is there already its live one, with <current>, and the new
     * <requested>. Page size and host nodes are its own or those of its guest cell. A
     * device without huge pages gets no claim and no look at the pools; nor is a VM without
     * claim a problem. result_generation names the claim for the next two calls; 0 there: the
     * one that fits the device. The result's XML is device_xml as it was. The pages are open
     * to other programs until QEMU has mapped them. May block. Root. *out_result as in
     * before_vm_start. Errors: INVALID_ARGUMENT, BAD_XML, BAD_CONFIG, CONFLICT (it does not
     * run), SHORTAGE, TIMEOUT, CANCELLED, PERMISSION, LEDGER, SYSTEM. Since 1.0.
     */
    int32_t (*before_memory_hotplug)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                     const char *device_xml, uint64_t device_xml_bytes,
                                     struct hugevm_result **out_result, struct hugevm_error *error);

    /*
     * How it ended: it is plugged, could not be, or has been unplugged again (also: virtio-mem
     * was asked to shrink, and has). The VM's claim becomes what its QEMU maps; what was added
     * and nobody needs goes back. Of virtio-mem the guest may take its part later, and until
     * the VM ends. Twice, for an unknown VM or device, or never: no harm, as a claim that
     * nobody reports of is dropped or settled after 60 s by whatever call comes next. May
     * block for the ledger; the last of them up to a second more, since QEMU lets go of the
     * memory some time after it has said so. Root. Errors: INVALID_ARGUMENT, BAD_XML, TIMEOUT,
     * LEDGER, PERMISSION, SYSTEM. Since 1.0.
     */
    int32_t (*after_memory_hotplug)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                    const char *device_xml, uint64_t device_xml_bytes,
                                    struct hugevm_error *error);
    int32_t (*memory_hotplug_failed)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                     const char *device_xml, uint64_t device_xml_bytes,
                                     struct hugevm_error *error);
    int32_t (*after_memory_hotunplug)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                      const char *device_xml, uint64_t device_xml_bytes,
                                      struct hugevm_error *error);

    /*
     * Reconciliation in two calls: begin gives a sequence number; the list of
     * running VMs, taken by the host after that, speaks for claims older than it.
     * Claims of a host of the caller's name whose VMs are not in the list, and which
     * no QEMU is seen to run, are let go of, in whatever state; pages that nobody
     * needs are given back. VMs that are being started need not be in the list if
     * their claims are younger than begin; older ones must. running_uuids may be NULL
     * where running_count is 0. May block for the ledger. Root. Errors:
     * INVALID_ARGUMENT (no UUID), TIMEOUT, LEDGER, PERMISSION, SYSTEM. Since 1.0.
     */
    int32_t (*reconcile_begin)(struct hugevm_handle *handle, uint64_t *out_sequence,
                               struct hugevm_error *error);
    int32_t (*reconcile)(struct hugevm_handle *handle, uint64_t sequence,
                         const char *const *running_uuids, uint64_t running_count,
                         struct hugevm_error *error);

    /*
     * What the host offers, and how many pages a VM could have now: one JSON object each
     * (result_json), "version" 1, described in hugevm-plugin(7); keys are only ever added.
     * Its warnings are what is odd about the settings. Takes no lock, changes nothing, and
     * needs no root: without it less growth is forecast, never more. Errors:
     * INVALID_ARGUMENT, BAD_CONFIG, LEDGER, PERMISSION, SYSTEM. Since 1.0.
     */
    int32_t (*get_caps)(struct hugevm_handle *handle, struct hugevm_result **out_result,
                        struct hugevm_error *error);
    int32_t (*get_stats)(struct hugevm_handle *handle, struct hugevm_result **out_result,
                         struct hugevm_error *error);

    /*
     * Dry run of before_vm_start: changes nothing. A request that makes sense but
     * would be refused is a success with `refusal` in the JSON (result_json), as
     * hugevmctl plan prints it; input that makes none is an error here too. Without a
     * refusal result_domain_xml is what would be started. Takes no lock. Errors: INVALID_ARGUMENT,
     * BAD_PROPERTY, BAD_XML, BAD_CONFIG, CONFLICT, PERMISSION, LEDGER, SYSTEM. Since 1.0.
     */
    int32_t (*plan)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                    struct hugevm_result **out_result, struct hugevm_error *error);

    /* Getters; NULL or 0 where the result has no such thing. Since 1.0. */
    const char *(*result_domain_xml)(const struct hugevm_result *result, uint64_t *out_bytes);
    int32_t (*result_xml_changed)(const struct hugevm_result *result);
    const char *(*result_uuid)(const struct hugevm_result *result);
    uint64_t (*result_generation)(const struct hugevm_result *result); /* 0: no claim was made */
    const char *(*result_json)(const struct hugevm_result *result);    /* plan, or report */
    uint64_t (*result_warning_count)(const struct hugevm_result *result);
    const char *(*result_warning)(const struct hugevm_result *result, uint64_t index);
    void (*result_free)(struct hugevm_result *result); /* NULL is fine */

    /*
     * For a host that can still change the XML of a VM that migrates in or is
     * restored: where the configuration says incoming_page_sizes = adapt, the
     * result's XML names a page size of this host's instead of those that it does
     * not offer; else it is as it came. Plans and takes nothing, looks at no ledger,
     * does not block. The claim follows, with that XML.
     * Errors: SHORTAGE (no page size of this host's will do), CONFLICT (a VM that
     * migrates in has its memory in files and this host has none, or the other way
     * round; of no interest for one that is restored), INVALID_ARGUMENT, BAD_XML, BAD_CONFIG,
     * SYSTEM. Since 1.0.
     */
    int32_t (*adapt_incoming_xml)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                                  struct hugevm_result **out_result, struct hugevm_error *error);

    /*
     * Before another device is plugged into a VM that runs: device_xml is one element of
     * <devices>, as <interface> or <disk>. CONFLICT where it cannot work, as its other side has
     * to map the guest's memory (vhostuser, virtiofs and others, see hugepages_shared in
     * hugevmctl(8)), and the memory of this VM is private by its claim. Success for every other
     * device, and for a VM without claim, of which nothing is known. Makes no claim, so nothing
     * has to be told afterwards; takes no lock, and needs no root. Does not block. Errors:
     * CONFLICT, INVALID_ARGUMENT, BAD_XML, LEDGER, PERMISSION, SYSTEM: after others than
     * CONFLICT it may be plugged all the same. Since 1.0.
     */
    int32_t (*before_device_hotplug)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                     const char *device_xml, uint64_t device_xml_bytes,
                                     struct hugevm_error *error);
};

/*
 * The only exported function. Checks both versions before anything else and
 * gives the table of slots, which lives as long as the process. host may be
 * NULL to ask for the table without offering anything (then only the callbacks
 * given to open count anyway). *out_plugin is unchanged on failure.
 * Errors: ABI_MISMATCH (the message names both versions), INVALID_ARGUMENT. Since 1.0.
 */
int32_t hugevm_plugin_negotiate(const struct hugevm_host *host,
                                const struct hugevm_plugin **out_plugin,
                                struct hugevm_error *error);

typedef int32_t (*hugevm_plugin_negotiate_function)(const struct hugevm_host *host,
                                                    const struct hugevm_plugin **out_plugin,
                                                    struct hugevm_error *error);

#ifdef __cplusplus
}
#endif

#endif
