/*
 * frame_x86_64.c: struct rt_sigframe as arch/x86/kernel/signal_64.c of Linux writes it, and arch/x86/kernel/fpu/signal.c the
 * state of the floating-point unit above it.
 */
#include "frame.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../interpose/hooks.h"
#include "altstack.h"
#include "signals.h"

/* The kernel's ucontext is libc's up to a mask of 64 signals; what libc has after that is not in the frame. */
#define CONTEXT_SIZE (offsetof(ucontext_t, uc_sigmask) + sizeof(uint64_t))
#define INFO_SIZE    128

struct frame {
    void (*back)(void); /* where the handler returns to */
    struct {
        unsigned long flags;
        struct ucontext_t *link;
        stack_t stack;
        unsigned char registers[CONTEXT_SIZE - 40]; /* and the mask */
    } context;
    unsigned char info[INFO_SIZE];
    /* Ours. */
    uintptr_t outer;
    int number;
};

_Static_assert(offsetof(struct frame, context) == 8 && offsetof(struct frame, info) == 8 + 304, "as the kernel has it");
_Static_assert(sizeof(siginfo_t) == INFO_SIZE, "as the kernel has it");
_Static_assert(offsetof(ucontext_t, uc_mcontext) == 40 && offsetof(struct frame, context.registers) == 48,
               "as the description for unwinders says");

/* Leaf functions keep things there. */
#define RED_ZONE 128

#define FLAG_TRAP      0x100u
#define FLAG_DIRECTION 0x400u
#define FLAG_RESUME    0x10000u

/* XSAVE's area. Components are back in their initial state where its header says that they are not in use. */
#define LEGACY_SIZE    512
#define MXCSR_AT       24
#define MXCSR_INITIAL  0x1f80u
#define SOFTWARE_AT    464 /* struct _fpx_sw_bytes: the kernel's own notes */
#define IN_USE_AT      512
#define PROTECTION_KEY (UINT64_C(1) << 9)

void frame_return(void);
int frame_copy(void *to, const void *from, size_t size);
extern const char frame_copy_at[], frame_copy_fails[];
void frame_is_back(struct frame *frame) __attribute__((used));

/*
 * The handler's return address: it tells the shim and does what libc's own restorer does. Described for unwinders
 * (backtraces, exceptions, cancellation) as that one is: each register is where the frame has it, from the stack pointer on.
 * The nop belongs to it, because they look up the address before the one that is returned to.
 */
#define KEPT_AT(register, offset) \
    ".cfi_escape 0x10, " #register ", 3, 0x77, (" #offset " & 0x7f) | 0x80, " #offset " >> 7\n"
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".cfi_startproc\n"
        ".cfi_signal_frame\n"
        ".cfi_escape 0x0f, 4, 0x77, (160 & 0x7f) | 0x80, 160 >> 7, 0x06\n"
        KEPT_AT(8, 40) KEPT_AT(9, 48) KEPT_AT(10, 56) KEPT_AT(11, 64) KEPT_AT(12, 72) KEPT_AT(13, 80) KEPT_AT(14, 88)
        KEPT_AT(15, 96) KEPT_AT(5, 104) KEPT_AT(4, 112) KEPT_AT(6, 120) KEPT_AT(3, 128) KEPT_AT(1, 136) KEPT_AT(0, 144)
        KEPT_AT(2, 152) KEPT_AT(7, 160) KEPT_AT(16, 168)
        "nop\n"
        ".globl frame_return\n"
        ".hidden frame_return\n"
        ".type frame_return, @function\n"
        "frame_return:\n"
        "lea -8(%rsp), %rdi\n"
        "call frame_is_back\n"
        "movq $15, %rax\n" /* rt_sigreturn */
        "syscall\n"
        ".cfi_endproc\n"
        ".size frame_return, . - frame_return\n"

        ".p2align 4\n"
        ".globl frame_copy\n"
        ".hidden frame_copy\n"
        ".type frame_copy, @function\n"
        "frame_copy:\n"
        ".cfi_startproc\n"
        "mov %rdx, %rcx\n"
        ".globl frame_copy_at\n"
        ".hidden frame_copy_at\n"
        "frame_copy_at:\n"
        "rep movsb\n"
        "xor %eax, %eax\n"
        "ret\n"
        ".globl frame_copy_fails\n"
        ".hidden frame_copy_fails\n"
        "frame_copy_fails:\n"
        "mov $-14, %eax\n" /* -EFAULT */
        "ret\n"
        ".cfi_endproc\n"
        ".size frame_copy, . - frame_copy\n"
        ".popsection\n");

