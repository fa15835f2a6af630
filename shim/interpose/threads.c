/*
 * threads.c: threads begin with our traps open and a stack for them, however they were asked for.
 *
 * libc makes threads with all signals blocked: what that touches is held. A thread that it makes for itself to call a
 * function of the program's (SIGEV_THREAD) keeps everything blocked, ours too: the function is called through one of ours.
 */
#include <mqueue.h>
#include <stdint.h>
#include <threads.h>
#include <time.h>

#include "../process/altstack.h"
#include "../process/signals.h"
#include "hooks.h"
#include "parts.h"

/* ---- threads that the program makes ---- */

struct start {
    void *(*run)(void *);   /* one of these */
    thrd_start_t run_thrd;
    void *argument;
    uint8_t believed; /* the creator's mask, as the program knows it */
};

static void drop_stack(void *unused)
{
    (void) unused;
    altstack_drop();
}

static struct start begin(void *given)
{
    struct start start = *(struct start *) given;
    originals()->free(given);
    signals_open();
    signals_believe(start.believed);
    altstack_take();
    return start;
}

static void *run(void *given)
{
    struct start start = begin(given);
    void *result;
    pthread_cleanup_push(drop_stack, NULL);
    result = start.run(start.argument);
    pthread_cleanup_pop(1);
    return result;
}

static int run_thrd(void *given)
{
    struct start start = begin(given);
    int result;
    pthread_cleanup_push(drop_stack, NULL);
    result = start.run_thrd(start.argument);
    pthread_cleanup_pop(1);
    return result;
}

/* NULL where we have not taken over, or there is no memory: then libc's own function is called with what it was given. */
static struct start *new_start(void *argument)
{
    struct start *start = signals_claimed(SIGSEGV) ? originals()->malloc(sizeof *start) : NULL;
    if (start)
        *start = (struct start){.argument = argument, .believed = signals_believed()};
    return start;
}

VP_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    struct start *start = new_start(argument);
    if (start)
        start->run = function;
    int error = ALWAYS_HELD(originals()->pthread_create(thread, attributes, start ? run : function, start ? start : argument),
                            OUT_ONE(thread), IN_ONE(attributes));
    if (error && start)
        originals()->free(start);
    return error;
}

VP_EXPORT int thrd_create(thrd_t *thread, thrd_start_t function, void *argument)
{
    struct start *start = new_start(argument);
    if (start)
        start->run_thrd = function;
    int error = ALWAYS_HELD(originals()->thrd_create(thread, start ? run_thrd : function, start ? start : argument),
                            OUT_ONE(thread));
    if (error != thrd_success && start)
        originals()->free(start);
    return error;
}

/* ---- threads that libc makes ---- */

struct notified {
    void (*function)(union sigval);
    union sigval value;
};

static void notify(union sigval given)
{
    const struct notified *notified = given.sival_ptr;
    signals_open();
    altstack_take(); /* the thread is libc's and may come again: it keeps the stack */
    notified->function(notified->value);
}

/* The same event, by way of ours. A timer may fire as long as the process lives, so what tells the way is never freed. */
static const struct sigevent *redirect(const struct sigevent *event, struct sigevent *copy)
{
    if (!event || !signals_claimed(SIGSEGV))
        return event;
    *copy = *event;
    struct notified *notified = copy->sigev_notify == SIGEV_THREAD ? originals()->malloc(sizeof *notified) : NULL;
    if (!notified)
        return copy;
    *notified = (struct notified){copy->sigev_notify_function, copy->sigev_value};
    copy->sigev_notify_function = notify;
    copy->sigev_value.sival_ptr = notified;
    return copy;
}

VP_EXPORT int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
{
    struct sigevent copy;
    const struct sigevent *passed = redirect(event, &copy);
    return ALWAYS_HELD(originals()->timer_create(clock, (struct sigevent *) (uintptr_t) passed, timer), OUT_ONE(timer));
}

VP_EXPORT int mq_notify(mqd_t queue, const struct sigevent *event)
{
    struct sigevent copy;
    return originals()->mq_notify(queue, redirect(event, &copy));
}
