#include "libc_heap.h"

#include <dlfcn.h>
#include <malloc.h>
#include <string.h>

struct libc_heap libc_heap;

static void *symbol(void *libc, const char *name, bool *missing)
{
    void *found = dlsym(libc, name);
    *missing |= !found;
    return found;
}

void libc_heap_init(void)
{
    uintptr_t other;
    memcpy(&other, &next.malloc, sizeof other);
    void *libc = hooks_in_libc((const void *) other) ? NULL : dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    if (!libc)
        return;
    bool missing = false;
    struct libc_heap found;
    int (*tune)(int, int);
    *(void **) &found.malloc = symbol(libc, "__libc_malloc", &missing);
    *(void **) &found.calloc = symbol(libc, "__libc_calloc", &missing);
    *(void **) &found.realloc = symbol(libc, "__libc_realloc", &missing);
    *(void **) &found.free = symbol(libc, "__libc_free", &missing);
    *(void **) &found.usable = symbol(libc, "malloc_usable_size", &missing);
    *(void **) &tune = symbol(libc, "mallopt", &missing);
    found.end = symbol(libc, "__curbrk", &missing);
    dlclose(libc);
    if (missing || !*found.end)
        return;
    found.start = (uintptr_t) *found.end;
    tune(M_ARENA_MAX, 1);
    tune(M_MMAP_MAX, 0);
    libc_heap = found;
}

/* Where the break cannot grow, libc maps memory, whose blocks nobody could tell from others. */
static void *checked(void *block)
{
    if (block && !libc_heap_owns(block)) {
        libc_heap.free(block);
        return NULL;
    }
    return block;
}

void *libc_heap_allocate(size_t size) { return checked(libc_heap.malloc(size)); }

void *libc_heap_allocate_zeroed(size_t count, size_t size) { return checked(libc_heap.calloc(count, size)); }
