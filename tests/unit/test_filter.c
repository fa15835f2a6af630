/* The system-call filter, run by an interpreter: what it stops, and above all what it must let pass. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "../../platform/linux/syscall.h"
#include "../../shim/guard/linux/calls.h"
#include "../../shim/guard/linux/filter.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

#define START  UINT64_C(0x234500000000)
#define SIZE   (UINT64_C(1) << 40)
#define END    (START + SIZE)
#define UNIT   (UINT64_C(1) << 32) /* in which the filter looks at addresses */
#define LAST   600

static const struct filter_scope scope = {START, END, 0x555555554000, 0x555555600000};
static const struct sock_filter *program;
static unsigned length;

static void assemble(void)
{
    program = filter_program(FILTER_NOTIFY, &scope, &length);
    cr_assert(program);
}

TestSuite(filter, .init = assemble);

/* The subset of classic BPF that seccomp programs of ours use. */
static uint32_t run(const struct seccomp_data *data)
{
    uint32_t accumulator = 0;
    for (unsigned at = 0; at < length; at++) {
        const struct sock_filter *step = &program[at];
        switch (step->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            cr_assert(step->k % 4 == 0 && step->k < sizeof *data);
            memcpy(&accumulator, (const char *) data + step->k, 4);
            break;
        case BPF_JMP | BPF_JA:
            at += step->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += accumulator == step->k ? step->jt : step->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += accumulator >= step->k ? step->jt : step->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            at += accumulator > step->k ? step->jt : step->jf;
            break;
        case BPF_RET | BPF_K:
            return step->k;
        default:
            cr_assert_fail("step %u: code %x", at, step->code);
        }
    }
    cr_assert_fail("the program runs over its end");
    return 0;
}

static struct seccomp_data call(long number)
{
    return (struct seccomp_data){.nr = (int) number, .arch = ARCHITECTURE, .instruction_pointer = 0x401000};
}

static uint32_t with_argument(long number, unsigned argument, uint64_t value)
{
    struct seccomp_data data = call(number);
    data.args[argument] = value;
    return run(&data);
}

Test(filter, stops_every_pointer_into_the_arena_and_no_other)
{
    for (long number = 0; number < LAST; number++) {
        const struct call *entry = call_find(number);
        if (!entry)
            continue;
        for (unsigned i = 0; i < CALL_ARGUMENTS; i++) {
            bool pointer = call_pointers(entry) & 1u << i;
            uint32_t inside = pointer ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW;
            cr_expect_eq(with_argument(number, i, START), inside, "call %ld, argument %u", number, i);
            cr_expect_eq(with_argument(number, i, START + SIZE / 2 + 77), inside, "call %ld, argument %u", number, i);
            cr_expect_eq(with_argument(number, i, END - 1), inside, "call %ld, argument %u", number, i);
            cr_expect_eq(with_argument(number, i, START - UNIT), SECCOMP_RET_ALLOW);
            cr_expect_eq(with_argument(number, i, END), SECCOMP_RET_ALLOW);
            cr_expect_eq(with_argument(number, i, 0), SECCOMP_RET_ALLOW);
            cr_expect_eq(with_argument(number, i, UINT64_MAX), SECCOMP_RET_ALLOW);
        }
    }
}

static uint32_t called_from(long number, uintptr_t place)
{
    struct seccomp_data data = call(number);
    data.args[1] = 0x7fff00000000;
    data.instruction_pointer = place;
    return run(&data);
}

/* Its code is where no other program has its own; libc's calls are seen to by the stand-ins. */
Test(filter, stops_calls_with_pointers_that_it_cannot_see_where_the_program_itself_makes_them)
{
    static const long nested[] = {SYS_readv,   SYS_writev,   SYS_preadv2,  SYS_pwritev2,        SYS_recvmsg,
                                  SYS_sendmsg, SYS_recvmmsg, SYS_sendmmsg, SYS_process_vm_readv};
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        cr_expect_eq(called_from(nested[i], scope.code_start), SECCOMP_RET_USER_NOTIF, "call %ld", nested[i]);
        cr_expect_eq(called_from(nested[i], scope.code_end - 1), SECCOMP_RET_USER_NOTIF, "call %ld", nested[i]);
        cr_expect_eq(called_from(nested[i], scope.code_start - 1), SECCOMP_RET_ALLOW, "call %ld", nested[i]);
        cr_expect_eq(called_from(nested[i], scope.code_end), SECCOMP_RET_ALLOW, "call %ld", nested[i]);
        cr_expect_eq(called_from(nested[i], scope.code_start + UNIT), SECCOMP_RET_ALLOW, "call %ld", nested[i]);
    }
    cr_expect_eq(called_from(SYS_read, scope.code_start), SECCOMP_RET_ALLOW);
}

