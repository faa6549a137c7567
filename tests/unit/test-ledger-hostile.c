/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ledgers that no hugevm has written: each is set aside as it is, or does no harm. */
#include "store-fixture.h"
#include "world.h"

#define A "00000000-0000-4000-8000-00000000000a"
#define B "00000000-0000-4000-8000-00000000000b"
#define C "00000000-0000-4000-8000-00000000000c"
#define MOST ((guint64)G_MAXINT64) /* JSON has no larger number */
#define SLOW_US (5 * G_USEC_PER_SEC)

static void add_claim(HvLedger *ledger, const char *uuid, HvClaimState state, guint64 pages)
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

static void add_grown(HvLedger *ledger, int node, guint64 grown, guint64 persistent)
{
    HvGrown entry = {
        .node = node, .size_kib = SIZE_2M, .grown_pages = grown, .persistent_pages = persistent};
    g_array_append_val(ledger->grown, entry);
}

static void add_intent(HvLedger *ledger, int node, guint64 before, guint64 target)
{
    HvIntent intent = {
        .node = node, .size_kib = SIZE_2M, .before_pages = before, .target_pages = target};
    g_array_append_val(ledger->intents, intent);
}

static HvLedger *sound_ledger(void)
{
    HvLedger *ledger = hv_ledger_new();
    add_claim(ledger, A, HV_CLAIM_RUNNING, 40);
    add_grown(ledger, 0, 7, 96);
    add_intent(ledger, 0, 96, 98);
    return ledger;
}

/* --- refused and set aside ------------------------------------------------------------------- */

static void put_bytes(const StoreFixture *fixture, const char *name, const GString *bytes)
{
    g_autofree char *path = store_path(fixture, name);
    g_assert_true(g_file_set_contents(path, bytes->str, (gssize)bytes->len, NULL));
}

static void assert_bytes(const StoreFixture *fixture, const char *name, const GString *bytes)
{
    g_autofree char *path = store_path(fixture, name);
    g_autofree char *now = NULL;
    gsize n = 0;
    g_assert_true(g_file_get_contents(path, &now, &n, NULL));
    g_assert_cmpmem(now, n, bytes->str, bytes->len);
}

/* The one name in the directory that begins so. */
static char *find_aside(const StoreFixture *fixture)
{
    g_autofree char *path = store_path(fixture, "");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (g_str_has_prefix(name, LEDGER ".damaged-"))
            return g_strdup(name);
    return NULL;
}

/* A reader says so and changes nothing; the next transaction keeps every byte of it elsewhere. */
static void assert_set_aside(const GString *hostile)
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

static void assert_text_set_aside(const char *text)
{
    g_autoptr(GString) bytes = g_string_new(text);
    assert_set_aside(bytes);
}

/* The sound ledger, with the value of one member replaced. */
static char *text_with(const char *member, const char *value)
{
    g_autoptr(HvLedger) ledger = sound_ledger();
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autofree char *key = g_strdup_printf("\"%s\" : ", member);
    const char *found = strstr(text, key);
    g_assert_nonnull(found);
    const char *old = found + strlen(key);
    return g_strdup_printf("%.*s%s%s", (int)(old - text), text, value, old + strcspn(old, ",\n"));
}

static void assert_value_set_aside(const char *member, const char *value)
{
    g_autofree char *text = text_with(member, value);
    g_test_message("%s: %.60s", member, value);
    assert_text_set_aside(text);
}

static const char *const numbers[] = {
    "last_generation", "node",         "size_kib",   "grown_pages", "persistent_pages",
    "before_pages",    "target_pages", "generation", "pid",         "start_ticks",
    "pages",           "major",        "minor",      "inode"};

/* The sound ledger is one: else everything below would be set aside whatever is in it. */
static void test_sound_ledger_is_not_set_aside(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *text = text_with(numbers[i], "1");
        set_store_text(&fixture, LEDGER, text);
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_null(transaction->warning);
        g_assert_cmpuint(transaction->ledger->claims->len, ==, 1);
    }
}

static void test_number_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {"-1",
                                         "-9223372036854775808",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e400",
                                         "7.0",
                                         "1e3",
                                         "\"7\"",
                                         "NaN",
                                         "-Infinity",
                                         "7 7",
                                         "+7"};
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
        for (guint k = 0; k < G_N_ELEMENTS(values); k++)
            assert_value_set_aside(numbers[i], values[k]);
}

