/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent-say.h"

#include "error.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <unistd.h>

void agent_say(const char *what, const char *name, const char *why)
{
    g_autofree char *quoted = hv_quote(name);
    printf("%s: %s%s%s\n", what, quoted, why != NULL ? ": " : "", why != NULL ? why : "");
    fflush(stdout);
}

void agent_say_warning(const char *text)
{
    fprintf(stderr, "hugevmctl: warning: %s\n", text);
}

void agent_say_failure(const char *message)
{
    fprintf(stderr, "hugevmctl: %s\n", message);
}

/* In one call, as others speak at the same time. */
static void complain(const char *message, const char *hint)
{
    gboolean has_hint = hint != NULL && hint[0] != '\0';
    fprintf(stderr, "hugevmctl: %s\n%s%s%s", message, has_hint ? "  what to do: " : "",
            has_hint ? hint : "", has_hint ? "\n" : "");
}

int agent_say_error(GError *error)
{
    g_autoptr(GError) owned = error;
    g_autofree char *message = hv_error_message(owned);
    complain(message, hv_error_hint(owned));
    return EXIT_SYSTEM;
}

int agent_say_plugin_error(const struct hugevm_error *error)
{
    complain(error->message, error->hint);
    switch (error->code) {
    case HUGEVM_ERROR_BAD_PROPERTY:
    case HUGEVM_ERROR_BAD_XML:
    case HUGEVM_ERROR_CONFLICT:
    case HUGEVM_ERROR_SHORTAGE:
    case HUGEVM_ERROR_TIMEOUT:
    case HUGEVM_ERROR_CANCELLED:
        return EXIT_REFUSED;
    default:
        return EXIT_SYSTEM;
    }
}

/* libvirt's messages may quote QEMU over several lines, and names from the XML. */
int agent_say_libvirt_error(const char *name, const char *what)
{
    g_autofree char *line = g_strdelimit(g_strdup(virGetLastErrorMessage()), "\r\n", ' ');
    g_autofree char *message = hv_escape(line);
    g_autofree char *quoted = name != NULL ? hv_quote(name) : NULL;
    fprintf(stderr, "hugevmctl: %s%s%s%s: %s\n", name != NULL ? "VM " : "",
            name != NULL ? quoted : "", name != NULL ? " " : "", what, message);
    return EXIT_SYSTEM;
}

void agent_say_progress(const char *what, guint64 done_pages, guint64 total_pages)
{
    static gint has_line; /* atomic */
    if (what != NULL && isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT "\033[K", what,
                done_pages, total_pages);
        g_atomic_int_set(&has_line, 1);
    } else if (what == NULL && g_atomic_int_compare_and_exchange(&has_line, 1, 0)) {
        fprintf(stderr, "\r\033[K");
    }
}
