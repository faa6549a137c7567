/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a claim is entitled to follows from its state alone:
 *
 *   guarded   one guard per page size, of exactly the claim's pages
 *   mounted   launch mounts
 *   others    nothing
 *
 * Everything else of ours in the kernel is swept. So nothing about guards and mounts
 * is recorded, and a process that is killed between making one and the ledger's
 * commit, or between commit and removal, leaves only what the next sweep finds.
 *
 * A guard is a mount in the vault where QEMU will make files in a hugetlbfs: it
 * becomes the launch mount without its pages ever being open to others. A segment is
 * what is left for memfd, and for a kernel before 5.2 or a host that lets us mount
 * nothing hidden. To exchange one for a launch mount has a gap, since the kernel
 * gives a mount nothing while the segment holds the pages: it is two system calls
 * long, and a page lost in it may be back at once, so the mount is tried for a moment.
 *
 * A host may allow no mounts (no CAP_SYS_ADMIN, AppArmor). Then the pages are exposed
 * from launch on, as they would be without hugevm, and somebody is told; only pages
 * that were lost refuse a start.
 */
#include "custody.h"

#include "error.h"
#include "fd.h"
#include "guard.h"
#include "launch-mount.h"
#include "page-size.h"
#include "vault.h"

#include <string.h>

#define MOUNT_TRIES 40
#define MOUNT_RETRY_US (1 * 1000)

/* The page sizes of a claim, each once (guint64). */
static GArray *sizes_of(const HvClaim *claim)
{
    GArray *sizes = g_array_new(FALSE, FALSE, sizeof(guint64));
    for (guint i = 0; i < claim->needs->len; i++) {
        guint64 size_kib = g_array_index(claim->needs, HvNeed, i).size_kib;
        gboolean is_known = FALSE;
        for (guint k = 0; k < sizes->len; k++)
            is_known = is_known || g_array_index(sizes, guint64, k) == size_kib;
        if (!is_known)
            g_array_append_val(sizes, size_kib);
    }
    return sizes;
}

/* 0 where it cannot be said in bytes. */
static guint64 bytes_of(const HvClaim *claim, guint64 size_kib)
{
    guint64 kib, bytes;
    if (!hv_checked_mul(hv_needs_pages(claim->needs, size_kib), size_kib, &kib) ||
        !hv_checked_mul(kib, 1024, &bytes))
        return 0;
    return bytes;
}

static gboolean is_guard_of(const HvGuard *guard, const HvClaim *claim)
{
    return guard->generation_bits == (claim->generation & HV_GUARD_GENERATION_MASK);
}

static HvVaultName vault_name(const HvClaim *claim, guint64 size_kib)
{
    HvVaultName name = {.generation = claim->generation, .size_kib = size_kib};
    g_strlcpy(name.uuid, claim->uuid, sizeof name.uuid);
    return name;
}

/* The claim's segment of a page size (0: of any); FALSE: there is none. */
static gboolean find_segment(const HvRoot *root, const HvClaim *claim, guint64 size_kib,
                             HvGuard *out_guard)
{
    g_autoptr(GArray) guards = hv_guard_list(root);
    for (guint i = 0; i < guards->len; i++) {
        *out_guard = g_array_index(guards, HvGuard, i);
        if (is_guard_of(out_guard, claim) && (size_kib == 0 || out_guard->size_kib == size_kib))
            return TRUE;
    }
    return FALSE;
}

static void drop_guards(const HvRoot *root, const HvClaim *claim)
{
    g_autoptr(GArray) sizes = sizes_of(claim);
    HvGuard segment;
    for (guint i = 0; i < sizes->len; i++) {
        guint64 size_kib = g_array_index(sizes, guint64, i);
        HvVaultName name = vault_name(claim, size_kib);
        if (claim->from_hugetlbfs)
            hv_vault_drop(&name);
        if (find_segment(root, claim, size_kib, &segment))
            hv_guard_drop(&segment);
    }
}