/* A sign before more than 63 bits must not make a positive number of them. */
static void test_negative_number_beyond_all_is_set_aside(void)
{
    assert_value_set_aside("pages", "-9223372036854775809");
    assert_value_set_aside("grown_pages", "-18446744073709551615");
    assert_value_set_aside("generation", "-36893488147419103232");
}

static void test_uuid_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {
        "",
        " ",
        "../../etc",
        "../../../../../../../../../../etc/passwd",
        "..",
        "/",
        "%s%n%s%n",
        "{" A "}",
        " " A,
        A " ",
        A "\\n",
        A "\\t",
        A "/../x",
        "00000000-0000-4000-8000-00000000000A",
        "0000000000004000800000000000000a",
        "00000000 0000 4000 8000 00000000000a",
        "00000000-0000-4000-8000-00000000000",
        "00000000-0000-4000-8000-00000000000a0",
        "00000000-0000-4000-8000-00000000000g",
        "00000000-0000-4000-8000-0000000\\u0007000a",
        "\\u0000" A,
        "\\u001b[31m" A,
        "\\uff10" A,
    };
    g_autofree char *long_one = g_strnfill(1024 * 1024, 'a');
    g_autofree char *quoted_long_one = g_strdup_printf("\"%s\"", long_one);
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *quoted = g_strdup_printf("\"%s\"", values[i]);
        assert_value_set_aside("uuid", quoted);
    }
    assert_value_set_aside("uuid", quoted_long_one);
}

static void test_state_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {"\"\"",         "\"unknown\"",  "\"CLAIMED\"",
                                         "\"claimed \"", "\"\\u0000\"",  "4",
                                         "null",         "[\"running\"]"};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++)
        assert_value_set_aside("state", values[i]);
}

static void test_list_of_nonsense_is_set_aside(void)
{
    static const char *const lists[] = {"files", "needs", "grown", "intents", "claims"};
    static const char *const elements[] = {
        "0",   "null",    "\"/etc/passwd\"", "[]",  "{}", "[[],[]]", "-1",
        "1.5", "{},{},1", "{\"inode\":77}",  "true"};
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++)
        for (guint k = 0; k < G_N_ELEMENTS(elements); k++) {
            /* what was in the list goes to a member that nobody reads */
            g_autofree char *value = g_strdup_printf("[%s], \"was_%s\" : [", elements[k], lists[i]);
            assert_value_set_aside(lists[i], value);
        }
}

static void repeat_uuid(HvLedger *ledger)
{
    add_claim(ledger, A, HV_CLAIM_CLAIMED, 1);
}

static void repeat_generation(HvLedger *ledger)
{
    add_claim(ledger, B, HV_CLAIM_CLAIMED, 1);
    hv_ledger_claim(ledger, B)->generation = hv_ledger_claim(ledger, A)->generation;
}

static void repeat_generation_of_one_that_drains(HvLedger *ledger)
{
    repeat_generation(ledger);
    hv_ledger_claim(ledger, A)->state = HV_CLAIM_DRAINING;
}

static void repeat_grown(HvLedger *ledger)
{
    add_grown(ledger, 0, 7, 96);
}

static void repeat_grown_with_others_between(HvLedger *ledger)
{
    add_grown(ledger, 1, 7, 96);
    add_grown(ledger, 2, 7, 96);
    add_grown(ledger, 0, MOST, MOST);
}

static void repeat_intent(HvLedger *ledger)
{
    add_intent(ledger, 0, 0, MOST);
}

static void test_repeated_entry_is_set_aside(void)
{
    static void (*const repeats[])(HvLedger *) = {repeat_uuid,
                                                  repeat_generation,
                                                  repeat_generation_of_one_that_drains,
                                                  repeat_grown,
                                                  repeat_grown_with_others_between,
                                                  repeat_intent};
    for (guint i = 0; i < G_N_ELEMENTS(repeats); i++) {
        g_autoptr(HvLedger) ledger = sound_ledger();
        repeats[i](ledger);
        g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
        g_test_message("repeat %u", i);
        assert_text_set_aside(text);
    }
}

