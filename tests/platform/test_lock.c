/* The shim's lock: mutual exclusion, signals blocked while held, fork. */
#include "contract.h"

#include "../../platform/lock.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS  50000

static struct lock lock = LOCK_INIT(LOCK_TRAP);
static volatile uint64_t counter; /* only the lock makes adding to it safe */
static uint32_t tried;

static bool blocked(int number)
{
    sigset_t now;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    return sigismember(&now, number);
}

static void *count_up(void *unused)
{
    (void) unused;
    for (int i = 0; i < ROUNDS; i++) {
        lock_acquire(&lock);
        CHECK(lock_held_by_me(&lock));
        counter++;
        if (i % 1000 == 0)
            os_yield(); /* others find it held */
        lock_release(&lock);
    }
    return NULL;
}

static void *try_to_count_up(void *unused)
{
    (void) unused;
    for (int i = 0; i < ROUNDS || tried == 0; i++) { /* on a busy machine it may find it held each time */
        if (!lock_try(&lock))
            continue;
        counter++;
        __atomic_fetch_add(&tried, 1, __ATOMIC_RELAXED);
        lock_release(&lock);
    }
    CHECK(!blocked(SIGUSR2)); /* nor does a try that lost a race leave anything behind */
    return NULL;
}

static void one_at_a_time(void)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, i ? count_up : try_to_count_up, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(counter, (THREADS - 1) * ROUNDS + tried);
    CHECK(tried > 0);
    CHECK_EQ(lock.word, 0);
    CHECK(!lock_held_by_me(&lock));
}

static void block_usr1(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
}

static void signals_wait_while_it_is_held(void)
{
    block_usr1();
    for (int i = 0; i < 2; i++) {
        if (i)
            CHECK(lock_try(&lock));
        else
            lock_acquire(&lock);
        CHECK(blocked(SIGUSR1) && blocked(SIGUSR2) && blocked(SIGSEGV) && blocked(SIGBUS));
        CHECK(!lock_try(&lock)); /* also by its holder; and the mask stays */
        CHECK(blocked(SIGUSR2));
        lock_release(&lock);
        CHECK(blocked(SIGUSR1) && !blocked(SIGUSR2) && !blocked(SIGSEGV));
    }
}

static void *hold_for_a_while(void *unused)
{
    (void) unused;
    lock_acquire(&lock);
    __atomic_store_n(&tried, 1, __ATOMIC_SEQ_CST);
    usleep(100000);
    counter = 1;
    lock_release(&lock);
    return NULL;
}

static void a_waiter_sleeps_until_release(void)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, hold_for_a_while, NULL), 0);
    while (!__atomic_load_n(&tried, __ATOMIC_SEQ_CST))
        os_yield();
    block_usr1();
    CHECK(!lock_try(&lock));
    CHECK(!blocked(SIGUSR2));
    CHECK(!lock_held_by_me(&lock));
    lock_acquire(&lock);
    CHECK_EQ(counter, 1);
    CHECK(blocked(SIGUSR2));
    lock_release(&lock);
    CHECK(blocked(SIGUSR1) && !blocked(SIGUSR2));
    pthread_join(thread, NULL);
}

static void locks_nest(void)
{
    struct lock inner = LOCK_INIT(LOCK_TRAP), outer = LOCK_INIT(LOCK_RANGES);
    block_usr1();
    lock_acquire(&outer);
    lock_acquire(&inner);
    CHECK(lock_held_by_me(&outer) && lock_held_by_me(&inner));
    lock_release(&inner);
    CHECK(blocked(SIGUSR2));
    lock_release(&outer);
    CHECK(blocked(SIGUSR1) && !blocked(SIGUSR2));
}

static void a_child_adopts_it(void)
{
    block_usr1();
    lock_acquire(&lock);
    pid_t child = fork();
    if (child == 0) {
        CHECK(!lock_held_by_me(&lock));
        lock_adopt(&lock);
        CHECK(lock_held_by_me(&lock));
        lock_release(&lock);
        CHECK(blocked(SIGUSR1) && !blocked(SIGUSR2));
        CHECK(lock_try(&lock));
        _exit(0);
    }
    check_child(child);
    CHECK(lock_held_by_me(&lock));
    lock_release(&lock);
}

static void errno_is_left_alone(void)
{
    errno = 4242;
    lock_acquire(&lock);
    lock_try(&lock);
    lock_release(&lock);
    CHECK_EQ(errno, 4242);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(one_at_a_time),
        CASE(signals_wait_while_it_is_held),
        CASE(a_waiter_sleeps_until_release),
        CASE(locks_nest),
        CASE(a_child_adopts_it),
        CASE(errno_is_left_alone),
        CASES_END,
    };
    return services_main(argc, argv, cases);
}
