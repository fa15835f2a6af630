/* Scratch memory for faults: a slot has one owner, and nobody sleeps for ever. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
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