/* A VM that starts again while others still map its old memory has two claims, and may. */
static void test_second_claim_beside_one_that_drains_is_sound(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvLedger) ledger = sound_ledger();
    hv_ledger_claim(ledger, A)->state = HV_CLAIM_DRAINING;
    repeat_uuid(ledger);
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, text);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_null(transaction->warning);
    g_assert_cmpuint(transaction->ledger->claims->len, ==, 2);
}

/* --- bytes that are no text ------------------------------------------------------------------ */

static void test_nul_bytes_are_set_aside(void)
{
    g_autofree char *text = text_with("pages", "40");
    gsize size = strlen(text);
    const gsize places[] = {0, 1, size / 2, size - 1};
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GString) bytes = g_string_new(text);
        bytes->str[places[i]] = '\0';
        g_test_message("NUL at %zu", (size_t)places[i]);
        assert_set_aside(bytes);
    }
}

/* What stands behind a NUL is not read: so it must not pass for a ledger without it. */
static void test_nul_behind_a_ledger_is_set_aside(void)
{
    g_autofree char *text = text_with("pages", "40");
    g_autoptr(GString) bytes = g_string_new(text);
    g_string_append_len(bytes, "\0{\"claims\"", 11);
    assert_set_aside(bytes);
}

static void test_text_that_is_no_utf8_is_set_aside(void)
{
    static const char *const members[] = {"name",  "owner_name", "uuid",
                                          "state", "nodes",      "boot_id"};
    static const char *const values[] = {"\"\xff\xfe\"",     "\"\xc0\xaf\"",     "\"\xe2\x80\"",
                                         "\"\xed\xa0\x80\"", "\"\xf8\x88\x80\"", "\"\xfc\"",
                                         "\"\x80\""};
    for (guint i = 0; i < G_N_ELEMENTS(members); i++)
        for (guint k = 0; k < G_N_ELEMENTS(values); k++)
            assert_value_set_aside(members[i], values[k]);
}

/* An escape can smuggle in bytes that are no UTF-8, which every report would pass on. */
static void test_half_a_surrogate_is_set_aside(void)
{
    static const char *const values[] = {"\"\\ud800\"", "\"\\udc00\"",  "\"\\ud800\\ud800\"",
                                         "\"\\u12\"",   "\"\\ud800x\"", "\"\\udbff\\n\""};
    for (guint k = 0; k < G_N_ELEMENTS(values); k++) {
        assert_value_set_aside("name", values[k]);
        assert_value_set_aside("owner_name", values[k]);
    }
}

/* --- deep and large -------------------------------------------------------------------------- */

#define DEPTH (512 * 1024) /* far more than a stack of 8 MiB has room for */

static void append_repeated(GString *out, const char *text, guint count)
{
    for (guint i = 0; i < count; i++)
        g_string_append(out, text);
}

static void test_deep_nesting_is_set_aside(void)
{
    static const char *const levels[] = {"[", "{\"a\":", "[{\"a\":", "[[],", "[\"[\","};
    for (guint i = 0; i < G_N_ELEMENTS(levels); i++) {
        g_autoptr(GString) bytes = g_string_new(NULL);
        append_repeated(bytes, levels[i], DEPTH);
        g_autofree char *in_a_claim = text_with("name", bytes->str);
        g_test_message("levels of %s", levels[i]);
        assert_set_aside(bytes);
        assert_text_set_aside(in_a_claim);
    }
}

/* Comments and other strings than JSON's, which a lenient reader takes: a quote in one of them
 * must not hide what nests behind it. */
static void test_nesting_hidden_by_a_quote_is_set_aside(void)
{
    static const char *const covers[] = {"/* \" */", "/* \\\" */", "// \"\n", "# \"\n",
                                         "'\"'",     "'\\\"'",     "\"\\",    "\"\\\\"};
    for (guint i = 0; i < G_N_ELEMENTS(covers); i++) {
        g_autoptr(GString) bytes = g_string_new(covers[i]);
        append_repeated(bytes, "[", DEPTH);
        g_test_message("behind %s", covers[i]);
        if (g_test_subprocess())
            assert_set_aside(bytes);
    }
    if (g_test_subprocess())
        return;
    g_test_trap_subprocess(NULL, 0, (GTestSubprocessFlags)0); /* a crash ends that one only */
    g_test_trap_assert_passed();
}

