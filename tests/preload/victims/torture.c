/*
 * torture --threads N --size BYTES --seconds S --seed X [--syscalls] [--fork] [--rate] [--abort]
 *
 * Threads write and verify self-describing content over SIZE bytes of large blocks: whole pages in order, at random and
 * at strides, 1 to 64 bytes across page boundaries, with realloc, free, calloc, memcpy and memmove in between. A part
 * is shared: pages under striped locks, counters by atomics, blocks that change hands.
 *
 * How wrong content is known: every page that is written gets a new random 32-bit key, and its content follows from
 * (key, offset). The keys are in a side table in ordinary static memory, 16 bytes a page of 4 KiB. So content that is
 * stale, zero, torn or another page's is told from the right one, and most words even say what they are. A small write
 * is a *patch* of the page: a few bytes that follow from another key; the page's next patch first restores them.
 *
 * --syscalls  moves data through a pipe and a file too
 * --fork      forks now and then; the child verifies its copy, changes it, verifies again and exits
 * --rate      says on stderr how much work was done
 * --abort     on a mismatch stops the process (SIGSTOP, for a debugger to attach), then aborts
 */
#include "../victim.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#define WORDS       (PAGE / 8)
#define THREADS_MAX 64
#define SLOTS_MAX   16                /* blocks a thread */
#define PAGES_MAX   ((size_t)4 << 20) /* of the side table: 16 GiB of data */
#define RUN_MAX     ((size_t)64)      /* pages that one operation works on */
#define STRIPES     256
#define WINDOW      ((size_t)64) /* shared pages that all threads crowd upon */

/* What a page holds. */
struct record {
    uint32_t key;   /* 0: nobody has written it */
    uint32_t patch; /* key of its patched bytes */
    uint32_t old;   /* key before the last whole write, to recognise stale content */
    uint16_t patch_start, patch_length;
};

/* A block and what its pages hold. */
struct block {
    unsigned char *p;
    size_t pages, pages_max, cursor;
    struct record *records;
};

struct thread {
    pthread_t handle;
    int number;
    uint64_t random;
    struct block *slots[SLOTS_MAX];
    uint64_t added; /* to the shared counters */
    uint64_t bytes; /* worked on */
    int pipe[2], file;
    FILE *stream;
    pid_t child;
    char *doing; /* for the report */
};

static struct {
    size_t threads, size, seed;
    double seconds;
    bool syscalls, fork, rate, abort;
} options = {.threads = 2, .size = 256 * MIB, .seconds = 5, .seed = 1};

static struct record table[PAGES_MAX];
static struct block blocks[THREADS_MAX * (SLOTS_MAX + 1)], shared;
static struct thread threads[THREADS_MAX];
static size_t block_count, slots_per_thread;
static pthread_mutex_t stripes[STRIPES];
static _Atomic(struct block *) mailbox[THREADS_MAX]; /* blocks on their way to another thread */
static atomic_size_t window;
static _Atomic uint64_t *counters;
static size_t counter_count;
static atomic_bool stop;

/* ---- content ---- */

enum kind { ZERO, SAME, COMPRESSIBLE, NOISE }; /* of a key: its two lowest bits */

static const char *const kind_names[] = {"zero", "same-filled", "compressible", "incompressible"};

static uint64_t word_of(uint32_t key, size_t i)
{
    const uint64_t high = (uint64_t)key << 32;
    switch (key & 3) {
    case ZERO:
        return 0;
    case SAME:
        return high | key;
    case COMPRESSIBLE:
        return high | (i & ~(size_t)15);
    default:
        return mix64(high | i);
    }
}

static uint64_t unmix64(uint64_t x)
{
    x = (x ^ x >> 33) * 0x9cb4b2f8129337db;
    x = (x ^ x >> 33) * 0x4f74430c22a54005;
    return x ^ x >> 33;
}

