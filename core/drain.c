/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's pages cannot be taken away while it runs, so draining a host is up to whoever ends its
 * VMs or migrates them away; this says which.
 */
#include "drain.h"

#include "guard.h"
#include "launch-mount.h"
#include "lifecycle-private.h"
#include "page-size.h"
#include "vault.h"

#include <string.h>
#include <unistd.h>

void hv_remains_free(HvRemains *remains)
{
    if (remains == NULL)
        return;
    hv_ledger_free(remains->ledger);
    g_free(remains);
}

guint64 hv_remaining_pages(const HvGrown *grown)
{
    return hv_plus(grown->grown_pages, grown->handed_pages);
}

static gboolean is_empty_ledger(const HvLedger *ledger)
{
    guint64 pages = 0;
    for (guint i = 0; i < ledger->grown->len; i++)
        pages = hv_plus(pages, hv_remaining_pages(&g_array_index(ledger->grown, HvGrown, i)));
    return ledger->claims->len == 0 && ledger->intents->len == 0 && pages == 0;
}

gboolean hv_remains_is_empty(const HvRemains *remains)
{
    return is_empty_ledger(remains->ledger) && remains->n_guards == 0;
}

static guint count_guards(const HvAgent *agent)
{
    if (!hv_root_is_machine(agent->root))
        return 0;
    g_autoptr(GArray) segments = hv_guard_list(agent->root);
    g_autoptr(GPtrArray) mounts = hv_launch_mount_list(agent->root);
    g_autoptr(GArray) names = NULL;
    hv_vault_list(&names);
    return segments->len + mounts->len + names->len;
}

/* The lock of the ledger keeps a start from putting something into the vault meanwhile. */
static gboolean look_and_close(const HvAgent *agent, HvStore *store, HvRemains *remains,
                               GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + HV_LOCK_WAIT_US, error);
    if (transaction == NULL)
        return FALSE;
    hv_ledger_free(remains->ledger);
    remains->ledger = g_steal_pointer(&transaction->ledger);
    remains->n_guards = count_guards(agent);
    int errsv = 0;
    if (hv_root_is_machine(agent->root) && hv_remains_is_empty(remains))
        errsv = hv_vault_remove();
    if (errsv != 0)
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot unmount /run/hugevm/vault: %s",
                     g_strerror(errsv));
    return errsv == 0;
}

HvRemains *hv_lifecycle_drain(const HvAgent *agent, GPtrArray *out_warnings, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    if (!hv_lifecycle_recover(agent, out_warnings, error) ||
        !hv_store_open_existing(agent, &store, error))
        return NULL;
    g_autoptr(HvRemains) remains = g_new0(HvRemains, 1);
    remains->ledger = hv_ledger_new();
    if (store != NULL && !look_and_close(agent, store, remains, error))
        return NULL;
    return g_steal_pointer(&remains);
}
