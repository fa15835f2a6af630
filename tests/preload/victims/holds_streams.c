/*
 * holds_streams: streams' buffers, strings, stacks and asynchronous requests in absent memory; what must stay in memory
 * for longer than a call, and no longer than its block.
 */
#include "holds.h"

#include <aio.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

enum { LARGE = 3 << 20 };

/* A long string, absent. */
static char *long_text(char letter, size_t length)
{
    char *string = fresh(length + 1);
    memset(string, letter, length);
    string[length] = 0;
    page_out(string, length + 1);
    return string;
}

/* Longer than the smallest budgets: once it was measured, its start has left again. */
static void huge_strings(void)
{
    enum { HUGE_SIZE = 80 << 20 };
    static int (*const puts_it[])(const char *, FILE *) = {fputs, fputs_unlocked};
    char *string = long_text('x', HUGE_SIZE);
    for (int i = 0; i < 2; i++) {
        FILE *stream = fopen("huge", "w");
        CHECK(stream);
        SHOW(puts_it[i](string, stream));
        SHOW(ftell(stream));
        SHOW(fclose(stream));
    }
}

static void count_file(const char *name)
{
    FILE *stream = fopen(name, "r");
    CHECK(stream);
    long counts[256] = {0};
    for (int c; (c = getc(stream)) != EOF;)
        counts[c]++;
    fclose(stream);
    for (int c = 0; c < 256; c++)
        if (counts[c])
            printf("%02x*%ld ", (unsigned)c, counts[c]);
    puts(name);
    fflush(stdout);
}

static void strings(void)
{
    FILE *stream = fopen("strings", "w");
    CHECK(stream);
    SHOW(fputs(text("short\n"), stream));
    SHOW(fputs(long_text('a', LARGE), stream));
    SHOW(fputs_unlocked(long_text('b', LARGE), stream));
    SHOW(fputs(fresh(1), stream));
    SHOW(fclose(stream));
    count_file("strings");
    int saved = dup(1), file = open("lines", O_WRONLY | O_CREAT, 0600);
    CHECK(dup2(file, 1) == 1);
    int result = puts(long_text('c', LARGE));
    fflush(stdout);
    CHECK(dup2(saved, 1) == 1);
    SHOW(result);
    count_file("lines");
}

/* The buffer leaves, or would, between any two operations. */
static void buffers(int mode, size_t size)
{
    char *buffer = fresh(size);
    FILE *stream = fopen("buffered", "w+");
    CHECK(stream && setvbuf(stream, buffer, mode, size) == 0);
    for (int i = 0; i < 5000; i++) {
        fprintf(stream, "line %d\n", i);
        if (i % 500 == 0)
            page_out(buffer, size);
    }
    page_out(buffer, size);
    CHECK(fflush(stream) == 0);
    rewind(stream);
    page_out(buffer, size);
    int lines = 0;
    for (int c; (c = getc(stream)) != EOF;)
        lines += c == '\n';
    SHOW(lines);
    page_out(buffer, size);
    SHOW(fclose(stream));
    SHOW(leaves(buffer));
}

/* A buffer that is freed, and one that is replaced, hold nothing any more: their block is an ordinary one. */
static void buffers_end(void)
{
    for (int i = 0; i < 50; i++) {
        char *block = big_malloc(2 * MIB);
        FILE *stream = fopen("buffered", "w");
        CHECK(stream);
        SHOW(setvbuf(stream, block, _IOFBF, 2 * MIB) == 0 || i);
        fputs("something", stream);
        if (i % 2)
            setvbuf(stream, NULL, _IONBF, 0);
        else
            CHECK(freopen("buffered", "r", stream) && getc(stream) == 's');
        if (i % 4 < 2)
            fclose(stream);
        block = realloc(block, 9 * MIB);
        CHECK(block);
        if (i % 4 >= 2)
            fclose(stream);
        free(block);
    }
    char *block = big_malloc(16 * MIB);
    for (size_t at = PIECE; at + 2 * PIECE < 16 * MIB; at += PIECE)
        CHECK(leaves(block + at));
    free(block);
}

static volatile sig_atomic_t handled;

static void handler(int number)
{
    (void)number;
    handled++;
}

