/*
 * early_lib: a library whose constructor and destructor allocate. Linked into early_calls, where they run before the
 * shim's constructor and after its destructor; loaded and unloaded by dlopen_calls.
 */
#include "../victim.h"

#define SIZE (5 * MIB)

static unsigned char *early;

__attribute__((constructor)) static void start(void)
{
    early = malloc(SIZE);
    memset(early, 0x11, SIZE);
    early = realloc(early, 2 * SIZE);
    memset(early + SIZE, 0x22, SIZE);
}

/** 1 when the constructor's block is as it was left. */
int early_intact(void);
int early_intact(void)
{
    for (size_t i = 0; i < 2 * SIZE; i++)
        if (early[i] != (i < SIZE ? 0x11 : 0x22))
            return 0;
    return 1;
}

__attribute__((destructor)) static void stop(void)
{
    unsigned char *late = calloc(1, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        CHECK(late[i] == 0);
    memset(late, 0x33, SIZE);
    CHECK(early_intact());
    free(early);
    CHECK(late[0] == 0x33 && late[SIZE - 1] == 0x33);
    free(late);
}
