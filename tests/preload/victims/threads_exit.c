/*
 * threads_exit: main ends by pthread_exit() while others run. The process ends with status 0 when the last of the
 * program's own threads does, whatever threads the shim has.
 */
#include "../victim.h"

#include <pthread.h>

static pthread_t main_thread;

static void *run(void *arg)
{
    const size_t number = (size_t)(uintptr_t)arg, size = 40 * MIB;
    if (number == 0)
        CHECK(pthread_join(main_thread, NULL) == 0);
    unsigned char *p = big_malloc(size);
    memset(p, (int)number + 1, size);
    usleep(100000 * (useconds_t)number);
    for (size_t i = 0; i < size; i++)
        CHECK(p[i] == number + 1);
    if (number % 2)
        free(p);
    return NULL;
}

static void at_exit(void)
{
    puts("exit handler");
}

int main(void)
{
    atexit(at_exit);
    main_thread = pthread_self();
    puts("main");
    for (size_t i = 0; i < 4; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, run, (void *)i) == 0);
        pthread_detach(thread);
    }
    pthread_exit(NULL);
}
