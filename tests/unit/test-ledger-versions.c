/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One ledger, several versions of hugevm: those of before an upgrade, whose agents go on, and
 * newer ones than this. The texts are as earlier versions wrote them, byte for byte but for blanks.
 */
#include "ledger-json.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define BOOT "0b6b6e4c-0000-4000-8000-000000000001"
#define A "00000000-0000-0000-0000-00000000000a"
#define B "00000000-0000-0000-0000-00000000000b"

/* clang-format off */
/* Before guards, shared files and handovers: the first that was ever written. */
static const char first_text[] =
    "{\"format\":1,\"boot_id\":\"0b6b6e4c-0000-4000-8000-000000000001\",\"last_generation"
    "\":2,\"grown\":[{\"node\":0,\"size_kib\":2048,\"grown_pages\":40,\"persistent_pages"
    "\":64}],\"intents\":[{\"node\":0,\"size_kib\":2048,\"before_pages\":64,\"target_pages"
    "\":88}],\"claims\":[{\"uuid\":\"00000000-0000-0000-0000-00000000000a\",\"name\":\"we"
    "b\",\"generation\":1,\"state\":\"running\",\"owner_name\":\"libvirt\",\"owner\":{\"p"
    "id\":4711,\"start_ticks\":815},\"qemu\":{\"pid\":1234,\"start_ticks\":5678},\"needs"
    "\":[{\"nodes\":\"any\",\"size_kib\":2048,\"pages\":32}],\"shared\":false},{\"uuid\":"
    "\"00000000-0000-0000-0000-00000000000b\",\"name\":null,\"generation\":2,\"state\":\"c"
    "laimed\",\"owner_name\":\"hugevmctl run\",\"owner\":{\"pid\":4711,\"start_ticks\":81"
    "5},\"qemu\":{\"pid\":0,\"start_ticks\":0},\"needs\":[{\"nodes\":\"any\",\"size_kib\""
    ":2048,\"pages\":32}],\"shared\":false}]}";

/* With what others map too; before handovers. */
static const char files_text[] =
    "{\"format\":1,\"boot_id\":\"0b6b6e4c-0000-4000-8000-000000000001\",\"last_generation"
    "\":2,\"grown\":[{\"node\":0,\"size_kib\":2048,\"grown_pages\":40,\"persistent_pages"
    "\":64}],\"intents\":[{\"node\":0,\"size_kib\":2048,\"before_pages\":64,\"target_pages"
    "\":88,\"others_pages\":0}],\"claims\":[{\"uuid\":\"00000000-0000-0000-0000-000000000"
    "00a\",\"name\":\"web\",\"generation\":1,\"state\":\"running\",\"owner_name\":\"libvi"
    "rt\",\"owner\":{\"pid\":4711,\"start_ticks\":815},\"qemu\":{\"pid\":1234,\"start_tic"
    "ks\":5678},\"needs\":[{\"nodes\":\"any\",\"size_kib\":2048,\"pages\":32}],\"shared\""
    ":false,\"from_hugetlbfs\":false,\"files\":[]},{\"uuid\":\"00000000-0000-0000-0000-00"
    "000000000b\",\"name\":null,\"generation\":2,\"state\":\"claimed\",\"owner_name\":\"h"
    "ugevmctl run\",\"owner\":{\"pid\":4711,\"start_ticks\":815},\"qemu\":{\"pid\":0,\"st"
    "art_ticks\":0},\"needs\":[{\"nodes\":\"any\",\"size_kib\":2048,\"pages\":32}],\"shar"
    "ed\":false,\"from_hugetlbfs\":false,\"files\":[]}]}";

/* With handovers; before pages were counted where they are, and readers were named. */
static const char handover_text[] =
    "{\"format\":1,\"boot_id\":\"0b6b6e4c-0000-4000-8000-000000000001\",\"last_generation"
    "\":2,\"handover_failed\":false,\"grown\":[{\"node\":0,\"size_kib\":2048,\"grown_page"
    "s\":40,\"persistent_pages\":64,\"handed_pages\":0,\"regained_pages\":0}],\"intents\""
    ":[{\"node\":0,\"size_kib\":2048,\"before_pages\":64,\"target_pages\":88,\"others_pag"
    "es\":0,\"is_handover\":false}],\"claims\":[{\"uuid\":\"00000000-0000-0000-0000-00000"
    "000000a\",\"name\":\"web\",\"generation\":1,\"state\":\"running\",\"owner_name\":\"l"
    "ibvirt\",\"owner\":{\"pid\":4711,\"start_ticks\":815},\"qemu\":{\"pid\":1234,\"start"
    "_ticks\":5678},\"needs\":[{\"nodes\":\"any\",\"size_kib\":2048,\"pages\":32}],\"shar"
    "ed\":false,\"from_hugetlbfs\":false,\"may_hand_over\":false,\"is_handed_over\":false"
    ",\"files\":[]},{\"uuid\":\"00000000-0000-0000-0000-00000000000b\",\"name\":null,\"ge"
    "neration\":2,\"state\":\"claimed\",\"owner_name\":\"hugevmctl run\",\"owner\":{\"pid"
    "\":4711,\"start_ticks\":815},\"qemu\":{\"pid\":0,\"start_ticks\":0},\"needs\":[{\"no"
    "des\":\"any\",\"size_kib\":2048,\"pages\":32}],\"shared\":false,\"from_hugetlbfs\":f"
    "alse,\"may_hand_over\":false,\"is_handed_over\":false,\"files\":[]}]}";
