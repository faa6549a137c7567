/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt's qemu hook, /etc/libvirt/hooks/qemu.d/50-hugevm. libvirt runs it as
 *
 *     50-hugevm NAME OPERATION SUB-OPERATION EXTRA  < domain XML
 *
 * and holds the VM's lock meanwhile, so that `virsh list` waits for us too.
 *
 *   call             here                          exit status other than 0
 *   migrate begin    page sizes that this host     the migration is refused
 *   restore begin    lacks, if so configured       the restore is refused, the file stays
 *   prepare begin    claim the pages               the start fails; stderr reaches its user
 *   start begin      QEMU is about to be executed  the start fails, as above
 *   started begin    QEMU has its memory           would kill the VM: never
 *   reconnect begin  the same, of a VM that has    would kill the VM: never
 *                    outlived its libvirtd
 *   stopped end      the VM is gone: give back     is ignored by libvirt
 *   release end      once more, for a VM that      is ignored by libvirt
 *                    never came that far
 *   all others       nothing                       never
 *
 * At stopped, not release: in between libvirt removes the directories of QEMU's memory
 * files, and a failed start's launch mounts stand on them. A failed start ends with
 * both of them or with release alone, also where it is prepare that failed. On
 * success libvirt drops what a hook prints: warnings go to syslog. Only of migrate
 * and restore it reads stdout, as the VM's new XML; where there is nothing to change
 * nothing is printed. Both come before prepare, and neither is followed by release
 * where what lies between fails: so they must not take anything.
 *
 * attach is for a QEMU that ran before libvirt knew it: whatever pages it has were got
 * without a claim, and count as foreign. EXTRA (the reason of a stop, since libvirt
 * 10.5) is not looked at: a VM that has migrated away and one that was killed leave
 * the same, and older versions do not say it.
 *
 * A VM without huge pages is recognised before the module is loaded, and only on a
 * host with file_backed_memory there is more to do for it; and nothing is done for the
 * daemon of a user's session, which runs the same hooks.
 */
#include "ancestor.h"
#include "door.h"
#include "glance.h"
#include "glance-files.h"
#include "hugetlbfs.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define REFUSE 1

typedef struct {
    const char *name;
    char *xml;
    gsize xml_bytes;
    Glance glance;
    Door door;
    gboolean is_migration;
    gboolean must_refuse;
    gboolean must_start; /* whatever is wrong: it has nothing of ours */
} Call;