static void assert_refused_as_too_large(const StoreFixture *fixture, HvStore *store)
{
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) begin_error = NULL;
    gint64 start_us = g_get_monotonic_time();
    g_assert_null(hv_store_read(store, &read_error));
    g_assert_error(read_error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_null(hv_transaction_begin(store, seconds_from_now(5), &begin_error));
    g_assert_error(begin_error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(begin_error->message, LEDGER ": File too large"));
    g_assert_nonnull(strstr(hv_error_hint(begin_error), "move it away"));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, SLOW_US);
    g_autofree char *path = store_path(fixture, LEDGER);
    struct stat st;
    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, >=, 100 * 1024 * 1024);
}

/* Text as good as any, but of 100 MiB. */
static void test_long_text_is_refused_and_left_alone(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autofree char *text = text_with("pages", "40");
    g_autoptr(GString) bytes = g_string_new(text);
    g_autofree char *blanks = g_strnfill(100 * 1024 * 1024, ' ');
    g_string_append(bytes, blanks);
    put_bytes(&fixture, LEDGER, bytes);
    assert_refused_as_too_large(&fixture, store);
}

static void test_long_hole_is_refused_and_left_alone(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, "{");
    g_autofree char *path = store_path(&fixture, LEDGER);
    g_assert_cmpint(truncate(path, 100 * 1024 * 1024), ==, 0);
    assert_refused_as_too_large(&fixture, store);
}

/* --- accepted, and harmless ------------------------------------------------------------------ */

/* What the store makes of a ledger, in a world of three nodes with 100 pages each, 60 of them
 * free, and 1 GiB to grow into. */
static World *world_of(const HvLedger *ledger)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, text);
    World *world = world_new();
    hv_ledger_free(world->ledger);
    world->ledger = hv_store_read(store, &error);
    g_assert_no_error(error);
    for (int node = 0; node < 3; node++) {
        world_node(world, node, GIB_KIB);
        world_pool(world, node, SIZE_2M, 100, 60);
    }
    return world;
}

static void set_need(World *world, const char *nodes, guint64 pages)
{
    g_array_set_size(world->request->needs, 0);
    world_need(world, nodes, SIZE_2M, pages);
}

/* Three needs, of one claim or of three. */
static HvLedger *ledger_of_claims(const guint64 *pages, HvClaimState state, gboolean is_one)
{
    static const char *const uuids[] = {A, B, C};
    HvLedger *ledger = hv_ledger_new();
    for (guint i = 0; i < 3; i++) {
        HvNeed need = {.size_kib = SIZE_2M, .pages = pages[i]};
        if (i == 0 || !is_one)
            add_claim(ledger, uuids[i], state, pages[i]);
        else
            g_array_append_val(hv_ledger_claim(ledger, A)->needs, need);
    }
    return ledger;
}

static void assert_nothing_left(World *world)
{
    for (int growth = 0; growth <= 1; growth++) {
        world->settings->use_dynamic_hugepages = growth;
        set_need(world, ANY, 1);
        g_autoptr(HvPlan) anywhere = world_plan(world);
        assert_refused(anywhere);
        set_need(world, "1", 1);
        g_autoptr(HvPlan) bound = world_plan(world);
        assert_refused(bound);
    }
}

/* Claims that look free to the kernel, and that together ask for more than there is. A sum or a
 * number of KiB that wrapped would be small: 2 * MOST + 2 pages are 0, and so are 2^53 in KiB. */
static void test_huge_exposed_claims_leave_nothing_to_others(void)
{
    static const guint64 pages[][3] = {{MOST, 0, 0},       {MOST, MOST, 2},
                                       {MOST, MOST, 3},    {2, MOST, MOST},
                                       {MOST, MOST, MOST}, {((guint64)1 << 53) + 3 * 60, 0, 0}};
    static const HvClaimState states[] = {HV_CLAIM_CLAIMED, HV_CLAIM_LAUNCHING};
    for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
        for (guint s = 0; s < G_N_ELEMENTS(states); s++)
            for (int is_one = 0; is_one <= 1; is_one++) {
                g_autoptr(HvLedger) ledger = ledger_of_claims(pages[i], states[s], is_one);
                g_autoptr(World) world = world_of(ledger);
                g_test_message("case %u, %u, %d", i, s, is_one);
                assert_nothing_left(world);
            }
}

