/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VDSM's hooks, one program for all points: VDSM runs
 *
 *     /usr/libexec/vdsm/hooks/POINT/50_hugevm
 *
 * which are symbolic links to it; the directory's name is the point. It runs as
 * user vdsm, without arguments, with the VM's custom properties, vmId and
 * _hook_domxml (a file with the XML of the domain, or of the device) in its
 * environment.
 *
 *   point                          here                         exit status
 *   before_vdsm_start              set right what was missed    1 is logged
 *   before_vm_start                claim, put our elements in   2 refuses the start
 *   before_vm_migrate_destination  claim for the source's XML   2 refuses the migration
 *   before_vm_dehibernate          claim for the saved XML      2 refuses the restore
 *   before_memory_hotplug          claim for the device         2 refuses the plug
 *   before_nic_hotplug, before_disk_hotplug
 *                                  is the VM's memory fit?      2 refuses the plug
 *   after_vm_start, after_vm_migrate_destination, after_memory_hotplug
 *                                  QEMU has its memory          1 is logged
 *   after_vm_destroy, after_vm_migrate_source, after_vm_hibernate
 *                                  the VM is gone: give back    1 is logged
 *   after_get_caps, after_get_stats
 *                                  put VDSM's figures right     0 always
 *
 * Not after_vm_dehibernate: VDSM fails to start any program there. What that would
 * tell is seen when it matters.
 *
 * VDSM shows the last line of stderr of the last script: there is one, saying all.
 *
 * What needs root is done by the same program, started through sudo as
 * "vdsm-hook --as-root POINT", the command lines that the sudoers file allows. This
 * half opens the XML file, with vdsm's rights, and passes on its text (vdsm-message.h);
 * it also writes the changed text back. A VM without huge pages costs no sudo. VDSM's
 * figures (vdsm-report.h) and other devices than memory (vdsm-device.h) need no root;
 * before_vdsm_start is run by root itself.
 */
#include "ancestor.h"
#include "door.h"
#include "glance.h"
#include "glance-files.h"
#include "vdsm-device.h"
#include "vdsm-message.h"
#include "vdsm-report.h"
#include "vdsm-root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SUDO "/usr/bin/sudo"

/* Has the VM, or the device, anything to do with huge pages, or with a host that keeps memory in
 * files? If not, root is not asked. */
typedef gboolean (*Concerns)(const VdsmRequest *request);

static gboolean has_claim(const VdsmRequest *request)
{
    return door_ledger_names(request->uuid);
}

static gboolean xml_wants_pages(const VdsmRequest *request)
{
    Glance glance = {0};
    if (glance_may_want_hugepages(request->xml, request->xml_bytes))
        glance_at_domain(request->xml, request->xml_bytes, &glance);
    return glance.wants_hugepages;
}

static gboolean wants_pages(const VdsmRequest *request)
{
    return !glance_is_off(request->hugepages) || xml_wants_pages(request) ||
           glance_host_keeps_files();
}

static gboolean comes_with_pages(const VdsmRequest *request)
{
    return wants_pages(request) || glance_may_come_from_files(request->xml, request->xml_bytes);
}

/* By then before_vm_start has claimed, for the XML that the engine thinks of. */
static gboolean is_saved_with_pages(const VdsmRequest *request)
{
    return has_claim(request) || xml_wants_pages(request) || glance_host_keeps_files();
}

/* A device that names no page size gets that of its VM. */
static gboolean is_plugged_with_pages(const VdsmRequest *request)
{
    static const char element[] = "<pagesize";
    return has_claim(request) ||
           (request->uuid[0] != '\0' &&
            memmem(request->xml, request->xml_bytes, element, strlen(element)) != NULL);
}

/* Of a VM without claim nothing is known. */
static gboolean is_plugged_to_share(const VdsmRequest *request)
{
    return vdsm_device_may_share(request) && has_claim(request);
}

typedef struct {
    const char *name;
    Concerns concerns;
    gboolean needs_xml;
    gboolean may_refuse; /* VDSM goes on after a failure of the others */
    gboolean takes_edit; /* VDSM reads the XML file again */
    gboolean only_looks; /* at the ledger, which needs no root */
} Point;

