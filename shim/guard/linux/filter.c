/*
 * filter.c: see filter.h. The program is assembled here rather than by libseccomp: it compares arguments with a range and
 * the instruction pointer with one address, which libseccomp has no words for.
 *
 * Shape: the calls that are made all the time, then a binary search for the number; then its pointers, upper halves only (the arena is looked at in units of
 * 4 GiB: a pointer into its neighbourhood costs time, no more); then one common end. The kernel finds by itself that calls
 * which are not in the table are always allowed, and does not even run the filter for them.
 */
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "../../../platform/linux/syscall.h"
#include "calls.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#define PROGRAM_MAX 4096
#define CALLS_MAX   512

struct assembler {
    struct sock_filter code[PROGRAM_MAX];
    unsigned length;
    unsigned held[PROGRAM_MAX / 4]; /* jumps to the common end, whose place is not known yet */
    unsigned holds;
    const struct call *calls[CALLS_MAX];
    const struct filter_scope *scope;
    uint32_t low, high; /* the arena, in units of 4 GiB, both included */
};

static void put(struct assembler *as, uint16_t code, uint32_t k, uint8_t when, uint8_t otherwise)
{
    if (as->length < PROGRAM_MAX)
        as->code[as->length] = (struct sock_filter){code, when, otherwise, k};
    as->length++;
}

static void load(struct assembler *as, size_t offset) { put(as, BPF_LD | BPF_W | BPF_ABS, (uint32_t) offset, 0, 0); }

static void answer(struct assembler *as, uint32_t value) { put(as, BPF_RET | BPF_K, value, 0, 0); }

static void jump_to_end(struct assembler *as)
{
    as->held[as->holds++] = as->length;
    put(as, BPF_JMP | BPF_JA, 0, 0, 0);
}

/* The halves of a 64-bit field. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { LOW_HALF = 0, HIGH_HALF = 4 };
#else
enum { LOW_HALF = 4, HIGH_HALF = 0 };
#endif

static void check_pointer(struct assembler *as, unsigned argument)
{
    load(as, offsetof(struct seccomp_data, args) + argument * 8 + HIGH_HALF);
    put(as, BPF_JMP | BPF_JGE | BPF_K, as->low, 0, 2);
    put(as, BPF_JMP | BPF_JGT | BPF_K, as->high, 1, 0);
    jump_to_end(as);
}

/* Code that spans two units of 4 GiB counts as far as the first one's end. */
static void check_caller(struct assembler *as)
{
    uint64_t start = as->scope->code_start, last = as->scope->code_end - 1;
    if (last >> 32 != start >> 32)
        last = start | UINT32_MAX;
    load(as, offsetof(struct seccomp_data, instruction_pointer) + HIGH_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) (start >> 32), 0, 4);
    load(as, offsetof(struct seccomp_data, instruction_pointer) + LOW_HALF);
    put(as, BPF_JMP | BPF_JGE | BPF_K, (uint32_t) start, 0, 2);
    put(as, BPF_JMP | BPF_JGT | BPF_K, (uint32_t) last, 1, 0);
    jump_to_end(as);
}

/* Equal pages that the kernel merges lose their write protection unseen: asking for that is refused, as by a kernel without
 * it. For all memory: argument 0 says so, and argument 1 that it shall be. */
