/*
 * What the machine takes for the least that paging must do, in random order over 256 MiB, as a line of JSON:
 *
 *   bare trap          a trap and the page's content: userfaultfd in the faulting thread (SIGBUS), one UFFDIO_COPY of 4
 * KiB bare disk DIR      a page from the disk: pread of 4 KiB from a file in DIR, past the page cache (O_DIRECT)
 */
#include "data.h"
#include "timing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

enum {
    PAGES = 65536, /* a power of two */
    READS = 20000,
    WRITE = 1 << 20,
};

static int uffd;
static _Alignas(DATA_PAGE) unsigned char content[WRITE];

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The i-th of all pages in an order without a pattern: odd multiples and the mix are one to one. */
static size_t page_at(size_t i)
{
    i = i * 40503 % PAGES;
    i ^= i >> 8;
    return i * 30011 % PAGES;
}

static void report(const struct histogram *took, uint64_t ns, uint64_t spent)
{
    putchar('{');
    histogram_print("ns", took, 0, (double)ns / (double)spent);
    puts("}");
}

/* ---- trap ---- */

static void heal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    struct uffdio_copy copy = {
        .dst = (uintptr_t)info->si_addr & ~(uintptr_t)(DATA_PAGE - 1),
        .src = (uintptr_t)content,
        .len = DATA_PAGE,
    };
    if (ioctl(uffd, UFFDIO_COPY, &copy))
        _exit(1);
}

static unsigned char *trapped_memory(void)
{
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (uffd < 0)
        fail("userfaultfd");
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
    if (ioctl(uffd, UFFDIO_API, &api))
        fail("userfaultfd with SIGBUS");
    unsigned char *const memory = mmap(NULL, (size_t)PAGES * DATA_PAGE, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, (size_t)PAGES * DATA_PAGE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(uffd, UFFDIO_REGISTER, &range))
        fail("UFFDIO_REGISTER");
    return memory;
}

static void measure_trap(void)
{
    static struct histogram took;
    unsigned char *const memory = trapped_memory();
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = heal, .sa_flags = SA_SIGINFO}, NULL);
    memset(content, 1, sizeof content);
    const uint64_t begun = nanoseconds(), first = ticks();
    for (size_t i = 0; i < PAGES; i++) {
        volatile unsigned char *const byte = memory + page_at(i) * DATA_PAGE;
        const uint64_t start = ticks();
        (void)*byte;
        histogram_add(&took, start, ticks());
    }
    report(&took, nanoseconds() - begun, ticks() - first);
}

/* ---- disk ---- */

/* Written, not only reserved: the kernel reads nothing for what was never written. */
static int file_without_name(const char *directory)
{
    const int file = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (file < 0)
        fail(directory);
    for (size_t i = 0; i < (size_t)PAGES * DATA_PAGE / WRITE; i++) {
        for (size_t page = 0; page < WRITE / DATA_PAGE; page++)
            memset(content + page * DATA_PAGE, (int)data_hash(i * WRITE + page), DATA_PAGE);
        if (write(file, content, WRITE) != WRITE)
            fail("write");
    }
    if (fsync(file))
        fail("fsync");
    return file;
}

static void measure_disk(const char *directory)
{
    static struct histogram took;
    const int file = file_without_name(directory);
    const uint64_t begun = nanoseconds(), first = ticks();
    for (size_t i = 0; i < READS; i++) {
        const uint64_t start = ticks();
        if (pread(file, content, DATA_PAGE, (off_t)(page_at(i) * DATA_PAGE)) != DATA_PAGE)
            fail("pread");
        histogram_add(&took, start, ticks());
    }
    report(&took, nanoseconds() - begun, ticks() - first);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "trap"))
        measure_trap();
    else if (argc == 3 && !strcmp(argv[1], "disk"))
        measure_disk(argv[2]);
    else
        return fputs("usage: bare trap | bare disk DIR\n", stderr), 2;
    return 0;
}
