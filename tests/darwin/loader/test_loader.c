/*
 * test_loader.c: the code of libvp.dylib, as it was built for x86_64 Macs, executed on a made-up kernel.
 *
 * It shows that messages and signals are decoded, healed, passed on and answered as XNU's interfaces have it, that
 * content goes out and comes back through the alias, and what happens in a forked child. It cannot show what XNU does.
 *
 * Usage: test_loader libvp.dylib SCENARIO BACKEND
 *        test_loader libvp.dylib targets PROGRAM
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../platform/platform.h"
#include "../../../shim/vp.h"
#include "libsystem.h"
#include "macho.h"
#include "xnu.h"

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static struct image *image;
static struct platform pf;
static bool by_port;

/* ---- a small engine: absent pages get what `content` says ---- */

#define PAGES 256
#define SIZE  (PAGES * pf.page)

static uintptr_t start;
static char *content[PAGES]; /* what a page had when it was evicted; NULL: zeros */
static volatile unsigned served; /* changed behind the compiler: by handlers */
static pthread_mutex_t in_motion = PTHREAD_MUTEX_INITIALIZER; /* one page at a time goes or comes */

static bool serve(void *context, const struct trap *trap)
{
    uintptr_t page = trap->address & ~(uintptr_t) (pf.page - 1);
    (void) context;
    if (trap->address - start >= SIZE)
        return false;
    pthread_mutex_lock(&in_motion);
    int64_t placed = pf.ops->place(&pf, page, pf.page, content[(page - start) / pf.page], true);
    pthread_mutex_unlock(&in_motion);
    CHECK(placed == (int64_t) pf.page || placed == -EEXIST);
    __atomic_fetch_add(&served, 1, __ATOMIC_SEQ_CST);
    return true;
}

/* What is not ours gets its page opened by "the program". */
static volatile unsigned programs;

static void open_own_page(uintptr_t address)
{
    programs++;
    mprotect((void *) (address & ~UINT64_C(4095)), 4096, PROT_READ | PROT_WRITE);
}

/* As the shim's handler: the arena's go to the engine, others to the program. */
static void on_signal(int number, void *info, void *context)
{
    struct trap trap;
    (void) number;
    CHECK(pf.ops->decode(info, context, &trap));
    if (trap.address - pf.base >= pf.size || !serve(NULL, &trap))
        open_own_page(trap.address);
}

static void before_fork(void) { pf.ops->fork(&pf, FORK_BEFORE); }
static void after_fork_parent(void) { pf.ops->fork(&pf, FORK_PARENT); }
static void after_fork_child(void) { pf.ops->fork(&pf, FORK_CHILD); }

