/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kills a program at one of its system calls, or fails that call:
 *
 *   fail-at CALL N kill|ERRNO PROGRAM ARGUMENT...
 *
 * CALL is the call's number, and it is the N-th such call of all threads of PROGRAM together
 * (strace counts for each thread alone). kill: SIGKILL on entry, so the call is not made. A
 * number: the call is not made and returns that error. What PROGRAM starts is not followed and
 * lives on.
 *
 * Says "fail-at: hit" to standard error where it has come to that call, and ends as PROGRAM does:
 * with its status, or by its signal.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)

typedef struct {
    uint64_t call;
    uint64_t number;
    int error; /* 0: kill */
    pid_t hit; /* the thread whose call is being failed; 0: none is */
} Fault;

static void die(const char *what)
{
    perror(what);
    _exit(125);
}

/* The running call of a stopped thread: its number, or its result. */
static void set_call(pid_t thread, int is_result, long value)
{
#if defined(__x86_64__)
    size_t at = is_result ? offsetof(struct user_regs_struct, rax)
                          : offsetof(struct user_regs_struct, orig_rax);
    if (ptrace(PTRACE_POKEUSER, thread, at, value) != 0)
        die("PTRACE_POKEUSER");
#else
    (void)thread, (void)is_result, (void)value;
    errno = ENOSYS;
    die("failing a call on this architecture");
#endif
}

/* FALSE: the program has been killed. */
static int at_call(Fault *fault, pid_t thread)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0)
        return 1; /* just killed by somebody else */
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && fault->hit == thread) {
        set_call(thread, 1, -fault->error);
        fault->hit = 0;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != fault->call ||
        --fault->number != 0)
        return 1;
    dprintf(STDERR_FILENO, "fail-at: hit\n");
    if (fault->error == 0)
        return 0;
    set_call(thread, 0, -1);
    fault->hit = thread;
    return 1;
}

/* How to let a stopped thread go on: the signal it gets. */
static int signal_of(int status)
{
    int number = WSTOPSIG(status);
    if (number == SYSCALL_STOP || status >> 16 != 0) /* a call, or a thread was made */
        return 0;
    return number == SIGSTOP ? 0 : number; /* with that a new thread begins */
}

static void end_like(int status)
{
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    _exit(125);
}

static void follow(Fault *fault, pid_t program)
{
    int status;
    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            if (thread == program)
                end_like(status);
            continue;
        }
        if (WSTOPSIG(status) == SYSCALL_STOP && !at_call(fault, thread))
            kill(program, SIGKILL);
        else
            ptrace(PTRACE_SYSCALL, thread, 0, signal_of(status));
    }
    die("waitpid");
}

int main(int argc, char **argv)
{
    int status;
    if (argc < 5) {
        fprintf(stderr, "usage: fail-at CALL N kill|ERRNO PROGRAM ARGUMENT...\n");
        return 2;
    }
    Fault fault = {.call = strtoull(argv[1], NULL, 10), .number = strtoull(argv[2], NULL, 10)};
    if (strcmp(argv[3], "kill") != 0)
        fault.error = atoi(argv[3]);
    pid_t program = fork();
    if (program == 0) {
        raise(SIGSTOP);
        execvp(argv[4], argv + 4);
        die(argv[4]);
    }
    if (program < 0 || waitpid(program, &status, WUNTRACED) != program)
        die("fork");
    if (ptrace(PTRACE_SEIZE, program, 0, OPTIONS) != 0)
        die("PTRACE_SEIZE");
    kill(program, SIGCONT);
    follow(&fault, program);
}
