/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger-json.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define BOOT "0b6b6e4c-0000-4000-8000-000000000001"
#define A "00000000-0000-0000-0000-00000000000a"
#define B "00000000-0000-0000-0000-00000000000b"

static void add_claim(HvLedger *ledger, const char *uuid, const char *name, const char *nodes)
{
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    HvNeed need = {.size_kib = 2048, .pages = 512};
    HvRequest request = {.uuid = (char *)uuid, .name = (char *)name, .needs = needs};
    HvProcess owner = {4711, 815};
    g_assert_true(nodes == NULL || hv_node_set_parse(nodes, &need.nodes));
    g_array_append_val(needs, need);
    need.pages = 1;
    g_array_append_val(needs, need);
    hv_ledger_add_claim(ledger, &request, "agent", &owner);
}

/* Something in every member. */
static HvLedger *full_ledger(void)
{
    HvLedger *ledger = hv_ledger_new();
    HvGrown grown[] = {{0, 2048, 7, 19}, {3, 1048576, 1, 2}};
    HvIntent intents[] = {{0, 2048, 19, 30}, {1, 2048, 9, 0}};
    add_claim(ledger, A, "web", "0-3,7");
    add_claim(ledger, B, NULL, NULL);
    HvClaim *claim = hv_ledger_claim(ledger, B);
    claim->state = HV_CLAIM_RUNNING;
    claim->qemu = (HvProcess){1234, 5678};
    claim->shared = TRUE;
    g_array_append_vals(ledger->grown, grown, 2);
    g_array_append_vals(ledger->intents, intents, 2);
    return ledger;
}

static HvLedgerText read_text(const char *text, HvLedger **out_ledger)
{
    *out_ledger = (HvLedger *)&read_text; /* must be overwritten */
    return hv_ledger_from_json(text, BOOT, out_ledger);
}

static void assert_damaged(const char *text)
{
    HvLedger *ledger;
    HvLedgerText result = read_text(text, &ledger);
    g_assert_cmpint(result, ==, HV_LEDGER_TEXT_DAMAGED);
    g_assert_null(ledger);
}

static void test_ledger_survives_the_way_through_text(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_GOOD);
    g_autofree char *text_again = hv_ledger_to_json(again, BOOT);
    g_assert_cmpstr(text_again, ==, text);

    g_assert_cmpuint(again->last_generation, ==, 2);
    const HvClaim *claim = hv_ledger_claim(again, B);
    g_assert_null(claim->name);
    g_assert_cmpint(claim->state, ==, HV_CLAIM_RUNNING);
    g_assert_cmpint(claim->qemu.pid, ==, 1234);
    g_assert_cmpuint(claim->qemu.start_ticks, ==, 5678);
    g_assert_true(claim->shared);
    const HvNeed *need = &g_array_index(hv_ledger_claim(again, A)->needs, HvNeed, 0);
    g_assert_cmpint(hv_node_set_count(&need->nodes), ==, 5);
    g_assert_cmpuint(hv_ledger_grown_pages(again, 3, 1048576), ==, 1);
    g_assert_cmpuint(again->intents->len, ==, 2);
    g_assert_cmpuint(g_array_index(again->intents, HvIntent, 0).target_pages, ==, 30);
}

static void test_empty_ledger_survives_the_way_through_text(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_GOOD);
    g_assert_cmpuint(again->claims->len, ==, 0);
}

static void test_strange_names_survive_the_way_through_text(void)
{
    static const char *const names[] = {
        "",     "\"quoted\"",  "back\\slash", "a\nb\tc",     "\x01\x1f",
        "\x7f", "中文 🙂", "</script>",   "\xe2\x80\xa8"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        add_claim(ledger, A, names[i], NULL);
        g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
        g_autoptr(HvLedger) again = NULL;
        g_test_message("name '%s'", names[i]);
        g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_GOOD);
        g_assert_cmpstr(hv_ledger_claim(again, A)->name, ==, names[i]);
    }
}

static void test_ledger_of_another_boot_counts_for_nothing(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, "another");
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_OTHER_BOOT);
    g_assert_cmpuint(again->claims->len, ==, 0);
    g_assert_cmpuint(again->grown->len, ==, 0);
    g_assert_cmpuint(again->intents->len, ==, 0);
}

static void test_newer_format_is_told_from_damage(void)
{
    HvLedger *ledger;
    g_assert_cmpint(read_text("{\"format\":2,\"boot_id\":\"" BOOT "\"}", &ledger), ==,
                    HV_LEDGER_TEXT_NEWER_FORMAT);
    g_assert_null(ledger);
    g_autoptr(HvLedger) fresh = NULL;
    g_assert_cmpint(read_text("{\"format\":2,\"boot_id\":\"another\"}", &fresh), ==,
                    HV_LEDGER_TEXT_OTHER_BOOT);
}

