/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every event of a VM's life, in any order, twice or never. A table has the lives that VMs
 * have; of these, sequences are made for up to three VMs: what happens keeps its order, what is
 * said of it comes late, again, under another name, or not at all.
 *
 * HUGEVM_EVENTS_SEED and HUGEVM_EVENTS_COUNT choose others, and how many. What goes wrong is
 * printed in short, in the words of the table below.
 */
#include "events-check.h"

#include <stdlib.h>

#define DEFAULT_COUNT 1000
#define TIME_S 20 /* no more are tried after that, unless a count is asked for */
#define MAX_EVENTS 400

/* What befalls a VM, in its order. Reports of the host get their generation, or not, below. */
static const char *const lives[] = {
    /* normal, twice */
    "claim1 launching1 qemu1 touches started1 dies gone1 claim2 qemu2 touches started2 dies gone2",
    /* the guest ends it, and the host hears of it late; crash and restart at once */
    "claim1 qemu1 touches started1 dies claim2 gone1 launching2 qemu2 touches started2",
    /* a start that fails before and after the launch */
    "claim1 fails1 gone1 claim2 launching2 fails2 gone2 claim3 qemu3 dies gone3",
    /* the guest reboots: nobody says anything */
    "claim1 qemu1 touches started1 reboots reboots dies gone1",
    /* migration to this host, and back to the other */
    "claim-incoming1 launching1 incoming1 touches started1 dies left1 gone1 "
    "claim-incoming2 incoming2 touches started2 dies left2",
    /* migration that fails here; cancelled; then a start */
    "claim-incoming1 fails1 gone1 claim-incoming2 incoming2 dies gone2 claim3 qemu3 touches "
    "started3",
    /* migration away, cancelled, and once more */
    "claim1 qemu1 touches started1 claim-incoming1 dies left1 gone1",
    /* saved and restored, by a host that knows only starts and by one that knows better */
    "claim1 qemu1 touches started1 dies left1 gone1 claim2 claim-restored2 incoming2 touches "
    "started2 dies gone2",
    "claim1 qemu1 touches started1 dies left1 claim-restored2 incoming2 touches started2 dies "
    "left2 gone2",
    /* saved with normal pages: of another time */
    "claim1 claim-normal1 gone1 claim2 qemu2 touches started2",
    /* DIMMs: one that works, one that fails, one that nobody reports; unplugged again */
    "claim1 qemu1 touches started1 plug1 dimm1 plugged1 plug2 dimm-fails2 plug-failed2 plug3 dimm3 "
    "dimm-goes1 unplugged1 dies gone1",
    "claim1 qemu1 touches started1 dimm1 plugged1 dimm-goes1 unplugged1 plug2 plug3 dimm3 dimm2 "
    "plugged2 plugged3 dies gone1",
    /* virtio-mem */
    "claim1 qemu1 touches started1 grow4 grown4 takes2 takes9 grow2 grown2 takes9 reboots takes9 "
    "shrinks3 shrunk3 dies gone1",
    "claim1 qemu1 touches started1 grow4 grown4 takes1 grow3 grown3 reboots takes9 plug1 dimm1 "
    "plugged1 takes9 dimm-goes1 unplugged1 dies gone1",
    /* both hooks of an oVirt host */
    "claim1^ claim1% launching1% qemu1 started1% started1^ touches dies gone1% gone1^ claim2^ "
    "claim2% fails2 gone2% gone2^",
    "claim-incoming1^ claim-incoming1% launching1% incoming1 started1% started1^ touches dies "
    "left1^ gone1% gone1^",
};