/* The byte of a page at `offset`, by its record. */
static unsigned char byte_of(const struct record *record, size_t offset)
{
    const bool patched = offset - record->patch_start < record->patch_length;
    return (unsigned char)(word_of(patched ? record->patch : record->key, offset / 8) >> offset % 8 * 8);
}

static void page_of(const struct record *record, uint64_t *page)
{
    for (size_t i = 0; i < WORDS; i++)
        page[i] = word_of(record->key, i);
    for (size_t i = 0; i < record->patch_length; i++)
        ((unsigned char *)page)[record->patch_start + i] = byte_of(record, record->patch_start + i);
}

static uint32_t new_key(struct thread *t)
{
    uint32_t key;
    do
        key = (uint32_t)random_next(&t->random);
    while (key < 4);
    return key;
}

static size_t below(struct thread *t, size_t limit)
{
    return random_next(&t->random) % limit;
}

/* ---- the report ---- */

static const struct block *find_key(uint32_t key, size_t *page)
{
    for (size_t b = 0; b <= block_count; b++) {
        const struct block *block = b < block_count ? &blocks[b] : &shared;
        for (*page = 0; *page < block->pages; ++*page)
            if (block->records[*page].key == key || block->records[*page].patch == key)
                return block;
    }
    return NULL;
}

/* What a wrong word is, as far as it tells. */
static void explain(const struct record *record, uint64_t found, size_t i)
{
    if (found == 0) {
        dprintf(STDERR_FILENO, "  found: zeros\n");
        return;
    }
    if (record->old && found == word_of(record->old, i)) {
        dprintf(STDERR_FILENO, "  found: stale, the page's content before its last write (key %08x)\n", record->old);
        return;
    }
    const uint64_t readings[] = {found, unmix64(found)};
    for (size_t r = 0; r < 2; r++) {
        const uint32_t key = (uint32_t)(readings[r] >> 32);
        const size_t word = (uint32_t)readings[r];
        if (word_of(key, word) != found)
            continue;
        size_t page;
        const struct block *block = find_key(key, &page);
        dprintf(STDERR_FILENO, "  found: word %zu of key %08x, which ", (key & 3) == SAME ? i : word, key);
        if (block)
            dprintf(STDERR_FILENO, "belongs to page %zu of the block at %p\n", page, (void *)block->p);
        else
            dprintf(STDERR_FILENO, "no page has now (older content)\n");
        return;
    }
    dprintf(STDERR_FILENO, "  found: not a word of any content (torn, or a patch's)\n");
}

/* The pages around the wrong one: '.' right, 'z' zeros where there should be content, 'x' something else, '-' never
 * written. A loss has the shape of what lost it: a page, a granule, a block's end. */
static void show_around(const struct block *block, size_t page)
{
    char map[2 * 48 + 2];
    size_t first = page < 48 ? 0 : page - 48, n = 0;
    for (size_t i = first; i < block->pages && n < sizeof map - 1; i++) {
        static const uint64_t zeros[WORDS];
        uint64_t right[WORDS];
        page_of(&block->records[i], right);
        map[n++] = !block->records[i].key                             ? '-'
                   : memcmp(block->p + i * PAGE, right, PAGE) == 0    ? '.'
                   : memcmp(block->p + i * PAGE, zeros, PAGE) == 0    ? 'z'
                                                                      : 'x';
    }
    map[n] = 0;
    dprintf(STDERR_FILENO, "  pages %zu to %zu: %s\n", first, first + n, map);
}