/* 0, or errno; *out_warning: the host allows no guard. */
static int make_guard(const HvRoot *root, const HvClaim *claim, guint64 size_kib,
                      char **out_warning)
{
    guint64 bytes = bytes_of(claim, size_kib);
    HvVaultName name = vault_name(claim, size_kib);
    int errsv = ENOSYS;
    if (claim->from_hugetlbfs && hv_vault_is_supported())
        errsv = hv_vault_put(&name, bytes);
    if (errsv == 0 || errsv == ENOMEM)
        return errsv;
    if (!hv_guard_survives_its_maker(root)) {
        *out_warning = g_strdup("the VM's pages are not guarded until QEMU has them, because "
                                "kernel.shm_rmid_forced is 1: set it to 0");
        return EPERM;
    }
    errsv = hv_guard_make(claim->generation, size_kib, bytes);
    if (errsv == 0 || errsv == ENOMEM)
        return errsv;
    g_autofree char *size = hv_format_kib(size_kib);
    *out_warning = g_strdup_printf("pages of %s are not guarded until QEMU has them: a shared "
                                   "memory segment of them cannot be made (%s)",
                                   size, g_strerror(errsv));
    return errsv;
}

void hv_custody_prepare(const HvRoot *root, const HvClaim *claim)
{
    if (hv_root_is_machine(root) && claim->from_hugetlbfs && hv_vault_is_supported())
        hv_vault_prepare(); /* without it the guard is a segment */
}

HvGuardResult hv_custody_guard(const HvRoot *root, HvClaim *claim, char **out_warning)
{
    if (!hv_root_is_machine(root))
        return HV_GUARD_NONE;
    g_autoptr(GArray) sizes = sizes_of(claim);
    for (guint i = 0; i < sizes->len; i++) {
        int errsv = make_guard(root, claim, g_array_index(sizes, guint64, i), out_warning);
        if (errsv == 0)
            continue;
        drop_guards(root, claim);
        return errsv == ENOMEM ? HV_GUARD_SHORT : HV_GUARD_NONE;
    }
    claim->state = HV_CLAIM_GUARDED;
    return HV_GUARDED;
}

/* A launch mount that is ready to be made. */
typedef struct {
    guint64 size_kib;
    const char *directory;
    int fd;
    char *options;
} Target;

static void target_clear(gpointer data)
{
    Target *target = data;
    hv_fd_clear(&target->fd);
    g_free(target->options);
}

/* One per page size of the claim; NULL: not all of them can be mounted. */
static GArray *find_targets(const HvClaim *claim, const char *const *directories)
{
    if (!claim->from_hugetlbfs)
        return NULL;
    g_autoptr(GArray) sizes = sizes_of(claim);
    g_autoptr(GArray) targets = g_array_new(FALSE, TRUE, sizeof(Target));
    g_array_set_clear_func(targets, target_clear);
    for (guint i = 0; i < sizes->len; i++) {
        Target target = {.size_kib = g_array_index(sizes, guint64, i), .fd = -1};
        int index = hv_launch_mount_find(directories, target.size_kib, &target.fd);
        if (index < 0)
            return NULL;
        target.directory = directories[index];
        target.options =
            hv_launch_mount_options(target.fd, target.size_kib, bytes_of(claim, target.size_kib));
        g_array_append_val(targets, target);
        if (target.options == NULL)
            return NULL;
    }
    return g_steal_pointer(&targets);
}

gboolean hv_custody_is_in_vault(const HvRoot *root, const HvClaim *claim)
{
    HvGuard segment;
    return hv_root_is_machine(root) && claim->state == HV_CLAIM_GUARDED && claim->from_hugetlbfs &&
           !find_segment(root, claim, 0, &segment);
}

gboolean hv_custody_keeps(const HvRoot *root, const HvClaim *claim, const char *const *directories)
{
    g_autoptr(GArray) targets = find_targets(claim, directories);
    return targets != NULL && hv_custody_is_in_vault(root, claim);
}

/* What became of an exchange: guard -> launch mount. */
typedef enum {
    EXCHANGED,
    NOT_MOUNTED, /* the host does not allow it: the guard has gone */
    LOST,        /* the guard has gone, and so have the pages */
    LOST_BEFORE, /* there was no guard, and no pages either */
    LOCKED,      /* the guard cannot be got at, and keeps the pages from QEMU, too */
} Exchange;

