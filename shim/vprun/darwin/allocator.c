/*
 * allocator.c: none is of use on macOS: what it maps would be the kernel's (platform_caps.mappings), and not paged.
 */
#include "../allocator.h"

const char allocator_none[] = "on macOS mappings are left to the system, and are not paged";

bool allocator_find(char *path, size_t size)
{
    (void) path, (void) size;
    return false;
}