static void test_text_that_is_no_ledger_is_damaged(void)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "x",
                                        "null",
                                        "5",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        "{\"format\":1}",
                                        "[{\"format\":1}]",
                                        "{\"format\":1,\"boot_id\":\"" BOOT "\"}",
                                        "\xff\xfe",
                                        "{\"format\":1,}",
                                        "\0{}"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        assert_damaged(texts[i]);
}

/* Members whose value may be anything of their type; the name may be null. */
static gboolean may_be_null(const char *name)
{
    return strcmp(name, "name") == 0;
}

/* Members that the first versions did not write: absent, they are 0, no, or empty. */
static gboolean may_be_absent(const char *name)
{
    static const char *const later[] = {
        "min_reader_format", "handover_failed", "handed_pages",   "regained_pages",
        "others_pages",      "is_handover",     "from_hugetlbfs", "may_hand_over",
        "is_handed_over",    "files",           "placed",         NULL};
    return may_be_null(name) || g_strv_contains(later, name);
}

static void assert_damaged_with(JsonNode *root, JsonObject *object, const char *name,
                                const char *replacement)
{
    g_autoptr(JsonNode) node = json_from_string(replacement, NULL);
    g_assert_true(node != NULL || strcmp(replacement, "null") == 0);
    json_object_set_member(object, name,
                           node != NULL ? json_node_copy(node) : json_node_new(JSON_NODE_NULL));
    g_autofree char *text = json_to_string(root, FALSE);
    g_test_message("%s = %s", name, replacement);
    assert_damaged(text);
}

static void break_member(JsonNode *root, JsonObject *object, const char *name)
{
    static const char *const others[] = {"null",     "true", "5",  "-1", "1.5",
                                         "\"text\"", "[]",   "{}", "[5]"};
    g_autoptr(JsonNode) good = json_node_copy(json_object_get_member(object, name));
    GType type = json_node_get_value_type(good);
    json_object_remove_member(object, name);
    g_autofree char *without = json_to_string(root, FALSE);
    g_test_message("without %s", name);
    if (!may_be_absent(name)) /* see name-of-another-type-is-damaged, and ledger-versions */
        assert_damaged(without);
    for (guint i = 0; i < G_N_ELEMENTS(others) && !may_be_null(name); i++) {
        gboolean is_good_number = type == G_TYPE_INT64 && strcmp(others[i], "5") == 0;
        gboolean is_good_text = type == G_TYPE_STRING && others[i][0] == '"';
        gboolean is_good_flag = type == G_TYPE_BOOLEAN && strcmp(others[i], "true") == 0;
        gboolean is_good_array = JSON_NODE_HOLDS_ARRAY(good) && strcmp(others[i], "[]") == 0;
        if (!is_good_number && !is_good_text && !is_good_flag && !is_good_array)
            assert_damaged_with(root, object, name, others[i]);
    }
    json_object_set_member(object, name, json_node_copy(good));
}

static guint break_all_members(JsonNode *root, JsonNode *node)
{
    guint count = 0;
    if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);
        for (guint i = 0; i < json_array_get_length(array); i++)
            count += break_all_members(root, json_array_get_element(array, i));
    } else if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObject *object = json_node_get_object(node);
        g_autoptr(GList) names = json_object_get_members(object);
        for (GList *l = names; l != NULL; l = l->next) {
            g_autofree char *name = g_strdup(l->data);
            break_member(root, object, name);
            count += 1 + break_all_members(root, json_object_get_member(object, name));
        }
    }
    return count;
}

static void test_member_that_is_missing_or_of_another_type_is_damage(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(JsonNode) root = json_from_string(text, NULL);
    guint count = break_all_members(root, root);
    g_assert_cmpuint(count, >, 50); /* the walk did reach the members */
    g_autofree char *restored = json_to_string(root, TRUE);
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(restored, &again), ==, HV_LEDGER_TEXT_GOOD);
}

static void assert_damaged_by(const char *good, const char *bad)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_auto(GStrv) parts = g_strsplit(text, good, 2);
    g_assert_cmpuint(g_strv_length(parts), ==, 2);
    g_autofree char *broken = g_strjoinv(bad, parts);
    g_test_message("%s instead of %s", bad, good);
    assert_damaged(broken);
}