static const Point points[] = {
    {"before_vm_start", wants_pages, .needs_xml = TRUE, .may_refuse = TRUE, .takes_edit = TRUE},
    {"before_vm_migrate_destination", comes_with_pages, .needs_xml = TRUE, .may_refuse = TRUE},
    {"before_vm_dehibernate", is_saved_with_pages, .needs_xml = TRUE, .may_refuse = TRUE},
    {"after_vm_start", has_claim},
    {"after_vm_migrate_destination", has_claim},
    {"after_vm_destroy", has_claim},
    {"after_vm_migrate_source", has_claim},
    {"after_vm_hibernate", has_claim},
    {"before_memory_hotplug", is_plugged_with_pages, .needs_xml = TRUE, .may_refuse = TRUE},
    {"after_memory_hotplug", has_claim, .needs_xml = TRUE},
    {"before_nic_hotplug", is_plugged_to_share, .needs_xml = TRUE, .may_refuse = TRUE,
     .only_looks = TRUE},
    {"before_disk_hotplug", is_plugged_to_share, .needs_xml = TRUE, .may_refuse = TRUE,
     .only_looks = TRUE},
};

static int report_caps(void)
{
    return vdsm_report_main(VDSM_REPORT_CAPS);
}

static int report_stats(void)
{
    return vdsm_report_main(VDSM_REPORT_STATS);
}

/* Points that are about no VM. */
static const struct {
    const char *name;
    int (*serve)(void);
} host_points[] = {
    {"before_vdsm_start", vdsm_root_before_vdsm_start},
    {"after_get_caps", report_caps},
    {"after_get_stats", report_stats},
};

/* The directory that a hook is run from. Newly allocated. */
static char *point_name(const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    return g_path_get_basename(directory);
}

static const Point *find_point(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(points); i++)
        if (strcmp(points[i].name, name) == 0)
            return &points[i];
    return NULL;
}

static int fail(const Point *point, const char *problem)
{
    fprintf(stderr, "hugevm: %s\n", problem);
    return point->may_refuse ? 2 : 1;
}

/* The domain XML with the rights that this process has; NULL with a problem. */
static char *read_xml(const char *path, gsize *out_bytes, char **out_problem)
{
    struct stat st;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        text = door_read(fd, out_bytes);
    else if (fd >= 0)
        errno = EINVAL;
    if (text == NULL)
        *out_problem = g_strdup_printf("cannot read the domain XML that _hook_domxml names: %s",
                                       g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return text;
}

/* A variable as text that can be passed on; what is no UTF-8 is no value of ours, and refused. */
static char *variable(const char *name)
{
    const char *value = g_getenv(name);
    return value != NULL ? g_utf8_make_valid(value, -1) : NULL;
}

static gboolean read_request(VdsmRequest *request, const Point *point, char **out_problem)
{
    static const char *const daemons[] = {"vdsmd", NULL};
    g_autofree char *uuid = variable("vmId");
    const char *path = g_getenv("_hook_domxml");
    request->uuid = g_strdup(uuid != NULL ? uuid : "");
    request->owner_pid = ancestor_find(daemons);
    if (request->owner_pid == 0)
        request->owner_pid = getppid(); /* whatever VDSM is called here */
    request->hugepages = variable("hugepages");
    request->shared = variable("hugepages_shared");
    request->xml = point->needs_xml && path != NULL && path[0] != '\0'
                       ? read_xml(path, &request->xml_bytes, out_problem)
                       : g_strdup("");
    return request->xml != NULL;
}

/* A file without a name that holds the bytes, to be read from its beginning; -1: errno. */
static int memory_file(GBytes *bytes)
{
    gsize n = 0;
    const char *data = bytes != NULL ? g_bytes_get_data(bytes, &n) : NULL;
    int fd = memfd_create("hugevm", MFD_CLOEXEC);
    for (gsize done = 0; fd >= 0 && done < n;) {
        ssize_t written = pwrite(fd, data + done, n - done, (off_t)done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            close(fd);
            return -1;
        }
        done += (gsize)written;
    }
    return fd;
}

/* What a program says last is why it failed; before it may stand warnings. Newly allocated. */
static char *last_words(int fd)
{
    char text[512] = "";
    off_t size = lseek(fd, 0, SEEK_END);
    off_t begin = MAX(size - (off_t)(sizeof text - 1), 0);
    if (pread(fd, text, sizeof text - 1, begin) < 0)
        return g_strdup("");
    g_strchomp(text);
    char *end = strrchr(text, '\n');
    return g_strdup(g_strstrip(end != NULL ? end + 1 : text));
}

static char *no_root_problem(const char *said)
{
    return g_strdup_printf("root's half does not answer: %s; what to do: see whether "
                           "/etc/sudoers.d/50_vdsm_hook_hugevm is there",
                           said[0] != '\0' ? said : "it says nothing");
}

/* Standard input, output and error of root's half; -1: none. */
typedef struct {
    int in, out, err;
} Streams;

static void streams_clear(Streams *streams)
{
    const int fds[] = {streams->in, streams->out, streams->err};
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Streams, streams_clear)

/* Only the reply comes through a pipe: two of them, read one after the other, could block both
 * sides. */
static GPid run_as_root(const char *point, const VdsmRequest *request, Streams *streams,
                        GError **error)
{
    const char *const argv[] = {SUDO, "-n", "--", HUGEVM_VDSM_HOOK, VDSM_AS_ROOT, point, NULL};
    const char *const envp[] = {"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    g_autoptr(GBytes) bytes = vdsm_request_encode(request);
    GPid pid = 0;
    streams->in = memory_file(bytes);
    streams->err = memory_file(NULL);
    if (streams->in < 0 || streams->err < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "no memory for the request: %s",
                    g_strerror(errno));
        return 0;
    }
    g_spawn_async_with_pipes_and_fds("/", argv, envp, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                     streams->in, -1, streams->err, NULL, NULL, 0, &pid, NULL,
                                     &streams->out, NULL, error);
    return pid;
}

/* Has root's half do what is to be done at the point. */
static gboolean ask_root(const char *point, const VdsmRequest *request, VdsmReply *out_reply,
                         char **out_problem)
{
    g_auto(Streams) streams = {-1, -1, -1};
    g_autoptr(GError) error = NULL;
    int status = -1;
    GPid pid = run_as_root(point, request, &streams, &error);
    if (pid == 0) {
        *out_problem = no_root_problem(error->message);
        return FALSE;
    }
    gsize n = 0;
    char *text = door_read(streams.out, &n);
    g_autoptr(GBytes) bytes = g_bytes_new_take(text, text != NULL ? n : 0);
    close(streams.out); /* if it has more to say than a hook takes in, it shall end all the same */
    streams.out = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status == 0 && vdsm_reply_decode(out_reply, bytes))
        return TRUE;
    g_autofree char *said = last_words(streams.err);
    *out_problem = no_root_problem(said);
    return FALSE;
}

