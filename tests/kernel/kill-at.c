/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kills a program at an exact moment.
 *
 *   kill-at N[+USEC] PROGRAM ARGUMENT...
 *
 * Counts the system calls of PROGRAM that change a file or a pool: write (not to
 * stdin, stdout, stderr), rename. The N-th one is not made any more: PROGRAM gets SIGKILL right
 * before it. With +USEC it is begun, and the kill comes that much later: in the
 * middle of a long write.
 *
 * So N = 1, 2, ... until PROGRAM ends by itself are all moments at which the next
 * one can find something half done.
 *
 * Exit status: 0 killed (stdout says where), 1 PROGRAM ended by itself before, 2 usage.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_change(const struct __ptrace_syscall_info *info)
{
    if (info->op != PTRACE_SYSCALL_INFO_ENTRY)
        return false;
    switch (info->entry.nr) {
    case SYS_write:
        return info->entry.args[0] > STDERR_FILENO;
#ifdef SYS_rename
    case SYS_rename:
#endif
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
        return true;
    default:
        return false;
    }
}

static void print_moment(pid_t pid, const struct __ptrace_syscall_info *info, long late_us)
{
    char link[64], path[PATH_MAX] = "";
    if (info->entry.nr == SYS_write) {
        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, (int)info->entry.args[0]);
        ssize_t n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
    }
    if (late_us > 0)
        printf("killed %ld us into ", late_us);
    else
        printf("killed before ");
    printf("%s %s\n", info->entry.nr == SYS_write ? "write" : "rename", path);
}

/* Lets the call begin, and waits; the process may be over by then, which is no fault. */
static void let_begin(pid_t pid, long late_us)
{
    if (late_us > 0 && ptrace(PTRACE_CONT, pid, NULL, NULL) == 0)
        usleep((useconds_t)late_us);
}

static int finish(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) == pid && !WIFEXITED(status) && !WIFSIGNALED(status))
        ;
    return EXIT_SUCCESS;
}

static int watch(pid_t pid, unsigned long moment, long late_us)
{
    int status;
    unsigned long seen = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0)
        return 2;
    for (int number = 0; ptrace(PTRACE_SYSCALL, pid, NULL, number) == 0;) {
        struct __ptrace_syscall_info info = {0};
        if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
            return 1;
        bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        number = is_call || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        if (!is_call || ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0 ||
            !is_change(&info) || ++seen < moment)
            continue;
        print_moment(pid, &info, late_us);
        let_begin(pid, late_us);
        return finish(pid);
    }
    return 1;
}

int main(int argc, char **argv)
{
    char *end;
    unsigned long moment = argc > 2 ? strtoul(argv[1], &end, 10) : 0;
    long late_us = moment > 0 && *end == '+' ? strtol(end + 1, &end, 10) : 0;
    if (moment == 0 || *end != '\0') {
        fprintf(stderr, "usage: kill-at N[+USEC] PROGRAM ARGUMENT...\n");
        return 2;
    }
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execvp(argv[2], argv + 2);
        fprintf(stderr, "kill-at: cannot run %s: %s\n", argv[2], strerror(errno));
        _exit(2);
    }
    return pid > 0 ? watch(pid, moment, late_us) : 2;
}
