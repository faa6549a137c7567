/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The events of one VM: what its agent calls, and what its QEMU does.
 *
 * A forked child stands in for QEMU. It makes one file per cell in the VM's directory, maps and
 * touches one after the other, as QEMU does, and answers each command with an outcome. It takes the
 * command line by which hugevm knows a QEMU where the agent does not say the process.
 */
#include "orders.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)SIZE_2M_KIB * 1024)

enum { UUID_BYTES = 37 };

static char *command_line;
static size_t command_line_bytes;

void vm_command_line(char *start, size_t bytes)
{
    command_line = start;
    command_line_bytes = bytes;
}

static void write_uuid(char *out, const struct vm *vm)
{
    snprintf(out, UUID_BYTES, "00000000-0000-4000-8000-00000000000%c", 'a' + vm->number);
}

/* ---- in the child */

static int answer_fd = -1;

static void answer(enum outcome outcome)
{
    char byte = (char)outcome;
    if (write(answer_fd, &byte, 1) != 1)
        _exit(1);
}

static _Noreturn void answer_and_end(enum outcome outcome)
{
    answer(outcome);
    _exit(0);
}

static void on_sigbus(int number)
{
    (void)number;
    answer_and_end(OUTCOME_SIGBUS);
}

/* /proc/PID/cmdline of a forked process is its parent's, until it writes its own over it. */
static void take_command_line(const struct vm *vm)
{
    static const char option[] = "stand-in\0-uuid";
    char uuid[UUID_BYTES];
    write_uuid(uuid, vm);
    memset(command_line, 0, command_line_bytes);
    memcpy(command_line, option, sizeof option);
    memcpy(command_line + sizeof option, uuid, sizeof uuid);
}

static void touch(const struct vm *vm, char *const *cells)
{
    for (int cell = 0; cell < CELLS; cell++)
        for (long page = 0; cells[cell] != NULL && page < vm->pages[cell]; page++)
            *(volatile char *)(cells[cell] + (size_t)page * PAGE_BYTES) = 1;
}

static char *map_cell(const struct vm *vm, int cell)
{
    char path[256];
    size_t bytes = (size_t)vm->pages[cell] * PAGE_BYTES;
    snprintf(path, sizeof path, "%s/cell%d", stage_directory(vm->number), cell);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0)
        answer_and_end(OUTCOME_FAILED);
    char *start =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, vm->is_private ? MAP_PRIVATE : MAP_SHARED, fd, 0);
    if (start == MAP_FAILED)
        answer_and_end(errno == ENOMEM ? OUTCOME_NO_MEMORY : OUTCOME_FAILED);
    return start;
}

/* As the target of a postcopy migration does before it asks for the pages one by one. */
static void discard(const struct vm *vm, char *const *cells)
{
    for (int cell = 0; cell < CELLS; cell++)
        if (madvise(cells[cell], (size_t)vm->pages[cell] * PAGE_BYTES,
                    vm->is_private ? MADV_DONTNEED : MADV_REMOVE) != 0)
            answer_and_end(OUTCOME_FAILED);
}

static _Noreturn void stand_in(const struct vm *vm)
{
    struct sigaction action = {.sa_handler = on_sigbus};
    char *cells[CELLS] = {NULL};
    char command;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGBUS, &action, NULL);
    if (vm->has_command_line)
        take_command_line(vm);
    for (int cell = 0; cell < CELLS; cell++) {
        cells[cell] = map_cell(vm, cell);
        touch(vm, cells);
    }
    answer(OUTCOME_TOUCHED);
    while (read(answer_fd, &command, 1) == 1) {
        if (command == 'x')
            discard(vm, cells);
        else
            touch(vm, cells);
        answer(command == 'x' ? OUTCOME_MAPPED : OUTCOME_TOUCHED);
    }
    _exit(0);
}

/* ---- its life, from outside */

static bool expect_outcome(const struct vm *vm, enum outcome wanted)
{
    char byte;
    if (read(vm->channel, &byte, 1) != 1)
        byte = OUTCOME_FAILED;
    return byte == (char)wanted || stage_fail("its QEMU says: %s", outcome_name(byte));
}

