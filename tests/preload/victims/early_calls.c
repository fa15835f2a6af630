/*
 * early_calls: large blocks from a library's constructor, from the program's own, from main, from an exit handler and
 * from destructors; each is freed by another of them.
 */
#include "../victim.h"

#define SIZE (3 * MIB)

int early_intact(void);

static unsigned char *first, *from_main, *from_exit;

static void fill(unsigned char *p, int with)
{
    CHECK(p);
    memset(p, with, SIZE);
}

static void verify(const unsigned char *p, int with)
{
    for (size_t i = 0; i < SIZE; i++)
        CHECK(p[i] == with);
}

__attribute__((constructor(101))) static void before_main(void)
{
    fill(first = malloc(SIZE), 1);
}

static void at_exit(void)
{
    verify(from_main, 2);
    free(from_main);
    fill(from_exit = malloc(SIZE), 3);
}

__attribute__((destructor(101))) static void after_main(void)
{
    verify(from_exit, 3);
    free(from_exit);
    unsigned char *p = calloc(1, SIZE);
    CHECK(p);
    verify(p, 0);
    fill(p, 4); /* never freed */
}

int main(void)
{
    verify(first, 1);
    free(first);
    CHECK(early_intact());
    atexit(at_exit);
    fill(from_main = big_malloc(SIZE), 2);
    puts("main");
    return 3;
}
