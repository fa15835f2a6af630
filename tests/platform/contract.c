#include "contract.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SKIP           77
#define NOBODY         65534
#define CASE_SECONDS   60

struct platform pf;
struct trap last_trap;

static heal_function *volatile healer;
static unsigned traps;
static __thread sigjmp_buf escape;
static __thread volatile sig_atomic_t escapable;

/* ---- the runner ---- */

void check_failed(const char *file, int line, const char *what, long long left, long long right)
{
    const char *name = strrchr(file, '/');
    fflush(NULL);
    fprintf(stderr, "%s:%d: failed: %s (%lld, %lld; %s)\n", name ? name + 1 : file, line, what, left, right,
            pf.ops ? pf.ops->name : "no backend");
    _exit(1);
}

void skip(const char *reason)
{
    printf("  skipped: %s\n", reason);
    fflush(stdout);
    _exit(SKIP);
}

/* For good. A process that changed its user may not be looked into, not even by itself, unless it says so. */
static void become(const char *user)
{
    bool root = strcmp(user, "root") == 0;
    if (root && geteuid() != 0)
        skip("not run by root");
    if (root || geteuid() != 0)
        return;
    CHECK_EQ(setgroups(0, NULL), 0);
    CHECK_EQ(setresgid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
}

static void probe(const char *backend)
{
    char why[200] = "";
    if (!backend)
        return;
    pf.ops = platform_find(backend);
    CHECK(pf.ops);
    if (pf.ops->probe(&pf.caps, why, sizeof why) < 0)
        skip(why);
}

static int run_case(const char *backend, const char *user, const struct contract_case *one)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(CASE_SECONDS);
        become(user);
        probe(backend);
        one->run();
        fflush(NULL);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: ended by signal %d\n", one->name, WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void nothing(void) {}

static int run_all(const char *backend, const char *user, const char *only, const struct contract_case *cases)
{
    int failed = 0, passed = 0;
    if (run_case(backend, user, &(struct contract_case){"probe", nothing}) == SKIP)
        return SKIP; /* the reason is printed */
    for (const struct contract_case *one = cases; one->name; one++) {
        if (only && strcmp(only, one->name) != 0)
            continue;
        uint64_t before = milliseconds();
        int status = run_case(backend, user, one);
        printf("%s %s (%s, %llu ms)\n", status == 0 ? "ok  " : status == SKIP ? "skip" : "FAIL", one->name, user,
               (unsigned long long) (milliseconds() - before));
        passed += status == 0;
        failed += status != 0 && status != SKIP;
    }
    return failed ? 1 : passed ? 0 : SKIP;
}

int contract_main(int argc, char **argv, const struct contract_case *cases)
{
    if (argc < 3)
        return fprintf(stderr, "usage: %s BACKEND root|nobody [CASE]\n", argv[0]), 2;
    return run_all(argv[1], argv[2], argv[3], cases);
}

int services_main(int argc, char **argv, const struct contract_case *cases)
{
    if (argc < 2)
        return fprintf(stderr, "usage: %s root|nobody [CASE]\n", argv[0]), 2;
    return run_all(NULL, argv[1], argv[2], cases);
}

/* ---- traps ---- */

/* Also called by threads without thread-local storage. */
static bool serve(void *context, const struct trap *trap)
{
    (void) context;
    last_trap = *trap;
    __atomic_fetch_add(&traps, 1, __ATOMIC_SEQ_CST);
    heal_function *heal = healer;
    return heal && heal(trap);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    struct trap trap;
    pf.ops->decode(info, context, &trap);
    bool served = serve(NULL, &trap);
    errno = saved;
    if (served)
        return;
    if (escapable)
        siglongjmp(escape, 1);
    fprintf(stderr, "unexpected signal %d at %#lx (base + %#lx), write %d\n", number, (unsigned long) trap.address,
            (unsigned long) (trap.address - pf.base), trap.write);
    _exit(1);
}

static void take_signals(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
}

void heal_with(heal_function *heal) { healer = heal; }

unsigned trap_count(void) { return __atomic_load_n(&traps, __ATOMIC_SEQ_CST); }

static uintptr_t page_of(const struct trap *trap) { return trap->address & ~(pf.page - 1); }

bool heal_zero(const struct trap *trap)
{
    return pf.ops->place(&pf, page_of(trap), pf.page, NULL, true) > 0;
}

bool heal_unprotect(const struct trap *trap) { return pf.ops->unprotect(&pf, page_of(trap), pf.page) == 0; }

bool heal_again(const struct trap *trap)
{
    (void) trap;
    os_yield();
    return true;
}

typedef uint64_t __attribute__((aligned(1), may_alias)) any_word;

bool try_read(uintptr_t address, uint64_t *value)
{
    bool reached = false;
    escapable = 1;
    if (sigsetjmp(escape, 1) == 0) {
        *value = *(volatile any_word *) address;
        reached = true;
    }
    escapable = 0;
    return reached;
}

bool try_write(uintptr_t address, uint64_t value)
{
    bool reached = false;
    escapable = 1;
    if (sigsetjmp(escape, 1) == 0) {
        *(volatile any_word *) address = value;
        reached = true;
    }
    escapable = 0;
    return reached;
}

void check_read_traps(uintptr_t address, heal_function *heal)
{
    uint64_t value;
    unsigned before = trap_count();
    heal_with(heal);
    CHECK(try_read(address, &value));
    heal_with(NULL);
    CHECK_EQ(trap_count() - before, 1);
    CHECK_EQ(page_of(&last_trap), address & ~(pf.page - 1)); /* exact: a_trap_is_exact */
    CHECK(!last_trap.write);
}

void check_write_traps(uintptr_t address, heal_function *heal)
{
    unsigned before = trap_count();
    heal_with(heal);
    CHECK(try_write(address, 0x1122334455667788));
    heal_with(NULL);
    CHECK_EQ(trap_count() - before, 1);
    CHECK_EQ(page_of(&last_trap), address & ~(pf.page - 1));
    CHECK(last_trap.write);
    CHECK_EQ(load(address), 0x1122334455667788);
}

void check_closed(uintptr_t address)
{
    uint64_t value;
    heal_with(NULL);
    CHECK(!try_read(address, &value));
    CHECK_EQ(last_trap.address, address);
    CHECK(!last_trap.write);
    CHECK(!try_write(address, 1));
    CHECK_EQ(last_trap.address, address);
    CHECK(last_trap.write);
}

uint64_t load(uintptr_t address)
{
    uint64_t value = 0;
    heal_with(NULL);
    CHECK(try_read(address, &value));
    return value;
}

void store(uintptr_t address, uint64_t value)
{
    heal_with(NULL);
    CHECK(try_write(address, value));
}

/* ---- the platform under test ---- */

void start(size_t size)
{
    pf.size = size;
    pf.serve = serve;
    CHECK_EQ(pf.ops->reserve(&pf), 0);
    take_signals();
}

uintptr_t start_armed(size_t pages)
{
    start(GIB(16));
    CHECK_EQ(OP(open, pf.base, pages * pf.page), 0);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, pages * pf.page}, 1), 0);
    return pf.base;
}

