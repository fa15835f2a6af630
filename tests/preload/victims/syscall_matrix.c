/*
 * syscall_matrix WAY [--subset] [--kernel-faults] [--ballast MIB] [FILTER]: every kind of system call on memory that
 * may be absent.
 *
 * WAY is how calls are issued: libc (the function's own name), syscall (libc's syscall()) or asm (the instruction).
 * Each row (see matrix.h) runs on ordinary memory first, then on memory that malloc gave, which is
 *     fresh     never touched, where the kernel is to write
 *     absent    given up with MADV_PAGEOUT
 *     head      given up but for the first half of each object
 *     tail      given up but for the second half
 *     evicted   given up again and again by another thread while the call runs
 * and must see the same each time. Unshimmed all of it is the same memory, and MADV_PAGEOUT changes nothing.
 * stderr says what is being done, stdout only what differs.
 *
 * --ballast is how much to allocate and touch first, so that paging begins: before, MADV_PAGEOUT does nothing. --subset
 * leaves out what the stand-ins for libc's functions do not see to; --kernel-faults what fails where a thread serves
 * the kernel's own faults. FILTER is part of the names of the rows to run.
 */
#include "matrix.h"

#include <malloc.h>
#include <semaphore.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { REPETITIONS = 3, OBJECTS = 64, ROW_SECONDS = 20 };
#define BLOCK (32 * MIB)

enum variant { ORDINARY, FRESH, ABSENT, HEAD, TAIL, EVICTED, VARIANTS };
static const char *const variant_names[] = {"ordinary", "fresh", "absent", "head", "tail", "evicted"};

static enum way way;
static unsigned left_out; /* rows with any of these flags */
static bool paging, failed;
static const char *filter, *current;
static unsigned char *ordinary, *block;

/* ---- notes ---- */

static char notes[2][16384]; /* of the ordinary run, and of the one compared with it */
static size_t noted;
static const char *skipped;
static enum variant variant;

void note(const char *format, ...)
{
    char *const into = notes[variant != ORDINARY];
    va_list arguments;
    va_start(arguments, format);
    noted += (size_t)vsnprintf(into + noted, sizeof notes[0] - noted, format, arguments);
    va_end(arguments);
    CHECK(noted + 2 < sizeof notes[0]);
    into[noted++] = '\n';
    into[noted] = 0;
}

static bool plain_text(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] < ' ' || p[i] > '~')
            return false;
    return true;
}

/* Short ones as they are, others by a sum: the row's name says where to look further. */
void note_bytes(const char *what, const void *p, size_t size)
{
    const unsigned char *const bytes = p;
    char shown[2 * 64 + 1] = "";
    if (size <= 64 && plain_text(bytes, size)) {
        note("%s \"%.*s\"", what, (int)size, (const char *)bytes);
        return;
    }
    for (size_t i = 0; i < size && i < 64; i++)
        sprintf(shown + 2 * i, "%02x", bytes[i]);
    uint64_t sum = size;
    for (size_t i = 0; i < size; i++)
        sum = mix64(sum ^ bytes[i]);
    if (size > 64)
        shown[32] = 0;
    note("%s %zu bytes, sum %016llx: %s", what, size, (unsigned long long)sum, shown);
}

void outcome(const char *what, long result)
{
    if (result < 0 && variant == ORDINARY)
        die("%s: %s on ordinary memory: %s", current, what, strerror((int)-result));
    note("%s %ld%s%s", what, result, result < 0 ? " " : "", result < 0 ? strerror((int)-result) : "");
}

void skip(const char *why)
{
    skipped = why;
}

/* ---- memory ---- */

static struct object {
    unsigned char *begin, *middle, *end; /* in slots of its own */
    bool room;
} objects[OBJECTS];
static size_t object_count;
static unsigned char *free_slot;
static bool lenient;               /* it need not all become absent */
static unsigned char room_content; /* fresh memory is zero, other memory need not be */

static unsigned char *up_to_slot(unsigned char *p)
{
    return p + (-(uintptr_t)p & (SLOT - 1));
}

void *place(size_t size, size_t align)
{
    const size_t half = size / 2 / align * align;
    CHECK(object_count < OBJECTS);
    struct object *const object = &objects[object_count++];
    object->room = false;
    object->begin = free_slot;
    object->middle = up_to_slot(free_slot + half);
    object->end = free_slot = up_to_slot(object->middle + (size - half));
    CHECK(free_slot <= (variant == ORDINARY ? ordinary : block) + BLOCK);
    return object->middle - half;
}

