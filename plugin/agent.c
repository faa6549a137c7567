/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `hugevmctl run`: how an agent uses hugevm. The life of each VM is in agent-vm.c, which is
 * the file to read first; here is what several of them are to each other.
 *
 *   plan each -> connect to libvirt -> claim each -> start each -> wait -> end those left
 *
 * All or none: only when each VM has its pages the first one is started, so no guest boots
 * in vain because another is refused. From its start on a VM's events are handled on a thread
 * of its own: its end gives back its pages, whatever happens to the others.
 *
 * Plans show bad input before libvirt is bothered. Connecting comes before the claims:
 * libvirt probes QEMU for seconds, and pages that wait meanwhile are of use to nobody.
 */
#include "agent.h"

#include "agent-say.h"
#include "agent-vm.h"
#include "error.h"
#include "loader.h"
#include "settings.h"

typedef struct {
    AgentShared shared;
    GPtrArray *vms; /* AgentVm */
} Agent;

static void vm_free(gpointer vm)
{
    agent_vm_free(vm);
}

static void agent_clear(Agent *agent)
{
    g_clear_pointer(&agent->vms, g_ptr_array_unref);
    agent_libvirt_close(agent->shared.libvirt);
    agent_events_free(agent->shared.events);
    agent_signals_free(agent->shared.signals);
    hv_memory_dir_free(agent->shared.memory_dir);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Agent, agent_clear)

static int prepare(Agent *agent, const AgentRun *run)
{
    GError *error = NULL;
    char message[512];
    agent->shared.run = run;
    agent->shared.plugin = hugevm_load(run->module_path, NULL, message, sizeof message);
    if (agent->shared.plugin == NULL) {
        agent_say_failure(message);
        return EXIT_SYSTEM;
    }
    agent->shared.signals = agent_signals_new(&error);
    if (agent->shared.signals != NULL)
        agent->shared.events = agent_events_new(&error);
    if (agent->shared.events == NULL)
        return agent_say_error(error);
    agent->vms = g_ptr_array_new_with_free_func(vm_free);
    for (guint i = 0; i < run->domain_count; i++)
        g_ptr_array_add(agent->vms, agent_vm_new(&agent->shared, &run->domains[i]));
    return EXIT_DONE;
}

/* In order, and no further than the first that fails. */
static int for_each(const Agent *agent, int (*step)(AgentVm *vm))
{
    int status = EXIT_DONE;
    for (guint i = 0; status == EXIT_DONE && i < agent->vms->len; i++)
        status = step(g_ptr_array_index(agent->vms, i));
    return status;
}

static int refuse_twins(const Agent *agent)
{
    for (guint i = 0; i < agent->vms->len; i++)
        for (guint j = 0; j < i; j++) {
            const char *same = agent_vm_likeness(g_ptr_array_index(agent->vms, i),
                                                 g_ptr_array_index(agent->vms, j));
            if (same == NULL)
                continue;
            g_autofree char *message = g_strdup_printf(
                "the domains %u and %u have the same %s: one of them cannot run beside the other",
                j + 1, i + 1, same);
            agent_say_failure(message);
            return EXIT_REFUSED;
        }
    return EXIT_DONE;
}

/* Where memory files are, for this host as for the driver of a run; NULL: there are none. */
static HvMemoryDir *find_memory_dir(const AgentRun *run)
{
    g_autoptr(HvRoot) root = hv_root_new(run->root);
    g_autoptr(HvSettings) settings =
        hv_settings_load(root, (const char *const *)run->conf_files, NULL);
    return settings != NULL ? hv_settings_memory_dir(settings, root) : NULL;
}

static int connect_libvirt(Agent *agent)
{
    agent->shared.memory_dir = find_memory_dir(agent->shared.run);
    const char *path = agent->shared.memory_dir != NULL ? agent->shared.memory_dir->path : NULL;
    agent->shared.libvirt = agent_libvirt_open(agent->shared.run->uri, path, agent->shared.events);
    if (agent->shared.libvirt == NULL)
        return EXIT_SYSTEM;
    if (!agent_signals_came(agent->shared.signals))
        return EXIT_DONE;
    agent_say_failure("interrupted before anything was taken");
    return EXIT_REFUSED;
}

static int start_all(Agent *agent)
{
    int status = for_each(agent, agent_vm_plan);
    if (status == EXIT_DONE)
        status = refuse_twins(agent);
    if (status == EXIT_DONE)
        status = connect_libvirt(agent);
    if (status == EXIT_DONE)
        status = for_each(agent, agent_vm_claim);
    return status == EXIT_DONE ? for_each(agent, agent_vm_start) : status;
}

/* Whatever came before, at the end there is no VM and no claim. */
static int end_all(Agent *agent, AgentWish why)
{
    int status = EXIT_DONE;
    for (guint i = 0; i < agent->vms->len; i++)
        agent_vm_want_end(g_ptr_array_index(agent->vms, i), why);
    for (guint i = 0; i < agent->vms->len; i++) {
        int ended = agent_vm_wait_end(g_ptr_array_index(agent->vms, i));
        status = status == EXIT_DONE ? ended : status;
    }
    return status;
}

__attribute__((visibility("default"))) int hugevm_agent_run(const AgentRun *run)
{
    g_auto(Agent) agent = {0};
    AgentWish why = AGENT_WISH_OTHER_FAILED;
    int status = prepare(&agent, run);
    if (status != EXIT_DONE)
        return status;
    status = start_all(&agent);
    if (status == EXIT_DONE) {
        AgentReason reason =
            agent_signals_wait(agent.shared.signals, agent.vms->len, run->for_seconds);
        why = reason == AGENT_INTERRUPTED ? AGENT_WISH_INTERRUPTED : AGENT_WISH_TIME_IS_UP;
    } else if (agent_signals_came(agent.shared.signals)) {
        why = AGENT_WISH_INTERRUPTED;
    }
    int end_status = end_all(&agent, why);
    return status != EXIT_DONE ? status : end_status;
}