static void begin(const char *name)
{
    char why[256] = "";
    const struct platform_ops *const *ops = macho_symbol(image, "_platform_backends");
    while (*ops && strcmp((*ops)->name, name) != 0)
        ops++;
    CHECK(*ops);
    by_port = strcmp(name, "exc-port") == 0;
    xnu_handle(XNU_SIGBUS, on_signal);
    xnu_handle(XNU_SIGSEGV, on_signal);
    pf = (struct platform){.ops = *ops, .size = UINT64_C(1) << 40, .serve = serve};
    CHECK(pf.ops->probe(&pf.caps, why, sizeof why) == 0);
    CHECK(pf.caps.evicts);
    CHECK(pf.ops->reserve(&pf) == 0);
    start = pf.base + pf.size / 2;
    CHECK(pf.ops->open(&pf, start, SIZE) == 0);
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void arm(void)
{
    struct extent live = {start, SIZE};
    CHECK(pf.ops->arm(&pf, &live, 1) == 0);
}

/* All that was asked came the way it should. */
static void check_ways(unsigned faults)
{
    struct xnu_counts counts = xnu_counts();
    CHECK(counts.messages == (by_port ? faults : 0));
    CHECK(counts.signals == (by_port ? 0 : faults));
    CHECK(counts.passed_on == 0);
}

static volatile uint64_t *word(size_t page, size_t at) { return (volatile uint64_t *) (start + page * pf.page) + at; }

/* ---- scenarios ---- */

#define THREADS 4

static void *touch(void *given)
{
    for (size_t page = (size_t) given; page < PAGES; page += 2 * THREADS) {
        CHECK(*word(page, 7) == 0);
        *word(page, 7) = page;
        CHECK(*word(page, 7) == page);
    }
    return NULL;
}

/* Threads that were there when paging arms, and such that come later. */
static void *touch_when_armed(void *given)
{
    while (!__atomic_load_n(&served, __ATOMIC_SEQ_CST))
        usleep(1000);
    return touch(given);
}

static void heal(void)
{
    pthread_t threads[2 * THREADS];
    for (size_t i = 1; i < THREADS; i++)
        xnu_thread(&threads[i], touch_when_armed, (void *) i);
    xnu_start_late();
    arm();
    touch((void *) 0);
    for (size_t i = THREADS; i < 2 * THREADS; i++)
        xnu_thread(&threads[i], touch, (void *) i);
    for (size_t i = 1; i < 2 * THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(served == PAGES);
    check_ways(PAGES);
    CHECK(!xnu_receiver_has_port());
    for (size_t page = 0; page < PAGES; page++)
        CHECK(*word(page, 7) == page);
}

/* What was there before arming stays, and traps once. */
static void keep(void)
{
    for (size_t page = 0; page < PAGES; page++)
        *word(page, 3) = page + 1;
    xnu_list_late();
    arm();
    CHECK(!xnu_receiver_has_port());
    for (size_t page = 0; page < PAGES; page++)
        CHECK(*word(page, 3) == page + 1);
    CHECK(served == PAGES);
}

static void miss(void)
{
    volatile char *own = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    arm();
    own[5] = 1; /* not the arena's */
    CHECK(programs == 1 && served == 0);
    mprotect((void *) (start + SIZE), 4096, PROT_NONE);
    struct xnu_counts counts = xnu_counts();
    CHECK(counts.messages == by_port && counts.passed_on == by_port && counts.signals == 1);
    *(volatile char *) (start + SIZE + 9) = 1; /* the arena's, and nobody's */
    CHECK(programs == 2 && served == 0);
    CHECK(xnu_counts().passed_on == 2 * by_port);
    *word(0, 0) = 1;
    CHECK(programs == 2 && served == 1);
}

static uint64_t mark(size_t page, size_t at, uint64_t round) { return page << 40 | at << 20 | round; }

static void evict(size_t page)
{
    uintptr_t at = start + page * pf.page;
    char *scratch = malloc(pf.page);
    struct extent extent = {at, pf.page};
    pthread_mutex_lock(&in_motion);
    CHECK(pf.ops->protect(&pf, at, pf.page) == 0);
    CHECK(pf.ops->peek(&pf, at, scratch) == scratch);
    CHECK(pf.ops->drop(&pf, &extent, 1) == 0);
    free(content[page]);
    content[page] = scratch;
    pthread_mutex_unlock(&in_motion);
}

/* Out through the alias and in again, many times; what is freed in between is zeros. */
static void refill(void)
{
    arm();
    size_t words = pf.page / 8;
    for (uint64_t round = 1; round <= 20; round++) {
        for (size_t page = 0; page < PAGES; page++) {
            for (size_t at = 0; at < words; at += 61)
                CHECK(*word(page, at) == (round == 1 ? 0 : mark(page, at, round - 1)));
            for (size_t at = 0; at < words; at += 61)
                *word(page, at) = mark(page, at, round);
            evict(page);
        }
    }
    CHECK(served == 20 * PAGES);
    check_ways(20 * PAGES);
    CHECK(xnu_counts().reusable >= 20 * PAGES && xnu_counts().reuse >= 20 * PAGES);
    for (size_t page = 0; page < PAGES; page++) {
        free(content[page]);
        content[page] = NULL; /* the program frees the block and gets it again */
    }
    CHECK(pf.ops->close(&pf, start, SIZE) == 0 && pf.ops->open(&pf, start, SIZE) == 0);
    for (size_t page = 0; page < PAGES; page++)
        for (size_t at = 0; at < words; at++)
            CHECK(*word(page, at) == 0);
}

/* Readers never see a page that is half there. */
static bool torn, stop;

static void *watch(void *unused)
{
    (void) unused;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        uint64_t first = *word(0, 0), last = *word(0, pf.page / 8 - 1);
        torn |= first != 0x1111 || last != 0x1111;
    }
    return NULL;
}

static void whole(void)
{
    pthread_t thread;
    arm();
    for (size_t at = 0; at < pf.page / 8; at++)
        *word(0, at) = 0x1111;
    xnu_thread(&thread, watch, NULL);
    for (int i = 0; i < 2000; i++)
        if (*word(0, 9) == 0x1111)
            evict(0);
    stop = true;
    pthread_join(thread, NULL);
    CHECK(!torn && served > 100);
}

static void tagged(void)
{
    arm();
    xnu_tag_next(0xab);
    *word(3, 1) = 5;
    CHECK(served == 1 && programs == 0 && *word(3, 1) == 5);
}

static void blocked(void)
{
    arm();
    xnu_mask(~0u);
    xnu_handle(XNU_SIGBUS, (void (*)(int, void *, void *)) 1);
    *word(3, 1) = 5;
    CHECK(served == 1);
}

static void foreign(void)
{
    volatile char *own = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    xnu_foreign_port(0x80000001u, open_own_page);
    uint32_t port = xnu_thread_port();
    arm();
    CHECK(xnu_thread_port() != port);
    own[5] = 1;
    CHECK(programs == 1 && xnu_counts().foreign == 1 && xnu_counts().signals == 0);
    *word(1, 1) = 1;
    CHECK(served == 1 && xnu_counts().foreign == 1);
}

/* A port that speaks otherwise is left where it is. */
static void stranger(void)
{
    xnu_foreign_port(2, open_own_page);
    uint32_t port = xnu_thread_port();
    arm();
    CHECK(xnu_thread_port() == port);
}

static void forked(void)
{
    int status;
    arm();
    *word(0, 0) = 1;
    evict(0);
    int child = fork();
    if (child != 0) {
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        *word(1, 0) = 7;
        CHECK(served == 2);
        return;
    }
    CHECK(*word(0, 0) == 1); /* before there are ports, by signals alone */
    CHECK(by_port == (xnu_thread_port() != 0));
    for (size_t page = 16; page < 32; page++)
        *word(page, 0) = page;
    evict(16);
    CHECK(*word(16, 0) == 16);
    check_ways(1 + 16 + 1);
    _exit(0);
}

/* ---- the whole shim: its constructor, its stand-ins, its tiers ---- */

#define BLOCKS ((size_t) 6)
#define BLOCK  ((size_t) 24 << 20)
#define STEP   ((size_t) 4096)

static void *(*shim_malloc)(size_t);
static void *(*shim_realloc)(void *, size_t);
static void (*shim_free)(void *);
static ssize_t (*shim_read)(int, void *, size_t);
static ssize_t (*shim_write)(int, const void *, size_t);
static int (*shim_stats)(struct vp_stats *, size_t);

static void start_shim(const char *backend)
{
    setenv("VP_TRAP", backend, 1);
    setenv("VP_RAM", "48M", 1);
    setenv("VP_SPILL", "/var/tmp", 1);
    macho_construct(image);
    by_port = strcmp(backend, "exc-port") == 0;
    *(void **) &shim_malloc = macho_symbol(image, "_hooked_malloc");
    *(void **) &shim_realloc = macho_symbol(image, "_hooked_realloc");
    *(void **) &shim_free = macho_symbol(image, "_hooked_free");
    *(void **) &shim_read = macho_symbol(image, "_hooked_read");
    *(void **) &shim_write = macho_symbol(image, "_hooked_write");
    *(void **) &shim_stats = macho_symbol(image, "_vp_stats");
}

/* Some of it compresses, some does not. */
static void fill(char *block, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at += STEP) {
        uint64_t state = seed + at + 1;
        for (size_t i = 0; i < STEP; i += 8) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            *(uint64_t *) (block + at + i) = at / STEP % 2 ? state : (seed ^ at) + (i & 64);
        }
    }
}

