/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ledger to be spoilt, and what shall become of one that cannot be read. */
#pragma once

#include "store-fixture.h"
#include "world.h"

#define A "00000000-0000-4000-8000-00000000000a"
#define B "00000000-0000-4000-8000-00000000000b"
#define C "00000000-0000-4000-8000-00000000000c"
#define MOST ((guint64)G_MAXINT64) /* JSON has no larger number */
#define SLOW_US (5 * G_USEC_PER_SEC)

static inline void add_claim(HvLedger *ledger, const char *uuid, HvClaimState state, guint64 pages)
{
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    HvNeed need = {.size_kib = SIZE_2M, .pages = pages};
    HvRequest request = {.uuid = (char *)uuid, .name = (char *)"web", .needs = needs};
    HvProcess owner = {4711, 815};
    HvFileId file = {0, 15, 77};
    g_array_append_val(needs, need);
    HvClaim *claim = hv_ledger_add_claim(ledger, &request, "agent", &owner);
    claim->state = state;
    g_array_append_val(claim->files, file);
}

static inline void add_grown(HvLedger *ledger, int node, guint64 grown, guint64 persistent)
{
    HvGrown entry = {
        .node = node, .size_kib = SIZE_2M, .grown_pages = grown, .persistent_pages = persistent};
    g_array_append_val(ledger->grown, entry);
}

static inline void add_intent(HvLedger *ledger, int node, guint64 before, guint64 target)
{
    HvIntent intent = {
        .node = node, .size_kib = SIZE_2M, .before_pages = before, .target_pages = target};
    g_array_append_val(ledger->intents, intent);
}

static inline HvLedger *sound_ledger(void)
{
    HvLedger *ledger = hv_ledger_new();
    add_claim(ledger, A, HV_CLAIM_RUNNING, 40);
    add_grown(ledger, 0, 7, 96);
    add_intent(ledger, 0, 96, 98);
    return ledger;
}

static inline void put_bytes(const StoreFixture *fixture, const char *name, const GString *bytes)
{
    g_autofree char *path = store_path(fixture, name);
    g_assert_true(g_file_set_contents(path, bytes->str, (gssize)bytes->len, NULL));
}

static inline void assert_bytes(const StoreFixture *fixture, const char *name, const GString *bytes)
{
    g_autofree char *path = store_path(fixture, name);
    g_autofree char *now = NULL;
    gsize n = 0;
    g_assert_true(g_file_get_contents(path, &now, &n, NULL));
    g_assert_cmpmem(now, n, bytes->str, bytes->len);
}

/* The one name in the directory that begins so. */
static inline char *find_aside(const StoreFixture *fixture)
{
    g_autofree char *path = store_path(fixture, "");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (g_str_has_prefix(name, LEDGER ".damaged-"))
            return g_strdup(name);
    return NULL;
}

/* A reader says so and changes nothing; the next transaction keeps every byte of it elsewhere. */
static inline void assert_set_aside(const GString *hostile)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    put_bytes(&fixture, LEDGER, hostile);
    gint64 start_us = g_get_monotonic_time();

    g_assert_null(hv_store_read(store, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(error->message, LEDGER " is damaged"));
    g_assert_nonnull(strstr(hv_error_hint(error), "sets it aside"));
    assert_bytes(&fixture, LEDGER, hostile);

    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_cmpuint(transaction->ledger->claims->len, ==, 0);
    g_assert_cmpuint(transaction->ledger->grown->len, ==, 0);
    g_autofree char *aside = find_aside(&fixture);
    g_assert_nonnull(aside);
    g_assert_nonnull(strstr(transaction->warning, aside));
    assert_bytes(&fixture, aside, hostile);
    g_assert_cmpuint(read_generation(store), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, SLOW_US);
}

static inline void assert_text_set_aside(const char *text)
{
    g_autoptr(GString) bytes = g_string_new(text);
    assert_set_aside(bytes);
}

/* The sound ledger, with the value of one member replaced. */
static inline char *text_with(const char *member, const char *value)
{
    g_autoptr(HvLedger) ledger = sound_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autofree char *key = g_strdup_printf("\"%s\" : ", member);
    const char *found = strstr(text, key);
    g_assert_nonnull(found);
    const char *old = found + strlen(key);
    return g_strdup_printf("%.*s%s%s", (int)(old - text), text, value, old + strcspn(old, ",\n"));
}

static inline void assert_value_set_aside(const char *member, const char *value)
{
    g_autofree char *text = text_with(member, value);
    g_autofree char *shown = g_strescape(value, "\""); /* TAP is UTF-8, and value need not be */
    g_test_message("%s: %.60s", member, shown);
    assert_text_set_aside(text);
}
