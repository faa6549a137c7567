/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `hugevmctl define` and `set` have the agent do: libvirt's part of it. */
#pragma once

#include "platform.h"

#define HUGEVM_AGENT_DEFINE_SYMBOL "hugevm_agent_define"

typedef struct {
    const char *uri;
    const char *vm; /* name or UUID of the VM to define anew; NULL: whichever the text describes */

    /*
     * From the VM's persistent XML (NULL without vm) to the one to define, newly allocated; the
     * same text: nothing is defined. NULL: an error. May be called twice.
     */
    char *(*edit)(const char *xml, gpointer data, GError **error);
    gpointer data;
    HvVersions *out_versions; /* of the connection; filled before edit is called */

    /* results */
    char *uuid; /* newly allocated */
    gboolean is_defined;
    gboolean is_active; /* the VM runs */
} AgentDefine;

/* FALSE: an error, and libvirt has what it had. */
typedef gboolean (*AgentDefineFunction)(AgentDefine *define, GError **error);
gboolean hugevm_agent_define(AgentDefine *define, GError **error);
