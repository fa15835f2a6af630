/* stack_x86_64.c: see ../stack.h. The way back is in a register that called functions keep. Debuggers follow it to a lower
 * address only where a signal's frame is said to be: they would take it for a broken stack. */
#include "../stack.h"

__asm__(".text\n"
        ".globl stack_call\n"
        ".hidden stack_call\n"
        ".type stack_call, @function\n"
        "stack_call:\n"
        ".cfi_startproc\n"
        ".cfi_signal_frame\n"
        "    push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset %rbp, -16\n"
        "    mov %rsp, %rbp\n"
        ".cfi_def_cfa_register %rbp\n"
        "    mov %rdi, %rsp\n"
        "    mov %rdx, %rdi\n"
        "    call *%rsi\n"
        "    leave\n"
        ".cfi_def_cfa %rsp, 8\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size stack_call, . - stack_call\n");
