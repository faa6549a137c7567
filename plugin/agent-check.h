/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be known to go wrong in libvirt before it is asked. */
#pragma once

#include <glib.h>

/* Warns on stderr where libvirt is about to probe QEMU again and again. */
void agent_check_kvm(void);

/* Does the plan (result_json) say that a start would be refused? */
gboolean agent_check_is_refused(const char *plan_json);

/* The VM's name in the plan. */
char *agent_check_name(const char *plan_json);

/*
 * Is there a hugetlbfs mount for each page size of the plan (result_json)? memfd
 * memory needs none. HV_ERROR_CONFLICT with the command to run.
 */
gboolean agent_check_mounts(const char *plan_json, GError **error);
