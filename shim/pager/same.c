#include "same.h"

#define PROBES 64

tier_handle same_handle(struct same *same, uint64_t word)
{
    if (word == 0)
        return 1;
    size_t at = (size_t) ((word * UINT64_C(0x9e3779b97f4a7c15)) >> 52);
    for (unsigned probe = 0; probe < PROBES; probe++, at = (at + 1) % SAME_WORDS) {
        if (at == 0)
            continue;
        if (same->words[at] == 0)
            __atomic_store_n(&same->words[at], word, __ATOMIC_RELEASE);
        if (same->words[at] == word)
            return at + 1;
    }
    return 0;
}

uint64_t same_word(const struct same *same, tier_handle handle)
{
    return __atomic_load_n(&same->words[handle - 1], __ATOMIC_ACQUIRE);
}

void same_fill(void *page, size_t size, uint64_t word)
{
    for (size_t i = 0; i < size / sizeof word; i++)
        ((uint64_t *) page)[i] = word;
}
