/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of configuration keys; for settings.c alone. */
#pragma once

#include "settings.h"

#define HV_SECTION_PERFORMANCE "performance"
#define HV_SECTION_HUGEVM "hugevm"

/* What the values are parsed into, one key after the other. */
typedef struct {
    HvSettings *settings;
    HvReserved pair; /* [performance] reserved_hugepage_count and reserved_hugepage_size */
    char *wrong;     /* set by a failing parser: the part of a long value that is wrong */
} HvSettingsDraft;

typedef struct HvSettingsKey HvSettingsKey;
struct HvSettingsKey {
    const char *section;
    const char *name;
    const char *alias; /* VDSM's documentation has two spellings; NULL: none */
    const char *builtin;
    const char *allowed; /* for people: what a value may be */
    /* FALSE if the value means nothing; the draft may then be half changed. */
    gboolean (*parse)(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft);
    gsize field_offset;   /* in HvSettings, for switches and timeouts */
    gboolean raw;         /* a percent sign belongs to its syntax: no interpolation */
    gboolean vdsm_switch; /* in VDSM's files it switches VDSM, where that is installed */
};

extern const HvSettingsKey hv_settings_keys[];
extern const guint hv_settings_n_keys;

/* True for the key's name and for its second spelling. */
gboolean hv_settings_key_matches(const HvSettingsKey *key, const char *name);

/* NULL: the section has no such key. */
const HvSettingsKey *hv_settings_find_key(const char *section, const char *name);

/* A hint to what an unknown [hugevm] key was meant to be; NULL: no idea. Newly allocated. */
char *hv_settings_suggest(const char *name);
