/*
 * bigio MIB GROUP...: single transfers larger than any budget between arena memory and a file, a pipe or a socket, by
 * the calls of each group. A regular file gives the full count, and each byte arrives.
 */
#include "../victim.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

static size_t size;
static unsigned char *source, *target;
static int file;

/* Recognisable at every 8 bytes, half of the pages compressible. */
static uint64_t word(size_t i, uint64_t seed)
{
    return i & 512 ? mix64(i ^ seed << 40) : seed << 40 | i;
}

/* The target is fresh each time: pages that nobody has touched are absent too. */
static void fill(uint64_t seed)
{
    for (size_t i = 0; i < size / 8; i++)
        ((uint64_t *)(void *)source)[i] = word(i, seed);
    free(target);
    target = big_malloc(size);
}

static void check(const char *what, uint64_t seed)
{
    const uint64_t *const words = (const uint64_t *)(const void *)target;
    for (size_t i = 0; i < size / 8; i++)
        if (words[i] != word(i, seed))
            die("%s: offset %zu holds %016llx, not %016llx", what, i * 8, (unsigned long long)words[i],
                (unsigned long long)word(i, seed));
    printf("%s ok\n", what);
    fflush(stdout); /* so that it is known what was being tested when something ends the program */
}

static void full(const char *what, ssize_t result)
{
    if (result != (ssize_t)size)
        die("%s: %zd of %zu bytes (%s)", what, result, size, result < 0 ? strerror(errno) : "no error");
}

static void rewind_file(void)
{
    CHECK(ftruncate(file, 0) == 0 && lseek(file, 0, SEEK_SET) == 0);
}

static void plain(void)
{
    fill(1);
    full("write", write(file, source, size));
    CHECK(lseek(file, 0, SEEK_CUR) == (off_t)size);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    full("read", read(file, target, size));
    CHECK(lseek(file, 0, SEEK_CUR) == (off_t)size);
    check("write and read", 1);
}

static void positioned(void)
{
    rewind_file();
    fill(2);
    full("pwrite", pwrite(file, source, size, 12345));
    full("pread", pread(file, target, size, 12345));
    CHECK(lseek(file, 0, SEEK_CUR) == 0);
    check("pwrite and pread", 2);
}

static void vectors(void)
{
    enum { PIECES = 16 };
    struct iovec out[PIECES], in[PIECES];
    const size_t piece = size / PIECES;
    fill(3);
    for (size_t i = 0; i < PIECES; i++) {
        /* Pieces of unequal size that meet inside pages. */
        const size_t cut = i % 2 ? 1000 : 0, start = i * piece - cut, end = (i + 1) * piece - (i % 2 ? 0 : 1000);
        out[i] = (struct iovec){source + start, end - start};
        in[i] = (struct iovec){target + start, end - start};
    }
    rewind_file();
    full("writev", writev(file, out, PIECES));
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    full("readv", readv(file, in, PIECES));
    check("writev and readv", 3);
}

static void positioned_vectors(void)
{
    fill(4);
    struct iovec out[2] = {{source, 5000}, {source + 5000, size - 5000}};
    struct iovec in[2] = {{target, 9000}, {target + 9000, size - 9000}};
    rewind_file();
    full("pwritev", pwritev(file, out, 2, 777));
    full("preadv", preadv(file, in, 2, 777));
    check("pwritev and preadv", 4);
}

static void streams(void)
{
    rewind_file();
    fill(5);
    FILE *stream = fdopen(dup(file), "r+");
    CHECK(stream);
    CHECK(fwrite(source, 1, 100, stream) == 100); /* leaves something in the stream's buffer */
    CHECK(fwrite(source + 100, size - 100, 1, stream) == 1);
    CHECK(fflush(stream) == 0);
    rewind(stream);
    CHECK(fread(target, 1, 100, stream) == 100);
    CHECK(fread(target + 100, size - 100, 1, stream) == 1);
    CHECK(getc(stream) == EOF);
    fclose(stream);
    check("fwrite and fread", 5);
}

static int ends[2];

static void *sender(void *arg)
{
    (void)arg;
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(ends[1], source + done, size - done);
        if (n <= 0)
            die("write at %zu: %s", done, strerror(errno));
        done += (size_t)n;
    }
    close(ends[1]);
    return NULL;
}

/* A thread writes into ends[1] what this one reads from ends[0]. */
static void channel(const char *what, uint64_t seed)
{
    fill(seed);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, sender, NULL) == 0);
    for (size_t done = 0; done < size;) {
        const ssize_t n = read(ends[0], target + done, size - done);
        if (n <= 0)
            die("%s: read at %zu: %s", what, done, n ? strerror(errno) : "end");
        done += (size_t)n;
    }
    char none;
    CHECK(read(ends[0], &none, 1) == 0);
    pthread_join(thread, NULL);
    close(ends[0]);
    check(what, seed);
}

static void through_pipe(void)
{
    CHECK(pipe(ends) == 0);
    channel("pipe", 6);
}

static void through_socket(void)
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    channel("socket", 7);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {
        {"plain", plain},     {"positioned", positioned}, {"vectors", vectors},       {"pvectors", positioned_vectors},
        {"streams", streams}, {"pipe", through_pipe},     {"socket", through_socket},
    };
    size = argument(argc, argv, 1, 64) * MIB;
    source = big_malloc(size);
    char name[] = "bigio-XXXXXX";
    file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    for (int i = 2; i < argc; i++)
        for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
            if (strcmp(argv[i], groups[group].name) == 0)
                groups[group].run();
    return 0;
}