/* clang-format on */

static HvLedger *read_good(const char *text)
{
    HvLedger *ledger = NULL;
    g_assert_cmpint(hv_ledger_from_json(text, BOOT, &ledger), ==, HV_LEDGER_TEXT_GOOD);
    g_assert_nonnull(ledger);
    return ledger;
}

/* The same in all three: a VM that runs, one that is to start, a write that was begun. */
static void assert_meaning(const char *text)
{
    g_autoptr(HvLedger) ledger = read_good(text);
    g_assert_cmpuint(ledger->last_generation, ==, 2);
    g_assert_false(ledger->handover_failed);
    g_assert_cmpuint(ledger->claims->len, ==, 2);
    const HvClaim *runs = hv_ledger_claim(ledger, A), *starts = hv_ledger_claim(ledger, B);
    g_assert_cmpint(runs->state, ==, HV_CLAIM_RUNNING);
    g_assert_cmpstr(runs->name, ==, "web");
    g_assert_cmpstr(runs->owner_name, ==, "libvirt");
    g_assert_cmpint(runs->owner.pid, ==, 4711);
    g_assert_cmpint(runs->qemu.pid, ==, 1234);
    g_assert_cmpuint(runs->qemu.start_ticks, ==, 5678);
    g_assert_cmpuint(hv_needs_pages(runs->needs, 2048), ==, 32);
    g_assert_cmpint(starts->state, ==, HV_CLAIM_CLAIMED);
    g_assert_cmpuint(starts->generation, ==, 2);
    g_assert_null(starts->name);
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, 2048), ==, 40);
    g_assert_cmpuint(hv_ledger_handed_pages(ledger, 0, 2048), ==, 0);
    g_assert_true(hv_ledger_has_intent(ledger, 0, 2048));
    const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, 0);
    g_assert_cmpuint(intent->before_pages, ==, 64);
    g_assert_cmpuint(intent->target_pages, ==, 88);
    g_assert_cmpuint(intent->others_pages, ==, 0);
    g_assert_false(intent->is_handover);
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        g_assert_false(claim->shared || claim->may_hand_over || claim->is_handed_over);
        g_assert_cmpuint(claim->files->len + claim->placed->len, ==, 0);
    }
}

static void test_ledgers_of_earlier_versions_mean_what_they_meant(void)
{
    assert_meaning(first_text);
    assert_meaning(files_text);
    assert_meaning(handover_text);
}

static void test_what_was_read_of_an_earlier_version_is_written_in_full(void)
{
    g_autoptr(HvLedger) ledger = read_good(first_text);
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    assert_meaning(text);
}

/* --- newer than this one --------------------------------------------------------------------- */

/* What this version writes, with every part that it has. */
static HvLedger *full_ledger(void)
{
    HvLedger *ledger = read_good(handover_text);
    HvClaim *claim = hv_ledger_claim(ledger, A);
    HvFileId file = {1, 2, 3};
    g_array_append_val(claim->files, file);
    g_array_append_vals(claim->placed, claim->needs->data, claim->needs->len);
    return ledger;
}

/* Adds to each object in it; the number of them. */
static guint add_to_all(JsonNode *node)
{
    guint count = 0;
    if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);
        for (guint i = 0; i < json_array_get_length(array); i++)
            count += add_to_all(json_array_get_element(array, i));
    } else if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObject *object = json_node_get_object(node);
        g_autoptr(GList) names = json_object_get_members(object);
        for (GList *l = names; l != NULL; l = l->next)
            count += add_to_all(json_object_get_member(object, l->data));
        g_autoptr(JsonNode) list = json_from_string("[{\"a\":[1,true,null,\"x\"]}]", NULL);
        json_object_set_member(object, "zz_list", json_node_copy(list));
        json_object_set_int_member(object, "zz_number", 7 + count++);
    }
    return count;
}

