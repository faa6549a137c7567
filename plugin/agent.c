/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `hugevmctl run`: how an agent uses hugevm, from one end of a VM's life to the
 * other:
 *
 *   plan -> connect to libvirt -> before_vm_start -> vm_launching -> create the
 *   domain -> after_vm_start -> wait -> destroy the domain -> after_vm_destroy
 *
 * plan shows bad input before libvirt is bothered. Connecting comes before
 * before_vm_start: libvirt probes QEMU for seconds, and pages that wait meanwhile
 * are pages that others may take.
 */
#include "agent.h"

#include "agent-check.h"
#include "agent-events.h"
#include "agent-slot.h"
#include "error.h"
#include "loader.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_SYSTEM = 3 };

#define PROGRESS_AFTER_US (500 * 1000)
#define LEFTOVER_WAIT_US (10 * G_USEC_PER_SEC)

typedef struct {
    const AgentRun *run;
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
    struct hugevm_result *result;
    AgentEvents *events;
    AgentSlot *slot; /* NULL: a URI was given */
    virConnectPtr connection;
    virDomainPtr domain;
    gint64 begin_us;
    gboolean has_progress_line;
} Agent;

static void silence(void *opaque, virErrorPtr error)
{
    (void)opaque, (void)error; /* libvirt would print to stderr what we report ourselves */
}

static void complain(const char *what, const char *message, const char *hint)
{
    fprintf(stderr, "hugevmctl: %s%s%s\n", what, what[0] != '\0' ? ": " : "", message);
    if (hint != NULL && hint[0] != '\0')
        fprintf(stderr, "  what to do: %s\n", hint);
}

static int complain_error(GError *error)
{
    g_autoptr(GError) owned = error;
    g_autofree char *message = hv_error_message(owned);
    complain("", message, hv_error_hint(owned));
    return EXIT_SYSTEM;
}

/* libvirt's messages may quote QEMU over several lines, and names from the XML. */
static int complain_libvirt(const char *what)
{
    g_autofree char *line = g_strdelimit(g_strdup(virGetLastErrorMessage()), "\r\n", ' ');
    g_autofree char *message = hv_escape(line);
    complain(what, message, NULL);
    return EXIT_SYSTEM;
}

static int complain_plugin(const struct hugevm_error *error)
{
    complain("", error->message, error->hint);
    switch (error->code) {
    case HUGEVM_ERROR_BAD_PROPERTY:
    case HUGEVM_ERROR_BAD_XML:
    case HUGEVM_ERROR_CONFLICT:
    case HUGEVM_ERROR_SHORTAGE:
    case HUGEVM_ERROR_TIMEOUT:
    case HUGEVM_ERROR_CANCELLED:
        return EXIT_REFUSED;
    default:
        return EXIT_SYSTEM;
    }
}

static void on_log(void *opaque, uint32_t level, const char *domain, const char *text)
{
    (void)opaque, (void)domain;
    if (level >= HUGEVM_LOG_WARNING)
        fprintf(stderr, "hugevmctl: warning: %s\n", text);
}

/* The host's progress callback: a line on a terminal once it takes long; a signal cancels. */
static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    Agent *agent = opaque;
    if (isatty(STDERR_FILENO) && g_get_monotonic_time() - agent->begin_us > PROGRESS_AFTER_US) {
        fprintf(stderr, "\r%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT "\033[K", what,
                (guint64)done_pages, (guint64)total_pages);
        agent->has_progress_line = TRUE;
    }
    return agent_events_interrupted(agent->events) ? 1 : 0;
}

static void end_progress(Agent *agent)
{
    if (agent->has_progress_line)
        fprintf(stderr, "\r\033[K");
    agent->has_progress_line = FALSE;
}

static int load_plugin(Agent *agent)
{
    const struct hugevm_host host = {.size = sizeof host,
                                     .abi_major = HUGEVM_ABI_MAJOR,
                                     .abi_minor = HUGEVM_ABI_MINOR,
                                     .name = "hugevmctl run",
                                     .opaque = agent,
                                     .log = on_log,
                                     .progress = on_progress};
    const struct hugevm_options options = {.size = sizeof options,
                                           .root = agent->run->root,
                                           .conf_files =
                                               (const char *const *)agent->run->conf_files};
    struct hugevm_error error = {.size = sizeof error};
    char message[512];
    agent->plugin = hugevm_load(agent->run->module_path, &host, message, sizeof message);
    if (agent->plugin == NULL) {
        complain("", message, NULL);
        return EXIT_SYSTEM;
    }
    if (agent->plugin->open(&host, &options, &agent->handle, &error) != HUGEVM_OK)
        return complain_plugin(&error);
    return EXIT_DONE;
}

