/*
 * pin.h: memory that the kernel is about to use, made present and held.
 */
#ifndef VP_GUARD_PIN_H
#define VP_GUARD_PIN_H

#include <stdbool.h>
#include <stddef.h>

#include "../lifecycle.h"

static inline bool guard_ours(const void *buffer) { return __builtin_expect(arena_contains(&vp.arena, buffer), 0); }

/** The most that is pinned for one call, in bytes: a quarter of the budget. */
size_t guard_window(void);

/**
 * Pins what of [buffer, buffer + size) is allocated arena memory; `write`: the kernel will write there. Returns how many
 * bytes from the front are pinned, to be given to guard_unpin(); 0 where there is nothing to pin, or content is lost: the
 * kernel will then say EFAULT, which is what an unreadable page means to it. Any thread, async-signal-safe, keeps errno.
 */
size_t guard_pin(const void *buffer, size_t size, bool write);
void guard_unpin(const void *buffer, size_t size);

#endif