/* VDSM reads the file by its name, and so would the next script. */
static gboolean write_xml(const VdsmReply *reply, char **out_problem)
{
    g_autoptr(GError) error = NULL;
    if (g_file_set_contents_full(g_getenv("_hook_domxml"), reply->changed_xml,
                                 (gssize)reply->changed_xml_bytes, G_FILE_SET_CONTENTS_CONSISTENT,
                                 0600, &error))
        return TRUE;
    *out_problem = g_strdup_printf("cannot change the domain XML: %s", error->message);
    return FALSE;
}

/* The start fails, so the claim goes: at once, not when the engine destroys what never was. */
static void take_back(const VdsmRequest *request)
{
    g_auto(VdsmReply) reply = {0};
    g_autofree char *problem = NULL;
    ask_root("after_vm_destroy", request, &reply, &problem);
}

/* A claim for a device goes by itself if nobody says that it was plugged. */
static gboolean is_start(const Point *point)
{
    return point->may_refuse && strcmp(point->name, "before_memory_hotplug") != 0;
}

static int serve(const Point *point, const VdsmRequest *request)
{
    g_auto(VdsmReply) reply = {0};
    g_autofree char *problem = NULL;
    if (!ask_root(point->name, request, &reply, &problem)) {
        if (is_start(point) && has_claim(request))
            take_back(request); /* it may have claimed before it failed to say so */
        return fail(point, problem);
    }
    if (reply.problem != NULL)
        return fail(point, reply.problem);
    if (point->takes_edit && reply.changed_xml != NULL && !write_xml(&reply, &problem)) {
        take_back(request);
        return fail(point, problem);
    }
    for (char **warning = reply.warnings; *warning != NULL; warning++)
        fprintf(stderr, "hugevm: warning: %s\n", *warning);
    return 0;
}

static int look_at_device(const Point *point, const VdsmRequest *request)
{
    g_autofree char *problem = NULL;
    if (vdsm_device_is_refused(request, &problem))
        return fail(point, problem);
    if (problem != NULL)
        fprintf(stderr, "hugevm: warning: %s\n", problem);
    return 0;
}

static int serve_vm(const Point *point)
{
    g_auto(VdsmRequest) request = {0};
    g_autofree char *problem = NULL;
    if (!read_request(&request, point, &problem))
        return fail(point, problem);
    if (!point->concerns(&request))
        return 0;
    return point->only_looks ? look_at_device(point, &request) : serve(point, &request);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], VDSM_AS_ROOT) == 0)
        return vdsm_root_main(argv[2]);
    g_autofree char *name = point_name(argv[0]);
    for (guint i = 0; argc == 1 && i < G_N_ELEMENTS(host_points); i++)
        if (strcmp(host_points[i].name, name) == 0)
            return host_points[i].serve();
    const Point *point = argc == 1 ? find_point(name) : NULL;
    if (point != NULL)
        return serve_vm(point);
    fprintf(stderr, "hugevm: to be run by VDSM, from one of its hook directories\n");
    return 0; /* a link at a point that is not served is no reason to stop a VM */
}
