// SPDX-License-Identifier: LGPL-2.1-or-later
//
// TAP output, and the supervisor of a probe.
//
// The facts run in a worker process. The supervisor does nothing but wait, so that it survives
// whatever the facts run into (SIGBUS, a failed requirement, SIGTERM from the test runner): it ends
// the worker's process group, drops the guards, restores the pools, and says in a TAP point of its
// own whether that succeeded. Only SIGKILL of the supervisor itself leaves something behind; guards
// have fixed keys, so the next run removes those.
//
// Probes write the machine's pools: they refuse to run unless asked to.

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

// Shared between worker and supervisor.
static struct tally {
    int points;
    int failures;
} * tally;

static void point(bool passed, const char *suffix, const char *fact, va_list args)
{
    tally->points++;
    printf("%sok %d - ", passed ? "" : "not ", tally->points);
    vprintf(fact, args);
    printf("%s\n", suffix);
    fflush(stdout);
    if (!passed)
        tally->failures++;
}

bool ok(bool passed, const char *fact, ...)
{
    va_list args;
    va_start(args, fact);
    point(passed, "", fact, args);
    va_end(args);
    return passed;
}

void skip(const char *reason, const char *fact, ...)
{
    char suffix[256];
    snprintf(suffix, sizeof suffix, " # SKIP %s", reason);
    va_list args;
    va_start(args, fact);
    point(true, suffix, fact, args);
    va_end(args);
}

static void comment(const char *prefix, const char *text, va_list args)
{
    printf("# %s", prefix);
    vprintf(text, args);
    putchar('\n');
    fflush(stdout);
}

void diag(const char *text, ...)
{
    va_list args;
    va_start(args, text);
    comment("", text, args);
    va_end(args);
}

void characterise(const char *text, ...)
{
    struct utsname name;
    char prefix[sizeof name.release + 16] = "";
    if (uname(&name) == 0)
        snprintf(prefix, sizeof prefix, "kernel %s: ", name.release);
    va_list args;
    va_start(args, text);
    comment(prefix, text, args);
    va_end(args);
}

void require(bool condition, const char *what, ...)
{
    if (condition)
        return;
    va_list args;
    va_start(args, what);
    point(false, " (the remaining facts were not tried)", what, args);
    va_end(args);
    _exit(1);
}

bool probe_in_throwaway_vm(void)
{
    const char *value = getenv("HUGEVM_THROWAWAY");
    return value != NULL && *value == '1';
}

static const char *reason_to_refuse(void)
{
    const char *e2e = getenv("HUGEVM_E2E");
    if (!probe_in_throwaway_vm() && (e2e == NULL || *e2e != '1'))
        return "writes this machine's huge page pools: set HUGEVM_E2E=1 to allow it";
    if (geteuid() != 0)
        return "needs root";
    if (!pool_offered(SIZE_2M_KIB))
        return "this kernel offers no 2 MiB huge pages";
    return NULL;
}

// Two probes at a time would see each other's pages. The lock goes with the process.
static void wait_for_other_probes(void)
{
    int fd = open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX) != 0)
        close(fd);
}

static pid_t start_worker(void (*facts)(void), const sigset_t *blocked)
{
    pid_t pid = fork();
    if (pid != 0) {
        if (pid > 0)
            setpgid(pid, pid);
        return pid;
    }
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_UNBLOCK, blocked, NULL);
    facts();
    users_kill_all();
    _exit(0);
}

// Returns the signal that interrupted the probe, or 0 when the worker ended by itself.
static int wait_for_worker(pid_t worker, const sigset_t *signals, int *out_status)
{
    for (;;) {
        int number = sigwaitinfo(signals, NULL);
        if (number > 0 && number != SIGCHLD)
            return number;
        if (waitpid(worker, out_status, WNOHANG) == worker)
            return 0;
    }
}

static void reap_all(pid_t worker)
{
    kill(-worker, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

int probe_run(void (*facts)(void))
{
    const char *reason = reason_to_refuse();
    if (reason != NULL) {
        printf("1..0 # SKIP %s\n", reason);
        return 0;
    }

    sigset_t signals;
    sigemptyset(&signals);
    const int watched[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&signals, watched[i]);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    wait_for_other_probes();

    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        abort();
    guards_drop_all();
    pools_remember();

    int status = 0;
    pid_t worker = start_worker(facts, &signals);
    int interrupted = worker > 0 ? wait_for_worker(worker, &signals, &status) : 0;
    if (worker > 0)
        reap_all(worker);
    guards_drop_all();
    bool restored = pools_restore();

    if (interrupted != 0) {
        printf("Bail out! interrupted by signal %d, pools %srestored\n", interrupted,
               restored ? "" : "NOT ");
        return 128 + interrupted;
    }
    ok(worker > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0,
       "the facts were tried to the end (wait status %d)", status);
    ok(restored, "every pool is as it was found");
    printf("1..%d\n", tally->points);
    return tally->failures == 0 ? 0 : 1;
}
