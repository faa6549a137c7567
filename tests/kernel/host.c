/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host of hugevm for the throwaway VM and for fault injection: loads the module as any agent
 * would, and does what its words say, one after the other.
 *
 *   host MODULE CONF WORD...
 *
 *   before FILE [NAME=VALUE]...  before_vm_start with that domain XML and properties
 *   migrate FILE [NAME=VALUE]... before_vm_migrate_destination
 *   launches                     before these: they will be followed by `launching`
 *   dir PATH                     QEMU will make its memory files in that directory, the mapper too
 *   vm UUID                      what follows is about that VM, whatever its generation
 *   launching, started, gone, failed
 *                                vm_launching, after_vm_start, after_vm_destroy, vm_start_failed
 *   map SIZE:PAGES[@[POLICY:]NODE[,NODE]...]...
 *                                starts the mapper: it maps the pages, bound to these nodes, and
 *                                touches them. POLICY is preferred or interleave
 *   promise SIZE:PAGES...        the same without a touch: the kernel keeps the pages for it
 *   xml PATH                     before these: the domain XML that they give back goes there
 *   end                          kills the mapper, and waits for its end
 *   cancel-at PAGES              the progress callback cancels once that many pages were got
 *   follow                       the progress callback prints what it hears
 *   hold                         says "holding", and waits until it is killed
 *
 * The mapper (mapper.c) stands in for QEMU, which is not in that VM. It is this program again,
 * executed with the words by which hugevm knows a QEMU, and it outlives the host as QEMU outlives
 * its agent.
 *
 * Exit status: 0 done, 1 a slot failed (its words are printed), 2 usage, 3 the
 * mapper did not get its pages. The first failure ends the program.
 */
#include "hugevm/plugin.h"
#include "loader.h"
#include "mapper.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PROPERTIES 8
#define MAX_PARTS 8
#define MAX_DIRECTORIES 4
#define MAX_XML_BYTES 65536

enum { EXIT_SLOT = 1 };

struct session {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
    char uuid[64];
    uint64_t generation;
    uint64_t cancel_at_pages; /* 0: never */
    uint32_t vm_flags;
    char *directories[MAX_DIRECTORIES + 1];
    int n_directories;
    bool follows;
    const char *xml_path; /* NULL: none */
    pid_t mapper;         /* 0: none */
};

static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    const struct session *session = opaque;
    if (session->follows)
        printf("progress: %s, %lu of %lu\n", what, (unsigned long)done_pages,
               (unsigned long)total_pages);
    return session->cancel_at_pages > 0 && done_pages >= session->cancel_at_pages;
}

static const char *code_name(int32_t code)
{
    static const char *const names[] = {
        "OK",        "INVALID_ARGUMENT", "NOT_SUPPORTED", "ABI_MISMATCH", "BAD_PROPERTY",
        "BAD_XML",   "BAD_CONFIG",       "CONFLICT",      "SHORTAGE",     "TIMEOUT",
        "CANCELLED", "PERMISSION",       "LEDGER",        "SYSTEM",       "UNKNOWN_VM",
    };
    return code >= 0 && (size_t)code < sizeof names / sizeof *names ? names[code] : "?";
}

static int report(const char *slot, int32_t code, const struct hugevm_error *error)
{
    if (code == HUGEVM_OK) {
        printf("%s: OK\n", slot);
        return EXIT_SUCCESS;
    }
    printf("%s: %s: %s\n", slot, code_name(code), error->message);
    if (error->hint[0] != '\0')
        printf("%s: hint: %s\n", slot, error->hint);
    return EXIT_SLOT;
}

static size_t read_file(const char *path, char *buffer, size_t max_bytes)
{
    FILE *stream = fopen(path, "re");
    size_t n = stream != NULL ? fread(buffer, 1, max_bytes, stream) : 0;
    if (stream != NULL)
        fclose(stream);
    return n;
}

static bool write_file(const char *path, const char *text, size_t bytes)
{
    FILE *stream = fopen(path, "we");
    bool is_good = stream != NULL && fwrite(text, 1, bytes, stream) == bytes;
    return stream != NULL && fclose(stream) == 0 && is_good;
}