void pattern(void *p, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)p)[i] = (unsigned char)(mix64(seed << 32 | i / 16) >> i % 8 * 4 | 1);
}

void *room_aligned(size_t size, size_t align)
{
    void *p = place(size, align);
    objects[object_count - 1].room = true;
    return memset(p, room_content, size);
}

void *room(size_t size)
{
    return room_aligned(size, 16);
}

void *copied(const void *from, size_t size)
{
    return memcpy(place(size, 16), from, size);
}

void *filled(size_t size, uint64_t seed)
{
    void *p = place(size, 16);
    pattern(p, size, seed);
    return p;
}

char *text(const char *string)
{
    const size_t size = strlen(string) + 1;
    return memcpy(place(size, 1), string, size);
}

static void page_out(unsigned char *from, const unsigned char *to)
{
    if (from < to)
        CHECK(madvise(from, (size_t)(to - from), MADV_PAGEOUT) == 0);
}

static void touch(const unsigned char *from, const unsigned char *to)
{
    for (const volatile unsigned char *p = from; p < to; p += PAGE)
        (void)*p;
}

static size_t present(unsigned char *from, const unsigned char *to)
{
    static unsigned char resident[BLOCK / PAGE];
    const size_t pages = (size_t)(to - from) / PAGE;
    size_t count = 0;
    CHECK(pages == 0 || mincore(from, (size_t)(to - from), resident) == 0);
    for (size_t i = 0; i < pages; i++)
        count += resident[i] & 1;
    return count;
}

void may_stay(void)
{
    lenient = true;
}

/* MADV_PAGEOUT passes over pages that are just being looked at by others. Under the shim it is repeated until none is
 * left: a row whose pages are there would prove nothing. */
static void make_absent(unsigned char *from, const unsigned char *to)
{
    page_out(from, to);
    for (int i = 0; paging && !lenient && in_arena(from) == 1 && present(from, to); i++) {
        if (i == 1000)
            die("%s: %zu pages of %zu cannot be made absent", current, present(from, to), (size_t)(to - from) / PAGE);
        usleep(100);
        page_out(from, to);
    }
}

/* ---- the evictor: a thread that gives the objects up for as long as it is told to ---- */

static sem_t start, stopped;
static bool evicting;
static size_t rounds;

static void *evictor(void *arg)
{
    for (;;) {
        sem_wait(&start);
        while (__atomic_load_n(&evicting, __ATOMIC_ACQUIRE)) {
            for (size_t i = 0; i < object_count; i++)
                page_out(objects[i].begin, objects[i].end);
            /* Now and then a store across two pages may find both. */
            if (__atomic_add_fetch(&rounds, 1, __ATOMIC_RELEASE) % 4 == 0)
                usleep(50);
        }
        sem_post(&stopped);
    }
    return arg;
}

