/*
 * alloc_semantics: every promise that C, POSIX and glibc make about malloc and its family, on both sides of the
 * threshold and across it.
 */
#include "../victim.h"

#include <malloc.h>

/* Sizes on both sides of the threshold, odd ones too. */
static const size_t sizes[] = {
    1, 24, 1000, 100 << 10, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 3 * MIB / 2, 5 * MIB + 7, 12 * MIB,
};
#define SIZES (sizeof sizes / sizeof *sizes)

/* Every call that succeeds leaves errno alone. */
#define KEEPS_ERRNO(call)                                                                                              \
    do {                                                                                                               \
        errno = 4711;                                                                                                  \
        call;                                                                                                          \
        if (errno != 4711)                                                                                             \
            die("%s:%d: %s: errno became %d (%s)", __FILE__, __LINE__, #call, errno, strerror(errno));                 \
    } while (0)

static unsigned char byte_at(size_t i, size_t seed)
{
    return (unsigned char)((i * 2654435761u + seed * 40503u) >> 13);
}

static void fill(unsigned char *p, size_t from, size_t to, size_t seed)
{
    CHECK(p);
    for (size_t i = from; i < to; i++)
        p[i] = byte_at(i, seed);
}

static void verify(const unsigned char *p, size_t from, size_t to, size_t seed)
{
    for (size_t i = from; i < to; i++)
        if (p[i] != byte_at(i, seed))
            die("byte %zu is %02x, not %02x", i, p[i], byte_at(i, seed));
}

static void zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i])
            die("byte %zu of %zu is %02x, not zero", i, size, p[i]);
}

/* The block is where a block of its size belongs, and is aligned as malloc's are. */
static void placed(const void *p, size_t size)
{
    CHECK(p);
    CHECK((uintptr_t)p % 16 == 0);
    CHECK(in_arena(p) == -1 || in_arena(p) == (size >= THRESHOLD));
}

/* After realloc: a block that became a little smaller than the threshold may stay where it is. */
static void placed_again(const void *p, size_t size)
{
    CHECK(p);
    CHECK((uintptr_t)p % 16 == 0);
    if (size >= THRESHOLD || size < THRESHOLD / 4)
        placed(p, size);
}

static void basics(void)
{
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *p, *q;
        KEEPS_ERRNO(p = malloc(sizes[i]));
        placed(p, sizes[i]);
        fill(p, 0, sizes[i], i);
        KEEPS_ERRNO(q = calloc(1, sizes[i]));
        placed(q, sizes[i]);
        zero(q, sizes[i]);
        verify(p, 0, sizes[i], i);
        KEEPS_ERRNO(free(p));
        KEEPS_ERRNO(free(q));
    }
    KEEPS_ERRNO(free(NULL));
    for (size_t i = 0; i < 64; i++) { /* alignment must not depend on the size */
        void *p = malloc(THRESHOLD + i);
        placed(p, THRESHOLD + i);
        free(p);
    }
    puts("basics ok");
}

static void too_large(void)
{
    volatile size_t max = SIZE_MAX, half = SIZE_MAX / 2, most = PTRDIFF_MAX, root = (size_t)1 << 32;
    void *q = malloc(100);
#define FAILS(call)                                                                                                    \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CHECK(!(call));                                                                                                \
        CHECK(errno == ENOMEM);                                                                                        \
    } while (0)
    FAILS(malloc(most));
    FAILS(malloc(most + 1));
    FAILS(malloc(max));
    FAILS(malloc(max - 4095));
    FAILS(calloc(half, 4));
    FAILS(calloc(4, half));
    FAILS(calloc(max / 16, 17));
    FAILS(calloc(root, root)); /* the product is 0 modulo 2^64 */
    FAILS(calloc(1, max));
    FAILS(aligned_alloc(4096, max - 8000));
    FAILS(memalign(4096, max - 100));
    FAILS(valloc(max - 100));
    FAILS(pvalloc(max - 100));
    q = NULL;
    CHECK(posix_memalign(&q, 64, most) == ENOMEM);
    CHECK(posix_memalign(&q, (size_t)1 << 40, max - 100) == ENOMEM);
    CHECK(q == NULL);

    for (size_t i = 0; i < SIZES; i++) { /* a block that cannot be resized stays as it was */
        unsigned char *p = malloc(sizes[i]);
        fill(p, 0, sizes[i], 3);
        FAILS(realloc(p, most));
        FAILS(realloc(p, max));
        FAILS(reallocarray(p, half, 4));
        FAILS(reallocarray(p, 4, half));
        verify(p, 0, sizes[i], 3);
        free(p);
    }
    puts("too large ok");
}