static bool keep_xml(const struct session *session, const struct hugevm_result *result)
{
    uint64_t bytes = 0;
    const char *xml = session->plugin->result_domain_xml(result, &bytes);
    return session->xml_path == NULL || write_file(session->xml_path, xml, bytes);
}

static void print_result(struct session *session, const struct hugevm_result *result)
{
    const struct hugevm_plugin *plugin = session->plugin;
    const char *uuid = plugin->result_uuid(result);
    for (uint64_t i = 0; i < plugin->result_warning_count(result); i++)
        printf("before: warning: %s\n", plugin->result_warning(result, i));
    snprintf(session->uuid, sizeof session->uuid, "%s", uuid != NULL ? uuid : "");
    session->generation = plugin->result_generation(result);
}

/* `before` and `migrate`; takes the NAME=VALUE words that follow the file's name. */
static int do_before(struct session *session, const char *word, char ***words)
{
    static char xml[MAX_XML_BYTES];
    struct hugevm_property properties[MAX_PROPERTIES];
    struct hugevm_vm vm = {
        .size = sizeof vm, .flags = session->vm_flags, .properties = properties, .domain_xml = xml};
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_result *result = NULL;
    const char *path = *(*words)++;
    char *equals;
    if (path == NULL || (vm.domain_xml_bytes = read_file(path, xml, sizeof xml)) == 0)
        return EXIT_USAGE;
    for (; **words != NULL && (equals = strchr(**words, '=')) != NULL; (*words)++) {
        if (vm.property_count == MAX_PROPERTIES)
            return EXIT_USAGE;
        *equals = '\0';
        properties[vm.property_count++] = (struct hugevm_property){**words, equals + 1};
    }
    const struct hugevm_plugin *plugin = session->plugin;
    int32_t code =
        strcmp(word, "before") == 0
            ? plugin->before_vm_start(session->handle, &vm, &result, &error)
            : plugin->before_vm_migrate_destination(session->handle, &vm, &result, &error);
    bool is_kept = true;
    if (code == HUGEVM_OK) {
        print_result(session, result);
        is_kept = keep_xml(session, result);
        plugin->result_free(result);
    }
    return is_kept ? report(word, code, &error) : EXIT_USAGE;
}

static _Noreturn void exec_mapper(const struct session *session, int fd, const char *word,
                                  char **parts)
{
    char option[] = "-uuid", number[16];
    char *argv[6 + MAX_DIRECTORIES + MAX_PARTS] = {mapper_name, option, (char *)session->uuid,
                                                   number, (char *)word};
    snprintf(number, sizeof number, "%d", fd);
    int n = 5;
    for (int i = 0; i < session->n_directories; i++)
        argv[n++] = session->directories[i];
    for (int i = 0; i < MAX_PARTS && *parts != NULL && strchr(*parts, ':') != NULL; i++)
        argv[n++] = *parts++;
    execv("/proc/self/exe", argv);
    _exit(EXIT_USAGE);
}

/* `map` and `promise` */
static int do_map(struct session *session, const char *word, char ***words)
{
    int pair[2];
    char answer[64] = "";
    if (session->uuid[0] == '\0' || pipe(pair) != 0)
        return EXIT_USAGE;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        exec_mapper(session, pair[1], word, *words);
    }
    session->mapper = pid;
    close(pair[1]);
    ssize_t n = read(pair[0], answer, sizeof answer - 1);
    close(pair[0]);
    while (**words != NULL && strchr(**words, ':') != NULL)
        (*words)++;
    printf("%s: %s, process %d\n", word, n == 0 ? "OK" : answer, (int)pid);
    return pid > 0 && n == 0 ? EXIT_SUCCESS : EXIT_MAPPER;
}

static int do_end(struct session *session)
{
    if (session->mapper <= 0)
        return EXIT_USAGE;
    kill(session->mapper, SIGKILL);
    waitpid(session->mapper, NULL, 0);
    session->mapper = 0;
    puts("end: OK");
    return EXIT_SUCCESS;
}