/* The driver is still taking note that a killed run's VM has been ended; a VM of the same name
 * could not start meanwhile. */
static void wait_for_leftovers(virConnectPtr connection)
{
    gint64 give_up_us = g_get_monotonic_time() + LEFTOVER_WAIT_US;
    while (virConnectListAllDomains(connection, NULL, 0) > 0 && g_get_monotonic_time() < give_up_us)
        g_usleep(20 * 1000);
}

static int connect_libvirt(Agent *agent)
{
    g_autofree char *uri = g_strdup(agent->run->uri);
    GError *error = NULL;
    if (uri == NULL) {
        agent_check_kvm();
        agent->slot = agent_slot_take(&error);
        if (agent->slot == NULL)
            return complain_error(error);
        uri = agent_slot_uri(agent->slot);
    }
    agent->connection = virConnectOpen(uri);
    if (agent->connection == NULL)
        return complain_libvirt("cannot connect to libvirt");
    if (agent->slot != NULL)
        wait_for_leftovers(agent->connection);
    return EXIT_DONE;
}

static struct hugevm_property *list_properties(GHashTable *table, guint64 *out_count)
{
    GHashTableIter iter;
    gpointer name, value;
    guint count = g_hash_table_size(table), i = 0;
    struct hugevm_property *list = g_new0(struct hugevm_property, count + 1);
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &name, &value))
        list[i++] = (struct hugevm_property){name, value};
    *out_count = count;
    return list;
}

typedef int32_t (*BeginSlot)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                             struct hugevm_result **out_result, struct hugevm_error *error);

static int call_begin(Agent *agent, BeginSlot slot, const char *uuid)
{
    guint64 count;
    g_autofree struct hugevm_property *properties = list_properties(agent->run->properties, &count);
    struct hugevm_vm vm = {.size = sizeof vm,
                           .flags = HUGEVM_VM_WILL_CALL_LAUNCHING,
                           .uuid = uuid,
                           .domain_xml = agent->run->xml,
                           .domain_xml_bytes = agent->run->xml_bytes,
                           .properties = properties,
                           .property_count = count};
    struct hugevm_error error = {.size = sizeof error};
    agent->plugin->result_free(agent->result);
    agent->result = NULL;
    agent->begin_us = g_get_monotonic_time();
    int32_t code = slot(agent->handle, &vm, &agent->result, &error);
    end_progress(agent);
    return code == HUGEVM_OK ? EXIT_DONE : complain_plugin(&error);
}

static int fail_interrupted(const char *when)
{
    g_autofree char *message = g_strdup_printf("interrupted %s", when);
    complain("", message, NULL);
    return EXIT_REFUSED;
}

static int claim_vm(Agent *agent, const char *uuid)
{
    int status = call_begin(agent, agent->plugin->before_vm_start, uuid);
    if (status != EXIT_DONE)
        return status;
    for (uint64_t i = 0; i < agent->plugin->result_warning_count(agent->result); i++)
        fprintf(stderr, "hugevmctl: warning: %s\n",
                agent->plugin->result_warning(agent->result, i));
    return EXIT_DONE;
}

/* A domain without UUID gets one, so that its claim has a name. */
static int begin_vm(Agent *agent)
{
    int status = call_begin(agent, agent->plugin->plan, NULL);
    if (status != EXIT_DONE)
        return status; /* bad input shows before libvirt is bothered */
    g_autofree char *json = g_strdup(agent->plugin->result_json(agent->result));
    g_autofree char *uuid =
        agent->plugin->result_uuid(agent->result) == NULL ? g_uuid_string_random() : NULL;
    if (agent_check_is_refused(json) && (status = claim_vm(agent, uuid)) != EXIT_DONE)
        return status;
    GError *error = NULL;
    if (!agent_check_mounts(json, &error)) {
        complain_error(error);
        return EXIT_REFUSED;
    }
    status = connect_libvirt(agent);
    if (status != EXIT_DONE)
        return status;
    if (agent_events_interrupted(agent->events))
        return fail_interrupted("before anything was taken");
    return claim_vm(agent, uuid);
}

