/*
 * mappings.h: what else needs to know of the program's mappings.
 */
#ifndef VP_INTERPOSE_MAPPINGS_H
#define VP_INTERPOSE_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>

#ifndef PR_SET_MEMORY_MERGE /* since Linux 6.4 */
#define PR_SET_MEMORY_MERGE 67
#endif

/** mremap() with all its arguments; sets errno. */
void *mappings_remap(void *old, size_t old_size, size_t new_size, int flags, void *to);

/** The program has given advice on arena memory that lasts until that is unmapped. */
void mappings_note_marks(void);

/** MADV_WIPEONFORK and MADV_KEEPONFORK; sets errno. */
int mappings_wipe_on_fork(uintptr_t start, uint64_t size, bool wipe);

/** Whether arena addresses in [start, start + length) are ones that nothing is mapped at, as the program sees it. */
bool mappings_have_hole(const void *start, size_t length);

/** Does what `number` says if it is a call of the family, with errno set. Returns whether it was. */
bool mappings_syscall(long number, const uint64_t arguments[6], long *result);

#endif
