/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdsm.conf is read by Python's configparser, so a file must mean here what it
 * means there, down to what counts as white space and as the end of a line;
 * tests/unit/test-conf-oracle.py compares the two on generated files.
 * Known differences, both deliberate: a NUL byte is an error, and a capital
 * sigma that ends a key becomes a plain small sigma.
 */
#include "conf-file.h"

#include "error.h"

#include <string.h>

#define DEFAULT_SECTION "DEFAULT"
#define MAX_DEPTH 10 /* configparser's MAX_INTERPOLATION_DEPTH */
/* Ours: ten levels of references can ask for more text than there is memory. */
#define MAX_REFERENCES 1000
#define MAX_VALUE_BYTES (1024 * 1024)

typedef struct {
    const char *file;
    guint line;
    GPtrArray *entries;
    GHashTable *seen;   /* "SECTION\nKEY" -> line, for this file; a header has no key */
    char *section;      /* NULL: no header yet */
    HvConfEntry *entry; /* takes continuation lines; NULL: none does */
    GString *value;     /* of that entry, so far */
    glong indent_chars; /* of the line that a continuation must be deeper than */
} Parser;

static void entry_free(gpointer data)
{
    HvConfEntry *entry = data;
    g_free(entry->section);
    g_free(entry->key);
    g_free(entry->value);
    g_free(entry->file);
    g_free(entry);
}

GPtrArray *hv_conf_entries_new(void)
{
    return g_ptr_array_new_with_free_func(entry_free);
}

/* What Python's str.isspace() takes for white space. */
static gboolean is_space(gunichar c)
{
    return c == 0x0b || (c >= 0x1c && c <= 0x1f) || c == 0x85 || g_unichar_isspace(c);
}

static const char *skip_space(const char *text)
{
    while (is_space(g_utf8_get_char(text)))
        text = g_utf8_next_char(text);
    return text;
}

/* The end of text[0..end) without the white space that trails it. */
static const char *trim_end(const char *text, const char *end)
{
    while (end > text) {
        const char *last = g_utf8_prev_char(end);
        if (!is_space(g_utf8_get_char(last)))
            break;
        end = last;
    }
    return end;
}

/* Python's str.lower(), whatever the locale, but for a final sigma. */
static char *lower(const char *text, gsize n)
{
    GString *out = g_string_new(NULL);
    for (const char *p = text; p < text + n; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(out, g_unichar_tolower(c));
        if (c == 0x130) /* I with a dot: the one letter that becomes two */
            g_string_append_unichar(out, 0x307);
    }
    return g_string_free(out, FALSE);
}

/* Ends the value that continuation lines may have made longer. */
static void finish_entry(Parser *parser)
{
    if (parser->entry == NULL)
        return;
    const char *text = parser->value->str;
    gsize n = (gsize)(trim_end(text, text + parser->value->len) - text);
    parser->entry->value = g_strndup(text, n);
    parser->entry = NULL;
}

/* Notes a section (key "") or key of this file; an error the second time. */
static gboolean note_seen(Parser *parser, const char *section, const char *key, GError **error)
{
    char *name = g_strconcat(section, "\n", key, NULL);
    guint first = GPOINTER_TO_UINT(g_hash_table_lookup(parser->seen, name));
    if (first == 0) {
        g_hash_table_insert(parser->seen, name, GUINT_TO_POINTER(parser->line));
        return TRUE;
    }
    g_free(name);
    g_autofree char *shown_section = hv_quote(section);
    g_autofree char *shown_key = hv_quote(key);
    if (*key == '\0')
        hv_set_error(error, HV_ERROR_CONFIG, "join the two sections",
                     "%s:%u: section %s occurs a second time, first in line %u", parser->file,
                     parser->line, shown_section, first);
    else
        hv_set_error(error, HV_ERROR_CONFIG, "remove one of the two lines",
                     "%s:%u: key %s of section %s occurs a second time, first in line %u",
                     parser->file, parser->line, shown_key, shown_section, first);
    return FALSE;
}

