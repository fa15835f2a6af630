/*
 * victim.h: what the victim programs share.
 *
 * A victim is an ordinary program that behaves in one particular way, checks itself, and prints the same text whenever
 * it runs: the driver compares that text with and without the shim. A failed check ends it with status 1 and a line on
 * stderr. Victims are never linked to the shim; one that must know whether its memory really is the arena's asks for
 * the public functions by name.
 */
#ifndef VICTIM_H
#define VICTIM_H

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB       ((size_t)1 << 20)
#define GIB       ((size_t)1 << 30)
#define PAGE      ((size_t)4096) /* the step of patterns and of touching; the system's page may be larger */
#define THRESHOLD MIB            /* the shim's default --threshold */

#define CHECK(condition) ((condition) ? (void)0 : die("%s:%d: not true: %s", __FILE__, __LINE__, #condition))

/** Says what is wrong and ends the process at once, whatever thread this is. */
__attribute__((noreturn, format(printf, 1, 2), unused)) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    vdprintf(STDERR_FILENO, format, arguments);
    va_end(arguments);
    if (write(STDERR_FILENO, "\n", 1)) {
    }
    _exit(1);
}

/** A bijection of 64 bits (the finalizer of MurmurHash3). */
__attribute__((unused)) static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

/** splitmix64: reproducible, and good enough to be incompressible. */
__attribute__((unused)) static inline uint64_t random_next(uint64_t *state)
{
    return mix64(*state += 0x9e3779b97f4a7c15);
}

/** 1 when `p` is arena memory, 0 when it is not, -1 without the shim. */
__attribute__((unused)) static int in_arena(const void *p)
{
    static bool (*contains)(const void *);
    static bool looked;
    if (!looked) {
        void *symbol = dlsym(RTLD_DEFAULT, "vp_contains");
        memcpy(&contains, &symbol, sizeof contains);
        looked = true;
    }
    return contains ? contains(p) : -1;
}

/** malloc() that must succeed and, under the shim, come from the arena: a test on other memory would prove nothing. */
__attribute__((unused)) static void *big_malloc(size_t size)
{
    void *p = malloc(size);
    if (!p)
        die("malloc(%zu): %s", size, strerror(errno));
    CHECK(in_arena(p) != 0);
    return p;
}

/** Argument number `i` as a number, or its default. */
__attribute__((unused)) static size_t argument(int argc, char **argv, int i, size_t otherwise)
{
    return i < argc ? strtoull(argv[i], NULL, 10) : otherwise;
}

#endif