static void start_evictor(void)
{
    __atomic_store_n(&rounds, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&evicting, true, __ATOMIC_RELEASE);
    sem_post(&start);
    while (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
}

static void make_fresh(const struct object *o)
{
    if (!o->room)
        return;
    CHECK(madvise(o->begin, (size_t)(o->end - o->begin), MADV_DONTNEED) == 0);
    if (!lenient && in_arena(o->begin) == 1 && present(o->begin, o->end))
        die("%s: MADV_DONTNEED leaves pages", current);
}

static void take_away(const struct object *o)
{
    touch(o->begin, o->end);
    make_absent(variant == HEAD ? o->middle : o->begin, variant == TAIL ? o->middle : o->end);
}

void begin(void)
{
    for (size_t i = 0; i < object_count && variant != ORDINARY; i++)
        (variant == FRESH ? make_fresh : take_away)(&objects[i]);
    if (variant == EVICTED)
        start_evictor();
}

void finish(void)
{
    if (variant != EVICTED || !evicting)
        return;
    __atomic_store_n(&evicting, false, __ATOMIC_RELEASE);
    sem_wait(&stopped);
}

long call(long number, const long arguments[6])
{
    return issue(way, number, arguments);
}

/* ---- the rows, one by one ---- */

static void trial(void (*body)(void), enum variant which)
{
    variant = which;
    free_slot = which == ORDINARY ? ordinary : block;
    object_count = noted = 0;
    lenient = false;
    body();
    finish();
    close_owned();
}

/* Says where the notes part. */
static bool same_notes(void)
{
    const char *a = notes[0], *b = notes[1];
    while (*a || *b) {
        const size_t left = strcspn(a, "\n"), right = strcspn(b, "\n");
        if (left != right || memcmp(a, b, left) != 0) {
            printf("%s, %s:\n    expected %.*s\n    found    %.*s\n", current, variant_names[variant], (int)left, a,
                   (int)right, b);
            failed = true;
            return false;
        }
        a += left + (a[left] == '\n');
        b += right + (b[right] == '\n');
    }
    return true;
}

static void compare(void (*body)(void), enum variant which)
{
    for (int i = 0; i < (which == EVICTED ? REPETITIONS : 1); i++) {
        trial(body, which);
        if (!same_notes())
            return;
    }
    fprintf(stderr, " %s ok", variant_names[which]);
}

void run_row(const char *name, void (*body)(void), unsigned flags)
{
    if ((flags & LIBC_ONLY && way != BY_LIBC) || flags & left_out || (filter && !strstr(name, filter)))
        return;
    current = name;
    skipped = NULL;
    alarm(ROW_SECONDS);
    trial(body, ORDINARY);
    if (skipped) {
        fprintf(stderr, "%s: skipped: %s\n", name, skipped);
        return;
    }
    fprintf(stderr, "%s:", name);
    compare(body, FRESH);
    room_content = 0xa5;
    trial(body, ORDINARY);
    for (enum variant v = ABSENT; v < VARIANTS; v++)
        compare(body, v);
    room_content = 0;
    fputc('\n', stderr);
    fflush(stdout);
}

void run_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        run_row(rows[i].name, rows[i].body, rows[i].flags);
}

/* A call that never returns is a difference too, and has a name. */
static void hung(int number)
{
    (void)number;
    const char *parts[] = {current, ": ", variant_names[variant], ": does not return\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
            break;
    _exit(1);
}

static void arm(size_t mib)
{
    unsigned char *const ballast = mib ? big_malloc(mib * MIB) : NULL;
    for (size_t i = 0; i < mib * MIB; i += PAGE)
        ballast[i] = 1;
    paging = mib != 0;
}

static void read_arguments(int argc, char **argv)
{
    static const char *const ways[] = {"libc", "syscall", "asm"};
    if (argc < 2)
        die("usage: syscall_matrix libc|syscall|asm [--subset] [--kernel-faults] [--ballast MIB] [FILTER]");
    while (way < BY_INSTRUCTION && strcmp(argv[1], ways[way]) != 0)
        way++;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--subset") == 0)
            left_out |= NET;
        else if (strcmp(argv[i], "--kernel-faults") == 0)
            left_out |= UNSERVED;
        else if (strcmp(argv[i], "--ballast") == 0)
            arm(argument(argc, argv, ++i, 0));
        else
            filter = argv[i];
    }
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    CHECK(sigaction(SIGALRM, &(struct sigaction){.sa_handler = hung}, NULL) == 0);
    ordinary = mmap(NULL, BLOCK + SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ordinary != MAP_FAILED);
    ordinary = up_to_slot(ordinary);
    block = memalign(SLOT, BLOCK);
    CHECK(block && in_arena(block) != 0);
    pthread_t thread;
    CHECK(sigprocmask(SIG_BLOCK, waited_for(), NULL) == 0);
    CHECK(sem_init(&start, 0, 0) == 0 && sem_init(&stopped, 0, 0) == 0);
    CHECK(pthread_create(&thread, NULL, evictor, NULL) == 0);

    char directory[] = "matrix-XXXXXX"; /* so that two can run in one place */
    CHECK(mkdtemp(directory) && chdir(directory) == 0);
    rows_channels();
    rows_sockets();
    rows_queues();
    rows_waits();
    rows_paths();
    rows_descriptors();
    rows_processes();
    rows_edges();
    rows_libc();
    CHECK(chdir("..") == 0 && (rmdir(directory) == 0 || failed));
    printf("%s\n", failed ? "not all rows alike" : "all rows alike");
    return failed;
}