/* Whatever a claim is said to have, nobody is promised pages that are not there. */
static void test_huge_held_claims_do_not_make_pages(void)
{
    static const HvClaimState states[] = {HV_CLAIM_GUARDED, HV_CLAIM_MOUNTED, HV_CLAIM_RUNNING,
                                          HV_CLAIM_DRAINING};
    for (guint s = 0; s < G_N_ELEMENTS(states); s++) {
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        add_claim(ledger, B, states[s], MOST);
        add_claim(ledger, A, states[s], MOST);
        add_claim(ledger, C, states[s], 2);
        g_autoptr(World) world = world_of(ledger);
        set_need(world, ANY, 3 * 60 + 1);
        g_autoptr(HvPlan) floating = world_plan(world);
        assert_refused(floating);
        set_need(world, "2", 60 + 1);
        g_autoptr(HvPlan) bound = world_plan(world);
        assert_refused(bound);
        set_need(world, ANY, MOST);
        world_allow_growth(world);
        g_autoptr(HvPlan) huge = world_plan(world);
        assert_refused(huge);
    }
}

static void test_huge_grown_counts_give_back_what_is_free_at_most(void)
{
    static const guint64 grown[][3] = {
        {MOST, 0, 0}, {MOST, MOST, 2 + 7}, {MOST, MOST, MOST}, {MOST, MOST, 2}};
    for (guint i = 0; i < G_N_ELEMENTS(grown); i++)
        for (int is_known = 0; is_known <= 1; is_known++) {
            g_autoptr(HvLedger) ledger = hv_ledger_new();
            add_claim(ledger, B, HV_CLAIM_CLAIMED, 50);
            for (int node = 0; node < 3; node++)
                add_grown(ledger, node, grown[i][node], is_known ? 100 : MOST);
            g_autoptr(World) world = world_of(ledger);
            guint64 sum = 0;
            for (int node = 0; node < 3; node++) {
                guint64 pages = world_give_back(world, node, SIZE_2M);
                g_assert_cmpuint(pages, <=, 60);
                g_assert_cmpuint(pages, <=, grown[i][node]);
                sum += pages;
            }
            g_assert_cmpuint(sum, <=, 3 * (3 * 60 - 50)); /* each alone leaves the 50 */
        }
}

static void test_sum_of_huge_grown_counts_does_not_wrap(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    add_grown(ledger, 0, MOST, 100);
    add_grown(ledger, 1, MOST, 100);
    add_grown(ledger, 2, 2 + 7, 100);
    g_autoptr(World) world = world_of(ledger);
    HvWorld view = world_view(world);
    g_assert_cmpuint(hv_room_of_size(&view, SIZE_2M).grown, >=, MOST);
}

/* A write that was to be huge is believed as far as the pool shows it. */
static void test_huge_intents_credit_what_the_pool_shows_at_most(void)
{
    static const struct {
        guint64 grown, before, target;
        guint64 most_grown;
    } cases[] = {
        {0, 0, MOST, 100},      {0, MOST, 0, 0},   {0, MOST, MOST, 0}, {7, MOST, 0, 7},
        {7, 96, MOST, 11},      {7, MOST, 96, 7},  {7, 100, 0, 7},     {0, 0, 0, 0},
        {0, 1, MOST, 99},       {0, 100, MOST, 0}, {7, 96, 100, 11},   {7, 90, 92, 9},
        {7, MOST - 1, MOST, 7},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        if (cases[i].grown > 0)
            add_grown(ledger, 0, cases[i].grown, 96);
        add_intent(ledger, 0, cases[i].before, cases[i].target);
        g_autoptr(World) world = world_of(ledger);
        const HvPool *pool = hv_snapshot_pool(world->snapshot, 0, SIZE_2M);
        g_test_message("case %u", i);
        g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), <=, 60);
        set_need(world, "0", 61);
        g_autoptr(HvPlan) plan = world_plan(world);
        assert_refused(plan);
        g_assert_true(hv_ledger_settle_pool(world->ledger, pool));
        g_assert_false(hv_ledger_has_intent(world->ledger, 0, SIZE_2M));
        g_assert_cmpuint(hv_ledger_grown_pages(world->ledger, 0, SIZE_2M), <=, cases[i].most_grown);
        g_assert_false(hv_ledger_settle_pool(world->ledger, pool)); /* once is all */
    }
}

