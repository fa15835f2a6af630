/*
 * vm.h: what Darwin's trap backends need of virtual memory besides ../vm.h.
 */
#ifndef VP_DARWIN_VM_H
#define VP_DARWIN_VM_H

#include "../vm.h"

/** Around fork(): a child makes its aliases anew. */
void vm_fork(enum platform_fork phase);

/** The address without the tag that arm64 allows in its top byte. */
uintptr_t vm_untagged(uint64_t address);

/** Reads the processor's own word on an access (x86: error code, arm64: ESR) into out->write and out->present. */
void vm_decode_access(uint32_t word, struct trap *out);

#endif