/* Sequences that went wrong once, in short. */
static const struct {
    const char *must; /* what was not so */
    const char *text;
} found[] = {
    {"a late report of an earlier start does not make the next one run",
     "static room=12 B:claim1 B:qemu1 B:touches B:dies B:claim2 B:started1"},
    {"nor does it where it names no process, and another VM has begun to take its pages",
     "room=30 C:claim1% C:qemu1 C:touches C:dies B:claim2 C:claim2% B:incoming2 C:started1%"},
    {"a late report of an earlier start does not hide the QEMU that runs",
     "room=30 A:claim1 A:qemu1 A:touches A:dies A:claim2 A:qemu2 A:touches A:started2 A:started1 "
     "A:plug1 A:dimm1"},
    {"a VM whose start nobody reports is followed",
     "static room=30 B:claim1 B:qemu1 B:touches B:dimm3 B:dimm1"},
    {"of two DIMMs under way the one that comes is told from the other by its size",
     "static room=20 C:claim1 C:qemu1 C:touches C:plug2 C:plug3 C:dimm3 A:claim1 C:plugged3="},
    {"virtio-mem that grows again before the guest has taken all has its pages once",
     "static room=30 B:claim1 B:qemu1 B:touches B:started1 B:grow4 B:grown B:grow3 B:grown"},
    {"and so it is while QEMU takes its memory",
     "static room=12 B:claim1 B:qemu1 B:grow4 B:grow3 B:grown"},
    {"virtio-mem of which the guest has taken a part is known by what was requested",
     "static room=30 B:claim1 B:qemu1 B:touches B:started1 B:grow4 B:takes1 B:grown -:waits "
     "-:recover B:takes9"},
    {"a request that was given up after a time is made good by the next",
     "static room=200 A:claim1 A:qemu1 A:touches A:grow4 -:waits A:grow3"},
    {"a DIMM that goes leaves virtio-mem what it may still take",
     "room=30 A:claim1 A:qemu1 A:touches A:started1 A:plug1 A:dimm1 A:plugged1 A:grow4 A:grown "
     "A:takes1 A:dimm-goes1 A:unplugged1 A:takes9"},
    {"virtio-mem that shrinks by a part keeps the rest",
     "room=30 A:claim1 A:qemu1 A:touches A:started1 A:grow9 A:grown A:takes1 A:shrinks2 A:shrunk "
     "A:takes9"},
    {"what a guest that reboots leaves is not given back with what others leave",
     "room=30 C:claim1 A:claim1 A:qemu1 A:touches A:started1 A:grow4 A:grown A:takes3 "
     "-:recover A:reboots C:fails1 C:gone1"},
    {"nor with what devices of others leave",
     "room=30 C:claim1 C:qemu1 C:touches B:claim1 B:qemu1 B:touches B:grow4 C:plug2 B:takes2 "
     "C:plug3 C:dimm2 B:reboots C:plugged2"},
};

/* --- words ----------------------------------------------------------------------------------- */

typedef struct {
    HostKind kind;
    GPtrArray *words; /* char * */
} Sequence;

static void sequence_clear(Sequence *sequence)
{
    g_clear_pointer(&sequence->words, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Sequence, sequence_clear)

static const Word *word_of(const char *text)
{
    gsize n = strspn(text + 2, G_CSET_a_2_z "-");
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strlen(words[i].name) == n && strncmp(words[i].name, text + 2, n) == 0)
            return &words[i];
    g_error("what is '%s'?", text);
}

/* "A:gone1=%" */
static Event parse_event(World *world, const char *text)
{
    const Word *word = word_of(text);
    const char *rest = text + 2 + strlen(word->name);
    Event event = {.word = word, .number = (guint)g_ascii_strtoull(rest, NULL, 10)};
    if (text[0] != '-')
        event.vm = &world->vms[text[0] - 'A'];
    event.is_named = strchr(rest, '=') != NULL;
    event.door = strchr(rest, '%') != NULL   ? DOOR_LIBVIRT
                 : strchr(rest, '^') != NULL ? DOOR_VDSM
                                             : DOOR_HOST;
    return event;
}

static Sequence parse_sequence(const char *text)
{
    Sequence sequence = {.words = g_ptr_array_new_with_free_func(g_free)};
    g_auto(GStrv) parts = g_strsplit(text, " ", -1);
    for (char **part = parts; *part != NULL; part++) {
        if (strcmp(*part, "static") == 0)
            sequence.kind.has_static_pages = TRUE;
        else if (g_str_has_prefix(*part, "room="))
            sequence.kind.room_pages = g_ascii_strtoull(*part + strlen("room="), NULL, 10);
        else
            g_ptr_array_add(sequence.words, g_strdup(*part));
    }
    return sequence;
}

static char *format_sequence(const Sequence *sequence)
{
    GString *text = g_string_new(sequence->kind.has_static_pages ? "static " : "");
    g_string_append_printf(text, "room=%" G_GUINT64_FORMAT, sequence->kind.room_pages);
    for (guint i = 0; i < sequence->words->len; i++)
        g_string_append_printf(text, " %s", (char *)g_ptr_array_index(sequence->words, i));
    return g_string_free(text, FALSE);
}

