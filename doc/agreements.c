/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints hugevm-agreements.7.scd from the table in core/agreements.c; with "list" as its argument
 * the table itself for tests: id, effect, code, message and hint, separated by tabs.
 */
#include "agreements.h"

#include "error.h"

#include <stdio.h>
#include <string.h>

static const char head[] =
    "hugevm-agreements(7)\n"
    "; SPDX-License-Identifier: LGPL-2.1-or-later\n"
    "; Made by doc/agreements.c from core/agreements.c: ninja agreements-page\n"
    "\n"
    "# NAME\n"
    "\n"
    "hugevm-agreements - which wishes for the memory of a VM go together\n"
    "\n"
    "# DESCRIPTION\n"
    "\n"
    "Some of what the domain XML may say about a VM's memory does not go together with huge\n"
    "pages, or not with every version of libvirt and QEMU. hugevm looks for it before anything\n"
    "is taken: what cannot start is refused, with the reason, and what starts but does harm is\n"
    "warned of. *hugevmctl plan* shows both for a VM that is not to start yet. A VM without huge\n"
    "pages is not looked at.\n"
    "\n"
    "The versions of libvirt and QEMU are those that whoever calls has told: *hugevmctl run*,\n"
    "*define* and *set* ask libvirt, *plan* has the options *--libvirt-version* and\n"
    "*--qemu-version*, a host agent fills in _libvirt\\_version_ and _qemu\\_version_ of\n"
    "_struct hugevm\\_vm_. hugevm itself never asks libvirt. A version that nobody told is not\n"
    "called old: what the XML says is believed, and where an old version would do harm without\n"
    "a word, a warning says so.\n"
    "\n"
    "\"Seen\" means that libvirt 9.0.0 or QEMU 7.2 did so when it was asked.\n"
    "\n"
    "# AGREEMENTS\n"
    "\n"
    "Each has a word that does not change; a refusal in the JSON of *hugevmctl plan* names it as\n"
    "_refusal.agreement_. {} stands for a name or a number of the VM's.\n";

static const char tail[] = "\n"
                           "# SEE ALSO\n"
                           "\n"
                           "*hugevmctl*(8), *hugevm-plugin*(7), *hugevm.conf*(5)\n";

/* As plain text in scdoc's markup. */
static void print_plain(const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("\\*_#[]|~+", *text) != NULL)
            putchar('\\');
        putchar(*text);
    }
}

static void print_part(const char *name, const char *text)
{
    printf("\n*%s*\n\t", name);
    print_plain(text);
    putchar('\n');
}

static void print_row(const HvAgreement *row)
{
    gboolean refuses = row->effect == HV_AGREEMENT_REFUSES;
    printf("\n## %s\n\n", row->id);
    print_plain(row->parties);
    putchar('\n');
    if (refuses) {
        g_autofree char *name = g_strdup_printf("refused (%s)", hv_error_code_name(row->code));
        print_part(name, row->message);
    } else {
        print_part("warned of", row->message);
    }
    if (row->hint != NULL)
        print_part("what to do", row->hint);
    print_part("why", row->reason);
}

static void list_row(const HvAgreement *row)
{
    gboolean refuses = row->effect == HV_AGREEMENT_REFUSES;
    printf("%s\t%s\t%s\t%s\t%s\n", row->id, refuses ? "refuses" : "warns",
           refuses ? hv_error_code_name(row->code) : "", row->message,
           row->hint != NULL ? row->hint : "");
}

int main(int argc, char **argv)
{
    gboolean is_list = argc > 1 && strcmp(argv[1], "list") == 0;
    if (!is_list)
        fputs(head, stdout);
    for (guint i = 0; i < hv_n_agreements; i++)
        (is_list ? list_row : print_row)(&hv_agreements[i]);
    if (!is_list)
        fputs(tail, stdout);
    return 0;
}
