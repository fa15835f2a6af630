/*
 * contract.h: what the tests of the platform contract share: a runner that gives each case a process of its own, a trap
 * handler, and words for looking at pages.
 *
 * A program is run as: test_x BACKEND USER, where USER is "root" or "nobody". Exit status 77 means that the backend (or
 * the user) is not to be had here.
 */
#ifndef VP_TESTS_CONTRACT_H
#define VP_TESTS_CONTRACT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "../../platform/os.h"
#include "../../platform/platform.h"

#define KIB(n) ((size_t) (n) << 10)
#define MIB(n) ((size_t) (n) << 20)
#define GIB(n) ((size_t) (n) << 30)

/* ---- the runner ---- */

struct contract_case {
    const char *name;
    void (*run)(void);
};

#define CASE(function) { #function, function }
#define CASES_END { NULL, NULL }

/** Runs every case in a child process of its own, as the user asked for, with `pf` probed. */
int contract_main(int argc, char **argv, const struct contract_case *cases);

/** The same for what is no backend's: arguments are USER only, `pf` is left alone. */
int services_main(int argc, char **argv, const struct contract_case *cases);

/** Ends the case: it cannot be run here. */
_Noreturn void skip(const char *reason);

_Noreturn void check_failed(const char *file, int line, const char *what, long long left, long long right);

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            check_failed(__FILE__, __LINE__, #condition, 0, 0); \
    } while (0)

#define CHECK_EQ(left, right) \
    do { \
        long long left_ = (long long) (left), right_ = (long long) (right); \
        if (left_ != right_) \
            check_failed(__FILE__, __LINE__, #left " == " #right, left_, right_); \
    } while (0)

/* Calls a function of the contract; none may touch errno. */
#define OP(function, ...) \
    __extension__({ \
        errno = 4242; \
        __typeof__(pf.ops->function(&pf, __VA_ARGS__)) result_ = pf.ops->function(&pf, __VA_ARGS__); \
        CHECK(errno == 4242); \
        result_; \
    })

/* ---- the platform under test ---- */

extern struct platform pf;

/** Reserves `size` bytes and takes the signals. */
void start(size_t size);

/** Reserves, opens `pages` pages at base, and arms with nothing in them. Returns base. */
uintptr_t start_armed(size_t pages);

/** Start of the n-th page of the arena. */
uintptr_t page_at(size_t n);

/* ---- traps ---- */

/* Makes the access possible, or returns false: it then ends in `escaped`. Called in the handler, or by a thread that has
 * no thread-local storage: whatever it calls must be async-signal-safe. NULL: refuses all. */
typedef bool heal_function(const struct trap *trap);
void heal_with(heal_function *heal);

/** What the last trap was, and how many there were. */
extern struct trap last_trap;
unsigned trap_count(void);

bool heal_zero(const struct trap *trap);      /* place(NULL) */
bool heal_unprotect(const struct trap *trap); /* unprotect() */
bool heal_again(const struct trap *trap);     /* nothing: somebody else is about to do it */

/** One access of 8 bytes, aligned or not. Returns false when it was refused. */
bool try_read(uintptr_t address, uint64_t *value);
bool try_write(uintptr_t address, uint64_t value);

/** An access that traps exactly once and is healed. */
void check_read_traps(uintptr_t address, heal_function *heal);
void check_write_traps(uintptr_t address, heal_function *heal);

/** An access that is the program's own error. */
void check_closed(uintptr_t address);

/** Accesses that do not trap. */
uint64_t load(uintptr_t address);
void store(uintptr_t address, uint64_t value);

/* ---- content ---- */

/** Words that are all different, for each seed. */
void pattern_fill(void *to, size_t length, uint64_t seed);
bool pattern_is(const void *at, size_t length, uint64_t seed);
bool all_zero(const void *at, size_t length);

/** A page's worth of the pattern, in memory that stays until the next call. */
const void *pattern(uint64_t seed);

/** Absent -> present with the pattern. */
void fill_page(uintptr_t page, uint64_t seed, bool writable);

/** Whether the page has content in memory. */
bool is_resident(uintptr_t page);
size_t count_resident(uintptr_t start, size_t length);

/* ---- the process ---- */

size_t count_mappings(void);       /* lines of /proc/self/maps */
size_t count_descriptors(void);
size_t resident_bytes(void);       /* of the whole process */
size_t virtual_bytes(void);
uint64_t milliseconds(void);

/** Makes every later call of this system call fail with `error`; for good. */
void refuse_system_call(int number, int error);

/** fork() with the platform's hooks around it. */
pid_t fork_arena(void);

/** Waits for a child that has to end well. */
void check_child(pid_t child);

#endif