/* --- one sequence ---------------------------------------------------------------------------- */

static void run_word(World *world, const char *text)
{
    Event event = parse_event(world, text);
    run_event(world, &event);
}

/* All that is going to be said has been said: what VMs that run are said to have is what they
 * have, and what their guests may still take. */
static void check_settled(World *world)
{
    g_autoptr(HvLedger) ledger = ledger_now();
    for (guint i = 0; i < N_VMS; i++) {
        const Vm *vm = &world->vms[i];
        const HvClaim *claim = hv_ledger_claim(ledger, vm->uuid);
        guint64 has = vm->mapped[0] + vm->mapped[1] + vm->elastic_pages, pending = 0;
        if (!vm->is_claimed || !vm->is_mapped || claim == NULL)
            continue;
        for (guint k = 0; k < ledger->claims->len; k++) {
            const HvClaim *device = g_ptr_array_index(ledger->claims, k);
            if (g_strcmp0(device->device_of, vm->uuid) == 0)
                pending += hv_needs_pages(device->needs, SIZE_2M);
        }
        if (hv_needs_pages(claim->needs, SIZE_2M) != has)
            set_wrong(world, "VM %c has %" G_GUINT64_FORMAT " pages, and claims %" G_GUINT64_FORMAT,
                      vm->letter, has, hv_needs_pages(claim->needs, SIZE_2M));
        guint64 to_come = vm->requested_pages - vm->elastic_pages;
        if ((pending > to_come && !vm->is_shrunk_unreported) ||
            (vm->is_elastic_kept && pending < to_come))
            set_wrong(world,
                      "the guest of VM %c may take %" G_GUINT64_FORMAT
                      " pages, and %" G_GUINT64_FORMAT " are kept for it",
                      vm->letter, to_come, pending);
    }
}

/* All VMs have ended, and all has been set right: nothing is left. */
static void check_end(World *world)
{
    g_autoptr(HvLedger) ledger = ledger_now();
    for (int node = 0; node < N_NODES; node++)
        if (fake_get(node, SIZE_2M, "nr_hugepages") != baseline(world, node) ||
            fake_get(node, SIZE_2M, "free_hugepages") != baseline(world, node))
            set_wrong(world,
                      "in the end node %d has %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT
                      " of them free",
                      node, fake_get(node, SIZE_2M, "nr_hugepages"),
                      fake_get(node, SIZE_2M, "free_hugepages"));
    if (ledger->claims->len + ledger->grown->len + ledger->intents->len > 0)
        set_wrong(world, "in the end the ledger is not empty");
}

static void run_words(World *world, const char *const *list, guint n)
{
    for (guint i = 0; i < n && world->wrong == NULL; i++)
        run_word(world, list[i]);
}

/* What the kernel shows needs nobody's list. */
static void check_ended(World *world)
{
    g_autoptr(HvLedger) ledger = ledger_now();
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->qemu.pid != 0)
            set_wrong(world, "a QEMU has ended, and its claim has not");
    }
}

static void end_all(World *world)
{
    static const char *const ends[] = {"A:dies", "B:dies", "C:dies", "-:foreign-ends", "-:recover"};
    static const char *const lists[] = {"-:begin", "-:empty-list", "-:empty-list%",
                                        "-:empty-list^"};
    run_words(world, ends, G_N_ELEMENTS(ends));
    check_ended(world);
    run_words(world, lists, G_N_ELEMENTS(lists));
}

/* What went wrong; NULL: nothing. */
static char *run_sequence(const Sequence *sequence)
{
    World world;
    world_init(&world, &sequence->kind);
    run_words(&world, (const char *const *)sequence->words->pdata, sequence->words->len);
    static const char *const settle[] = {"A:touches", "B:touches", "C:touches", "-:waits",
                                         "-:recover"};
    run_words(&world, settle, G_N_ELEMENTS(settle));
    if (world.wrong == NULL)
        check_settled(&world);
    if (world.wrong == NULL)
        end_all(&world);
    if (world.wrong == NULL)
        check_end(&world);
    char *wrong = g_steal_pointer(&world.wrong);
    world_clear(&world);
    return wrong;
}

/* --- many sequences -------------------------------------------------------------------------- */

static gboolean chance(GRand *rand, guint percent)
{
    return (guint)g_rand_int_range(rand, 0, 100) < percent;
}

