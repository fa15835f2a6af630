/*
 * vm.h: what the trap backends share of a system's virtual memory. One implementation a system (linux/vm.c, ...).
 *
 * Conventions as in platform.h: async-signal-safe, errno untouched, 0 or a negative errno value.
 */
#ifndef VP_PLATFORM_VM_H
#define VP_PLATFORM_VM_H

#include "platform.h"

enum vm_protection { VM_NONE, VM_READ, VM_READ_WRITE };

/** Reserves pf->size bytes of inaccessible address space aligned to 1 GiB (2 MiB where it is smaller than 2 GiB), less
 *  where limits demand; sets base and size. */
int vm_reserve(struct platform *pf);

void vm_release(struct platform *pf);

/** Maps [start, start + length) anew, as vm_reserve() does but for its protection (PROT_* bits): what was there goes. */
int vm_reserve_again(uintptr_t start, size_t length, int protection);

int vm_protect(uintptr_t start, size_t length, enum vm_protection protection);

enum vm_inheritance { VM_COPIED, VM_MISSING, VM_ZEROED };

/** What processes made by fork have in place of the range from now on: a copy, nothing, or zeros. */
int vm_inherit(uintptr_t start, size_t length, enum vm_inheritance inheritance);

/** Frees the memory of every extent; anonymous pages read as zero afterwards. One call where the system can. */
int vm_discard(const struct extent *extents, size_t n);

/** Whether vm_discard() of scattered extents costs one call here (found by trying, once). */
bool vm_discard_batches(void);

/** vec[i] = 1 when any byte of the i-th `unit` of the range has content in memory or swap. */
int vm_residency(uintptr_t start, size_t length, size_t unit, unsigned char *vec);

/** The first address of the range from which that may be, its end where there is none; `start` where it is not known. */
uintptr_t vm_present_from(uintptr_t start, size_t length);

/** Gives every page of the range memory. Not always possible. */
int vm_populate(uintptr_t start, size_t length);

/** Keeps the kernel from merging equal pages of the range (KSM): a merged page would lose its write protection unseen. */
void vm_never_merge(uintptr_t start, size_t length);

/** Copies memory of this process that may be gone or inaccessible by now. -EFAULT then. */
int vm_copy_out(uintptr_t start, void *out, size_t length);

/** Moves the memory of `from` to `to`; `from` stays mapped and empty. -errno: nothing was moved. */
int vm_move(uintptr_t from, uintptr_t to, size_t length);

/** Copies the pages of `from` that have content to `to`; both accessible. */
int vm_copy_present(uintptr_t from, uintptr_t to, size_t length);

/** Whether memory can be read and written in spite of its protection; leaves a way open for vm_peek/vm_poke. */
int vm_behind_open(int *handle);
void vm_behind_close(int handle);
int vm_peek(int handle, uintptr_t address, void *out, size_t length);
int vm_poke(int handle, uintptr_t address, const void *content, size_t length);

/** The most mappings that a process may have. */
size_t vm_map_limit(void);

void vm_decode(const siginfo_t *info, const void *context, struct trap *out);

#endif
