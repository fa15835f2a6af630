/*
 * victim.c: programs for a Mac, unmodified as far as they know, a case each. Run by macos.py under vprun with a small
 * budget. Exit status 0: all was as it would be without the shim.
 */
#include <dispatch/dispatch.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <mach/mach.h>
#include <malloc/malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define CHECK(condition)                                                                              \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);         \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

#define MIB     ((size_t) 1 << 20)
#define BLOCK   (16 * MIB)
#define BLOCKS  16 /* 256 MiB, in a budget of 64 */
#define PAGE    ((size_t) 16384)

static char *blocks[BLOCKS];

static uint64_t mark(size_t block, size_t at) { return (block + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ at; }

static void fill_one(void *unused, size_t block)
{
    (void) unused;
    blocks[block] = malloc(BLOCK);
    CHECK(blocks[block]);
    for (size_t at = 0; at < BLOCK; at += 64)
        *(uint64_t *) (blocks[block] + at) = mark(block, at);
}

static void verify_one(void *unused, size_t block)
{
    (void) unused;
    for (size_t at = 0; at < BLOCK; at += 64)
        CHECK(*(uint64_t *) (blocks[block] + at) == mark(block, at));
}

static void fill(void)
{
    for (size_t block = 0; block < BLOCKS; block++)
        fill_one(NULL, block);
}

static void verify(void)
{
    for (size_t block = 0; block < BLOCKS; block++)
        verify_one(NULL, block);
}

/* ---- the shim is there, in children too ---- */

static void loaded(void)
{
    bool (*contains)(const void *) = (bool (*)(const void *)) dlsym(RTLD_DEFAULT, "vp_contains");
    CHECK(contains);
    char *large = malloc(BLOCK);
    CHECK(contains(large) && !contains(&large));
}

static void spawned(const char *self)
{
    pid_t child;
    int status;
    char *arguments[] = {(char *) (uintptr_t) self, "loaded", NULL};
    CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char *echo[] = {"/bin/echo", "a protected program runs without it", NULL};
    CHECK(posix_spawn(&child, echo[0], NULL, NULL, echo, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- threads ---- */

static void *thread(void *block)
{
    fill_one(NULL, (size_t) block);
    for (int round = 0; round < 3; round++)
        verify_one(NULL, (size_t) block);
    return NULL;
}

static void threads(void)
{
    pthread_t all[BLOCKS];
    for (size_t block = 0; block < BLOCKS; block++)
        CHECK(pthread_create(&all[block], NULL, thread, (void *) block) == 0);
    for (size_t block = 0; block < BLOCKS; block++)
        pthread_join(all[block], NULL);
    verify();
}

static void gcd(void)
{
    dispatch_queue_t queue = dispatch_get_global_queue(QOS_CLASS_DEFAULT, 0);
    dispatch_apply_f(BLOCKS, queue, NULL, fill_one);
    dispatch_apply_f(BLOCKS, queue, NULL, verify_one);
}

/* ---- signals ---- */

static void blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    signal(SIGBUS, SIG_IGN);
    signal(SIGSEGV, SIG_IGN);
    fill();
    verify();
}

static volatile int handled;

static void mend(int number, siginfo_t *info, void *context)
{
    (void) number, (void) context;
    handled++;
    mprotect((void *) ((uintptr_t) info->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
}

static void chained(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO}, old;
    action.sa_sigaction = mend;
    CHECK(sigaction(SIGBUS, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    volatile char *own = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    fill();
    for (size_t page = 0; page < 64; page++)
        own[page * PAGE + 5] = 1;
    CHECK(handled == 64);
    CHECK(sigaction(SIGBUS, NULL, &old) == 0 && old.sa_sigaction == mend);
    verify();
    CHECK(handled == 64);
}

/* How a child ends that does it. */
static int death(void (*act)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        act();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static volatile int depth;

__attribute__((noinline)) static void overflow(void)
{
    volatile char room[4096];
    room[0] = (char) depth++;
    if (depth > 0)
        overflow();
    room[1] = room[0];
}

static void touch_nothing(void) { *(volatile int *) (uintptr_t) 0x10 = 1; }

static char *freed;
static void touch_freed(void) { freed[BLOCK / 2] = 1; }

static void wild(void)
{
    fill();
    freed = malloc(64 * BLOCK);
    free(freed);
    int end = death(overflow);
    CHECK(end == SIGSEGV || end == SIGBUS);
    end = death(touch_nothing);
    CHECK(end == SIGSEGV || end == SIGBUS);
    death(touch_freed); /* dies, or reads zeros: it must end */
    verify();
}

static void tagged(void)
{
    fill();
#if defined(__arm64__)
    for (size_t at = 0; at < BLOCK; at += PAGE) {
        uintptr_t address = (uintptr_t) (blocks[0] + at) | UINT64_C(0xab) << 56;
        CHECK(*(volatile uint64_t *) address == mark(0, at));
    }
#endif
    verify();
}

/* ---- system calls on memory that is away ---- */

/* Everything but the last blocks has left by then. */
static void *away(size_t size)
{
    static size_t next;
    fill_one(NULL, BLOCKS - 1);
    return memset(blocks[next++ % 4] + MIB, 'x', size > BLOCK / 2 ? BLOCK / 2 : size);
}

static void push_out(void)
{
    for (size_t block = 4; block < BLOCKS; block++)
        verify_one(NULL, block);
}

#define CALL(call)                                       \
    do {                                                 \
        push_out();                                      \
        CHECK((call) >= 0 || errno != EFAULT);           \
        CHECK(errno != EFAULT);                          \
    } while (0)

static void efault(void)
{
    char path[] = "/tmp/hyperion-victim-XXXXXX";
    int fd = mkstemp(path), ends[2], pair[2];
    fill();
    CHECK(fd >= 0 && pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    char *buffer = away(8 * MIB), *small = away(4096), *text = away(4096);
    errno = 0;
    CALL(write(fd, buffer, 8 * MIB));
    CALL(pread(fd, buffer, 8 * MIB, 0));
    CALL(pwrite(fd, buffer, 8 * MIB, 0));
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CALL(read(fd, buffer, 8 * MIB));
    struct iovec *vector = away(sizeof *vector);
    *vector = (struct iovec){buffer, MIB};
    CALL(writev(fd, vector, 1));
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CALL(readv(fd, vector, 1));
    CALL(write(ends[1], small, 100));
    CALL(read(ends[0], small, 100));
    CALL(send(pair[0], small, 100, 0));
    CALL(recv(pair[1], small, 100, 0));
    strcpy(text, path);
    CALL(stat(text, (struct stat *) small));
    CALL(access(text, R_OK));
    CALL(fstat(fd, (struct stat *) small));
    CALL(pipe((int *) small));
    CALL(getentropy(small, 200));
    FILE *stream = fopen(path, "w+");
    CHECK(stream);
    push_out();
    CHECK(fwrite(buffer, 1, 8 * MIB, stream) == 8 * MIB);
    rewind(stream);
    push_out();
    CHECK(fread(buffer, 1, 8 * MIB, stream) == 8 * MIB);
    unlink(path);
}

/* ---- zones, fork, the map ---- */

static void zones(void)
{
    char *block = malloc(BLOCK), *aligned;
    CHECK(malloc_size(block) >= BLOCK);
    malloc_zone_t *zone = malloc_zone_from_ptr(block);
    CHECK(zone && zone != malloc_default_zone());
    block[0] = 1;
    block = malloc_zone_realloc(zone, block, 2 * BLOCK);
    CHECK(block && block[0] == 1);
    malloc_zone_free(zone, block);
    CHECK(posix_memalign((void **) &aligned, 1 << 16, BLOCK) == 0 && (uintptr_t) aligned % (1 << 16) == 0);
    aligned = reallocf(aligned, BLOCK / 1024);
    CHECK(aligned);
    free(aligned);
}

static void forked(void)
{
    int status;
    fill();
    for (int round = 0; round < 4; round++) {
        pid_t child = fork();
        if (child == 0) {
            verify();
            for (size_t block = 0; block < BLOCKS; block++)
                memset(blocks[block], round, BLOCK);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        verify();
    }
}

static unsigned entries(void)
{
    unsigned count = 0;
    vm_address_t at = 0;
    vm_size_t size;
    natural_t nesting = 0;
    vm_region_submap_info_data_64_t info;
    mach_msg_type_number_t n = VM_REGION_SUBMAP_INFO_COUNT_64;
    while (vm_region_recurse_64(mach_task_self(), &at, &size, &nesting, (vm_region_recurse_info_t) &info, &n) ==
           KERN_SUCCESS) {
        count++;
        at += size;
        n = VM_REGION_SUBMAP_INFO_COUNT_64;
    }
    return count;
}

static void map(void)
{
    uint64_t state = 1;
    fill();
    for (int heal = 0; heal < 1000000; heal++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t block = (state >> 33) % BLOCKS, at = (state >> 40) % (BLOCK / 64) * 64;
        CHECK(*(volatile uint64_t *) (blocks[block] + at) == mark(block, at));
    }
    unsigned count = entries();
    printf("%u map entries\n", count);
    CHECK(count < 20000);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"loaded", loaded}, {"threads", threads}, {"gcd", gcd},       {"blocked", blocked},
        {"wild", wild},     {"chained", chained}, {"tagged", tagged}, {"efault", efault},
        {"zones", zones},   {"forked", forked},   {"map", map},
    };
    CHECK(argc == 2);
    if (strcmp(argv[1], "spawned") == 0) {
        spawned(argv[0]);
        return 0;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 0;
        }
    return 2;
}