static char *take_random(GRand *rand, const char *const *list, guint n)
{
    return g_strdup(list[g_rand_int_range(rand, 0, (gint32)n)]);
}

/* The life of one VM, or the first part of it. */
static GPtrArray *make_life(GRand *rand, char letter)
{
    GPtrArray *life = g_ptr_array_new_with_free_func(g_free);
    const char *text = lives[g_rand_int_range(rand, 0, G_N_ELEMENTS(lives))];
    g_auto(GStrv) parts = g_strsplit(text, " ", -1);
    guint n = g_strv_length(parts);
    if (chance(rand, 50))
        n = (guint)g_rand_int_range(rand, 1, (gint32)n + 1);
    for (guint i = 0; i < n; i++)
        g_ptr_array_add(life, g_strdup_printf("%c:%s", letter, parts[i]));
    return life;
}

/* What happens beside: agents end, users of pages come and go, timers fire. */
static GPtrArray *make_surroundings(GRand *rand)
{
    static const char *const beside[] = {
        "-:agent-dies",   "-:agent-dies%", "-:agent-dies^", "-:waits",     "-:foreign-starts",
        "-:foreign-ends", "-:recover",     "-:recover%",    "-:begin",     "-:asks",
        "-:list",         "-:list%",       "-:list^",       "-:empty-list"};
    GPtrArray *words_beside = g_ptr_array_new_with_free_func(g_free);
    guint n = (guint)g_rand_int_range(rand, 0, 9);
    for (guint i = 0; i < n; i++)
        g_ptr_array_add(words_beside, take_random(rand, beside, G_N_ELEMENTS(beside)));
    return words_beside;
}

static void interleave(GRand *rand, GPtrArray **parts, guint n_parts, GPtrArray *out)
{
    guint left = 0;
    for (guint i = 0; i < n_parts; i++)
        left += parts[i]->len;
    for (; left > 0; left--) {
        guint at = (guint)g_rand_int_range(rand, 0, (gint32)left), part = 0;
        for (; at >= parts[part]->len; part++)
            at -= parts[part]->len;
        g_ptr_array_add(out, g_ptr_array_steal_index(parts[part], 0));
    }
}

static char *maybe_name(GRand *rand, const char *text)
{
    gsize n = strcspn(text, "%^");
    return chance(rand, 50) ? g_strdup(text) : g_strdup_printf("%.*s=%s", (int)n, text, text + n);
}

static void insert_later(GRand *rand, GPtrArray *list, guint from, guint reach, char *text)
{
    guint last = MIN(list->len, from + reach);
    g_ptr_array_insert(list, g_rand_int_range(rand, (gint32)from, (gint32)last + 1), text);
}

/* What is said comes late, again, or never. */
static void disturb(GRand *rand, GPtrArray *list, guint percent)
{
    for (guint i = list->len; i > 0; i--) {
        const char *text = g_ptr_array_index(list, i - 1);
        Kind kind = word_of(text)->kind;
        if (kind == REPORT) {
            char *named = text[0] == '-' ? g_strdup(text) : maybe_name(rand, text);
            gboolean is_late = chance(rand, percent);
            g_ptr_array_remove_index(list, i - 1);
            if (chance(rand, percent))
                insert_later(rand, list, i - 1, MAX_EVENTS, g_strdup(named));
            if (chance(rand, percent))
                g_free(named);
            else
                insert_later(rand, list, i - 1, is_late ? MAX_EVENTS : 0, named);
        } else if (kind == QUESTION && chance(rand, percent / 2)) {
            insert_later(rand, list, i, 4, g_strdup(text));
        } else if (kind == QUESTION && chance(rand, percent / 5)) {
            g_ptr_array_remove_index(list, i - 1);
        }
    }
}

static Sequence make_sequence(guint32 seed)
{
    static const guint percents[] = {0, 10, 25, 40};
    static const guint64 rooms[] = {200, 30, 20, 12};
    GRand *rand = g_rand_new_with_seed(seed);
    Sequence sequence = {.words = g_ptr_array_new_with_free_func(g_free),
                         .kind = {.has_static_pages = chance(rand, 60),
                                  .room_pages = rooms[g_rand_int_range(rand, 0, 4)]}};
    GPtrArray *parts[N_VMS + 1];
    guint n_vms = (guint)g_rand_int_range(rand, 1, N_VMS + 1);
    for (guint i = 0; i < n_vms; i++)
        parts[i] = make_life(rand, (char)('A' + i));
    parts[n_vms] = make_surroundings(rand);
    interleave(rand, parts, n_vms + 1, sequence.words);
    disturb(rand, sequence.words, percents[g_rand_int_range(rand, 0, G_N_ELEMENTS(percents))]);
    for (guint i = 0; i <= n_vms; i++)
        g_ptr_array_unref(parts[i]);
    g_rand_free(rand);
    return sequence;
}