typedef int32_t (*RefSlot)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                           struct hugevm_error *error);

static gint64 qemu_pid(const Agent *agent)
{
    if (agent->slot == NULL || agent->domain == NULL)
        return 0;
    return agent_slot_qemu_pid(agent->slot, virDomainGetName(agent->domain));
}

/* Tells the plugin of an event; nothing to tell for a VM without claim. */
static int tell(Agent *agent, RefSlot slot)
{
    g_auto(GStrv) directories =
        agent->slot != NULL ? agent_slot_memory_directories(agent->slot) : NULL;
    struct hugevm_vm_ref ref = {.size = sizeof ref,
                                .memory_directories = (const char *const *)directories,
                                .uuid = agent->plugin->result_uuid(agent->result),
                                .qemu_pid = qemu_pid(agent),
                                .generation = agent->plugin->result_generation(agent->result)};
    struct hugevm_error error = {.size = sizeof error};
    if (ref.generation == 0 || slot(agent->handle, &ref, &error) == HUGEVM_OK)
        return EXIT_DONE;
    return complain_plugin(&error);
}

static int start_domain(Agent *agent)
{
    uint64_t bytes;
    const char *xml = agent->plugin->result_domain_xml(agent->result, &bytes);
    int status = tell(agent, agent->plugin->vm_launching);
    if (status != EXIT_DONE)
        return status;
    if (agent_events_interrupted(agent->events))
        return fail_interrupted("before the VM was started; its pages are given back");
    agent->domain = virDomainCreateXML(agent->connection, xml, 0);
    if (agent->domain == NULL)
        return complain_libvirt("the VM does not start");
    if (!agent_events_watch(agent->events, agent->domain))
        return complain_libvirt("cannot watch the VM");
    return tell(agent, agent->plugin->after_vm_start);
}

static int wait_for_end(Agent *agent)
{
    static const char *const ends[] = {[AGENT_TIME_IS_UP] = "time is up",
                                       [AGENT_VM_ENDED] = "the VM has ended",
                                       [AGENT_SIGNAL] = "interrupted"};
    g_autofree char *name = hv_quote(virDomainGetName(agent->domain));
    printf("running: %s\n", name);
    fflush(stdout);
    AgentEvent event = agent_events_wait(agent->events, agent->run->for_seconds);
    printf("ending: %s\n", ends[event]);
    return EXIT_DONE;
}

/* Whatever came before, at the end there is no VM and no claim. */
static int end_vm(Agent *agent)
{
    if (agent->domain != NULL && virDomainIsActive(agent->domain) == 1 &&
        virDomainDestroy(agent->domain) < 0 && virDomainIsActive(agent->domain) == 1)
        return complain_libvirt("cannot end the VM");
    return tell(agent, agent->domain != NULL ? agent->plugin->after_vm_destroy
                                             : agent->plugin->vm_start_failed);
}

static void agent_clear(Agent *agent)
{
    if (agent->domain != NULL)
        virDomainFree(agent->domain);
    if (agent->connection != NULL) {
        agent_events_unwatch(agent->events, agent->connection);
        virConnectClose(agent->connection);
    }
    agent_slot_free(agent->slot);
    if (agent->plugin != NULL) {
        agent->plugin->result_free(agent->result);
        agent->plugin->close(agent->handle);
    }
    agent_events_free(agent->events);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Agent, agent_clear)

__attribute__((visibility("default"))) int hugevm_agent_run(const AgentRun *run)
{
    GError *error = NULL;
    g_auto(Agent) agent = {.run = run};
    virSetErrorFunc(NULL, silence);
    agent.events = agent_events_new(&error);
    if (agent.events == NULL)
        return complain_error(error);
    int status = load_plugin(&agent);
    if (status == EXIT_DONE)
        status = begin_vm(&agent);
    if (status != EXIT_DONE) {
        if (agent.result != NULL)
            end_vm(&agent);
        return status;
    }
    status = start_domain(&agent);
    if (status == EXIT_DONE)
        status = wait_for_end(&agent);
    int end_status = end_vm(&agent);
    return status != EXIT_DONE ? status : end_status;
}