static gboolean set_line_error(const Parser *parser, const char *content, const char *problem,
                               const char *hint, GError **error)
{
    g_autofree char *quoted = hv_quote(content);
    hv_set_error(error, HV_ERROR_CONFIG, hint, "%s:%u: %s %s", parser->file, parser->line, quoted,
                 problem);
    return FALSE;
}

static gboolean parse_header(Parser *parser, const char *name, gsize n, GError **error)
{
    g_free(parser->section);
    parser->section = g_strndup(name, n);
    if (strcmp(parser->section, DEFAULT_SECTION) == 0)
        return TRUE; /* configparser lets this one occur again */
    return note_seen(parser, parser->section, "", error);
}

static gboolean parse_option(Parser *parser, const char *content, GError **error)
{
    if (parser->section == NULL)
        return set_line_error(parser, content, "stands before the first section header",
                              "put [performance] or [hugevm] in a line above it", error);
    const char *delimiter = content + strcspn(content, "=:");
    if (*delimiter == '\0')
        return set_line_error(parser, content, "is no section header, comment or key = value", NULL,
                              error);
    gsize key_bytes = (gsize)(trim_end(content, delimiter) - content);
    if (key_bytes == 0)
        return set_line_error(parser, content, "has no key in front of the delimiter", NULL, error);

    g_autofree char *key = lower(content, key_bytes);
    if (!note_seen(parser, parser->section, key, error))
        return FALSE;
    HvConfEntry *entry = g_new0(HvConfEntry, 1);
    entry->section = g_strdup(parser->section);
    entry->key = g_steal_pointer(&key);
    entry->file = g_strdup(parser->file);
    entry->line = parser->line;
    g_ptr_array_add(parser->entries, entry);
    parser->entry = entry;
    g_string_assign(parser->value, skip_space(delimiter + 1));
    return TRUE;
}

static gboolean parse_line(Parser *parser, const char *line, gsize n, GError **error)
{
    g_autofree char *text = g_strndup(line, n);
    char *content = (char *)skip_space(text);
    *(char *)trim_end(content, text + n) = '\0';
    if (*content == '#' || *content == ';')
        return TRUE; /* unlike an empty line, it leaves no trace in a value */

    glong indent_chars = g_utf8_pointer_to_offset(text, content);
    gboolean continues = *content == '\0' || indent_chars > parser->indent_chars;
    if (parser->entry != NULL && continues) {
        g_string_append_c(parser->value, '\n');
        g_string_append(parser->value, content);
        return TRUE;
    }
    if (*content == '\0')
        return TRUE;

    finish_entry(parser);
    parser->indent_chars = indent_chars;
    /* A header reaches to the last bracket of its line; what follows is ignored. */
    const char *bracket = strrchr(content, ']');
    if (*content == '[' && bracket != NULL && bracket > content + 1)
        return parse_header(parser, content + 1, (gsize)(bracket - content - 1), error);
    return parse_option(parser, content, error);
}

/* Python's universal newlines: \n, \r\n and a lone \r. */
static const char *next_line(const char *line_end)
{
    if (line_end[0] == '\r' && line_end[1] == '\n')
        return line_end + 2;
    return *line_end != '\0' ? line_end + 1 : line_end;
}

static gboolean parse_lines(Parser *parser, const char *text, GError **error)
{
    while (*text != '\0') {
        gsize n = strcspn(text, "\r\n");
        parser->line++;
        if (!parse_line(parser, text, n, error))
            return FALSE;
        text = next_line(text + n);
    }
    finish_entry(parser);
    return TRUE;
}

static gboolean check_text(const char *text, gsize text_bytes, const char *file, GError **error)
{
    const char *end;
    if (g_utf8_validate_len(text, text_bytes, &end))
        return TRUE;
    guint line = 1;
    for (const char *p = text; p < end; p++)
        line += *p == '\n' || (*p == '\r' && p[1] != '\n');
    hv_set_error(error, HV_ERROR_CONFIG, "save the file as UTF-8 text", "%s:%u: %s", file, line,
                 *end == '\0' ? "there is a NUL byte" : "the text is not valid UTF-8");
    return FALSE;
}

