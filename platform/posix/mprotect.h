/*
 * mprotect.h: the portable backend's operations, for backends that add to them (darwin/).
 */
#ifndef VP_POSIX_MPROTECT_H
#define VP_POSIX_MPROTECT_H

#include "../platform.h"

int mprotect_probe(struct platform_caps *caps, char *why, size_t size);
int mprotect_reserve(struct platform *pf);
void mprotect_release(struct platform *pf);
int mprotect_open(struct platform *pf, uintptr_t start, size_t length);
int mprotect_close(struct platform *pf, uintptr_t start, size_t length);
int mprotect_arm(struct platform *pf, const struct extent *live, size_t n);
int mprotect_populate(struct platform *pf, uintptr_t start, size_t length);
int mprotect_residency(struct platform *pf, uintptr_t start, size_t length, unsigned char *vec);
uintptr_t mprotect_present_from(const struct platform *pf, uintptr_t start, size_t length);
int64_t mprotect_place(struct platform *pf, uintptr_t start, size_t length, const void *content, bool writable);
int mprotect_protect(struct platform *pf, uintptr_t start, size_t length);
int mprotect_unprotect(struct platform *pf, uintptr_t start, size_t length);
const void *mprotect_peek(struct platform *pf, uintptr_t page, void *scratch);
int mprotect_drop(struct platform *pf, const struct extent *extents, size_t n);
int mprotect_zero(struct platform *pf, uintptr_t start, size_t length);
int mprotect_move(struct platform *pf, uintptr_t from, uintptr_t to, size_t length);
bool mprotect_swaps(const struct platform *pf);
bool mprotect_decode(const siginfo_t *info, const void *context, struct trap *out);
size_t mprotect_granule(struct platform *pf);
int mprotect_fork(struct platform *pf, enum platform_fork phase);

/* All but probe, arm and fork. */
#define MPROTECT_PAGES                                                                                              \
    .reserve = mprotect_reserve, .release = mprotect_release, .open = mprotect_open, .close = mprotect_close,      \
    .populate = mprotect_populate, .residency = mprotect_residency, .present_from = mprotect_present_from,         \
    .place = mprotect_place,                                                                                        \
    .protect = mprotect_protect, .unprotect = mprotect_unprotect, .peek = mprotect_peek, .drop = mprotect_drop,    \
    .zero = mprotect_zero,                                                                                          \
    .move = mprotect_move, .swaps = mprotect_swaps, .decode = mprotect_decode, .granule = mprotect_granule

#endif
