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
 *   map SIZE:PAGES[@NODE]...     starts the mapper: it maps the pages, bound to NODE, and
 *                                touches them
 *   end                          kills the mapper, and waits for its end
 *   cancel-at PAGES              the progress callback cancels once that many pages were got
 *   hold                         says "holding", and waits until it is killed
 *
 * The mapper stands in for QEMU, which is not in that VM: only the kernel's pools
 * matter there, and these see the same calls (a shared mapping, mbind, a touch). It
 * is this program again, executed with the words by which hugevm knows a QEMU,
 * and it outlives the host as QEMU outlives its agent.
 *
 * Exit status: 0 done, 1 a slot failed (its words are printed), 2 usage, 3 the
 * mapper did not get its pages. The first failure ends the program.
 */
#include "hugevm/plugin.h"
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

#define MAX_PROPERTIES 8
#define MAX_PARTS 8
#define MAX_DIRECTORIES 4
#define MAX_XML_BYTES 65536

enum { EXIT_SLOT = 1, EXIT_USAGE = 2, EXIT_MAPPER = 3 };

/* ---- the mapper: qemu-mapper -uuid UUID ANSWER_FD DIRECTORY... SIZE:PAGES[@NODE]... */

static char mapper_name[] = "qemu-mapper";
static int answer_fd = -1;

static _Noreturn void mapper_fail(const char *text)
{
    if (write(answer_fd, text, strlen(text)) < 0)
        _exit(EXIT_USAGE);
    _exit(EXIT_MAPPER);
}

static void on_sigbus(int number)
{
    (void)number;
    mapper_fail("SIGBUS at a touch");
}

/* "2M:64@1": false for anything else. */
static bool parse_part(const char *text, int *out_shift, unsigned long *out_pages, int *out_node)
{
    char unit, at = '@', rest;
    unsigned long size;
    int node = -1;
    int n = sscanf(text, "%lu%c:%lu%c%d%c", &size, &unit, out_pages, &at, &node, &rest);
    if ((n != 3 && n != 5) || at != '@' || size == 0 || (unit != 'M' && unit != 'G'))
        return false;
    *out_shift = __builtin_ctzl(size) + (unit == 'M' ? 20 : 30);
    *out_node = node;
    return true;
}

/* An unlinked file in the first directory with pages of this size, as QEMU makes it; -1: none. */
static int make_file(char *const *directories, int shift, size_t bytes)
{
    for (; **directories == '/'; directories++) {
        struct statfs fs;
        char path[512];
        snprintf(path, sizeof path, "%s/memory.XXXXXX", *directories);
        if (statfs(*directories, &fs) != 0 || fs.f_bsize != 1L << shift)
            continue;
        int fd = mkstemp(path);
        if (fd < 0 || unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0)
            mapper_fail("no memory file");
        return fd;
    }
    return -1;
}

/* Maps as QEMU does: mbind comes after mmap, so the kernel checks nothing per node at mmap. */
static void map_part(const char *text, char *const *directories)
{
    int shift, node;
    unsigned long pages;
    if (!parse_part(text, &shift, &pages, &node))
        mapper_fail("not SIZE:PAGES[@NODE]");
    size_t bytes = pages << shift;
    int fd = make_file(directories, shift, bytes);
    int flags =
        fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | shift << MAP_HUGE_SHIFT;
    volatile char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (start == MAP_FAILED)
        mapper_fail(errno == ENOMEM ? "ENOMEM at mmap" : "mmap failed");
    unsigned long mask = 1UL << (node >= 0 ? node : 0);
    if (node >= 0 && syscall(SYS_mbind, start, bytes, MPOL_BIND, &mask, sizeof mask * 8, 0UL) != 0)
        mapper_fail("mbind failed");
    for (size_t at = 0; at < bytes; at += (size_t)1 << shift)
        start[at] = 1;
}

static int mapper_main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_sigbus};
    if (argc < 5)
        return EXIT_USAGE;
    answer_fd = atoi(argv[3]);
    sigaction(SIGBUS, &action, NULL);
    setsid();
    /* what reads the host's output must not wait for the mapper too */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    for (int i = 4; i < argc; i++)
        if (argv[i][0] != '/')
            map_part(argv[i], argv + 4);
    close(answer_fd); /* an empty answer: all is well */
    for (;;)
        pause();
}

/* ---- the host */

struct session {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
    char uuid[64];
    uint64_t generation;
    uint64_t cancel_at_pages; /* 0: never */
    uint32_t vm_flags;
    char *directories[MAX_DIRECTORIES + 1];
    int n_directories;
    pid_t mapper; /* 0: none */
};

static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    const struct session *session = opaque;
    (void)total_pages, (void)what;
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
    if (code == HUGEVM_OK) {
        print_result(session, result);
        plugin->result_free(result);
    }
    return report(word, code, &error);
}

static _Noreturn void exec_mapper(const struct session *session, int fd, char **parts)
{
    char option[] = "-uuid", number[16];
    char *argv[5 + MAX_DIRECTORIES + MAX_PARTS] = {mapper_name, option, (char *)session->uuid,
                                                   number};
    snprintf(number, sizeof number, "%d", fd);
    int n = 4;
    for (int i = 0; i < session->n_directories; i++)
        argv[n++] = session->directories[i];
    for (int i = 0; i < MAX_PARTS && *parts != NULL && strchr(*parts, ':') != NULL; i++)
        argv[n++] = *parts++;
    execv("/proc/self/exe", argv);
    _exit(EXIT_USAGE);
}

static int do_map(struct session *session, char ***words)
{
    int pair[2];
    char answer[64] = "";
    if (session->uuid[0] == '\0' || pipe(pair) != 0)
        return EXIT_USAGE;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        exec_mapper(session, pair[1], *words);
    }
    session->mapper = pid;
    close(pair[1]);
    ssize_t n = read(pair[0], answer, sizeof answer - 1);
    close(pair[0]);
    while (**words != NULL && strchr(**words, ':') != NULL)
        (*words)++;
    printf("map: %s, process %d\n", n == 0 ? "OK" : answer, (int)pid);
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
    if (strcmp(word, "map") == 0)
        return do_map(session, words);
    if (strcmp(word, "end") == 0)
        return do_end(session);
    if (strcmp(word, "launches") == 0) {
        session->vm_flags |= HUGEVM_VM_WILL_CALL_LAUNCHING;
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
