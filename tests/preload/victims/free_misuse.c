/*
 * free_misuse: frees a block twice, and pointers that were never blocks. libc ends the process for less; the shim says
 * so and ignores them. Only for the shim.
 */
#include "../victim.h"

int main(void)
{
    unsigned char *p = big_malloc(4 * MIB), *q = big_malloc(4 * MIB);
    memset(q, 0x5a, 4 * MIB);
    if (in_arena(p) != 1)
        die("not under the shim");

    free(p);
    free(p);        /* a second time */
    free(q + PAGE); /* inside a live block */
    free(q + 17);   /* and not even aligned */
    errno = 0;
    void *r = realloc(q + PAGE, 8 * MIB);
    printf("realloc of a foreign pointer: %s\n", r ? "a block" : "NULL");

    /* Nothing of it did any harm. */
    for (size_t i = 0; i < 4 * MIB; i++)
        CHECK(q[i] == 0x5a);
    unsigned char *a = big_malloc(4 * MIB), *b = big_malloc(4 * MIB);
    CHECK(a != b && a != q && b != q);
    memset(a, 1, 4 * MIB);
    memset(b, 2, 4 * MIB);
    for (size_t i = 0; i < 4 * MIB; i++)
        CHECK(a[i] == 1 && b[i] == 2 && q[i] == 0x5a);
    free(a);
    free(b);
    free(q);
    puts("survived");
    return 0;
}
