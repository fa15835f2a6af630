/*
 * calls.h: which memory a system call uses.
 *
 * One table (calls.c) says for each call of the kernel that takes pointers what it reads and writes through them. From it
 * come the filter (which arguments to compare with the arena) and what is held while a stopped call goes on.
 *
 * The filter sees a call's arguments, not what they point to. A vector or message outside the arena, whose parts may lie
 * inside, is the affair of the stand-ins where libc makes the call; where the program's own code makes it, the call is
 * stopped in any case. (To stop all such calls would stop those of every program that a descendant becomes by exec, which
 * has nobody to let them go on: its code lies elsewhere.)
 *
 * Not in the table, on purpose: calls that map or protect memory (they may name absent pages), that end or replace the
 * program (exec: interpose/exec.c holds its strings), that make threads and processes, and everything about signal masks
 * and handlers: a filter that stops one of these can stop the very code that serves it.
 */
#ifndef VP_GUARD_CALLS_H
#define VP_GUARD_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALL_ARGUMENTS 6
#define CALL_RULES     6

enum rule_kind {
    RULE_NONE,
    RULE_FIXED,    /* `unit` bytes */
    RULE_COUNTED,  /* argument `count` times `unit` bytes */
    RULE_TAGGED,   /* a long, and argument `count` bytes (msgbuf) */
    RULE_BITS,     /* argument `count` bits, in whole words (fd_set) */
    RULE_DISCARD,  /* argument `count` bytes, to be given up if the third argument says so (madvise) */
    RULE_OPAQUE,   /* up to `unit` bytes of which nothing is known, and what words among the first of them point to */
    RULE_LENGTH,   /* as many bytes as the int at argument `count` says, which itself is read and written */
    RULE_VECTOR,   /* an array of argument `count` iovecs */
    RULE_MESSAGE,  /* a msghdr */
    RULE_MESSAGES, /* an array of argument `count` mmsghdrs */
};

struct rule {
    uint8_t kind; /* enum rule_kind */
    uint8_t argument;
    uint8_t count;
    bool write;
    uint32_t unit;
};

struct call {
    uint16_t number;
    struct rule rules[CALL_RULES];
};

/** The entry of a call, or NULL. */
const struct call *call_find(long number);

/** All entries, in rising order of numbers, as far as there is room for them. Returns how many. */
size_t call_list(const struct call **out, size_t room);

/** The arguments that are pointers, as a mask. */
unsigned call_pointers(const struct call *call);

/** Whether there may be pointers in what the arguments point to. */
bool call_is_nested(const struct call *call);

#endif