bool frame_failed(ucontext_t *context)
{
    greg_t *pc = &context->uc_mcontext.gregs[REG_RIP];
    if (*pc != (greg_t) frame_copy_at)
        return false;
    *pc = (greg_t) frame_copy_fails;
    return true;
}

void frame_is_back(struct frame *frame)
{
    if (frame->context.stack.ss_size == 0) /* one that the handler has set stays, as in threads that never had one */
        next.sigaltstack(NULL, &frame->context.stack);
    signals_handler_is_back(frame->number, frame->outer);
}

/* With the kernel's mark that it is XSAVE's, and not FXSAVE's alone. */
static bool is_extended(const unsigned char *state)
{
    uint32_t magic;
    memcpy(&magic, state + SOFTWARE_AT, sizeof magic);
    return magic == FP_XSTATE_MAGIC1;
}

static size_t state_size(const unsigned char *state)
{
    uint32_t size;
    memcpy(&size, state + SOFTWARE_AT + 4, sizeof size);
    return is_extended(state) ? size : LEGACY_SIZE;
}

/* A handler starts with a clean unit; rights to memory are those of the code that was interrupted. */
static void make_initial(unsigned char *state)
{
    const uint32_t mxcsr = MXCSR_INITIAL;
    uint64_t in_use;
    if (!state || !is_extended(state))
        return;
    memcpy(state + MXCSR_AT, &mxcsr, sizeof mxcsr);
    memcpy(&in_use, state + IN_USE_AT, sizeof in_use);
    in_use &= PROTECTION_KEY;
    memcpy(state + IN_USE_AT, &in_use, sizeof in_use);
}

/* Our handler's return enters the program's. In 64-bit mode, whatever the interrupted code ran in. */
static void enter(ucontext_t *context, uintptr_t at, const struct frame_order *order)
{
    greg_t *registers = context->uc_mcontext.gregs;
    registers[REG_RIP] = (greg_t) order->handler;
    registers[REG_RSP] = (greg_t) at;
    registers[REG_RDI] = order->number;
    registers[REG_RSI] = (greg_t) (at + offsetof(struct frame, info));
    registers[REG_RDX] = (greg_t) (at + offsetof(struct frame, context));
    registers[REG_RAX] = 0;
    registers[REG_EFL] &= ~(greg_t) (FLAG_TRAP | FLAG_DIRECTION | FLAG_RESUME);
    registers[REG_CSGSFS] = (greg_t) (((uint64_t) registers[REG_CSGSFS] & 0x0000ffffffff0000) | 0x002b000000000033);
    memcpy(&context->uc_sigmask, &order->mask, sizeof order->mask);
    make_initial((unsigned char *) context->uc_mcontext.fpregs);
}

int frame_move(ucontext_t *context, const struct frame_order *order, uintptr_t *frame)
{
    const unsigned char *state = (const unsigned char *) context->uc_mcontext.fpregs;
    size_t size = state ? state_size(state) : 0;
    uintptr_t state_at = ((uintptr_t) context->uc_mcontext.gregs[REG_RSP] - RED_ZONE - size) & ~(uintptr_t) 63;
    uintptr_t at = ((state_at - sizeof(struct frame)) & ~(uintptr_t) 15) - 8;
    struct frame image = {.back = frame_return, .outer = order->outer, .number = order->number};
    uintptr_t state_now = state ? state_at : 0;
    memcpy(&image.context, context, CONTEXT_SIZE);
    memcpy(image.context.registers + offsetof(mcontext_t, fpregs), &state_now, sizeof state_now);
    memcpy(image.info, order->info, INFO_SIZE);
    if (altstack_is_ours(&context->uc_stack))
        image.context.stack = (stack_t){.ss_flags = SS_DISABLE};
    if (frame_copy((void *) state_at, state, size) < 0 || frame_copy((void *) at, &image, sizeof image) < 0)
        return -EFAULT;
    enter(context, at, order);
    *frame = at + offsetof(struct frame, context);
    return 0;
}