typedef struct {
    Exchange result;
    int errsv;
    const Target *target; /* the one that it is about */
} Launch;

static int mount_for_a_moment(const HvClaim *claim, const Target *target)
{
    int errsv = ENOMEM;
    for (guint i = 0; i < MOUNT_TRIES && errsv == ENOMEM; i++) {
        if (i > 0)
            g_usleep(MOUNT_RETRY_US);
        errsv = hv_launch_mount_make(target->fd, claim->uuid, claim->generation, target->options);
    }
    return errsv;
}

static Launch exchange(const HvRoot *root, const HvClaim *claim, const Target *target)
{
    HvGuard segment;
    HvVaultName name = vault_name(claim, target->size_kib);
    gboolean is_segment = find_segment(root, claim, target->size_kib, &segment);
    gboolean was_there = TRUE;
    if (is_segment) {
        hv_guard_drop(&segment);
    } else {
        int errsv = hv_vault_take(&name, target->fd);
        if (errsv == 0)
            return (Launch){EXCHANGED, 0, target};
        was_there = errsv != ENOENT;
        if (was_there && hv_vault_drop(&name) != 0)
            return (Launch){LOCKED, errsv, target};
    }
    int errsv = mount_for_a_moment(claim, target);
    if (errsv == ENOMEM)
        return (Launch){was_there ? LOST : LOST_BEFORE, errsv, target};
    return (Launch){errsv == 0 ? EXCHANGED : NOT_MOUNTED, errsv, target};
}

/* NULL: it may work the next time. */
static const char *hint_about_vault(int errsv)
{
    if (errsv == EPERM || errsv == EACCES)
        return "it takes CAP_SYS_ADMIN and CAP_SYS_CHROOT, and from another mount namespace "
               "CAP_SYS_PTRACE";
    return errsv == EBUSY ? "unmount what others have mounted on /run/hugevm/vault" : NULL;
}

static HvErrorCode code_about_vault(int errsv)
{
    return errsv == EPERM || errsv == EACCES ? HV_ERROR_PERMISSION : HV_ERROR_SYSTEM;
}

static void set_launch_error(const HvClaim *claim, const Launch *launch, GError **error)
{
    g_autofree char *size = hv_format_kib(launch->target->size_kib);
    const char *remedy = hint_about_vault(launch->errsv);
    if (launch->result == LOCKED)
        hv_set_error(error, code_about_vault(launch->errsv),
                     remedy != NULL ? remedy : "start the VM again",
                     "the pages of %s that are kept for VM %s in hugevm's vault cannot be got out "
                     "of it: %s",
                     size, claim->uuid, g_strerror(launch->errsv));
    else if (launch->result == LOST_BEFORE)
        hv_set_error(error, HV_ERROR_SHORTAGE,
                     "start the VM again, and find out who removes shared memory segments or "
                     "unmounts /run/hugevm/vault",
                     "pages of %s that were kept for VM %s are no longer kept, and not free", size,
                     claim->uuid);
    else
        hv_set_error(error, HV_ERROR_SHORTAGE, "start the VM again",
                     "pages of %s that were kept for VM %s were taken by another process at the "
                     "moment of its launch",
                     size, claim->uuid);
}

/* The first that fails ends it. */
static Launch launch_on(const HvRoot *root, const HvClaim *claim, const GArray *targets)
{
    Launch launch = {.result = EXCHANGED};
    for (guint i = 0; launch.result == EXCHANGED && i < targets->len; i++)
        launch = exchange(root, claim, &g_array_index(targets, Target, i));
    return launch;
}

