/*
 * backends.c: the trap backends of Linux, the preferred first.
 */
#include "../platform.h"

extern const struct platform_ops platform_uffd_signal, platform_uffd_thread, platform_mprotect;

const struct platform_ops *const platform_backends[] = {
    &platform_uffd_signal,
    &platform_mprotect,
    &platform_uffd_thread,
    NULL,
};
