/*
 * errno_kept [MIB]: a load or a store never changes errno, whatever it takes to serve it.
 */
#include "../victim.h"

int main(int argc, char **argv)
{
    const size_t size = argument(argc, argv, 1, 96) * MIB;
    volatile unsigned char *p = big_malloc(size);
    uint64_t random = 1;
    for (int pass = 0; pass < 4; pass++)
        for (size_t i = 0; i < size / PAGE; i++) {
            volatile unsigned char *at = p + (pass % 2 ? random_next(&random) % size : i * PAGE);
            errno = (int)(i % 130) + 1;
            if (pass % 3 == 0)
                *at = (unsigned char)i;
            else
                (void)*at;
            __asm__ volatile("" ::: "memory"); /* else the compiler knows that a load does not change errno */
            if (errno != (int)(i % 130) + 1)
                die("pass %d, page %zu: errno became %d", pass, i, errno);
        }
    puts("errno kept");
    return 0;
}
