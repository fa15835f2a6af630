/* matrix_descriptors.c: calls on descriptors that move no bytes of ours, or only between descriptors. */
#include "matrix.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { SIZE = 20000 };

/* ---- offsets that are read and written back ---- */

static void sendfile_row(void)
{
    const int from = scratch_with(SIZE, 1), to = scratch();
    off_t *const offset = GIVEN(off_t, 1000);
    begin();
    const long result = CALL(sendfile, to, from, offset, 5000);
    finish();
    outcome("sendfile", result);
    note("offset %ld", (long)*offset);
    position("of the source", from);
    position("of the target", to);
    CHECK(lseek(to, 0, SEEK_SET) == 0);
    drain(to);
}

static void splice_row(void)
{
    int ends[2];
    const int from = scratch_with(SIZE, 1), to = scratch();
    CHECK(pipe(ends) == 0);
    own(ends[0]);
    own(ends[1]);
    off64_t *const in = GIVEN(off64_t, 1000), *const out = GIVEN(off64_t, 10);
    begin();
    outcome("into the pipe", CALL(splice, from, in, ends[1], NULL, 4096, 0));
    outcome("out of it", CALL(splice, ends[0], NULL, to, out, 3000, 0));
    finish();
    note("offsets %ld %ld", (long)*in, (long)*out);
    drain(to);
    drain(ends[0]);
}

static void copy_range(void)
{
    const int from = scratch_with(SIZE, 1), to = scratch();
    off64_t *const in = GIVEN(off64_t, 1000), *const out = GIVEN(off64_t, 10);
    begin();
    const long result = CALL(copy_file_range, from, in, to, out, 5000, 0);
    finish();
    outcome("copy_file_range", result);
    note("offsets %ld %ld", (long)*in, (long)*out);
    drain(to);
}

/* The array only: the pipe keeps the pages themselves, which is another matter. */
static void vmsplice_row(void)
{
    static unsigned char given[SIZE];
    int ends[2];
    CHECK(pipe(ends) == 0);
    own(ends[0]);
    own(ends[1]);
    pattern(given, SIZE, 2);
    const struct iovec *const piece = GIVEN(struct iovec, given, SIZE);
    begin();
    const long result = CALL(vmsplice, ends[1], piece, 1, 0);
    finish();
    outcome("vmsplice", result);
    drain(ends[0]);
}

static void peer_read(void)
{
    static unsigned char there[SIZE];
    pattern(there, SIZE, 2);
    unsigned char *const p = room(SIZE);
    const struct iovec *const local = GIVEN(struct iovec, p, SIZE), *const remote = GIVEN(struct iovec, there, SIZE);
    begin();
    const long result = CALL(process_vm_readv, getpid(), local, 1, remote, 1, 0);
    finish();
    outcome("process_vm_readv", result);
    note_bytes("delivered", p, SIZE);
}

static void peer_write(void)
{
    static unsigned char there[SIZE];
    unsigned char *const p = filled(SIZE, 4);
    const struct iovec *const local = GIVEN(struct iovec, p, SIZE), *const remote = GIVEN(struct iovec, there, SIZE);
    memset(there, 0, SIZE);
    begin();
    const long result = CALL(process_vm_writev, getpid(), local, 1, remote, 1, 0);
    finish();
    outcome("process_vm_writev", result);
    note_bytes("delivered", there, SIZE);
}

/* ---- control ---- */

static void fionread(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0 && write(own(ends[1]), "12345", 5) == 5);
    own(ends[0]);
    int *const count = ROOM(int);
    begin();
    outcome("ioctl", CALL(ioctl, ends[0], FIONREAD, count));
    finish();
    note("%d bytes", *count);
}

static void window_size(void)
{
    const int fd = own(posix_openpt(O_RDWR | O_NOCTTY));
    const struct winsize *const given = GIVEN(struct winsize, 24, 80, 1, 2);
    struct winsize *const found = ROOM(struct winsize);
    begin();
    outcome("TIOCSWINSZ", CALL(ioctl, fd, TIOCSWINSZ, given));
    outcome("TIOCGWINSZ", CALL(ioctl, fd, TIOCGWINSZ, found));
    finish();
    note("%u by %u", found->ws_row, found->ws_col);
}

/* A lock of another open file is in the way. */
static void get_lock(void)
{
    static const char name[] = "matrix-locked";
    struct flock held = {.l_type = F_WRLCK, .l_start = 10, .l_len = 20};
    const int holder = own(open(name, O_CREAT | O_RDWR, 0600)), fd = own(open(name, O_RDWR));
    CHECK(fcntl(holder, F_OFD_SETLK, &held) == 0 && unlink(name) == 0);
    struct flock *const asked = GIVEN(struct flock, .l_type = F_WRLCK, .l_len = 100);
    begin();
    outcome("fcntl", CALL(fcntl, fd, F_GETLK, asked));
    finish();
    note("type %d, from %ld, length %ld", asked->l_type, (long)asked->l_start, (long)asked->l_len);
}

static void pipe_result(void)
{
    int *const ends = room(2 * sizeof *ends);
    begin();
    const long result = CALL(pipe2, ends, O_CLOEXEC);
    finish();
    outcome("pipe2", result);
    if (result != 0)
        return;
    CHECK(write(own(ends[1]), "abc", 3) == 3);
    drain(own(ends[0]));
}

void rows_descriptors(void)
{
    static const struct row rows[] = {
        {"sendfile", sendfile_row, 0},      {"splice", splice_row, 0},
        {"copy_file_range", copy_range, 0}, {"vmsplice", vmsplice_row, 0},
        {"process_vm_readv", peer_read, 0}, {"process_vm_writev", peer_write, 0},
        {"ioctl FIONREAD", fionread, 0},    {"ioctl TIOCGWINSZ", window_size, 0},
        {"fcntl F_GETLK", get_lock, 0},     {"pipe2", pipe_result, 0},
    };
    RUN_ROWS(rows);
}