/* `seen` is the page as the access saw it. */
static void mismatch(struct thread *t, const struct block *block, size_t page, const uint64_t *seen)
{
    static atomic_flag reported = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&reported))
        pause(); /* another thread reports, and ends the process */

    const struct record *record = &block->records[page];
    uint64_t right[WORDS], again[WORDS];
    page_of(record, right);
    memcpy(again, block->p + page * PAGE, PAGE);
    size_t wrong = 0, first = 0, last = 0;
    for (size_t i = 0; i < PAGE; i++)
        if (((const unsigned char *)seen)[i] != ((unsigned char *)right)[i]) {
            first = wrong++ ? first : i;
            last = i;
        }
    const size_t word = first / 8;
    const char *later = memcmp(again, right, PAGE) == 0  ? "right"
                        : memcmp(again, seen, PAGE) == 0 ? "the same"
                                                         : "other";
    dprintf(STDERR_FILENO,
            "torture: WRONG DATA in process %d, thread %d, %s: page %zu of %zu of the %s block at %p\n"
            "  page at %p: key %08x (%s), before that %08x, patch %08x at %u + %u\n"
            "  %zu of %zu bytes wrong, the first at %zu, the last at %zu; read again: %s\n"
            "  expected %016llx, found %016llx at offset %zu (%p)\n",
            getpid(), t->number, t->doing, page, block->pages, block == &shared ? "shared" : "own", (void *)block->p,
            (void *)(block->p + page * PAGE), record->key, kind_names[record->key & 3], record->old, record->patch,
            record->patch_start, record->patch_length, wrong, PAGE, first, last, later, (unsigned long long)right[word],
            (unsigned long long)seen[word], word * 8, (void *)(block->p + page * PAGE + word * 8));
    explain(record, seen[word], word);
    show_around(block, page);
    if (options.abort) {
        raise(SIGSTOP);
        abort();
    }
    _exit(1);
}

/* ---- pages ---- */

static void write_page(struct thread *t, struct block *block, size_t page)
{
    struct record *record = &block->records[page];
    *record = (struct record){.key = new_key(t), .old = record->key};
    uint64_t *p = (uint64_t *)(void *)(block->p + page * PAGE);
    for (size_t i = 0; i < WORDS; i++) /* in place: a page that is taken away half-way must come back half-way */
        p[i] = word_of(record->key, i);
    t->bytes += PAGE;
}

static void verify_page(struct thread *t, const struct block *block, size_t page)
{
    const struct record *record = &block->records[page];
    if (!record->key)
        return;
    uint64_t right[WORDS], seen[WORDS];
    memcpy(seen, block->p + page * PAGE, PAGE);
    page_of(record, right);
    if (memcmp(seen, right, PAGE) != 0)
        mismatch(t, block, page, seen);
    t->bytes += PAGE;
}

static void verify_bytes(struct thread *t, const struct block *block, size_t offset, size_t length)
{
    unsigned char found[64];
    memcpy(found, block->p + offset, length);
    for (size_t i = 0; i < length; i++) {
        const struct record *record = &block->records[(offset + i) / PAGE];
        if (record->key && found[i] != byte_of(record, (offset + i) % PAGE)) {
            uint64_t seen[WORDS];
            const size_t page = (offset + i) / PAGE;
            memcpy(seen, block->p + page * PAGE, PAGE);
            ((unsigned char *)seen)[(offset + i) % PAGE] = found[i];
            mismatch(t, block, page, seen);
        }
    }
    t->bytes += length;
}

/* Up to 64 bytes at any offset, in one piece where they cross into the next page. */
static void patch(struct thread *t, struct block *block, size_t offset, size_t length)
{
    const uint32_t key = new_key(t);
    for (size_t page = offset / PAGE; page <= (offset + length - 1) / PAGE; page++) {
        struct record *record = &block->records[page];
        if (!record->key)
            write_page(t, block, page);
        const struct record whole = {.key = record->key};
        unsigned char bytes[64];
        for (size_t i = 0; i < record->patch_length; i++)
            bytes[i] = byte_of(&whole, record->patch_start + i);
        memcpy(block->p + page * PAGE + record->patch_start, bytes, record->patch_length);

        const size_t start = page == offset / PAGE ? offset % PAGE : 0;
        const size_t end = offset + length - page * PAGE;
        record->patch = key;
        record->patch_start = (uint16_t)start;
        record->patch_length = (uint16_t)((end < PAGE ? end : PAGE) - start);
    }
    unsigned char bytes[64];
    for (size_t i = 0; i < length; i++)
        bytes[i] = byte_of(&block->records[(offset + i) / PAGE], (offset + i) % PAGE);
    memcpy(block->p + offset, bytes, length);
    t->bytes += length;
}

