/* SPDX-License-Identifier: 0BSD */
/*
 * The smallest host: loads the module and takes one VM through its life. Where a real host
 * starts QEMU, this one prints the XML; where that waits for QEMU's end, this one waits for
 * the end of its standard input. ROOT is a tree of files that stands for a host (the tests
 * have such); without it, pages of this machine are taken, which needs root's rights.
 *
 * usage: example-host HUGEVM.SO DOMAIN.xml [ROOT]
 */
#include "loader.h"

#include <stdio.h>
#include <string.h>

static int start_qemu(const char *domain_xml)
{
    return printf("%s\n", domain_xml) > 0;
}

static void wait_for_end(void)
{
    puts("running");
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

/* 0: all is well; else what is wrong has been said. */
static int check(int32_t code, const struct hugevm_error *error)
{
    if (code != HUGEVM_OK)
        fprintf(stderr, "error %d: %s\n%s\n", (int)code, error->message, error->hint);
    return code != HUGEVM_OK;
}

static int run_vm(const struct hugevm_plugin *hugevm, struct hugevm_handle *handle, const char *xml)
{
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_vm vm = {.size = sizeof vm,
                           .flags = HUGEVM_VM_WILL_CALL_LAUNCHING,
                           .domain_xml = xml,
                           .domain_xml_bytes = strlen(xml)};
    struct hugevm_result *result;
    if (check(hugevm->before_vm_start(handle, &vm, &result, &error), &error))
        return 1; /* nothing was taken, and nothing is to be undone */
    for (uint64_t i = 0; i < hugevm->result_warning_count(result); i++)
        fprintf(stderr, "warning: %s\n", hugevm->result_warning(result, i));

    struct hugevm_vm_ref ref = {.size = sizeof ref,
                                .uuid = hugevm->result_uuid(result),
                                .generation = hugevm->result_generation(result)};
    int has_claim = ref.generation != 0; /* no: a VM without huge pages, nothing more to call */
    int status = has_claim && check(hugevm->vm_launching(handle, &ref, &error), &error);
    int is_started = status == 0 && start_qemu(hugevm->result_domain_xml(result, NULL));
    if (is_started && has_claim) /* the VM runs whatever this says */
        check(hugevm->after_vm_start(handle, &ref, &error), &error);
    if (is_started)
        wait_for_end();
    if (is_started && has_claim)
        status = check(hugevm->after_vm_destroy(handle, &ref, &error), &error);
    else if (has_claim)
        check(hugevm->vm_start_failed(handle, &ref, &error), &error);
    hugevm->result_free(result);
    return is_started ? status : 1;
}

/* What before_vm_start would do: changes nothing, and needs no rights. */
static int show_plan(const struct hugevm_plugin *hugevm, struct hugevm_handle *handle,
                     const char *xml)
{
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_vm vm = {.size = sizeof vm, .domain_xml = xml, .domain_xml_bytes = strlen(xml)};
    struct hugevm_result *result;
    if (check(hugevm->plan(handle, &vm, &result, &error), &error))
        return 1;
    printf("plan: %s\n", hugevm->result_json(result));
    hugevm->result_free(result);
    return 0;
}

/* The module is missing, or not one for us: other VMs must not suffer from it. */
static int run_without(const char *xml, const char *problem)
{
    if (strstr(xml, "hugepages") != NULL) {
        fprintf(stderr, "a VM with huge pages cannot be started: %s\n", problem);
        return 1;
    }
    if (start_qemu(xml))
        wait_for_end();
    return 0;
}

int main(int argc, char **argv)
{
    static char xml[4 * 1024 * 1024];
    const struct hugevm_host host = {.size = sizeof host,
                                     .abi_major = HUGEVM_ABI_MAJOR,
                                     .abi_minor = HUGEVM_ABI_MINOR,
                                     .name = "example-host"};
    FILE *file = argc >= 3 ? fopen(argv[2], "r") : NULL;
    if (file == NULL) {
        fprintf(stderr, "usage: example-host HUGEVM.SO DOMAIN.xml [ROOT]\n");
        return 2;
    }
    xml[fread(xml, 1, sizeof xml - 1, file)] = '\0';
    fclose(file);

    char problem[512];
    const struct hugevm_plugin *hugevm = hugevm_load(argv[1], &host, problem, sizeof problem);
    if (hugevm == NULL)
        return run_without(xml, problem);
    const struct hugevm_options options = {.size = sizeof options,
                                           .root = argc > 3 ? argv[3] : NULL};
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_handle *handle;
    if (check(hugevm->open(&host, &options, &handle, &error), &error))
        return 1;
    int status = show_plan(hugevm, handle, xml) || run_vm(hugevm, handle, xml);
    hugevm->close(handle);
    return status;
}