Test(filter, lets_everything_else_pass_whatever_its_arguments)
{
    for (long number = 0; number < LAST; number++) {
        if (call_find(number) || number == SYS_io_uring_setup || number == SYS_io_setup)
            continue;
        for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
            cr_expect_eq(with_argument(number, i, START + 4096), SECCOMP_RET_ALLOW, "call %ld", number);
    }
}

/* A filter that stops one of these can stop the code that serves it, or what must not be interrupted. */
Test(filter, never_touches_calls_that_its_server_needs)
{
    static const long untouchable[] = {
        SYS_rt_sigreturn, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigsuspend, SYS_sigaltstack, SYS_execve,
        SYS_execveat,     SYS_clone,        SYS_clone3,         SYS_exit,          SYS_exit_group,  SYS_mmap,
        SYS_munmap,       SYS_mremap,       SYS_mprotect,       SYS_process_madvise, SYS_mincore,
        SYS_seccomp,      SYS_set_robust_list, SYS_rseq,        SYS_tgkill,
    };
    for (size_t i = 0; i < sizeof untouchable / sizeof *untouchable; i++)
        cr_expect_null(call_find(untouchable[i]), "call %ld", untouchable[i]);
}

Test(filter, lets_the_shims_own_calls_pass)
{
    struct seccomp_data data = call(SYS_read);
    data.args[1] = START;
    data.instruction_pointer = (uintptr_t) raw_syscall_passed;
    cr_expect_eq(run(&data), SECCOMP_RET_ALLOW);
    data.instruction_pointer += UNIT;
    cr_expect_eq(run(&data), SECCOMP_RET_USER_NOTIF, "the address as a whole counts");
}

Test(filter, refuses_rings)
{
    cr_expect_eq(with_argument(SYS_io_uring_setup, 0, 1), SECCOMP_RET_ERRNO | ENOSYS);
    cr_expect_eq(with_argument(SYS_io_setup, 0, 1), SECCOMP_RET_ERRNO | ENOSYS);
}

/* A merged page loses its write protection unseen. */
Test(filter, refuses_merging_of_all_memory_and_of_the_arenas)
{
    struct seccomp_data all = call(SYS_prctl), some = call(SYS_madvise);
    all.args[0] = PR_SET_MEMORY_MERGE;
    cr_expect_eq(run(&all), SECCOMP_RET_ALLOW, "to end it is no harm");
    all.args[1] = 1;
    cr_expect_eq(run(&all), SECCOMP_RET_ERRNO | EINVAL);
    all.args[1] = UNIT;
    cr_expect_eq(run(&all), SECCOMP_RET_ERRNO | EINVAL);
    all.args[0] |= UNIT; /* the kernel takes it for an int */
    cr_expect_eq(run(&all), SECCOMP_RET_ERRNO | EINVAL);
    all.args[0]++;
    cr_expect_eq(run(&all), SECCOMP_RET_ALLOW);

    some.args[0] = START + 4096;
    some.args[2] = MADV_MERGEABLE;
    cr_expect_eq(run(&some), SECCOMP_RET_ERRNO | EINVAL);
    some.args[0] = END - 4096;
    cr_expect_eq(run(&some), SECCOMP_RET_ERRNO | EINVAL);
    some.args[0] = END;
    cr_expect_eq(run(&some), SECCOMP_RET_ALLOW);
    some.args[0] = START - UNIT;
    cr_expect_eq(run(&some), SECCOMP_RET_ALLOW);
    some.args[0] = START;
    some.args[2] = MADV_UNMERGEABLE;
    cr_expect_eq(run(&some), SECCOMP_RET_USER_NOTIF);
}

Test(filter, leaves_other_architectures_alone)
{
    struct seccomp_data data = call(SYS_read);
    data.args[1] = START;
    data.arch = AUDIT_ARCH_ARM;
    cr_expect_eq(run(&data), SECCOMP_RET_ALLOW);
}

Test(filter, traps_carry_the_mark)
{
    struct seccomp_data data = call(SYS_read);
    program = filter_program(FILTER_TRAP, &scope, &length);
    data.args[1] = START;
    cr_expect_eq(run(&data), SECCOMP_RET_TRAP | FILTER_MARK);
}

/* The kernel cannot know a call as always allowed, and skip the filter, when it reads more than its number first. */
Test(filter, needs_no_arguments_to_let_unlisted_calls_pass)
{
    struct seccomp_data data = call(SYS_getppid);
    memset(data.args, 0xff, sizeof data.args);
    cr_expect_eq(run(&data), SECCOMP_RET_ALLOW);
    cr_expect_leq(length, 4096u);
}
