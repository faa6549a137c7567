/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host as the ABI tests need it: the module loaded through plugin/loader.c, one
 * handle, and below a temporary directory a tree that stands for the machine:
 *
 *   DIR/root     proc, sys, run: one node, pools of 2 MiB and 1 GiB, all empty
 *   DIR/hugevm.conf
 *
 * The pools are plain files: a write to nr_hugepages changes that number and no
 * other. So a growth is seen to work, but its pages never become free.
 */
#pragma once

#include "hugevm/plugin.h"

#include <glib.h>

#define UUID_A "6b3c1a52-7d0e-4a9e-9a44-0d6b5f0f7a11"
#define UUID_B "f2d4f6a0-53c1-4f0e-8c3b-9a1de1a7c0b2"

#define DYNAMIC "[performance]\nuse_dynamic_hugepages = true\n"
#define STATIC "[performance]\nuse_dynamic_hugepages = false\n"

typedef struct {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
    struct hugevm_result *result; /* of the last call that made one */
    struct hugevm_error error;    /* of the last call */
    char *directory;
    char *root;
    char *conf;
    int32_t cancel; /* what the progress callback returns */
    guint progress_calls;
    guint log_calls;
    gboolean is_log_clean; /* no log line had a control character in it */
} AbiHost;

/* The path of hugevm.so, as given to the test program. */
extern const char *abi_module;

/* g_test_init, and the module's path from the command line. */
void abi_init(int *argc, char ***argv);

/* g_test_add with a fresh host around the test. */
void abi_add(const char *name, void (*test)(AbiHost *host));

/* Another one beside the test's own, and its end; the handle is open. */
AbiHost *abi_host_new(void);
void abi_host_free(AbiHost *host);

/* Closes the handle, and opens one with these options (NULL: the tree and its conf). */
void abi_reopen(AbiHost *host, const struct hugevm_options *options);

/* What this host says about itself to negotiate and open. */
struct hugevm_host abi_offer(AbiHost *host);

/* Writes a file below the tree; "" as text makes it empty. */
void abi_write(const AbiHost *host, const char *path, const char *text);
void abi_write_pool(const AbiHost *host, guint size_kib, guint total, guint free_pages);
void abi_write_conf(const AbiHost *host, const char *text);
/* nr_hugepages of the node. */
guint64 abi_total(const AbiHost *host, guint size_kib);
void abi_remove(const AbiHost *host, const char *path);

/* A domain of 256 MiB; inside (may be NULL) goes between <domain> and </domain>. */
char *abi_domain(const char *uuid, const char *inside);

/* Fills a description; xml must outlive it. properties: one pair, or name NULL. */
struct hugevm_vm abi_vm(const char *xml, const struct hugevm_property *property);

typedef int32_t (*AbiBegin)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                            struct hugevm_result **out_result, struct hugevm_error *error);

/* before_vm_start or plan of abi_domain(UUID_A) with one property; the code. */
int32_t abi_begin(AbiHost *host, AbiBegin slot, const char *name, const char *value);

/* As above, of any description. Also checks the rules that hold for each such call. */
int32_t abi_begin_vm(AbiHost *host, AbiBegin slot, const struct hugevm_vm *vm);

typedef int32_t (*AbiTell)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                           struct hugevm_error *error);
int32_t abi_tell(AbiHost *host, AbiTell slot, const char *uuid, guint64 generation);

/* Asserts that the last error has this code and that its message holds text. */
void abi_assert_error(const AbiHost *host, int32_t code, const char *text);
