/* Scratch memory for faults: a slot has one owner, and nobody sleeps for ever. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shim/pager/scratch.h"

#define SLEEPERS 20
#define SIZE     4096

static struct scratch *scratch;
static unsigned done, mixed;

static void *take_once(void *number)
{
    struct scratch_slot slot = scratch_take(scratch);
    memset(slot.pages, (int) (uintptr_t) number, SIZE);
    usleep(500);
    for (size_t i = 0; i < SIZE; i++)
        if (slot.pages[i] != (unsigned char) (uintptr_t) number)
            __atomic_fetch_add(&mixed, 1, __ATOMIC_RELAXED);
    scratch_give(scratch, slot);
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* All slots come back at about the same time, before the first who was woken has run. */
Test(scratch, slots_that_come_back_together_wake_as_many, .timeout = 30)
{
    struct scratch_slot taken[SCRATCH_SLOTS];
    pthread_t sleepers[SLEEPERS];
    scratch = scratch_new(SIZE, SIZE);
    cr_assert_not_null(scratch);
    for (int i = 0; i < SCRATCH_SLOTS; i++)
        taken[i] = scratch_take(scratch);
    for (uintptr_t i = 0; i < SLEEPERS; i++)
        cr_assert_eq(pthread_create(&sleepers[i], NULL, take_once, (void *) (i + 1)), 0);
    usleep(100000);
    cr_assert_eq(done, 0);
    for (int i = 0; i < SCRATCH_SLOTS; i++)
        scratch_give(scratch, taken[i]);
    for (int i = 0; i < SLEEPERS; i++)
        cr_assert_eq(pthread_join(sleepers[i], NULL), 0);
    cr_assert_eq(done, SLEEPERS);
    cr_assert_eq(mixed, 0);
    scratch_free(scratch);
}

static bool can_write(unsigned char *at)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        *(volatile unsigned char *) at = 1;
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status == 0;
}

/* What is too deep even for a slot's stack dies of it, and spoils nothing. */
Test(scratch, stacks_are_apart_and_guarded, .timeout = 30)
{
    struct scratch_slot taken[SCRATCH_SLOTS];
    scratch = scratch_new(SIZE, SIZE);
    cr_assert_not_null(scratch);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        taken[i] = scratch_take(scratch);
        unsigned char *top = taken[i].stack_top;
        cr_assert_eq((uintptr_t) top % 16, 0);
        memset(top - SCRATCH_STACK, i, SCRATCH_STACK);
        memset(taken[i].records, 100, SIZE);
        memset(taken[i].pages, 101, SIZE);
    }
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        unsigned char *bottom = (unsigned char *) taken[i].stack_top - SCRATCH_STACK;
        for (size_t at = 0; at < SCRATCH_STACK; at++)
            cr_assert_eq(bottom[at], i);
        cr_assert(can_write(bottom));
        cr_assert_not(can_write(bottom - 1));
    }
    scratch_free(scratch);
}
