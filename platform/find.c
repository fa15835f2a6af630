/*
 * find.c: a trap backend by its name.
 */
#include "platform.h"

#include <string.h>

const struct platform_ops *platform_find(const char *name)
{
    for (size_t i = 0; platform_backends[i]; i++)
        if (strcmp(platform_backends[i]->name, name) == 0)
            return platform_backends[i];
    return NULL;
}
