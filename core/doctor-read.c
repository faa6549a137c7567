/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is wrong with settings or ledger does not keep the other checks from being made. */
#include "doctor.h"

#include "consumers.h"
#include "error.h"
#include "file-look.h"

void hv_doctor_view_free(HvDoctorView *view)
{
    if (view == NULL)
        return;
    hv_audit_view_free(view->audit);
    g_clear_error(&view->settings_error);
    g_clear_error(&view->ledger_error);
    g_free(view);
}

/* Who may not look cannot say that anything is wrong. Passes such an error on. */
static gboolean is_closed(GError **local, GError **error)
{
    if (!g_error_matches(*local, HV_ERROR, HV_ERROR_PERMISSION))
        return FALSE;
    g_propagate_error(error, g_steal_pointer(local));
    return TRUE;
}

HvDoctorView *hv_doctor_read(const HvAgent *agent, GError **error)
{
    g_autoptr(HvDoctorView) view = g_new0(HvDoctorView, 1);
    view->root = agent->root;
    view->audit = hv_audit_view_new();
    view->audit->settings = hv_settings_load(agent->root, (const char *const *)agent->conf_files,
                                             &view->settings_error);
    hv_audit_read_own(agent->root, view->audit, &view->ledger_error);
    if (is_closed(&view->settings_error, error) || is_closed(&view->ledger_error, error))
        return NULL;
    view->audit->snapshot = hv_snapshot_read(agent->root, error);
    if (view->audit->snapshot == NULL)
        return NULL;
    if (view->audit->settings != NULL) {
        hv_consumers_read(agent->root, view->audit->settings, view->audit->ledger,
                          view->audit->snapshot);
        view->audit->snapshot->memory_dir =
            hv_files_look(agent->root, view->audit->settings, view->audit->ledger);
    }
    return g_steal_pointer(&view);
}