/* As a newer version would write it, with something unknown in all its parts. */
static char *newer_text(guint *out_parts)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    guint parts = add_to_all(root);
    json_object_set_int_member(json_node_get_object(root), "format", HV_LEDGER_FORMAT + 1);
    if (out_parts != NULL)
        *out_parts = parts;
    return json_to_string(root, TRUE);
}

static guint count_of(const char *text, const char *word)
{
    guint count = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += strlen(word))
        count++;
    return count;
}

static void assert_same_json(const char *a, const char *b)
{
    g_autoptr(JsonNode) one = json_from_string(a, NULL);
    g_autoptr(JsonNode) other = json_from_string(b, NULL);
    g_assert_true(json_node_equal(one, other));
}

static void test_what_a_newer_version_added_survives_in_every_part(void)
{
    guint parts;
    g_autofree char *text = newer_text(&parts);
    /* document, pool, write; two claims, each with two processes and a need; a place, a file */
    g_assert_cmpuint(parts, ==, 3 + 2 * 4 + 2);
    g_autoptr(HvLedger) ledger = read_good(text);
    g_autofree char *written = hv_ledger_to_json(ledger, BOOT);
    g_assert_cmpuint(count_of(written, "zz_number"), ==, parts);
    assert_same_json(written, text);
}

static void test_what_goes_takes_along_what_a_newer_version_said_of_it(void)
{
    guint parts;
    g_autofree char *text = newer_text(&parts);
    g_autoptr(HvLedger) ledger = read_good(text);
    hv_ledger_remove_claim(ledger, A); /* with its 2 processes, need, place and file */
    g_array_set_size(ledger->intents, 0);
    hv_ledger_claim(ledger, B)->qemu.pid = 99; /* another process than that was said of */
    g_autofree char *written = hv_ledger_to_json(ledger, BOOT);
    g_assert_cmpuint(count_of(written, "zz_number"), ==, parts - 6 - 1 - 1);
    g_autoptr(HvLedger) again = read_good(written);
    g_assert_nonnull(hv_ledger_claim(again, B));
    g_assert_null(hv_ledger_claim(again, A));
}

static void test_ledger_of_a_newer_version_stays_one(void)
{
    g_autofree char *text = newer_text(NULL);
    g_autoptr(HvLedger) ledger = read_good(text);
    g_autofree char *written = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(JsonNode) root = json_from_string(written, NULL);
    JsonObject *object = json_node_get_object(root);
    g_assert_cmpint(json_object_get_int_member(object, "format"), ==, HV_LEDGER_FORMAT + 1);
    g_assert_cmpint(json_object_get_int_member(object, "min_reader_format"), ==,
                    HV_LEDGER_MIN_READER);
}

static void test_ledger_that_is_not_for_this_version_is_told_from_damage(void)
{
    HvLedger *ledger = NULL;
    g_autofree char *text = newer_text(NULL);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    json_object_set_int_member(json_node_get_object(root), "min_reader_format",
                               HV_LEDGER_FORMAT + 1);
    g_autofree char *too_new = json_to_string(root, TRUE);
    g_assert_cmpint(hv_ledger_from_json(too_new, BOOT, &ledger), ==, HV_LEDGER_TEXT_NEWER_FORMAT);
    g_assert_null(ledger);
}

static void test_own_ledger_has_nothing_unknown(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(HvLedger) again = read_good(text);
    g_assert_null(again->as_read); /* a member that is written, and missing in the tables */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/ledger-versions/" name, function)
    ADD("ledgers-of-earlier-versions-mean-what-they-meant",
        test_ledgers_of_earlier_versions_mean_what_they_meant);
    ADD("what-was-read-of-an-earlier-version-is-written-in-full",
        test_what_was_read_of_an_earlier_version_is_written_in_full);
    ADD("what-a-newer-version-added-survives-in-every-part",
        test_what_a_newer_version_added_survives_in_every_part);
    ADD("what-goes-takes-along-what-a-newer-version-said-of-it",
        test_what_goes_takes_along_what_a_newer_version_said_of_it);
    ADD("ledger-of-a-newer-version-stays-one", test_ledger_of_a_newer_version_stays_one);
    ADD("ledger-that-is-not-for-this-version-is-told-from-damage",
        test_ledger_that_is_not_for_this_version_is_told_from_damage);
    ADD("own-ledger-has-nothing-unknown", test_own_ledger_has_nothing_unknown);
    return g_test_run();
}