static bool filled(const char *block, size_t size, uint64_t seed)
{
    static char expected[STEP];
    for (size_t at = 0; at < size; at += STEP) {
        uint64_t state = seed + at + 1;
        for (size_t i = 0; i < STEP; i += 8) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            *(uint64_t *) (expected + i) = at / STEP % 2 ? state : (seed ^ at) + (i & 64);
        }
        if (memcmp(block + at, expected, STEP) != 0)
            return false;
    }
    return true;
}

static void check_pipe(char *block)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(shim_write(ends[1], block + BLOCK / 2, 4 * STEP) == 4 * STEP);
    CHECK(shim_read(ends[0], block, 4 * STEP) == 4 * STEP);
    CHECK(memcmp(block, block + BLOCK / 2, 4 * STEP) == 0);
    close(ends[0]);
    close(ends[1]);
}

static void shim(void)
{
    char *blocks[BLOCKS];
    struct vp_stats stats;
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = shim_malloc(BLOCK)));
        fill(blocks[i], BLOCK, i);
    }
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < BLOCKS; i++)
            CHECK(filled(blocks[i], BLOCK, i));
    CHECK((blocks[0] = shim_realloc(blocks[0], 2 * BLOCK)));
    CHECK(filled(blocks[0], BLOCK, 0));
    check_pipe(blocks[1]);
    int status, child = fork();
    if (child == 0) {
        CHECK(filled(blocks[2], BLOCK, 2));
        CHECK(by_port == (xnu_counts().messages > 0));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(shim_stats(&stats, sizeof stats) == 0);
    CHECK(stats.armed && stats.evictions > 1000 && stats.faults > 1000 && stats.poisoned_pages == 0);
    CHECK(stats.spilled_pages > 0 && stats.compressed_pages > 0 && stats.spill_reads > 0);
    CHECK(by_port == (xnu_counts().messages > 1000));
    for (size_t i = 0; i < BLOCKS; i++)
        shim_free(blocks[i]);
}