static void call_clear(Call *call)
{
    door_clear(&call->door);
    g_free(call->xml);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

/* Does the event concern a VM without huge pages? */
typedef gboolean (*OfFiles)(Call *call);

typedef struct {
    const char *operation;
    const char *sub_operation;
    gboolean (*handle)(Call *call, char **out_problem);
    gboolean claims;          /* for the daemon that runs us, which is then looked for */
    gboolean can_refuse;      /* else a problem goes to syslog, and libvirt goes on */
    gboolean may_outlive_xml; /* the claim may be older than what the XML says now */
    gboolean needs_claim;     /* of no interest for a VM that the ledger does not name */
    OfFiles of_files;         /* NULL: it does not */
} Event;

static void warn_of(const Call *call, const struct hugevm_result *result)
{
    const struct hugevm_plugin *plugin = call->door.plugin;
    for (uint64_t i = 0; i < plugin->result_warning_count(result); i++)
        syslog(LOG_WARNING, "VM %s: %s", call->glance.uuid, plugin->result_warning(result, i));
}

static gboolean print_xml(const char *xml, uint64_t xml_bytes)
{
    return fwrite(xml, 1, xml_bytes, stdout) == xml_bytes && fflush(stdout) == 0;
}

/* Whatever else is wrong, prepare will say: it comes next. */
static gboolean adapt(Call *call, char **out_problem)
{
    const struct hugevm_vm vm = {
        .size = sizeof vm, .domain_xml = call->xml, .domain_xml_bytes = call->xml_bytes};
    const struct hugevm_plugin *plugin = call->door.plugin;
    struct hugevm_result *result = NULL;
    struct hugevm_error error = {.size = sizeof error};
    if (plugin->size < sizeof *plugin) /* while one is being installed over the other */
        return TRUE;
    int32_t code = plugin->adapt_incoming_xml(call->door.handle, &vm, &result, &error);
    if (code != HUGEVM_OK) {
        call->must_refuse =
            code == HUGEVM_ERROR_SHORTAGE || (code == HUGEVM_ERROR_CONFLICT && call->is_migration);
        *out_problem = call->must_refuse ? door_problem(&error) : NULL;
        return !call->must_refuse;
    }
    uint64_t xml_bytes = 0;
    const char *xml = plugin->result_domain_xml(result, &xml_bytes);
    if (plugin->result_xml_changed(result) && !print_xml(xml, xml_bytes)) {
        call->must_refuse = TRUE; /* libvirt may have got a part of it */
        *out_problem = g_strdup("the XML for the incoming VM cannot be written to libvirt");
    }
    warn_of(call, result);
    plugin->result_free(result);
    return *out_problem == NULL;
}

static gboolean claim(Call *call, char **out_problem)
{
    const struct hugevm_vm vm = {.size = sizeof vm,
                                 .flags = HUGEVM_VM_WILL_CALL_LAUNCHING |
                                          HUGEVM_VM_CANNOT_EDIT_XML | HUGEVM_VM_ADOPT_CLAIM |
                                          HUGEVM_VM_HOST_WAITS | HUGEVM_VM_BY_LIBVIRTD,
                                 .domain_xml = call->xml,
                                 .domain_xml_bytes = call->xml_bytes};
    const struct hugevm_plugin *plugin = call->door.plugin;
    struct hugevm_result *result = NULL;
    struct hugevm_error error = {.size = sizeof error};
    if (plugin->before_vm_start(call->door.handle, &vm, &result, &error) != HUGEVM_OK) {
        *out_problem = door_problem(&error);
        return FALSE;
    }
    gboolean is_interrupted = door_is_interrupted();
    if (is_interrupted) { /* the signal came when all was got */
        door_take_back(&call->door, plugin->result_uuid(result), plugin->result_generation(result));
        *out_problem = g_strdup(DOOR_INTERRUPTED);
    }
    warn_of(call, result);
    plugin->result_free(result);
    return !is_interrupted;
}

static gboolean launching(Call *call, char **out_problem)
{
    if (call->glance.uuid[0] == '\0') /* libvirt names its VMs: this is no call of its */
        return TRUE;
    g_auto(GStrv) directories = hugetlbfs_directories_of_vm(call->glance.id, call->name);
    struct hugevm_vm_ref vm = {.flags = HUGEVM_VM_REF_HOST_WAITS,
                               .uuid = call->glance.uuid,
                               .memory_directories = (const char *const *)directories};
    return door_tell(&call->door, call->door.plugin->vm_launching, &vm, out_problem);
}

static gboolean started(Call *call, char **out_problem)
{
    struct hugevm_vm_ref vm = {.flags = HUGEVM_VM_REF_HOST_WAITS, .uuid = call->glance.uuid};
    return door_tell(&call->door, call->door.plugin->after_vm_start, &vm, out_problem);
}

/* A claim that VDSM has made since is for the next start, which libvirt has not heard of yet. */
static gboolean gone(Call *call, char **out_problem)
{
    struct hugevm_vm_ref vm = {.flags = HUGEVM_VM_REF_HOST_WAITS | HUGEVM_VM_REF_OWN_CLAIM,
                               .uuid = call->glance.uuid};
    return door_tell(&call->door, call->door.plugin->after_vm_destroy, &vm, out_problem);
}

/* On a host with file_backed_memory. One that has its memory elsewhere is only warned of. */
static gboolean starts_beside_files(Call *call)
{
    if (!glance_host_keeps_files())
        return FALSE;
    call->must_start = !glance_may_be_in_files(call->xml, call->xml_bytes);
    glance_at_domain(call->xml, call->xml_bytes, &call->glance);
    return TRUE;
}

static gboolean comes_to_or_from_files(Call *call)
{
    return glance_may_come_from_files(call->xml, call->xml_bytes) || glance_host_keeps_files();
}

static gboolean is_claimed_in_files(Call *call)
{
    if (!glance_may_be_in_files(call->xml, call->xml_bytes))
        return FALSE;
    glance_at_domain(call->xml, call->xml_bytes, &call->glance);
    return door_ledger_names(call->glance.uuid);
}

static const Event events[] = {
    {"migrate", "begin", adapt, .of_files = comes_to_or_from_files},
    {"restore", "begin", adapt},
    {"prepare", "begin", claim, .claims = TRUE, .can_refuse = TRUE,
     .of_files = starts_beside_files},
    {"start", "begin", launching, .can_refuse = TRUE, .of_files = is_claimed_in_files},
    {"started", "begin", started, .of_files = is_claimed_in_files},
    {"reconnect", "begin", started, .may_outlive_xml = TRUE, .needs_claim = TRUE},
    {"stopped", "end", gone, .may_outlive_xml = TRUE},
    {"release", "end", gone, .may_outlive_xml = TRUE},
};

static const Event *find_event(const char *operation, const char *sub_operation)
{
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        if (strcmp(events[i].operation, operation) == 0 &&
            strcmp(events[i].sub_operation, sub_operation) == 0)
            return &events[i];
    return NULL;
}

/* While a VM ran, its last memory device with huge pages may have been unplugged. */
static gboolean concerns_us(const Event *event, Call *call)
{
    if (event->may_outlive_xml || glance_may_want_hugepages(call->xml, call->xml_bytes))
        glance_at_domain(call->xml, call->xml_bytes, &call->glance);
    return (call->glance.wants_hugepages && !event->needs_claim) ||
           (event->may_outlive_xml && door_ledger_names(call->glance.uuid)) ||
           (event->of_files != NULL && event->of_files(call));
}

static int report(const Event *event, const Call *call, const char *problem)
{
    if ((event->can_refuse && !call->must_start) || call->must_refuse) {
        fprintf(stderr, "hugevm: %s\n", problem);
        return REFUSE;
    }
    syslog(LOG_ERR, "VM %s, %s: %s", call->glance.uuid, event->operation, problem);
    return 0;
}

/* Who will report the VM's end. A daemon of another name is as good, if it is our parent. */
static gint64 find_owner(const Call *call)
{
    static const char *const daemons[] = {"libvirtd", "virtqemud", NULL};
    gint64 owner = ancestor_find(daemons);
    if (owner != 0)
        return owner;
    syslog(LOG_WARNING,
           "VM %s: neither libvirtd nor virtqemud runs this hook: the claim ends with process %d",
           call->glance.uuid, (int)getppid());
    return getppid() > 1 ? getppid() : getpid();
}

int main(int argc, char **argv)
{
    g_auto(Call) call = {0};
    g_autofree char *problem = NULL;
    const Event *event = argc > 3 && geteuid() == 0 ? find_event(argv[2], argv[3]) : NULL;
    if (event == NULL)
        return 0;
    call.name = argv[1];
    call.is_migration = strcmp(argv[2], "migrate") == 0;
    call.xml = door_read(STDIN_FILENO, &call.xml_bytes);
    if (call.xml == NULL || !concerns_us(event, &call))
        return 0;
    openlog("hugevm", LOG_PID, LOG_DAEMON);
    door_catch_signals();
    gint64 owner_pid = event->claims ? find_owner(&call) : 0;
    if (door_open(&call.door, DOOR_LIBVIRT, owner_pid, &problem) && event->handle(&call, &problem))
        return 0;
    return report(event, &call, problem);
}
