/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "door.h"

#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define MODULE HUGEVM_MODULE_DIR "/hugevm.so"
#define MAX_BYTES (64u * 1024 * 1024)

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number)
{
    (void)number;
    is_interrupted = 1;
}

static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    (void)opaque, (void)done_pages, (void)total_pages, (void)what;
    return is_interrupted;
}

/* Warnings: where this host is not as it should be. */
static void on_log(void *opaque, uint32_t level, const char *domain, const char *text)
{
    (void)opaque, (void)domain;
    if (level >= HUGEVM_LOG_WARNING)
        syslog(LOG_WARNING, "%s", text);
}

void door_catch_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

gboolean door_is_interrupted(void)
{
    return is_interrupted != 0;
}

gboolean door_open(Door *door, const char *owner_name, gint64 owner_pid, char **out_problem)
{
    const struct hugevm_host host = {.size = sizeof host,
                                     .abi_major = HUGEVM_ABI_MAJOR,
                                     .abi_minor = HUGEVM_ABI_MINOR,
                                     .name = owner_name,
                                     .log = on_log,
                                     .progress = on_progress,
                                     .owner_pid = owner_pid};
    struct hugevm_error error = {.size = sizeof error};
    char message[512];
    door->plugin = hugevm_load(MODULE, &host, message, sizeof message);
    if (door->plugin == NULL)
        *out_problem = g_strdup(message);
    else if (door->plugin->open(&host, NULL, &door->handle, &error) != HUGEVM_OK)
        *out_problem = door_problem(&error);
    return door->handle != NULL;
}

void door_clear(Door *door)
{
    if (door->handle != NULL)
        door->plugin->close(door->handle);
    door->handle = NULL;
}

char *door_problem(const struct hugevm_error *error)
{
    const char *separator = error->hint[0] != '\0' ? "; what to do: " : "";
    return g_strconcat(error->message, separator, error->hint, NULL);
}

gboolean door_tell(const Door *door, DoorEvent event, struct hugevm_vm_ref *vm, char **out_problem)
{
    struct hugevm_error error = {.size = sizeof error};
    vm->size = sizeof *vm;
    int32_t code = event(door->handle, vm, &error);
    if (code == HUGEVM_OK || code == HUGEVM_ERROR_UNKNOWN_VM || code == HUGEVM_ERROR_NOT_SUPPORTED)
        return TRUE;
    *out_problem = door_problem(&error);
    return FALSE;
}

void door_take_back(const Door *door, const char *uuid, uint64_t generation)
{
    const struct hugevm_vm_ref vm = {.size = sizeof vm, .uuid = uuid, .generation = generation};
    if (generation != 0)
        door->plugin->vm_start_failed(door->handle, &vm, NULL);
}

char *door_read(int fd, gsize *out_bytes)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[16 * 1024];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return NULL;
        g_string_append_len(text, buffer, n);
        if (text->len > MAX_BYTES) {
            errno = EFBIG;
            return NULL;
        }
    }
    *out_bytes = text->len;
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean file_names(const char *path, const char *word)
{
    gsize n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno != ENOENT;
    g_autofree char *text = door_read(fd, &n);
    close(fd);
    return text == NULL || memmem(text, n, word, strlen(word)) != NULL;
}

gboolean door_ledger_names(const char *uuid)
{
    g_autofree char *word = g_ascii_strdown(uuid, -1); /* as the ledger writes it */
    return word[0] != '\0' && (file_names("/run/hugevm/ledger.json", word) ||
                               file_names("/run/hugevm/ledger.copy.json", word));
}
