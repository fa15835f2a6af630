/*
 * backends.c: the trap backends of Linux, the preferred first.
 */
#include "../platform.h"

#include <string.h>

extern const struct platform_ops platform_uffd_signal, platform_uffd_thread, platform_mprotect;

const struct platform_ops *const platform_backends[] = {
    &platform_uffd_signal,
    &platform_mprotect,
    &platform_uffd_thread,
    NULL,
};

const struct platform_ops *platform_find(const char *name)
{
    for (size_t i = 0; platform_backends[i]; i++)
        if (strcmp(platform_backends[i]->name, name) == 0)
            return platform_backends[i];
    return NULL;
}