static void test_value_out_of_range_is_damage(void)
{
    static const struct {
        const char *good, *bad;
    } cases[] = {
        {"\"node\" : 3", "\"node\" : 1024"},
        {"\"node\" : 3", "\"node\" : 18446744073709551615"},
        {"\"size_kib\" : 2048", "\"size_kib\" : 0"},
        {"\"size_kib\" : 2048", "\"size_kib\" : 18446744073709551616"},
        {"\"grown_pages\" : 7", "\"grown_pages\" : 99999999999999999999"},
        {"\"state\" : \"running\"", "\"state\" : \"flying\""},
        {"\"state\" : \"running\"", "\"state\" : \"Running\""},
        {"\"nodes\" : \"any\"", "\"nodes\" : \"\""},
        {"\"nodes\" : \"any\"", "\"nodes\" : \"ANY\""},
        {"\"nodes\" : \"0-3,7\"", "\"nodes\" : \"3-0\""},
        {"\"nodes\" : \"0-3,7\"", "\"nodes\" : \"1024\""},
        {"\"format\" : 1", "\"format\" : -1"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_damaged_by(cases[i].good, cases[i].bad);
}

static void test_cut_text_never_passes_for_less(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    gsize size = strlen(text);
    for (gsize n = 0; n < size; n++) {
        g_autofree char *cut = g_strndup(text, n);
        assert_damaged(cut);
    }
}

static void test_altered_bytes_never_crash(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(13);
    g_autoptr(HvLedger) ledger = full_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    int size = (int)strlen(text);
    for (int round = 0; round < 20000; round++) {
        g_autofree char *altered = g_strdup(text);
        g_autoptr(HvLedger) again = NULL;
        for (int n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            altered[g_rand_int_range(rand, 0, size)] = (char)g_rand_int_range(rand, 0, 256);
        HvLedgerText result = read_text(altered, &again);
        g_assert_true((again != NULL) ==
                      (result == HV_LEDGER_TEXT_GOOD || result == HV_LEDGER_TEXT_OTHER_BOOT));
    }
}

/* "half a ledger is worse than none" holds for the name as well: null, or a text */
static void test_name_of_another_type_is_damage(void)
{
    assert_damaged_by("\"name\" : \"web\"", "\"name\" : 5");
    assert_damaged_by("\"name\" : \"web\",", "");
}

/* One agent with a broken name must not cost everybody the ledger. */
static void test_owner_name_that_is_no_utf8_does_not_damage_the_ledger(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    HvClaim *claim = hv_ledger_claim(ledger, A);
    g_free(claim->owner_name);
    claim->owner_name = g_strdup("agent \xff\xfe");
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_GOOD);
    g_assert_cmpuint(again->claims->len, ==, 2);
}

/* A count that JSON's signed numbers cannot hold must not damage the ledger either. */
static void test_huge_counts_do_not_damage_the_ledger(void)
{
    g_autoptr(HvLedger) ledger = full_ledger();
    g_array_index(hv_ledger_claim(ledger, A)->needs, HvNeed, 0).pages = G_MAXUINT64;
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT);
    g_autoptr(HvLedger) again = NULL;
    g_assert_cmpint(read_text(text, &again), ==, HV_LEDGER_TEXT_GOOD);
    g_assert_cmpuint(hv_needs_pages(hv_ledger_claim(again, A)->needs, 2048), >=, G_MAXINT64);
}

#define ADD(name, function) g_test_add_func("/ledger-json/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("ledger-survives-the-way-through-text", test_ledger_survives_the_way_through_text);
    ADD("empty-ledger-survives-the-way-through-text",
        test_empty_ledger_survives_the_way_through_text);
    ADD("strange-names-survive-the-way-through-text",
        test_strange_names_survive_the_way_through_text);
    ADD("ledger-of-another-boot-counts-for-nothing",
        test_ledger_of_another_boot_counts_for_nothing);
    ADD("newer-format-is-told-from-damage", test_newer_format_is_told_from_damage);
    ADD("text-that-is-no-ledger-is-damaged", test_text_that_is_no_ledger_is_damaged);
    ADD("member-that-is-missing-or-of-another-type-is-damage",
        test_member_that_is_missing_or_of_another_type_is_damage);
    ADD("value-out-of-range-is-damage", test_value_out_of_range_is_damage);
    ADD("cut-text-never-passes-for-less", test_cut_text_never_passes_for_less);
    ADD("altered-bytes-never-crash", test_altered_bytes_never_crash);
    ADD("huge-counts-do-not-damage-the-ledger", test_huge_counts_do_not_damage_the_ledger);
    ADD("owner-name-that-is-no-utf8-does-not-damage-the-ledger",
        test_owner_name_that_is_no_utf8_does_not_damage_the_ledger);
    ADD("name-of-another-type-is-damage", test_name_of_another_type_is_damage);
    return g_test_run();
}