/* ---- operations on a thread's own blocks ---- */

static struct block *any_block(struct thread *t)
{
    return t->slots[below(t, slots_per_thread)];
}

static size_t any_run(struct thread *t, const struct block *block, size_t *start)
{
    const size_t most = block->pages < RUN_MAX ? block->pages : RUN_MAX, n = 1 + below(t, most);
    *start = below(t, block->pages - n + 1);
    return n;
}

/* Goes on where the last call left off, as a scan does, and writes one page in four. */
static void sequential(struct thread *t, struct block *block)
{
    t->doing = "sequential access";
    for (size_t i = 0; i < RUN_MAX; i++) {
        block->cursor = (block->cursor + 1) % block->pages;
        verify_page(t, block, block->cursor);
        if (below(t, 4) == 0)
            write_page(t, block, block->cursor);
    }
}

static void scattered(struct thread *t, struct block *block)
{
    t->doing = "random access";
    for (int i = 0; i < 8; i++) {
        const size_t page = below(t, block->pages);
        verify_page(t, block, page);
        if (below(t, 3) == 0)
            write_page(t, block, page);
    }
}

static void strided(struct thread *t, struct block *block)
{
    t->doing = "strided access";
    const size_t stride = 1 + below(t, 64);
    const bool writes = below(t, 2);
    for (size_t i = 0, page = below(t, block->pages); i < 32 && page < block->pages; i++, page += stride) {
        const size_t offset = page * PAGE + below(t, PAGE - 64);
        verify_bytes(t, block, offset, 8);
        if (writes)
            patch(t, block, offset, 8);
    }
}

static void small(struct thread *t, struct block *block)
{
    t->doing = "small access";
    for (int i = 0; i < 32; i++) {
        const size_t length = 1 + below(t, 64), bytes = block->pages * PAGE;
        size_t offset = below(t, bytes - length + 1);
        if (i % 2 && block->pages > 1) /* about a page boundary */
            offset = (1 + below(t, block->pages - 1)) * PAGE - below(t, length + 1);
        if (offset + length > bytes)
            continue;
        verify_bytes(t, block, offset, length);
        if (below(t, 2)) {
            patch(t, block, offset, length);
            verify_bytes(t, block, offset, length);
        }
    }
}

/* Records follow the pages that are copied; those of `from` and `to` may overlap. */
static void move_records(struct record *to, const struct record *from, size_t n)
{
    memmove(to, from, n * sizeof *to);
}

static void copy(struct thread *t, struct block *from)
{
    t->doing = "memcpy and memmove";
    struct block *to = any_block(t);
    size_t source, target;
    size_t n = any_run(t, from, &source), room = any_run(t, to, &target);
    n = n < room ? n : room;
    if (from == to)
        memmove(to->p + target * PAGE, from->p + source * PAGE, n * PAGE);
    else
        memcpy(to->p + target * PAGE, from->p + source * PAGE, n * PAGE);
    move_records(to->records + target, from->records + source, n);
    for (size_t i = 0; i < n; i++)
        verify_page(t, to, target + i);
}

static void verify_some(struct thread *t, const struct block *block)
{
    verify_page(t, block, 0);
    verify_page(t, block, block->pages - 1);
    for (int i = 0; i < 16; i++)
        verify_page(t, block, below(t, block->pages));
}

/* Mostly between half and all of the block's largest size; now and then one that libc serves, below the threshold. */
static size_t new_pages(struct thread *t, const struct block *block)
{
    const size_t half = block->pages_max / 2;
    return below(t, 32) ? half + 1 + below(t, block->pages_max - half) : 1 + below(t, 64);
}

/* The odd bytes at a block's end belong to no page and are not looked at. */
static size_t bytes_for(struct thread *t, size_t pages)
{
    return pages * PAGE + below(t, PAGE);
}