static bool do_map(struct vm *vm)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return stage_fail("no socket pair");
    vm->pid = fork();
    if (vm->pid == 0) {
        answer_fd = pair[1];
        close(pair[0]);
        stand_in(vm);
    }
    close(pair[1]);
    vm->channel = pair[0];
    return expect_outcome(vm, OUTCOME_TOUCHED);
}

static bool do_command(struct vm *vm, char command, enum outcome wanted)
{
    if (send(vm->channel, &command, 1, MSG_NOSIGNAL) != 1)
        return stage_fail("its QEMU is gone");
    return expect_outcome(vm, wanted);
}

static bool do_kill(struct vm *vm)
{
    if (vm->pid <= 0)
        return true;
    kill(vm->pid, SIGKILL);
    while (waitpid(vm->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(vm->channel);
    vm->pid = 0;
    return true;
}

/* ---- its agent */

static bool judge(int32_t code, const struct hugevm_error *error)
{
    return code == HUGEVM_OK || stage_fail("code %d: %s", (int)code, error->message);
}

static size_t write_xml(char *out, size_t bytes, const struct vm *vm)
{
    char uuid[UUID_BYTES];
    write_uuid(uuid, vm);
    int n = snprintf(out, bytes,
                     "<domain type='qemu'><name>vm%d</name><uuid>%s</uuid>"
                     "<memory unit='MiB'>%ld</memory>"
                     "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>"
                     "</memoryBacking><vcpu>2</vcpu><cpu><numa>"
                     "<cell id='0' cpus='0' memory='%ld' unit='MiB'/>"
                     "<cell id='1' cpus='1' memory='%ld' unit='MiB'/></numa></cpu>"
                     "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
                     "<devices><memballoon model='%s'/></devices></domain>",
                     vm->number, uuid, 2 * (vm->pages[0] + vm->pages[1]), 2 * vm->pages[0],
                     2 * vm->pages[1], vm->has_balloon ? "virtio" : "none");
    return n > 0 ? (size_t)n : 0;
}

static bool do_claim(struct vm *vm)
{
    const struct hugevm_plugin *plugin = stage_plugin();
    char xml[1024];
    struct hugevm_vm description = {.size = sizeof description,
                                    .flags = vm->is_silent ? 0 : HUGEVM_VM_WILL_CALL_LAUNCHING,
                                    .domain_xml = xml,
                                    .domain_xml_bytes = write_xml(xml, sizeof xml, vm)};
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_result *result = NULL;
    int32_t code =
        vm->is_incoming
            ? plugin->before_vm_migrate_destination(vm->handle, &description, &result, &error)
            : plugin->before_vm_start(vm->handle, &description, &result, &error);
    if (code == HUGEVM_OK)
        vm->generation = plugin->result_generation(result);
    plugin->result_free(result);
    return judge(code, &error);
}

static bool do_slot(struct vm *vm, char event)
{
    const struct hugevm_plugin *plugin = stage_plugin();
    char uuid[UUID_BYTES];
    const char *const directories[] = {stage_directory(vm->number), NULL};
    struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = uuid, .generation = vm->generation};
    struct hugevm_error error = {.size = sizeof error};
    write_uuid(uuid, vm);
    if (event == 'l' && vm->has_directory)
        ref.memory_directories = directories;
    if (event == 's' && !vm->has_command_line)
        ref.qemu_pid = vm->pid;
    int32_t code = event == 'l'   ? plugin->vm_launching(vm->handle, &ref, &error)
                   : event == 's' ? plugin->after_vm_start(vm->handle, &ref, &error)
                                  : plugin->after_vm_destroy(vm->handle, &ref, &error);
    return judge(code, &error);
}

bool vm_event(struct vm *vm, char event)
{
    switch (event) {
    case 'c':
        return do_claim(vm);
    case 'l':
        return vm->is_silent || do_slot(vm, event);
    case 'm':
        return do_map(vm);
    case 'x':
        return do_command(vm, event, OUTCOME_MAPPED);
    case 't':
        return do_command(vm, event, OUTCOME_TOUCHED);
    case 'k':
        return do_kill(vm);
    case 's':
    case 'g':
        return do_slot(vm, event);
    default:
        return stage_fail("no such event: %c", event);
    }
}

void vm_end(struct vm *vm)
{
    do_kill(vm);
    vm->generation = 0;
    if (vm->handle != NULL)
        do_slot(vm, 'g');
}