gboolean hv_custody_launch(const HvRoot *root, HvClaim *claim, const char *const *directories,
                           char **out_warning, GError **error)
{
    gboolean is_guarded = claim->state == HV_CLAIM_GUARDED;
    claim->state = HV_CLAIM_LAUNCHING; /* entitled to nothing, unless it works */
    if (!hv_root_is_machine(root) || !is_guarded)
        return TRUE;
    g_autoptr(GArray) targets = find_targets(claim, directories);
    if (targets == NULL) {
        drop_guards(root, claim);
        return TRUE;
    }
    Launch launch = launch_on(root, claim, targets);
    if (launch.result == EXCHANGED) {
        claim->state = HV_CLAIM_MOUNTED;
        return TRUE;
    }
    if (launch.result != NOT_MOUNTED) {
        gboolean is_as_before =
            launch.result == LOCKED && launch.target == &g_array_index(targets, Target, 0);
        claim->state = is_as_before ? HV_CLAIM_GUARDED : HV_CLAIM_CLAIMED;
        set_launch_error(claim, &launch, error);
        return FALSE;
    }
    g_autofree char *directory = hv_quote(launch.target->directory);
    *out_warning =
        g_strdup_printf("the pages of VM %s are open to others until QEMU has them: cannot mount "
                        "a hugetlbfs on %s (%s)",
                        claim->uuid, directory, g_strerror(launch.errsv));
    drop_guards(root, claim); /* of other sizes; launch mounts of theirs are for a sweep */
    return TRUE;
}

gboolean hv_custody_may_keep_guard(const HvLedger *ledger, const HvGuard *guard)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->state == HV_CLAIM_GUARDED && is_guard_of(guard, claim))
            return bytes_of(claim, guard->size_kib) == guard->bytes;
    }
    return FALSE;
}

gboolean hv_custody_may_keep_mount(const HvLedger *ledger, const HvLaunchMount *mount)
{
    const HvClaim *claim = hv_ledger_claim(ledger, mount->uuid);
    return claim != NULL && claim->state == HV_CLAIM_MOUNTED &&
           claim->generation == mount->generation;
}

gboolean hv_custody_may_keep_in_vault(const HvLedger *ledger, const HvVaultName *name)
{
    const HvClaim *claim = hv_ledger_claim(ledger, name->uuid);
    return claim != NULL && claim->state == HV_CLAIM_GUARDED &&
           claim->generation == name->generation &&
           hv_needs_pages(claim->needs, name->size_kib) > 0;
}

static int sweep_vault(const HvLedger *ledger)
{
    g_autoptr(GArray) names = NULL;
    int errsv = hv_vault_list(&names);
    for (guint i = 0; i < names->len; i++) {
        const HvVaultName *name = &g_array_index(names, HvVaultName, i);
        int failed = hv_custody_may_keep_in_vault(ledger, name) ? 0 : hv_vault_drop(name);
        errsv = failed != 0 ? failed : errsv;
    }
    return errsv;
}

static gboolean may_keep_mount(const HvLaunchMount *mount, gconstpointer ledger)
{
    return hv_custody_may_keep_mount(ledger, mount);
}

void hv_custody_sweep_elsewhere(const HvRoot *root, const HvLedger *ledger)
{
    if (hv_root_is_machine(root))
        hv_launch_mount_detach_elsewhere(root, may_keep_mount, ledger);
}

gboolean hv_custody_sweep(const HvRoot *root, const HvLedger *ledger, GError **error)
{
    if (!hv_root_is_machine(root))
        return TRUE;
    int errsv = sweep_vault(ledger);
    g_autoptr(GArray) guards = hv_guard_list(root);
    for (guint i = 0; i < guards->len; i++) {
        const HvGuard *guard = &g_array_index(guards, HvGuard, i);
        if (!hv_custody_may_keep_guard(ledger, guard))
            hv_guard_drop(guard);
    }
    gboolean may_have_copies = FALSE;
    g_autoptr(GPtrArray) mounts = hv_launch_mount_list(root);
    for (guint i = mounts->len; i > 0; i--) { /* the last one is on top */
        const HvLaunchMount *mount = g_ptr_array_index(mounts, i - 1);
        if (!hv_custody_may_keep_mount(ledger, mount))
            may_have_copies |= hv_launch_mount_detach(mount->path) == 0 && !mount->is_propagated;
    }
    if (may_have_copies)
        hv_custody_sweep_elsewhere(root, ledger);
    const char *remedy = hint_about_vault(errsv);
    if (errsv != 0)
        hv_set_error(error, code_about_vault(errsv),
                     remedy != NULL ? remedy : "call hugevmctl drain",
                     "cannot let go of what hugevm's vault keeps for VMs that are gone, the next "
                     "call tries again: %s",
                     g_strerror(errsv));
    return errsv == 0;
}