static void alignment(void)
{
    for (size_t a = sizeof(void *); a <= 64 * MIB; a *= 2)
        for (size_t s = 0; s < 3; s++) {
            const size_t size = (const size_t[]){100, THRESHOLD - 8, 2 * MIB + 5}[s];
            void *p[3];
            KEEPS_ERRNO(CHECK(posix_memalign(&p[0], a, size) == 0));
            KEEPS_ERRNO(p[1] = aligned_alloc(a, size));
            KEEPS_ERRNO(p[2] = memalign(a, size));
            for (size_t i = 0; i < 3; i++) {
                CHECK(p[i] && (uintptr_t)p[i] % a == 0);
                CHECK(malloc_usable_size(p[i]) >= size);
                fill(p[i], 0, size, a + i);
            }
            for (size_t i = 0; i < 3; i++) {
                verify(p[i], 0, size, a + i);
                free(p[i]);
            }
        }

    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < SIZES; i++) {
        void *p = valloc(sizes[i]), *q = pvalloc(sizes[i]);
        CHECK(p && (uintptr_t)p % page == 0);
        CHECK(q && (uintptr_t)q % page == 0);
        const size_t whole = (sizes[i] + page - 1) / page * page; /* pvalloc rounds the size up */
        CHECK(malloc_usable_size(q) >= whole);
        fill(q, 0, whole, 1);
        free(p);
        free(q);
    }

    /* Bad alignments: posix_memalign tells by its result alone and leaves the pointer. */
    void *mark = &mark;
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < 6; i++) {
            const size_t a = (const size_t[]){0, 1, 4, 24, 4095, 3 * MIB}[i], size = s ? 2 * MIB : 100;
            void *p = mark;
            KEEPS_ERRNO(CHECK(posix_memalign(&p, a, size) == EINVAL));
            CHECK(p == mark);
            if (i >= 3) { /* memalign may round up or refuse; libcs differ */
                errno = 0;
                p = memalign(a, size);
                CHECK(p ? (uintptr_t)p % (a & -a) == 0 : errno == EINVAL);
                free(p);
            }
        }
    volatile size_t huge = SIZE_MAX / 2 + 2;
    errno = 0;
    CHECK(!memalign(huge, 2 * MIB));
    CHECK(errno == EINVAL || errno == ENOMEM);
    puts("alignment ok");
}

/* A block of size `from`, resized to `to`, and once more by reallocarray; neighbours keep it from growing in place. */
static void resize(size_t from, size_t to, bool crowded, bool aligned)
{
    unsigned char *neighbour[2] = {NULL, NULL}, *p;
    if (aligned)
        CHECK(posix_memalign((void **)&p, 8192, from) == 0);
    else
        p = malloc(from);
    CHECK(p);
    if (crowded)
        for (size_t i = 0; i < 2; i++) {
            neighbour[i] = malloc(from);
            fill(neighbour[i], 0, from, 77 + i);
        }
    const size_t kept = from < to ? from : to;
    fill(p, 0, from, 5);
    KEEPS_ERRNO(p = realloc(p, to));
    placed_again(p, to);
    CHECK(malloc_usable_size(p) >= to);
    verify(p, 0, kept, 5);
    fill(p, kept, to, 5);
    KEEPS_ERRNO(p = reallocarray(p, from, 1));
    placed_again(p, from);
    verify(p, 0, kept, 5);
    for (size_t i = 0; i < 2 && crowded; i++) {
        verify(neighbour[i], 0, from, 77 + i);
        free(neighbour[i]);
    }
    free(p);
}

static void reallocation(void)
{
    for (size_t from = 0; from < SIZES; from++)
        for (size_t to = 0; to < SIZES; to++) {
            resize(sizes[from], sizes[to], false, false);
            resize(sizes[from], sizes[to], true, (from + to) % 3 == 0);
        }

    unsigned char *p = NULL;
    size_t old = 0;
    for (size_t size = 1000; size < 40 * MIB; size = size * 9 / 7 + 13) { /* a buffer that grows, as programs do it */
        CHECK((p = realloc(p, size)));
        verify(p, 0, old, 9);
        fill(p, old, size, 9);
        old = size;
    }
    for (size_t size = old; size > 10; size = size * 2 / 3) {
        CHECK((p = realloc(p, size)));
        verify(p, 0, size, 9);
    }
    free(p);

    for (size_t i = 0; i < SIZES; i++) { /* realloc(NULL, n) is malloc(n); realloc(p, 0) frees, with glibc's result */
        KEEPS_ERRNO(p = realloc(NULL, sizes[i]));
        placed(p, sizes[i]);
        fill(p, 0, sizes[i], i);
        volatile size_t none = 0;
        p = realloc(p, none);
        printf("realloc(%zu bytes, 0) is %s\n", sizes[i], p ? "a block" : "NULL");
        free(p);
        KEEPS_ERRNO(p = reallocarray(NULL, sizes[i], 3));
        placed(p, 3 * sizes[i]);
        free(p);
    }
    puts("realloc ok");
}

