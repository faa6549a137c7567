/* SPDX-License-Identifier: 0BSD */
/*
 * The smallest host: loads the module and takes one VM through its life. Where a
 * real host starts QEMU, this one prints a line. Its VM asks for no huge pages, so
 * nothing on the machine is changed and no rights are needed.
 *
 * usage: example-host HUGEVM.SO
 */
#include "loader.h"

#include <stdio.h>

static const char xml[] = "<domain type='kvm'><name>example</name>"
                          "<uuid>5f0c9a52-6c3d-4a55-9d0e-0a4f7a1c2b3d</uuid>"
                          "<memory unit='MiB'>64</memory></domain>";

static int start_qemu(const char *domain_xml)
{
    return printf("start: %s\n", domain_xml) > 0;
}

static int complain(const struct hugevm_error *error)
{
    fprintf(stderr, "error %d: %s\n%s\n", (int)error->code, error->message, error->hint);
    return 1;
}

static int run_vm(const struct hugevm_plugin *hugevm, struct hugevm_handle *handle)
{
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_vm vm = {
        .size = sizeof vm, .domain_xml = xml, .domain_xml_bytes = sizeof xml - 1};
    struct hugevm_result *result;
    if (hugevm->before_vm_start(handle, &vm, &result, &error) != HUGEVM_OK)
        return complain(&error);

    struct hugevm_vm_ref ref = {.size = sizeof ref,
                                .uuid = hugevm->result_uuid(result),
                                .generation = hugevm->result_generation(result)};
    int is_started = start_qemu(hugevm->result_domain_xml(result, NULL));
    int32_t code = HUGEVM_OK;
    if (ref.generation != 0 && is_started && hugevm->after_vm_start(handle, &ref, &error) != 0)
        complain(&error); /* the VM runs all the same: only say it */
    /* here a real host waits until QEMU has ended */
    if (ref.generation != 0)
        code = is_started ? hugevm->after_vm_destroy(handle, &ref, &error)
                          : hugevm->vm_start_failed(handle, &ref, &error);
    hugevm->result_free(result);
    return code == HUGEVM_OK ? 0 : complain(&error);
}

int main(int argc, char **argv)
{
    const struct hugevm_host host = {.size = sizeof host,
                                     .abi_major = HUGEVM_ABI_MAJOR,
                                     .abi_minor = HUGEVM_ABI_MINOR,
                                     .name = "example-host"};
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_handle *handle;
    char message[512];
    const struct hugevm_plugin *hugevm =
        argc == 2 ? hugevm_load(argv[1], &host, message, sizeof message) : NULL;
    if (hugevm == NULL) {
        fprintf(stderr, "%s\n", argc == 2 ? message : "usage: example-host HUGEVM.SO");
        return 2;
    }
    if (hugevm->open(&host, NULL, &handle, &error) != HUGEVM_OK)
        return complain(&error);
    int status = run_vm(hugevm, handle);
    hugevm->close(handle);
    return status;
}