static void resize(struct thread *t, struct block *block)
{
    t->doing = "realloc";
    const size_t pages = new_pages(t, block);
    unsigned char *p = realloc(block->p, bytes_for(t, pages));
    if (!p)
        die("torture: realloc to %zu pages: %s", pages, strerror(errno));
    for (size_t i = block->pages; i < pages; i++)
        block->records[i] = (struct record){0};
    block->p = p;
    block->pages = pages;
    block->cursor = 0;
    verify_some(t, block);
}

static void allocate(struct thread *t, struct block *block)
{
    t->doing = "allocation";
    block->pages = new_pages(t, block);
    block->cursor = 0;
    const size_t bytes = bytes_for(t, block->pages);
    const size_t how = below(t, 4);
    void *p = NULL;
    if (how == 0)
        p = calloc(1, bytes);
    else if (how == 1)
        p = malloc(bytes);
    else if (posix_memalign(&p, (size_t)16 << below(t, 18), bytes) != 0)
        p = NULL;
    if (!p)
        die("torture: allocation of %zu bytes: %s", bytes, strerror(errno));
    block->p = p;
    for (size_t i = 0; i < block->pages; i++)
        block->records[i] = (struct record){.key = how == 0 ? new_key(t) & ~3u : 0}; /* ZERO */
    if (how == 0)
        verify_some(t, block);
}

static void free_block(struct block *block)
{
    free(block->p);
    block->p = NULL;
    block->pages = 0;
}

static void replace(struct thread *t, struct block *block)
{
    verify_some(t, block);
    free_block(block);
    allocate(t, block);
}

/* Gives a block to whichever thread looks into that mailbox next, for the one that is there. */
static void exchange(struct thread *t)
{
    t->doing = "exchange of blocks";
    const size_t slot = below(t, slots_per_thread);
    t->slots[slot] = atomic_exchange(&mailbox[below(t, options.threads)], t->slots[slot]);
    verify_some(t, t->slots[slot]);
}

/* ---- what all threads share ---- */

static void common(struct thread *t)
{
    t->doing = "access to shared pages";
    /* Most of the time all threads crowd into a window of a few pages, which wanders. */
    if (below(t, 64) == 0)
        atomic_fetch_add(&window, WINDOW / 2);
    for (int i = 0; i < 16; i++) {
        size_t page = (below(t, 8) ? atomic_load(&window) + below(t, WINDOW) : below(t, shared.pages)) % shared.pages;
        pthread_mutex_lock(&stripes[page % STRIPES]);
        const size_t length = 1 + below(t, 64), offset = page * PAGE + below(t, PAGE - length + 1);
        switch (below(t, 4)) {
        case 0:
            write_page(t, &shared, page);
            break;
        case 1:
            patch(t, &shared, offset, length);
            break;
        case 2:
            verify_bytes(t, &shared, offset, length);
            break;
        default:
            verify_page(t, &shared, page);
        }
        pthread_mutex_unlock(&stripes[page % STRIPES]);
    }
}

static void count(struct thread *t)
{
    t->doing = "shared counters";
    const size_t near = atomic_load(&window) * 8;
    for (int i = 0; i < 32; i++) {
        const uint64_t n = random_next(&t->random);
        const size_t at = (below(t, 8) ? near + below(t, WINDOW * WORDS) : below(t, counter_count)) % counter_count;
        atomic_fetch_add(&counters[at], n);
        t->added += n;
        t->bytes += 8;
    }
}

/* ---- --syscalls and --fork ---- */

static void transferred(const char *call, ssize_t result, size_t expected)
{
    if (result != (ssize_t)expected)
        die("torture: %s: %zd of %zu (%s)", call, result, expected, result < 0 ? strerror(errno) : "no error");
}

