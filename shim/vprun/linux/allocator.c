/*
 * allocator.c: looks for the libraries where ld.so would.
 */
#include "../allocator.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#endif

const char allocator_none[] = "install libmimalloc2.0 (mimalloc) or libjemalloc2 (jemalloc)";

#define DIRECTORIES "/usr/local/lib:/usr/lib/" MULTIARCH ":/lib/" MULTIARCH ":/usr/lib64:/lib64:/usr/lib:/lib"

static bool find_in(const char *directories, const char *name, char *path, size_t size)
{
    for (const char *at = directories; at && *at; at += strspn(at, ":")) {
        int length = (int) strcspn(at, ":");
        int written = snprintf(path, size, "%.*s/%s", length, at, name);
        at += length;
        /* Neither a blank nor a colon can be escaped in LD_PRELOAD. */
        if (length && written > 0 && (size_t) written < size && !strpbrk(path, " :") && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

bool allocator_find(char *path, size_t size)
{
    static const char *const names[] = {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so", "libjemalloc.so.2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (find_in(getenv("LD_LIBRARY_PATH"), names[i], path, size) || find_in(DIRECTORIES, names[i], path, size))
            return true;
    return false;
}