/* One more page on top of a count without end must not make it small. */
static void test_credit_on_a_huge_grown_count_does_not_wrap(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    add_grown(ledger, 0, MOST, 0);
    add_intent(ledger, 0, 0, MOST);
    g_autoptr(World) world = world_of(ledger);
    hv_ledger_settle_pool(world->ledger, hv_snapshot_pool(world->snapshot, 0, SIZE_2M));
    g_assert_cmpuint(hv_ledger_grown_pages(world->ledger, 0, SIZE_2M), >=, 100);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), <=, 60);
}

/* What we write ourselves after the last generation that JSON can hold must be readable again. */
static void test_ledger_outlives_the_last_generation(void)
{
    static const char *const uuids[] = {A, B, C};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    ledger->last_generation = MOST;
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    set_store_text(&fixture, LEDGER, text);
    for (guint i = 0; i < G_N_ELEMENTS(uuids); i++) {
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_true(i == 0 || transaction->warning == NULL);
        g_assert_cmpuint(transaction->ledger->claims->len, ==, i);
        add_claim(transaction->ledger, uuids[i], HV_CLAIM_CLAIMED, 1);
        commit(transaction);
    }
    g_autoptr(HvTransaction) last = begin(store);
    g_assert_null(last->warning);
    g_assert_cmpuint(last->ledger->claims->len, ==, G_N_ELEMENTS(uuids));
}

#define ADD(name, function) g_test_add_func("/ledger-hostile/" name, function)

static void add_tests_of_text(void)
{
    ADD("sound-ledger-is-not-set-aside", test_sound_ledger_is_not_set_aside);
    ADD("number-that-is-none-is-set-aside", test_number_that_is_none_is_set_aside);
    ADD("negative-number-beyond-all-is-set-aside", test_negative_number_beyond_all_is_set_aside);
    ADD("uuid-that-is-none-is-set-aside", test_uuid_that_is_none_is_set_aside);
    ADD("state-that-is-none-is-set-aside", test_state_that_is_none_is_set_aside);
    ADD("list-of-nonsense-is-set-aside", test_list_of_nonsense_is_set_aside);
    ADD("repeated-entry-is-set-aside", test_repeated_entry_is_set_aside);
    ADD("second-claim-beside-one-that-drains-is-sound",
        test_second_claim_beside_one_that_drains_is_sound);
    ADD("nul-bytes-are-set-aside", test_nul_bytes_are_set_aside);
    ADD("nul-behind-a-ledger-is-set-aside", test_nul_behind_a_ledger_is_set_aside);
    ADD("text-that-is-no-utf8-is-set-aside", test_text_that_is_no_utf8_is_set_aside);
    ADD("half-a-surrogate-is-set-aside", test_half_a_surrogate_is_set_aside);
    ADD("deep-nesting-is-set-aside", test_deep_nesting_is_set_aside);
    ADD("nesting-hidden-by-a-quote-is-set-aside", test_nesting_hidden_by_a_quote_is_set_aside);
    ADD("long-text-is-refused-and-left-alone", test_long_text_is_refused_and_left_alone);
    ADD("long-hole-is-refused-and-left-alone", test_long_hole_is_refused_and_left_alone);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests_of_text();
    ADD("huge-exposed-claims-leave-nothing-to-others",
        test_huge_exposed_claims_leave_nothing_to_others);
    ADD("huge-held-claims-do-not-make-pages", test_huge_held_claims_do_not_make_pages);
    ADD("huge-grown-counts-give-back-what-is-free-at-most",
        test_huge_grown_counts_give_back_what_is_free_at_most);
    ADD("sum-of-huge-grown-counts-does-not-wrap", test_sum_of_huge_grown_counts_does_not_wrap);
    ADD("huge-intents-credit-what-the-pool-shows-at-most",
        test_huge_intents_credit_what_the_pool_shows_at_most);
    ADD("credit-on-a-huge-grown-count-does-not-wrap",
        test_credit_on_a_huge_grown_count_does_not_wrap);
    ADD("ledger-outlives-the-last-generation", test_ledger_outlives_the_last_generation);
    return g_test_run();
}