/* Pages of one block go through the kernel into another. */
static void through_kernel(struct thread *t, struct block *from)
{
    t->doing = "system calls";
    struct block *to = any_block(t);
    size_t source, target;
    size_t n = any_run(t, from, &source), room = any_run(t, to, &target);
    n = n < room ? n : room;
    const size_t how = below(t, 3);
    if (how == 0 && n > 16)
        n = 16; /* what a pipe holds */
    unsigned char *const out = from->p + source * PAGE, *const in = to->p + target * PAGE;
    const size_t length = n * PAGE;
    if (how == 0) {
        transferred("write to a pipe", write(t->pipe[1], out, length), length);
        transferred("read from a pipe", read(t->pipe[0], in, length), length);
    } else if (how == 1) {
        transferred("pwrite", pwrite(t->file, out, length, 0), length);
        transferred("pread", pread(t->file, in, length, 0), length);
    } else {
        rewind(t->stream);
        transferred("fwrite", (ssize_t)fwrite(out, 1, length, t->stream), length);
        rewind(t->stream);
        transferred("fread", (ssize_t)fread(in, 1, length, t->stream), length);
    }
    move_records(to->records + target, from->records + source, n);
    for (size_t i = 0; i < n; i++)
        verify_page(t, to, target + i);
}

static void open_files(struct thread *t)
{
    char name[] = "torture-XXXXXX";
    t->file = mkstemp(name);
    CHECK(t->file >= 0 && unlink(name) == 0);
    CHECK((t->stream = fdopen(dup(t->file), "r+")));
    CHECK(pipe(t->pipe) == 0);
}

static void verify_own(struct thread *t)
{
    for (size_t s = 0; s < slots_per_thread; s++)
        for (size_t i = 0; i < t->slots[s]->pages; i++)
            verify_page(t, t->slots[s], i);
}

static void wait_for_child(struct thread *t)
{
    int status;
    if (!t->child)
        return;
    CHECK(waitpid(t->child, &status, 0) == t->child);
    if (status != 0)
        die("torture: the child of thread %d ended with wait status %#x", t->number, status);
    t->child = 0;
}

/* The child works while the parent does, each on its own copy of this thread's blocks. */
static void fork_once(struct thread *t)
{
    wait_for_child(t);
    t->doing = "fork";
    t->child = fork();
    CHECK(t->child >= 0);
    if (t->child > 0)
        return;
    t->doing = "the forked child, before its writes";
    verify_own(t);
    for (int i = 0; i < 50; i++)
        sequential(t, any_block(t));
    t->doing = "the forked child, after its writes";
    verify_own(t);
    _exit(0);
}

/* ---- */

static void step(struct thread *t)
{
    struct block *block = any_block(t);
    const size_t what = below(t, 1000);
    if (what < 250)
        sequential(t, block);
    else if (what < 450)
        scattered(t, block);
    else if (what < 550)
        strided(t, block);
    else if (what < 700)
        small(t, block);
    else if (what < 760)
        copy(t, block);
    else if (what < 900)
        common(t);
    else if (what < 960)
        count(t);
    else if (what < 970)
        exchange(t);
    else if (what < 973)
        resize(t, block);
    else if (what < 975)
        replace(t, block);
    else if (options.syscalls)
        through_kernel(t, block);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *run(void *arg)
{
    struct thread *t = arg;
    const double start = now();
    double next_fork = start + 0.3;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 16; i++)
            step(t);
        const double time = now();
        if (time - start >= options.seconds)
            atomic_store(&stop, true);
        if (options.fork && t->number < 2 && time >= next_fork) {
            fork_once(t);
            next_fork = now() + 1;
        }
    }
    wait_for_child(t);
    t->doing = "the last look";
    verify_own(t);
    return NULL;
}

