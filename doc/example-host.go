// SPDX-License-Identifier: 0BSD

// The host of example-host.c, in Go with cgo.
//
// usage: example-host HUGEVM.SO DOMAIN.xml [ROOT]
package main

/*
#cgo pkg-config: hugevm
#cgo LDFLAGS: -ldl
#include <hugevm/plugin.h>

#include <dlfcn.h>
#include <stdlib.h>

// cgo calls functions, not pointers to them: one function here for each signature of a slot.
typedef int32_t (*begin_slot)(struct hugevm_handle *, const struct hugevm_vm *,
                              struct hugevm_result **, struct hugevm_error *);
typedef int32_t (*event_slot)(struct hugevm_handle *, const struct hugevm_vm_ref *,
                              struct hugevm_error *);

static int32_t begin(begin_slot slot, struct hugevm_handle *handle, const struct hugevm_vm *vm,
                     struct hugevm_result **result, struct hugevm_error *error)
{
    return slot(handle, vm, result, error);
}

static int32_t event(event_slot slot, struct hugevm_handle *handle,
                     const struct hugevm_vm_ref *vm, struct hugevm_error *error)
{
    return slot(handle, vm, error);
}

static int32_t negotiate(void *symbol, const struct hugevm_host *host,
                         const struct hugevm_plugin **plugin, struct hugevm_error *error)
{
    return ((hugevm_plugin_negotiate_function)symbol)(host, plugin, error);
}

static int32_t open_handle(const struct hugevm_plugin *plugin, const struct hugevm_host *host,
                           const struct hugevm_options *options, struct hugevm_handle **handle,
                           struct hugevm_error *error)
{
    return plugin->open(host, options, handle, error);
}

static void close_handle(const struct hugevm_plugin *plugin, struct hugevm_handle *handle)
{
    plugin->close(handle);
}

static const char *text_of(const char *(*getter)(const struct hugevm_result *),
                           const struct hugevm_result *result)
{
    return getter(result);
}

static const char *xml_of(const struct hugevm_plugin *plugin, const struct hugevm_result *result)
{
    return plugin->result_domain_xml(result, NULL);
}

static uint64_t generation_of(const struct hugevm_plugin *plugin,
                              const struct hugevm_result *result)
{
    return plugin->result_generation(result);
}

static const char *warning_of(const struct hugevm_plugin *plugin,
                              const struct hugevm_result *result, uint64_t index)
{
    return plugin->result_warning(result, index);
}

static void free_result(const struct hugevm_plugin *plugin, struct hugevm_result *result)
{
    plugin->result_free(result);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"
)

// Host is a handle. Its methods may be called by any goroutine; a call that gets pages keeps a
// thread of the operating system for seconds, and no other goroutine waits for it.
type Host struct {
	plugin *C.struct_hugevm_plugin
	handle *C.struct_hugevm_handle
}

// Claim is what a VM has been given. Generation 0: no huge pages, nothing more to call.
type Claim struct {
	UUID, XML, JSON string
	Generation      uint64
	Warnings        []string
}

func check(code C.int32_t, failure *C.struct_hugevm_error) error {
	if code == C.HUGEVM_OK {
		return nil
	}
	return fmt.Errorf("error %d: %s\n%s", code, C.GoString(&failure.message[0]),
		C.GoString(&failure.hint[0]))
}

func newFailure() C.struct_hugevm_error {
	return C.struct_hugevm_error{size: C.sizeof_struct_hugevm_error}
}

// cString is for what lives as long as the process.
func cString(text string) *C.char {
	if text == "" {
		return nil
	}
	return C.CString(text)
}

// Load opens the module. What is passed to C lies in C's memory or holds no pointer to Go's.
func Load(module, name, root string) (*Host, error) {
	path, symbol := C.CString(module), C.CString(C.HUGEVM_NEGOTIATE_SYMBOL)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(symbol))
	library := C.dlopen(path, C.RTLD_NOW|C.RTLD_LOCAL)
	if library == nil {
		return nil, errors.New(C.GoString(C.dlerror()))
	}
	function := C.dlsym(library, symbol)
	if function == nil {
		return nil, fmt.Errorf("%s is no hugevm module", module)
	}
	host, failure := Host{}, newFailure()
	offer := C.struct_hugevm_host{size: C.sizeof_struct_hugevm_host, name: cString(name),
		abi_major: C.HUGEVM_ABI_MAJOR, abi_minor: C.HUGEVM_ABI_MINOR}
	options := C.struct_hugevm_options{size: C.sizeof_struct_hugevm_options, root: cString(root)}
	if err := check(C.negotiate(function, &offer, &host.plugin, &failure), &failure); err != nil {
		return nil, err
	}
	code := C.open_handle(host.plugin, &offer, &options, &host.handle, &failure)
	return &host, check(code, &failure)
}

// Close needs no call to be inside. Claims stay: they belong to VMs.
func (host *Host) Close() {
	C.close_handle(host.plugin, host.handle)
}

func (host *Host) ask(slot C.begin_slot, xml string, flags C.uint32_t) (*Claim, error) {
	text, failure := C.CString(xml), newFailure()
	defer C.free(unsafe.Pointer(text))
	vm := C.struct_hugevm_vm{size: C.sizeof_struct_hugevm_vm, flags: flags, domain_xml: text,
		domain_xml_bytes: C.uint64_t(len(xml))}
	var result *C.struct_hugevm_result
	code := C.begin(slot, host.handle, &vm, &result, &failure)
	if code != C.HUGEVM_OK {
		return nil, check(code, &failure)
	}
	defer C.free_result(host.plugin, result)
	claim := &Claim{UUID: C.GoString(C.text_of(host.plugin.result_uuid, result)),
		XML:        C.GoString(C.xml_of(host.plugin, result)),
		JSON:       C.GoString(C.text_of(host.plugin.result_json, result)),
		Generation: uint64(C.generation_of(host.plugin, result))}
	for i := 0; C.warning_of(host.plugin, result, C.uint64_t(i)) != nil; i++ {
		claim.Warnings = append(claim.Warnings,
			C.GoString(C.warning_of(host.plugin, result, C.uint64_t(i))))
	}
	return claim, nil
}

func (host *Host) tell(slot C.event_slot, claim *Claim) error {
	uuid, failure := C.CString(claim.UUID), newFailure()
	defer C.free(unsafe.Pointer(uuid))
	ref := C.struct_hugevm_vm_ref{size: C.sizeof_struct_hugevm_vm_ref, uuid: uuid,
		generation: C.uint64_t(claim.Generation)}
	return check(C.event(slot, host.handle, &ref, &failure), &failure)
}

func startQemu(xml string) error {
	_, err := fmt.Println(xml)
	return err
}

func waitForEnd() {
	fmt.Println("running")
	io.Copy(io.Discard, os.Stdin)
}

func runToEnd(xml string) error {
	err := startQemu(xml)
	if err == nil {
		waitForEnd()
	}
	return err
}

func runVM(host *Host, xml string) error {
	claim, err := host.ask(host.plugin.before_vm_start, xml, C.HUGEVM_VM_WILL_CALL_LAUNCHING)
	if err != nil {
		return err // nothing was taken, and nothing is to be undone
	}
	for _, warning := range claim.Warnings {
		fmt.Fprintln(os.Stderr, "warning:", warning)
	}
	if claim.Generation == 0 {
		return runToEnd(claim.XML)
	}
	err = host.tell(host.plugin.vm_launching, claim)
	if err == nil {
		err = startQemu(claim.XML)
	}
	if err != nil {
		host.tell(host.plugin.vm_start_failed, claim)
		return err
	}
	if err := host.tell(host.plugin.after_vm_start, claim); err != nil {
		fmt.Fprintln(os.Stderr, err) // the VM runs all the same
	}
	waitForEnd()
	return host.tell(host.plugin.after_vm_destroy, claim)
}

// The module is missing, or not one for us: other VMs must not suffer from it.
func runWithout(xml string, problem error) error {
	if strings.Contains(xml, "hugepages") {
		return fmt.Errorf("a VM with huge pages cannot be started: %w", problem)
	}
	return runToEnd(xml)
}

func run(module, path, root string) error {
	xml, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	host, err := Load(module, "example-host", root)
	if err != nil {
		return runWithout(string(xml), err)
	}
	defer host.Close()
	plan, err := host.ask(host.plugin.plan, string(xml), 0)
	if err != nil {
		return err
	}
	fmt.Println("plan:", plan.JSON)
	return runVM(host, string(xml))
}

func main() {
	arguments := append(os.Args, "")
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: example-host HUGEVM.SO DOMAIN.xml [ROOT]")
		os.Exit(2)
	}
	if err := run(arguments[1], arguments[2], arguments[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
