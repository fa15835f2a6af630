/*
 * holds.h: memory for the holds_* victims: absent when a call is given it.
 *
 * Each piece has a region of its own, so that one that is held does not keep its neighbours in memory.
 */
#ifndef HOLDS_H
#define HOLDS_H

#include "../victim.h"

#include "../../../shim/vp.h"

#include <sys/mman.h>

#define PIECE (256 << 10)

/* More is live than the smallest budgets have, so that paging is on where there is one. */
__attribute__((unused)) static void fill_memory(void)
{
    size_t size = 96 * MIB;
    uint64_t *block = big_malloc(size);
    for (size_t i = 0; i < size / 8; i += PAGE / 8)
        block[i] = mix64(i);
}

/* Never touched: absent wherever pages can be absent from the start, zeros everywhere. */
__attribute__((unused)) static void *fresh(size_t size)
{
    static char *pool, *end;
    size_t room = (size + PIECE - 1) / PIECE * PIECE;
    if (room > (size_t) (end - pool)) {
        size_t more = room > 32 * MIB ? room : 32 * MIB;
        pool = big_malloc(more + PIECE);
        end = pool + more;
        pool += -(uintptr_t) pool % PIECE;
    }
    char *piece = pool;
    pool += room;
    return piece;
}

__attribute__((unused)) static void page_out(void *piece, size_t size)
{
    madvise(piece, (size + PAGE - 1) / PAGE * PAGE, MADV_PAGEOUT);
}

/* Whether the region at `piece` can be evicted; true where nothing is. Pages that nothing holds any more must be able to
 * leave, or the budget is lost to them. */
__attribute__((unused)) static bool leaves(void *piece)
{
    static int (*stats)(struct vp_stats *, size_t);
    struct vp_stats before = {0}, after = {0};
    void *symbol = dlsym(RTLD_DEFAULT, "vp_stats");
    memcpy(&stats, &symbol, sizeof stats);
    if (!stats || stats(&before, sizeof before) != 0 || before.evictions == 0)
        return true;
    for (int tries = 0; tries < 100; tries++) { /* who held it may take a moment to let go */
        memset(piece, 1, PIECE);
        if (stats(&before, sizeof before) != 0)
            return false;
        page_out(piece, PIECE);
        if (stats(&after, sizeof after) == 0 && after.evictions > before.evictions)
            return true;
        usleep(10000);
    }
    return false;
}

/* With this content, given up. */
__attribute__((unused)) static void *gone(const void *content, size_t size)
{
    void *piece = memcpy(fresh(size), content, size);
    page_out(piece, size);
    return piece;
}

#define GONE(value) gone(&(value), sizeof(value))
#define FRESH(type) ((type *)fresh(sizeof(type)))

__attribute__((unused)) static char *text(const char *string) { return gone(string, strlen(string) + 1); }

/* An address that leads nowhere; the compiler need not know. */
static void *volatile nowhere = (void *)64;

/* What a call has answered. */
__attribute__((unused)) static void show(const char *what, long result)
{
    printf("%s %ld%s%s\n", what, result, result < 0 ? " " : "", result < 0 ? strerror(errno) : "");
    fflush(stdout);
}

#define SHOW(call) show(#call, (long)(call))

#endif