static void calloc_is_zero(void)
{
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 0; i < SIZES; i++) {
            unsigned char *p = malloc(sizes[i]);
            memset(p, 0xaa, malloc_usable_size(p));
            free(p);
            /* The same size, and parts of what was just freed. */
            for (size_t part = 1; part <= 3; part++) {
                const size_t size = sizes[i] / part;
                p = calloc(part, size);
                CHECK(p);
                zero(p, part * size);
                memset(p, 0xbb, malloc_usable_size(p));
                free(p);
                p = calloc(size ? size : 1, 1);
                CHECK(p);
                zero(p, size);
                memset(p, 0xcc, size);
                free(p);
            }
        }
    puts("calloc ok");
}

static void nothing(void)
{
    volatile size_t none = 0;
    void *p = malloc(none), *q = malloc(none), *r = calloc(none, 8), *s = calloc(8, none), *t = realloc(NULL, none);
    void *const all[] = {p, q, r, s, t};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < i; j++)
            CHECK(all[i] && all[j] && all[i] != all[j]);
    for (size_t i = 0; i < 5; i++)
        free(all[i]);
    CHECK(posix_memalign(&p, 64, none) == 0);
    free(p);
    CHECK(malloc_usable_size(NULL) == 0);
    puts("nothing ok");
}

static void usable(void)
{
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *p = malloc(sizes[i]), *q = malloc(sizes[i]);
        size_t size;
        KEEPS_ERRNO(size = malloc_usable_size(p));
        CHECK(size >= sizes[i]);
        fill(q, 0, sizes[i], 2);
        fill(p, 0, size, 1); /* all of it is the program's */
        verify(p, 0, size, 1);
        verify(q, 0, sizes[i], 2);
        p = realloc(p, size + MIB);
        verify(p, 0, sizes[i], 1);
        free(p);
        free(q);
    }
    puts("usable size ok");
}

/* Many blocks of sizes about the threshold, living and dying in random order, never share a byte. */
static void overlap(void)
{
    enum { BLOCKS = 60, STEPS = 1500 };
    static struct {
        unsigned char *p;
        size_t size, seed;
    } blocks[BLOCKS];
    uint64_t random = 1;
    for (size_t step = 0; step < STEPS + BLOCKS; step++) {
        const size_t i = step < STEPS ? random_next(&random) % BLOCKS : step - STEPS;
        unsigned char *p = blocks[i].p;
        if (p) { /* its edges, where a neighbour would have written */
            const size_t size = blocks[i].size, edge = size < 8192 ? size : 8192;
            verify(p, 0, edge, blocks[i].seed);
            verify(p, size - edge, size, blocks[i].seed);
            free(p);
            blocks[i].p = NULL;
        }
        if (step < STEPS) {
            const size_t size = THRESHOLD / 2 + random_next(&random) % (2 * THRESHOLD), edge = 8192;
            p = step % 4 ? malloc(size) : memalign((size_t)64 << step % 12, size);
            CHECK(p);
            fill(p, 0, edge, step);
            fill(p, size - edge, size, step);
            blocks[i].p = p, blocks[i].size = size, blocks[i].seed = step;
        }
    }
    puts("overlap ok");
}

/* C23's sized frees, where libc or the shim has them. */
static void sized_free(void)
{
    void (*free_sized)(void *, size_t), (*free_aligned_sized)(void *, size_t, size_t);
    void *symbol = dlsym(RTLD_DEFAULT, "free_sized"), *aligned = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(in_arena(&symbol) == -1 || (symbol && aligned));
    memcpy(&free_sized, &symbol, sizeof free_sized);
    memcpy(&free_aligned_sized, &aligned, sizeof free_aligned_sized);
    for (size_t i = 0; i < SIZES && symbol && aligned; i++) {
        KEEPS_ERRNO(free_sized(malloc(sizes[i]), sizes[i]));
        KEEPS_ERRNO(free_aligned_sized(aligned_alloc(4096, sizes[i]), 4096, sizes[i]));
    }
    if (symbol && aligned) {
        free_sized(NULL, 0);
        free_aligned_sized(NULL, 64, 0);
    }
    puts("sized free ok");
}

int main(void)
{
    basics();
    too_large();
    alignment();
    reallocation();
    calloc_is_zero();
    nothing();
    usable();
    overlap();
    sized_free();
    return 0;
}
