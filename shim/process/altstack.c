#include "altstack.h"

#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "../../platform/os.h"
#include "../interpose/hooks.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* For our own path a tenth would do; but a program's handler with SA_ONSTACK runs here too when it has set no stack. Memory
 * is taken as it is touched. */
#define ROOM ((size_t) 256 << 10)

/* Stacks of threads that have ended, for those to come. */
#define SPARE 16
static void *spare[SPARE]; /* any thread, atomically */

static __thread __attribute__((tls_model("initial-exec"))) void *own;

static size_t stack_size(void)
{
    size_t page = os_page_size(), frame = getauxval(AT_MINSIGSTKSZ);
    return ROOM + (frame + page - 1) / page * page;
}

/* Guards around it: a page below, and above more than a frame may take, for a thread's stack that is full may come next. */
#define ABOVE ((size_t) 64 << 10)

static size_t whole_size(void) { return os_page_size() + stack_size() + ABOVE; }

static void *make(void)
{
    char *start = os_map(whole_size());
    if (start) {
        mprotect(start, os_page_size(), PROT_NONE);
        mprotect(start + whole_size() - ABOVE, ABOVE, PROT_NONE);
    }
    return start;
}

static void *get(void)
{
    for (size_t i = 0; i < SPARE; i++) {
        void *found = __atomic_load_n(&spare[i], __ATOMIC_RELAXED) ? __atomic_exchange_n(&spare[i], NULL, __ATOMIC_ACQ_REL)
                                                                    : NULL;
        if (found)
            return found;
    }
    return make();
}

static void put(void *stack)
{
    for (size_t i = 0; i < SPARE; i++) {
        void *empty = NULL;
        if (__atomic_compare_exchange_n(&spare[i], &empty, stack, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return;
    }
    os_unmap(stack, whole_size());
}

static stack_t description(void)
{
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = (char *) own + os_page_size();
    stack.ss_size = stack_size();
    return stack;
}

void altstack_take(void)
{
    stack_t now;
    if (own || next.sigaltstack(NULL, &now) != 0 || !(now.ss_flags & SS_DISABLE) || !(own = get()))
        return;
    now = description();
    next.sigaltstack(&now, NULL);
}

void altstack_drop(void)
{
    stack_t now;
    if (!own)
        return;
    if (next.sigaltstack(NULL, &now) == 0 && altstack_is_ours(&now)) {
        memset(&now, 0, sizeof now);
        now.ss_flags = SS_DISABLE;
        if (next.sigaltstack(&now, NULL) != 0)
            return; /* it is in use: the thread ends in a handler */
    }
    put(own);
    own = NULL;
}

bool altstack_is_ours(const stack_t *stack) { return own && stack->ss_sp == (char *) own + os_page_size(); }

bool altstack_instead(stack_t *out)
{
    if (!own)
        return false;
    *out = description();
    return true;
}
