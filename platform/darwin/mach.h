/*
 * mach.h: Mach's declarations as we need them.
 *
 * Mach has a vm_protect() and a vm_inherit() of its own, which must not meet ours (vm.h). And what the open headers leave out is declared
 * here by hand: the layouts are those of mach_exc.defs, as MIG packs them, and are checked where they are defined.
 */
#ifndef VP_DARWIN_MACH_H
#define VP_DARWIN_MACH_H

#define vm_protect machs_own_vm_protect
#define vm_inherit machs_own_vm_inherit
#include <mach/mach.h>
#include <mach/vm_map.h>
#undef vm_inherit
#undef vm_protect

#include <pthread.h>
#include <stdint.h>

/* ---- mach_exc.defs: exceptions with 64-bit codes, EXCEPTION_DEFAULT | MACH_EXCEPTION_CODES ---- */

#define EXC_MESSAGE_ID 2405
#define EXC_REPLY_ID   2505

#pragma pack(push, 4)
struct exc_message {
    mach_msg_header_t head;
    mach_msg_body_t body;
    mach_msg_port_descriptor_t thread;
    mach_msg_port_descriptor_t task;
    NDR_record_t ndr;
    exception_type_t exception;
    mach_msg_type_number_t code_count;
    int64_t code[2]; /* of EXC_BAD_ACCESS: a kern_return_t, the address */
};

struct exc_reply {
    mach_msg_header_t head;
    NDR_record_t ndr;
    kern_return_t result; /* KERN_SUCCESS: try again; KERN_FAILURE: ask the next port, then send a signal */
};
#pragma pack(pop)

_Static_assert(sizeof(mach_msg_header_t) == 24, "a message's head");
_Static_assert(__builtin_offsetof(struct exc_message, thread) == 28, "descriptors follow their count");
_Static_assert(__builtin_offsetof(struct exc_message, ndr) == 52, "MIG packs descriptors to 12 bytes");
_Static_assert(__builtin_offsetof(struct exc_message, code) == 68, "codes are not aligned to 8");
_Static_assert(sizeof(struct exc_message) == 84, "exception_raise, 64-bit codes");
_Static_assert(__builtin_offsetof(struct exc_reply, result) == 32, "the result follows the NDR record");
_Static_assert(sizeof(struct exc_reply) == 36, "its reply");

/* ---- pthread/introspection.h: threads as they come ---- */

enum { THREAD_CREATED = 1, THREAD_STARTED = 2, THREAD_TERMINATES = 3, THREAD_DESTROYED = 4 };
typedef void (*introspection_hook)(unsigned event, pthread_t thread, void *start, size_t size);
extern introspection_hook pthread_introspection_hook_install(introspection_hook hook);

/* ---- sys/ulock.h: what libc++ and libpthread sleep on ---- */

#define ULOCK_COMPARE_AND_WAIT        1u
#define ULOCK_COMPARE_AND_WAIT_SHARED 3u
#define ULOCK_WAKE_ALL                0x00000100u
#define ULOCK_NO_ERRNO                0x01000000u
extern int __ulock_wait(uint32_t operation, void *word, uint64_t value, uint32_t timeout_us);
extern int __ulock_wake(uint32_t operation, void *word, uint64_t wake_value);

#endif
