/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Define: the XML of a VM that libvirt keeps, so that its hook, which cannot edit, finds in it what
 * the VM's properties ask for.
 */
#pragma once

#include "lifecycle.h"

/* New values of VM properties. */
typedef struct {
    const char *hugepages;   /* a size, large, any; "off", "" or 0: none. NULL: as it stands */
    const char *shared;      /* a boolean; auto or "": not set. NULL: as it stands */
    HvVersions versions;     /* of what will start the VM */
    gboolean replaces_pages; /* the XML's page size for the whole guest gives way */
} HvWish;

/* HV_ERROR_PROPERTY for a value that is none, whatever the VM is. */
gboolean hv_wish_check(const HvWish *wish, GError **error);

typedef struct {
    char *xml; /* the same bytes where nothing is other than before */
    gsize xml_bytes;
    gboolean is_changed;
    char *uuid; /* NULL: the XML has none */
    char *name;
    char *hugepages;     /* the properties of the metadata element; NULL: not set */
    char *shared;        /* "true", "false" */
    GPtrArray *changes;  /* char *: what is other than before */
    GPtrArray *warnings; /* char * */
} HvDefinition;

void hv_definition_free(HvDefinition *definition);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvDefinition, hv_definition_free)

/*
 * Writes the properties into hugevm's metadata element, takes out what an earlier call has put in,
 * and puts in what a start would. Changes nothing on the host. Too few pages now are a warning;
 * what can never start here is an error, as every wish that a start refuses.
 */
HvDefinition *hv_define(const HvAgent *agent, const char *xml, gsize xml_bytes, const HvWish *wish,
                        GError **error);

/* What became of it. */
typedef struct {
    const char *uuid;    /* as libvirt has it; NULL: the XML's */
    gboolean is_printed; /* the XML is for the reader, not for libvirt */
    gboolean is_defined;
    gboolean is_active; /* the VM runs, as it was defined before */
} HvDefined;

char *hv_report_define_json(const HvDefinition *definition, const HvDefined *defined);
char *hv_report_define_text(const HvDefinition *definition, const HvDefined *defined);