/* ---- the shim among the program's own handlers and masks ---- */

struct darwin_action {
    void *handler;
    uint32_t mask;
    int flags;
};

static volatile uintptr_t told;

/* Darwin's siginfo_t has the address after six ints. */
static void program_handler(int number, void *info, void *context)
{
    (void) number, (void) context;
    told = ((uintptr_t *) info)[3];
    open_own_page(told);
}

static int death_of(volatile char *address)
{
    int status, child = fork();
    if (child == 0) {
        *address = 1;
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void manners(void)
{
    int (*set_action)(int, const struct darwin_action *, struct darwin_action *) = NULL;
    int (*set_mask)(int, const uint32_t *, uint32_t *) = NULL;
    *(void **) &set_action = macho_symbol(image, "_hooked_sigaction");
    *(void **) &set_mask = macho_symbol(image, "_hooked_pthread_sigmask");
    volatile char *own = mmap(NULL, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *block = shim_malloc(BLOCK), *more = shim_malloc(3 * BLOCK);
    CHECK(block && more);
    fill(block, BLOCK, 1);
    fill(more, 3 * BLOCK, 2);

    CHECK(death_of(own) == 128 + XNU_SIGBUS); /* nobody handles it: as without us */

    struct darwin_action action = {(void *) program_handler, 0, 0x40}, old = {0};
    CHECK(set_action(XNU_SIGBUS, &action, NULL) == 0 && set_action(XNU_SIGBUS, NULL, &old) == 0);
    CHECK(old.handler == (void *) program_handler && old.flags == 0x40);
    own[5] = 1;
    CHECK(programs == 1 && told == (uintptr_t) own + 5);

    uint32_t all = ~0u, before;
    CHECK(set_mask(3, &all, NULL) == 0 && set_mask(1, NULL, &before) == 0 && before == all);
    CHECK(filled(block, BLOCK, 1) && filled(more, 3 * BLOCK, 2)); /* traps that the program has blocked */
    own[4096 + 5] = 1;
    CHECK(programs == 2);
    all = 0;
    CHECK(set_mask(3, &all, &before) == 0 && before == ~0u);
}

/* ---- programs that dyld would not load the shim into ---- */

#define MAGIC_DIRECTORY 0xfade0c02u

static const char *program; /* vprun for macOS, signed ad hoc */

static void take_program(const char *path) { program = path; }

/* A copy of the program, changed: `length` bytes at the first place of `mark` and `offset`. */
static const char *changed(const char *name, const void *mark, size_t mark_length, size_t offset, const void *bytes,
                           size_t length)
{
    static char path[64];
    static unsigned char content[4 << 20];
    int from = open(program, O_RDONLY);
    ssize_t size = read(from, content, sizeof content);
    close(from);
    unsigned char *at = memmem(content, (size_t) size, mark, mark_length);
    CHECK(at);
    memcpy(at + offset, bytes, length);
    snprintf(path, sizeof path, "/tmp/%d-%s", (int) getpid(), name);
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(to >= 0 && write(to, content, (size_t) size) == size);
    close(to);
    return path;
}

static const char *(*obstacle)(const char *, char *, size_t);

static bool refused(const char *path, const char *because)
{
    char interpreter[256];
    const char *why = obstacle(path, interpreter, sizeof interpreter);
    unlink(path);
    return why && strstr(why, because) && !interpreter[0];
}

/* One that cannot be shimmed starts without the shim; other libraries of the user's stay, and everything for others. */
static void check_execve(const char *path, const char *libraries)
{
    int (*execute)(const char *, char *const[], char *const[]) = NULL;
    char *arguments[] = {"program", NULL};
    char *environment[] = {"A=1", "DYLD_INSERT_LIBRARIES=/x/libvp.dylib:/y/other.dylib", "B=2", NULL};
    *(void **) &execute = macho_symbol(image, "_hooked_execve");
    CHECK(execute(path, arguments, environment) == -1 && errno == ENOEXEC);
    CHECK(strcmp(libsystem_executed_with("DYLD_INSERT_LIBRARIES"), libraries) == 0);
    CHECK(strcmp(libsystem_executed_with("A"), "1") == 0 && strcmp(libsystem_executed_with("B"), "2") == 0);
}

static void targets(void)
{
    char interpreter[256];
    const uint32_t directory = __builtin_bswap32(MAGIC_DIRECTORY), runtime = __builtin_bswap32(0x10002),
                   arm64 = 0x0100000c, header = 0xfeedfacf;
    *(void **) &obstacle = macho_symbol(image, "_target_obstacle");
    CHECK(!obstacle(program, interpreter, sizeof interpreter) && !interpreter[0]);
    CHECK(refused(changed("hardened", &directory, 4, 12, &runtime, 4), "hardened"));
    CHECK(refused(changed("other", &header, 4, 4, &arm64, 4), "processor"));
    CHECK(refused(changed("static", "\x0e\0\0\0\x20\0\0\0", 8, 0, "\x7f", 1), "statically linked")); /* LC_LOAD_DYLINKER */

    check_execve(program, "/x/libvp.dylib:/y/other.dylib");
    const char *other = changed("foreign", &header, 4, 4, &arm64, 4);
    check_execve(other, "/y/other.dylib");
    unlink(other);

    const char *script = "#! /made/up/interpreter -x\n";
    const char *path = changed("script", &header, 4, 0, script, strlen(script));
    CHECK(!obstacle(path, interpreter, sizeof interpreter) && strcmp(interpreter, "/made/up/interpreter") == 0);
    CHECK(chmod(path, 04755) == 0 && !obstacle(path, interpreter, sizeof interpreter)); /* means nothing for scripts */
    unlink(path);
    path = changed("setuid", &header, 4, 0, &header, 4);
    CHECK(chmod(path, 04755) == 0 && refused(path, "setuid"));
    CHECK(!obstacle("/made/up", interpreter, sizeof interpreter));
}

static const struct {
    const char *name;
    void (*run)(void);
    void (*begin)(const char *backend); /* of "targets": the program */
} scenarios[] = {
    {"heal", heal, begin},         {"keep", keep, begin},         {"miss", miss, begin},       {"refill", refill, begin},
    {"whole", whole, begin},       {"tagged", tagged, begin},     {"blocked", blocked, begin}, {"foreign", foreign, begin},
    {"stranger", stranger, begin}, {"forked", forked, begin},     {"shim", shim, start_shim},  {"manners", manners, start_shim},
    {"targets", targets, take_program},
};

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    alarm(60);
    xnu_boot();
    image = macho_load(argv[1], libsystem_resolve);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[2]) != 0)
            continue;
        scenarios[i].begin(argv[3]);
        scenarios[i].run();
        return 0;
    }
    fprintf(stderr, "no such scenario: %s\n", argv[2]);
    return 2;
}