/* --- in short -------------------------------------------------------------------------------- */

static Sequence without(const Sequence *sequence, guint from, guint n)
{
    Sequence rest = {.kind = sequence->kind, .words = g_ptr_array_new_with_free_func(g_free)};
    for (guint i = 0; i < sequence->words->len; i++)
        if (i < from || i >= from + n)
            g_ptr_array_add(rest.words, g_strdup(g_ptr_array_index(sequence->words, i)));
    return rest;
}

/* Leaves out whatever may be left out, so that something still goes wrong. */
static void shorten(Sequence *sequence)
{
    for (guint n = MAX(1, sequence->words->len / 2); n > 0; n = n / 2)
        for (guint from = sequence->words->len; from > 0;) {
            from = from > n ? from - n : 0;
            Sequence rest = without(sequence, from, n);
            g_autofree char *wrong = run_sequence(&rest);
            if (wrong != NULL) {
                sequence_clear(sequence);
                *sequence = rest;
                from = MIN(from, sequence->words->len);
            } else {
                sequence_clear(&rest);
            }
        }
}

static gboolean is_good(Sequence *sequence)
{
    g_autofree char *wrong = run_sequence(sequence);
    if (wrong == NULL)
        return TRUE;
    shorten(sequence);
    g_autofree char *text = format_sequence(sequence);
    g_autofree char *still = run_sequence(sequence);
    g_test_message("%s; in short: %s\n    %s", wrong, still, text);
    return FALSE;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void test_lives_as_they_should_be(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(lives); i++) {
        g_auto(GStrv) parts = g_strsplit(lives[i], " ", -1);
        for (guint k = 0; k < 2; k++) {
            g_auto(Sequence)
                sequence = {.kind = {k == 1, 200}, .words = g_ptr_array_new_with_free_func(g_free)};
            for (char **part = parts; *part != NULL; part++)
                g_ptr_array_add(sequence.words, g_strdup_printf("A:%s", *part));
            if (!is_good(&sequence))
                g_test_fail();
        }
    }
}

static void test_sequences_that_went_wrong_once(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(found); i++) {
        g_auto(Sequence) sequence = parse_sequence(found[i].text);
        if (is_good(&sequence))
            continue;
        g_test_message("not so: %s", found[i].must);
        g_test_fail();
    }
}

static guint64 number_from(const char *variable, guint64 otherwise)
{
    const char *text = g_getenv(variable);
    return text != NULL ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void test_sequences_by_chance(void)
{
    guint64 seed = number_from("HUGEVM_EVENTS_SEED", 1);
    guint64 count = number_from("HUGEVM_EVENTS_COUNT", DEFAULT_COUNT), n_wrong = 0;
    gint64 until_us = __real_g_get_monotonic_time() + TIME_S * G_USEC_PER_SEC;
    if (g_getenv("HUGEVM_EVENTS_COUNT") != NULL)
        until_us = G_MAXINT64;
    guint64 i = 0;
    for (; i < count && n_wrong < 10 && __real_g_get_monotonic_time() < until_us; i++) {
        g_auto(Sequence) sequence = make_sequence((guint32)(seed + i));
        if (is_good(&sequence))
            continue;
        g_test_message("that was HUGEVM_EVENTS_SEED=%" G_GUINT64_FORMAT, seed + i);
        n_wrong++;
    }
    g_test_message("%" G_GUINT64_FORMAT " sequences from seed %" G_GUINT64_FORMAT, i, seed);
    g_assert_cmpuint(n_wrong, ==, 0);
}

int main(int argc, char **argv)
{
    if (g_file_test("/dev/shm", G_FILE_TEST_IS_DIR))
        g_setenv("TMPDIR", "/dev/shm", FALSE); /* thousands of small files */
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/lives as they should be", test_lives_as_they_should_be);
    g_test_add_func("/events/sequences that went wrong once", test_sequences_that_went_wrong_once);
    g_test_add_func("/events/sequences by chance", test_sequences_by_chance);
    return g_test_run();
}