static void refuse_merging_all(struct assembler *as)
{
    load(as, offsetof(struct seccomp_data, args) + LOW_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, PR_SET_MEMORY_MERGE, 0, 5);
    load(as, offsetof(struct seccomp_data, args) + 8 + LOW_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
    load(as, offsetof(struct seccomp_data, args) + 8 + HIGH_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    answer(as, SECCOMP_RET_ERRNO | EINVAL);
}

/* For memory that begins in the arena. */
static void refuse_merging(struct assembler *as)
{
    load(as, offsetof(struct seccomp_data, args) + 2 * 8 + LOW_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, MADV_MERGEABLE, 0, 4);
    load(as, offsetof(struct seccomp_data, args) + HIGH_HALF);
    put(as, BPF_JMP | BPF_JGE | BPF_K, as->low, 0, 2);
    put(as, BPF_JMP | BPF_JGT | BPF_K, as->high, 1, 0);
    answer(as, SECCOMP_RET_ERRNO | EINVAL);
}

/* What is left of a program for one call, whose number it is. */
static void check_call(struct assembler *as, const struct call *call)
{
    if (call_is_nested(call) && as->scope->code_end)
        check_caller(as);
    if (call->number == SYS_prctl)
        refuse_merging_all(as);
    if (call->number == SYS_madvise)
        refuse_merging(as);
    unsigned pointers = call_pointers(call);
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        if (pointers & 1u << i)
            check_pointer(as, i);
    answer(as, SECCOMP_RET_ALLOW);
}

/* Among calls [first, end) of the list. */
static void search(struct assembler *as, size_t first, size_t end)
{
    if (end - first == 1) {
        put(as, BPF_JMP | BPF_JEQ | BPF_K, as->calls[first]->number, 1, 0);
        answer(as, SECCOMP_RET_ALLOW);
        check_call(as, as->calls[first]);
        return;
    }
    size_t middle = (first + end) / 2;
    put(as, BPF_JMP | BPF_JGE | BPF_K, as->calls[middle]->number, 0, 1);
    unsigned jump = as->length;
    put(as, BPF_JMP | BPF_JA, 0, 0, 0);
    search(as, first, middle);
    if (jump < PROGRAM_MAX)
        as->code[jump].k = as->length - jump - 1;
    search(as, middle, end);
}

/* Calls that programs make all the time are asked for first. */
static void check_hot(struct assembler *as, long number)
{
    unsigned jump = as->length;
    put(as, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) number, 0, 0);
    check_call(as, call_find(number));
    if (jump < PROGRAM_MAX)
        as->code[jump].jf = (uint8_t) (as->length - jump - 1);
}

/* Rings that the kernel fills by itself would meet absent pages unseen: there are none, as on a kernel without them. */
static void refuse(struct assembler *as, uint32_t number)
{
    put(as, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    answer(as, SECCOMP_RET_ERRNO | ENOSYS);
}

static void common_end(struct assembler *as, uint32_t action)
{
    uint64_t gate = (uintptr_t) raw_syscall_passed;
    for (unsigned i = 0; i < as->holds; i++)
        as->code[as->held[i]].k = as->length - as->held[i] - 1;
    load(as, offsetof(struct seccomp_data, instruction_pointer) + LOW_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) gate, 0, 3);
    load(as, offsetof(struct seccomp_data, instruction_pointer) + HIGH_HALF);
    put(as, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) (gate >> 32), 0, 1);
    answer(as, SECCOMP_RET_ALLOW);
    answer(as, action);
}

static void assemble(struct assembler *as, enum filter_action action, const struct filter_scope *scope)
{
    as->length = as->holds = 0;
    as->scope = scope;
    as->low = (uint32_t) ((uint64_t) scope->start >> 32);
    as->high = (uint32_t) ((uint64_t) (scope->end - 1) >> 32);
    load(as, offsetof(struct seccomp_data, arch));
    put(as, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    answer(as, SECCOMP_RET_ALLOW); /* 32-bit calls cannot name the arena */
    load(as, offsetof(struct seccomp_data, nr));
    static const long hot[] = {SYS_read, SYS_write, SYS_futex, SYS_recvfrom, SYS_sendto, SYS_pread64, SYS_pwrite64};
    for (size_t i = 0; i < sizeof hot / sizeof *hot; i++)
        check_hot(as, hot[i]);
    refuse(as, SYS_io_uring_setup);
    refuse(as, SYS_io_setup);
    search(as, 0, call_list(as->calls, CALLS_MAX));
    common_end(as, action == FILTER_NOTIFY ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_TRAP | FILTER_MARK);
}

static long set_filter(unsigned long flags, const struct sock_fprog *program)
{
    return SYS3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
}

/* Newer flags first: without them a signal interrupts a call that waits for the listener, which then starts over. */
static long install_listener(const struct sock_fprog *program)
{
    const unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
                                SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    long result = set_filter(flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, program);
    return result == -EINVAL ? set_filter(flags, program) : result;
}

static long install(enum filter_action action, const struct sock_fprog *program)
{
    if (action == FILTER_NOTIFY)
        return install_listener(program);
    long result = set_filter(SECCOMP_FILTER_FLAG_TSYNC, program);
    return result > 0 ? -ESRCH : result; /* the thread that has filters of its own */
}

const struct sock_filter *filter_program(enum filter_action action, const struct filter_scope *scope, unsigned *length)
{
    static struct assembler as;
    assemble(&as, action, scope);
    *length = as.length;
    return as.length <= PROGRAM_MAX ? as.code : NULL;
}

int filter_install(enum filter_action action, const struct filter_scope *scope)
{
    unsigned length; /* arming and fork are one at a time */
    const struct sock_filter *code = filter_program(action, scope, &length);
    if (!code)
        return -E2BIG;
    struct sock_fprog program = {(unsigned short) length, (struct sock_filter *) (uintptr_t) code};
    long result = install(action, &program);
    if (result == -EACCES && SYS5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        result = install(action, &program);
    return (int) result;
}

/* ---- an ancestor's filter ---- */

static volatile sig_atomic_t probe_trapped;

static void on_probe(int number)
{
    (void) number;
    probe_trapped = 1;
}

bool filter_covers(uintptr_t start)
{
    struct sigaction action, before;
    if (SYS5(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER)
        return false;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_probe;
    probe_trapped = 0;
    if (sigaction(SIGSYS, &action, &before) < 0)
        return false;
    long result = SYS3(SYS_read, -1, start, FILTER_PROBE_SIZE);
    sigaction(SIGSYS, &before, NULL);
    return probe_trapped || result != -EBADF;
}