static void signal_stack(void)
{
    size_t size = 64 << 10;
    stack_t stack = {.ss_sp = fresh(size), .ss_size = size}, *old = FRESH(stack_t);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    SHOW(sigaltstack(GONE(stack), old));
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(raise(SIGUSR1) == 0);
    page_out(stack.ss_sp, size);
    CHECK(raise(SIGUSR1) == 0);
    pid_t pid = fork();
    if (pid == 0) { /* it is still there in a child */
        page_out(stack.ss_sp, size);
        raise(SIGUSR1);
        stack.ss_flags = SS_DISABLE;
        sigaltstack(&stack, NULL);
        CHECK(leaves(stack.ss_sp));
        _exit(handled);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    SHOW(status);
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, FRESH(stack_t)));
    SHOW(sigaltstack(nowhere, NULL));
    SHOW(leaves(stack.ss_sp));
    SHOW(handled);
}

static void *on_stack(void *expected)
{
    char place[5000];
    memset(place, 1, sizeof place);
    page_out((void *)((uintptr_t)expected & -(uintptr_t)PAGE), 128 << 10);
    raise(SIGUSR1);
    madvise(expected, 64 << 10, MADV_DONTNEED); /* the lower half, unused so far */
    raise(SIGUSR1);
    return (char *)place >= (char *)expected ? expected : NULL;
}

static void thread_stack(void)
{
    size_t size = 128 << 10;
    void *stack = fresh(size), *result;
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    SHOW(pthread_attr_setstack(&attributes, stack, size));
    for (int i = 0; i < 3; i++) {
        pthread_t *thread = FRESH(pthread_t);
        SHOW(pthread_create(thread, GONE(attributes), on_stack, stack));
        pthread_join(*thread, &result);
        SHOW(result == stack);
    }
    SHOW(handled);
    pthread_t thread;
    void *block = big_malloc(2 * MIB);
    SHOW(pthread_attr_setstack(&attributes, block, 2 * MIB));
    CHECK(pthread_create(&thread, &attributes, on_stack, (char *)block + 2 * MIB - size) == 0);
    pthread_join(thread, NULL);
    free(block);
    char *next = big_malloc(16 * MIB);
    for (size_t at = PIECE; at + 2 * PIECE < 16 * MIB; at += PIECE)
        CHECK(leaves(next + at));
    free(next);
}

static ucontext_t back, forth;
static int sum;

static void add(int a, int b, int c, int d, int e, int f, int g, int h)
{
    raise(SIGUSR1);
    sum = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

static void context_stack(void)
{
    CHECK(getcontext(&forth) == 0);
    forth.uc_stack.ss_size = 128 << 10;
    forth.uc_stack.ss_sp = fresh(forth.uc_stack.ss_size);
    forth.uc_link = &back;
    makecontext(&forth, (void (*)(void))add, 8, 1, -2, 3, -4, 5, -6, 7, -8);
    page_out(forth.uc_stack.ss_sp, forth.uc_stack.ss_size);
    SHOW(swapcontext(&back, &forth));
    SHOW(sum);
    SHOW(handled);
}

static void finish(struct aiocb *request)
{
    const struct aiocb *list[] = {request};
    while (aio_error(request) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    SHOW(aio_return(request));
}

static void requests(void)
{
    int file = open("requests", O_RDWR | O_CREAT, 0600);
    struct aiocb put = {.aio_fildes = file, .aio_buf = long_text('d', LARGE), .aio_nbytes = LARGE}, *request = GONE(put);
    SHOW(aio_write(request));
    finish(request);
    char *buffer = fresh(LARGE);
    struct aiocb get = {.aio_fildes = file, .aio_buf = buffer, .aio_nbytes = LARGE};
    request = GONE(get);
    SHOW(aio_read(request));
    finish(request);
    SHOW(buffer[0] == 'd' && memcmp(buffer, buffer + 1, LARGE - 1) == 0);
    SHOW(leaves(buffer));
    get.aio_lio_opcode = LIO_READ;
    get.aio_buf = buffer = fresh(LARGE);
    struct aiocb *list[] = {GONE(get)};
    SHOW(lio_listio(LIO_WAIT, list, 1, NULL));
    finish(list[0]);
    SHOW(buffer[LARGE - 1] == 'd');
    int ends[2];
    CHECK(pipe(ends) == 0);
    get = (struct aiocb){.aio_fildes = ends[0], .aio_buf = fresh(5), .aio_nbytes = 5};
    SHOW(aio_read(request = GONE(get)));
    page_out(request, PAGE);
    page_out((void *)get.aio_buf, PAGE);
    SHOW(write(ends[1], "later", 5));
    finish(request);
    get.aio_fildes = -1;
    SHOW(aio_read(request = GONE(get)));
    finish(request);
}

int main(void)
{
    fill_memory();
    strings();
    huge_strings();
    buffers(_IOFBF, 64 << 10);
    buffers(_IOLBF, 100);
    buffers_end();
    signal_stack();
    thread_stack();
    context_stack();
    requests();
    return 0;
}