uintptr_t page_at(size_t n) { return pf.base + n * pf.page; }

/* ---- content ---- */

static uint64_t word_of(uint64_t seed, size_t i) { return (seed + 1) * 0x9e3779b97f4a7c15 + i; }

void pattern_fill(void *to, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length / 8; i++)
        ((uint64_t *) to)[i] = word_of(seed, i);
}

bool pattern_is(const void *at, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length / 8; i++)
        if (((const volatile uint64_t *) at)[i] != word_of(seed, i))
            return false;
    return true;
}

bool all_zero(const void *at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((const volatile char *) at)[i])
            return false;
    return true;
}

const void *pattern(uint64_t seed)
{
    static uint64_t words[KIB(64) / 8];
    CHECK(pf.page <= sizeof words);
    pattern_fill(words, pf.page, seed);
    return words;
}

void fill_page(uintptr_t page, uint64_t seed, bool writable)
{
    CHECK_EQ(OP(place, page, pf.page, pattern(seed), writable), pf.page);
}

bool is_resident(uintptr_t page)
{
    unsigned char present = 9;
    CHECK_EQ(OP(residency, page, pf.page, &present), 0);
    CHECK(present <= 1);
    return present;
}

size_t count_resident(uintptr_t start, size_t length)
{
    unsigned char vec[1024];
    size_t count = 0, pages = length / pf.page;
    for (size_t at = 0, n; at < pages; at += n) {
        n = pages - at < sizeof vec ? pages - at : sizeof vec;
        CHECK_EQ(OP(residency, start + at * pf.page, n * pf.page, vec), 0);
        for (size_t i = 0; i < n; i++)
            count += vec[i];
    }
    return count;
}

/* ---- the process ---- */

size_t count_mappings(void)
{
    static char text[1 << 16];
    size_t lines = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (ssize_t got; (got = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            lines += text[i] == '\n';
    close(fd);
    return lines;
}

size_t count_descriptors(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static size_t statm(int field)
{
    char text[200];
    CHECK(os_read_file("/proc/self/statm", text, sizeof text) > 0);
    char *at = text;
    while (field--)
        at = strchr(at, ' ') + 1;
    return strtoul(at, NULL, 10) * os_page_size();
}

size_t virtual_bytes(void) { return statm(0); }

size_t resident_bytes(void) { return statm(1); }

uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

void refuse_system_call(int number, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned) number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned) error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        skip("no seccomp filters here");
}

pid_t fork_arena(void)
{
    CHECK_EQ(OP(fork, FORK_BEFORE), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    CHECK_EQ(OP(fork, child ? FORK_PARENT : FORK_CHILD), 0);
    if (child == 0)
        alarm(CASE_SECONDS);
    return child;
}

void check_child(pid_t child)
{
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}
