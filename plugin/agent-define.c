/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The XML of a VM that libvirt keeps: read as `virsh edit` reads it, with what libvirt hides
 * otherwise (passwords), since what is left out would be lost; and defined as a whole. libvirt
 * has no "if it is still the same": it is read once more right before.
 */
#include "agent-define.h"

#include "agent-libvirt.h"
#include "domain-xml.h"
#include "error.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#define PERSISTENT_XML (VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE)

static virDomainPtr find_domain(virConnectPtr connection, const AgentDefine *define, GError **error)
{
    g_autofree char *uuid = hv_uuid_normalize(define->vm);
    virDomainPtr domain = uuid != NULL ? virDomainLookupByUUIDString(connection, uuid) : NULL;
    if (domain == NULL)
        domain = virDomainLookupByName(connection, define->vm);
    if (domain != NULL)
        return domain;
    g_autofree char *vm = hv_quote(define->vm);
    if (virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) {
        g_autofree char *what = g_strdup_printf("cannot look for the VM %s", vm);
        agent_set_libvirt_error(what, error);
        return NULL;
    }
    g_autofree char *where = hv_quote(define->uri);
    hv_set_error(error, HV_ERROR_SYSTEM, "virsh list --all shows those that there are",
                 "libvirt has no VM %s at %s", vm, where);
    return NULL;
}

/* libvirt's own judgement of a text is a refusal, anything else a failure. */
static gboolean define_text(virConnectPtr connection, const char *xml, AgentDefine *define,
                            GError **error)
{
    g_auto(virDomainPtr) domain = virDomainDefineXML(connection, xml);
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (domain == NULL) {
        g_autoptr(GError) local = NULL;
        int code = virGetLastErrorCode();
        gboolean is_refusal = code == VIR_ERR_XML_ERROR || code == VIR_ERR_XML_DETAIL ||
                              code == VIR_ERR_CONFIG_UNSUPPORTED;
        agent_set_libvirt_error("libvirt does not define the VM", &local);
        hv_set_error(error, is_refusal ? HV_ERROR_XML : HV_ERROR_SYSTEM, NULL, "%s",
                     local->message);
        return FALSE;
    }
    define->is_defined = TRUE;
    define->is_active = virDomainIsActive(domain) == 1;
    if (virDomainGetUUIDString(domain, uuid) == 0)
        define->uuid = g_strdup(uuid);
    return TRUE;
}

static gboolean check_persistent(virDomainPtr domain, GError **error)
{
    int is_persistent = virDomainIsPersistent(domain);
    g_autofree char *name = hv_quote(virDomainGetName(domain));
    if (is_persistent < 0)
        agent_set_libvirt_error("cannot ask for the VM", error);
    else if (is_persistent == 0)
        hv_set_error(error, HV_ERROR_CONFLICT, "define it first",
                     "the VM %s is transient: libvirt keeps no XML of it", name);
    return is_persistent == 1;
}

static char *persistent_xml(virDomainPtr domain, GError **error)
{
    char *xml = virDomainGetXMLDesc(domain, PERSISTENT_XML);
    if (xml == NULL) {
        agent_set_libvirt_error("cannot read the VM's XML", error);
        return NULL;
    }
    char *copy = g_strdup(xml);
    free(xml);
    return copy;
}

static gboolean define_again(virConnectPtr connection, virDomainPtr domain, AgentDefine *define,
                             GError **error)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autofree char *before = persistent_xml(domain, error);
    g_autofree char *text = before != NULL ? define->edit(before, define->data, error) : NULL;
    if (text == NULL)
        return FALSE;
    if (strcmp(text, before) == 0) {
        define->is_active = virDomainIsActive(domain) == 1;
        if (virDomainGetUUIDString(domain, uuid) == 0)
            define->uuid = g_strdup(uuid);
        return TRUE;
    }
    g_autofree char *now = persistent_xml(domain, error);
    if (now == NULL)
        return FALSE;
    if (strcmp(now, before) == 0)
        return define_text(connection, text, define, error);
    hv_set_error(error, HV_ERROR_CONFLICT, "try again",
                 "somebody else has changed the VM's XML at this moment");
    return FALSE;
}

static gboolean define_new(AgentDefine *define, GError **error)
{
    /* what is wrong with the text shows before libvirt is asked; what is wrong for it, behind */
    g_autofree char *draft = define->edit(NULL, define->data, error);
    g_auto(virConnectPtr) connection =
        draft != NULL ? agent_connect(define->uri, FALSE, error) : NULL;
    if (connection == NULL)
        return FALSE;
    *define->out_versions = agent_versions(connection);
    g_autofree char *text = define->edit(NULL, define->data, error);
    return text != NULL && define_text(connection, text, define, error);
}

static gboolean define_known(AgentDefine *define, GError **error)
{
    g_auto(virConnectPtr) connection = agent_connect(define->uri, FALSE, error);
    g_auto(virDomainPtr) domain =
        connection != NULL ? find_domain(connection, define, error) : NULL;
    if (domain != NULL)
        *define->out_versions = agent_versions(connection);
    return domain != NULL && check_persistent(domain, error) &&
           define_again(connection, domain, define, error);
}

__attribute__((visibility("default"))) gboolean hugevm_agent_define(AgentDefine *define,
                                                                    GError **error)
{
    return define->vm != NULL ? define_known(define, error) : define_new(define, error);
}
