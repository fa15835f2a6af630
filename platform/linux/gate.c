/* gate.c: raw_syscall(), see syscall.h. */
#include "syscall.h"

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl raw_syscall, raw_syscall_passed\n"
        ".hidden raw_syscall, raw_syscall_passed\n"
        ".type raw_syscall, @function\n"
        "raw_syscall:\n"
        ".cfi_startproc\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %rdi\n"
        "    mov %rdx, %rsi\n"
        "    mov %rcx, %rdx\n"
        "    mov %r8, %r10\n"
        "    mov %r9, %r8\n"
        "    mov 8(%rsp), %r9\n"
        "    syscall\n"
        "raw_syscall_passed:\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size raw_syscall, . - raw_syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl raw_syscall, raw_syscall_passed\n"
        ".hidden raw_syscall, raw_syscall_passed\n"
        ".type raw_syscall, %function\n"
        "raw_syscall:\n"
        ".cfi_startproc\n"
        "    mov x8, x0\n"
        "    mov x0, x1\n"
        "    mov x1, x2\n"
        "    mov x2, x3\n"
        "    mov x3, x4\n"
        "    mov x4, x5\n"
        "    mov x5, x6\n"
        "    svc 0\n"
        "raw_syscall_passed:\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size raw_syscall, . - raw_syscall\n");
#else
#error "write raw_syscall() for this processor"
#endif