static void set_up(void)
{
    counter_count = (options.size / 16 < 8 * MIB ? options.size / 16 : 8 * MIB) / 8;
    CHECK((counters = calloc(counter_count, 8)));
    shared = (struct block){.pages = options.size / 4 / PAGE, .records = table};
    CHECK((shared.p = calloc(shared.pages, PAGE)));
    for (size_t i = 0; i < shared.pages; i++)
        shared.records[i].key = 4; /* ZERO */
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_init(&stripes[i], NULL);

    const size_t own = options.size - options.size / 4 - counter_count * 8;
    slots_per_thread = own / (8 * MIB) / options.threads;
    slots_per_thread = slots_per_thread < 2 ? 2 : slots_per_thread > SLOTS_MAX ? SLOTS_MAX : slots_per_thread;
    block_count = options.threads * (slots_per_thread + 1);
    const size_t pages = own / PAGE / block_count;
    CHECK(pages > RUN_MAX && shared.pages + block_count * pages <= PAGES_MAX);
    for (size_t b = 0; b < block_count; b++) {
        struct thread *t = &threads[b / (slots_per_thread + 1)];
        t->random = options.seed * 1000 + b;
        blocks[b] = (struct block){.pages_max = pages, .records = table + shared.pages + b * pages};
        allocate(t, &blocks[b]);
        const size_t slot = b % (slots_per_thread + 1);
        if (slot < slots_per_thread)
            t->slots[slot] = &blocks[b];
        else
            mailbox[t - threads] = &blocks[b];
    }
    for (size_t i = 0; i < options.threads; i++) {
        threads[i].number = (int)i;
        if (options.syscalls)
            open_files(&threads[i]);
    }
}

static void tear_down(void)
{
    struct thread *t = &threads[0];
    uint64_t added = 0, sum = 0;
    for (size_t i = 0; i < options.threads; i++)
        added += threads[i].added;
    for (size_t i = 0; i < counter_count; i++)
        sum += counters[i];
    if (sum != added)
        die("torture: LOST ADDITIONS: the shared counters hold %016llx, not %016llx", (unsigned long long)sum,
            (unsigned long long)added);
    t->doing = "the last look at shared pages";
    for (size_t i = 0; i < shared.pages; i++)
        verify_page(t, &shared, i);
    t->doing = "the last look at blocks in transit";
    for (size_t i = 0; i < options.threads; i++)
        for (size_t page = 0; page < mailbox[i]->pages; page++)
            verify_page(t, mailbox[i], page);
    for (size_t b = 0; b < block_count; b++)
        free_block(&blocks[b]);
    free(shared.p);
    free((void *)counters);
}

static size_t parse_size(const char *text)
{
    char *end;
    const size_t number = strtoull(text, &end, 10);
    return *end == 'G' ? number * GIB : *end == 'M' ? number * MIB : *end == 'K' ? number << 10 : number;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(name, "--syscalls") == 0)
            options.syscalls = true;
        else if (strcmp(name, "--fork") == 0)
            options.fork = true;
        else if (strcmp(name, "--rate") == 0)
            options.rate = true;
        else if (strcmp(name, "--abort") == 0)
            options.abort = true;
        else if (strcmp(name, "--threads") == 0)
            options.threads = parse_size(value), i++;
        else if (strcmp(name, "--size") == 0)
            options.size = parse_size(value), i++;
        else if (strcmp(name, "--seconds") == 0)
            options.seconds = atof(value), i++;
        else if (strcmp(name, "--seed") == 0)
            options.seed = parse_size(value), i++;
        else
            die("torture: unknown option %s", name);
    }
    CHECK(options.threads >= 1 && options.threads <= THREADS_MAX);
    set_up();
    const double start = now();
    for (size_t i = 0; i < options.threads; i++)
        CHECK(pthread_create(&threads[i].handle, NULL, run, &threads[i]) == 0);
    double bytes = 0;
    for (size_t i = 0; i < options.threads; i++) {
        pthread_join(threads[i].handle, NULL);
        bytes += (double)threads[i].bytes;
    }
    const double took = now() - start;
    tear_down();
    if (options.rate)
        fprintf(stderr, "%.0f MB in %.1f s, %.0f MB/s\n", bytes / 1e6, took, bytes / 1e6 / took);
    printf("torture: %zu threads, %zu MiB, seed %zu: all data right\n", options.threads, options.size / MIB,
           options.seed);
    return 0;
}