static int do_slot(const struct session *session, const char *word)
{
    const struct hugevm_plugin *plugin = session->plugin;
    const struct {
        const char *word;
        int32_t (*slot)(struct hugevm_handle *, const struct hugevm_vm_ref *,
                        struct hugevm_error *);
    } slots[] = {
        {"launching", plugin->vm_launching},
        {"started", plugin->after_vm_start},
        {"gone", plugin->after_vm_destroy},
        {"failed", plugin->vm_start_failed},
    };
    struct hugevm_vm_ref vm = {
        .size = sizeof vm,
        .uuid = session->uuid,
        .generation = session->generation,
        .memory_directories =
            (const char *const *)(session->n_directories > 0 ? session->directories : NULL)};
    struct hugevm_error error = {.size = sizeof error};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (strcmp(slots[i].word, word) == 0)
            return report(word, slots[i].slot(session->handle, &vm, &error), &error);
    return EXIT_USAGE;
}

static int do_word(struct session *session, const char *word, char ***words)
{
    if (strcmp(word, "before") == 0 || strcmp(word, "migrate") == 0)
        return do_before(session, word, words);
    if (strcmp(word, "map") == 0 || strcmp(word, "promise") == 0)
        return do_map(session, word, words);
    if (strcmp(word, "end") == 0)
        return do_end(session);
    if (strcmp(word, "launches") == 0) {
        session->vm_flags |= HUGEVM_VM_WILL_CALL_LAUNCHING;
        return EXIT_SUCCESS;
    }
    if (strcmp(word, "follow") == 0) {
        session->follows = true;
        return EXIT_SUCCESS;
    }
    if (**words != NULL && strcmp(word, "dir") == 0 && session->n_directories < MAX_DIRECTORIES) {
        session->directories[session->n_directories++] = *(*words)++;
        return EXIT_SUCCESS;
    }
    if (strcmp(word, "hold") == 0) {
        puts("holding");
        fflush(stdout);
        for (;;)
            pause();
    }
    if (**words != NULL && strcmp(word, "xml") == 0) {
        session->xml_path = *(*words)++;
        return EXIT_SUCCESS;
    }
    if (**words != NULL && strcmp(word, "vm") == 0) {
        snprintf(session->uuid, sizeof session->uuid, "%s", *(*words)++);
        session->generation = 0;
        return EXIT_SUCCESS;
    }
    if (**words != NULL && strcmp(word, "cancel-at") == 0) {
        session->cancel_at_pages = strtoull(*(*words)++, NULL, 10);
        return EXIT_SUCCESS;
    }
    return do_slot(session, word);
}

static int open_session(struct session *session, const char *module, const char *conf)
{
    const char *conf_files[] = {conf, NULL};
    struct hugevm_host host = {.size = sizeof host,
                               .abi_major = HUGEVM_ABI_MAJOR,
                               .abi_minor = HUGEVM_ABI_MINOR,
                               .name = "kernel test",
                               .opaque = session,
                               .progress = on_progress};
    struct hugevm_options options = {.size = sizeof options, .conf_files = conf_files};
    struct hugevm_error error = {.size = sizeof error};
    char message[256];
    session->plugin = hugevm_load(module, &host, message, sizeof message);
    if (session->plugin == NULL) {
        fprintf(stderr, "host: %s\n", message);
        return EXIT_USAGE;
    }
    int32_t code = session->plugin->open(&host, &options, &session->handle, &error);
    return code == HUGEVM_OK ? EXIT_SUCCESS : report("open", code, &error);
}

int main(int argc, char **argv)
{
    struct session session = {0};
    if (strcmp(argv[0], mapper_name) == 0)
        return mapper_main(argc, argv);
    if (argc < 4) {
        fprintf(stderr, "usage: host MODULE CONF WORD...\n");
        return EXIT_USAGE;
    }
    int status = open_session(&session, argv[1], argv[2]);
    for (char **words = argv + 3; status == EXIT_SUCCESS && *words != NULL;) {
        const char *word = *words++;
        status = do_word(&session, word, &words);
        fflush(stdout);
        if (status == EXIT_USAGE)
            fprintf(stderr, "host: cannot do '%s'\n", word);
    }
    if (session.plugin != NULL)
        session.plugin->close(session.handle);
    return status;
}
