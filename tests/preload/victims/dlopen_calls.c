/*
 * dlopen_calls: loads and unloads a library that allocates in its constructor and destructor, from several threads;
 * libdl's own allocations (and those of dlerror) run between large ones.
 */
#include "../victim.h"

#include <pthread.h>

static void *run(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        unsigned char *p = big_malloc(2 * MIB);
        memset(p, i, 2 * MIB);
        void *library = dlopen("libvictim_early.so", RTLD_NOW | RTLD_LOCAL);
        if (!library)
            die("%s", dlerror());
        int (*intact)(void);
        void *symbol = dlsym(library, "early_intact");
        CHECK(symbol);
        memcpy(&intact, &symbol, sizeof intact);
        CHECK(intact());
        CHECK(!dlsym(library, "no_such_symbol") && dlerror());
        CHECK(!dlopen("libno_such_library.so", RTLD_NOW) && strstr(dlerror(), "libno_such_library.so"));
        CHECK(dlclose(library) == 0);
        for (size_t j = 0; j < 2 * MIB; j++)
            CHECK(p[j] == i);
        free(p);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    puts("loaded and unloaded");
    return 0;
}
