/*
 * backends.c: the trap backends of Darwin, the preferred first.
 */
#include "../platform.h"

extern const struct platform_ops platform_exc_port, platform_exc_signal;

const struct platform_ops *const platform_backends[] = {
    &platform_exc_port,
    &platform_exc_signal,
    NULL,
};