gboolean hv_conf_parse(const char *text, gsize text_bytes, const char *file, GPtrArray *entries,
                       GError **error)
{
    if (!check_text(text, text_bytes, file, error))
        return FALSE;
    g_autofree char *copy = g_strndup(text, text_bytes); /* the text need not be terminated */
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GString) value = g_string_new(NULL);
    guint n_before = entries->len;
    Parser parser = {.file = file, .entries = entries, .seen = seen, .value = value};
    gboolean ok = parse_lines(&parser, copy, error);
    if (!ok)
        g_ptr_array_set_size(entries, (gint)n_before);
    g_free(parser.section);
    return ok;
}

typedef struct {
    const GPtrArray *entries;
    const HvConfEntry *asked; /* its section resolves every reference, however deep */
    GString *out;
    guint references;
} Expansion;

/* Names the value that was asked for; text is the part of it, or of a value it refers to. */
static gboolean set_value_error(const Expansion *expansion, const char *problem, const char *text,
                                const char *hint, GError **error)
{
    const HvConfEntry *asked = expansion->asked;
    g_autofree char *section = hv_quote(asked->section);
    g_autofree char *key = hv_quote(asked->key);
    g_autofree char *quoted = hv_quote(text);
    hv_set_error(error, HV_ERROR_CONFIG, hint, "%s:%u: key %s of section %s %s %s", asked->file,
                 asked->line, key, section, problem, quoted);
    return FALSE;
}

static const HvConfEntry *find_last(const GPtrArray *entries, const char *section, const char *key)
{
    for (guint i = entries->len; i > 0; i--) {
        const HvConfEntry *entry = g_ptr_array_index(entries, i - 1);
        if (strcmp(entry->section, section) == 0 && strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

static gboolean expand(Expansion *expansion, const char *value, guint depth, GError **error);

/* Appends what %(key)s stands for. */
static gboolean expand_key(Expansion *expansion, const char *key, guint depth, GError **error)
{
    const HvConfEntry *target = find_last(expansion->entries, expansion->asked->section, key);
    if (target == NULL)
        target = find_last(expansion->entries, DEFAULT_SECTION, key);
    if (target == NULL)
        return set_value_error(expansion, "refers to a key that is not set:", key,
                               "set that key in the same section or in [DEFAULT]", error);
    if (++expansion->references > MAX_REFERENCES || expansion->out->len > MAX_VALUE_BYTES)
        return set_value_error(expansion, "becomes too long by its references to", key, NULL,
                               error);
    if (strchr(target->value, '%') != NULL)
        return expand(expansion, target->value, depth + 1, error);
    g_string_append(expansion->out, target->value);
    return TRUE;
}

/* The end of the reference %(NAME)s that text begins with; NULL: it begins with none. */
static const char *reference_end(const char *text)
{
    const char *close = strchr(text, ')');
    if (text[1] != '(' || close == NULL || close[1] != 's')
        return NULL;
    return close + 2;
}

static gboolean expand(Expansion *expansion, const char *value, guint depth, GError **error)
{
    if (depth > MAX_DEPTH)
        return set_value_error(expansion, "is more than ten references away from", value,
                               "look for a value that refers to itself", error);
    const char *rest = value;
    for (const char *percent; (percent = strchr(rest, '%')) != NULL;) {
        g_string_append_len(expansion->out, rest, percent - rest);
        if (percent[1] == '%') {
            g_string_append_c(expansion->out, '%');
            rest = percent + 2;
            continue;
        }
        rest = reference_end(percent);
        if (rest == NULL)
            return set_value_error(expansion, "has a percent sign without a meaning at", percent,
                                   "write %% for a percent sign", error);
        g_autofree char *key = lower(percent + 2, (gsize)(rest - percent) - strlen("%()s"));
        if (!expand_key(expansion, key, depth, error))
            return FALSE;
    }
    g_string_append(expansion->out, rest);
    return TRUE;
}

char *hv_conf_interpolate(const GPtrArray *entries, const HvConfEntry *entry, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    Expansion expansion = {.entries = entries, .asked = entry, .out = out};
    if (!expand(&expansion, entry->value, 1, error))
        return NULL;
    return g_string_free(g_steal_pointer(&out), FALSE);
}
