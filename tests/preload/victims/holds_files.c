/*
 * holds_files: names, structures, offsets and locks in absent memory, for the calls on files.
 */
#include "holds.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

/* A size that nothing else has. */
enum { SIZE = 12345 };

static void names(void)
{
    int file = open(text("one"), O_RDWR | O_CREAT, 0644);
    CHECK(file >= 0);
    SHOW(ftruncate(file, SIZE));
    close(file);
    SHOW(access(text("one"), R_OK));
    SHOW(link(text("one"), text("two")));
    SHOW(rename(text("two"), text("three")));
    SHOW(symlink(text("one"), text("sign")));
    SHOW(mkdir(text("inside"), 0755));
    SHOW(rmdir(text("inside")));
    SHOW(chmod(text("three"), 0600));
    SHOW(truncate(text("three"), SIZE + 1));
    SHOW(unlink(text("three")));
    SHOW(unlink(text("nothing")));
    SHOW(close(creat(text("four"), 0600)));
    SHOW(close(openat(AT_FDCWD, text("four"), O_RDONLY)));
    FILE *stream = fopen(text("four"), "r");
    CHECK(stream);
    fclose(stream);
    SHOW(remove(text("four")));
    DIR *directory = opendir(text("."));
    CHECK(directory);
    closedir(directory);
    char *made = text("made-XXXXXX");
    SHOW(close(mkstemp(made)));
    SHOW(unlink(made));
}

static void structures(void)
{
    struct stat *status;
    SHOW(stat(text("one"), status = FRESH(struct stat)));
    SHOW(status->st_size);
    SHOW(stat("one", status = FRESH(struct stat)));
    SHOW(status->st_size);
    SHOW(lstat(text("sign"), status = FRESH(struct stat)));
    SHOW(S_ISLNK(status->st_mode));
    SHOW(fstatat(AT_FDCWD, text("one"), status = FRESH(struct stat), 0));
    SHOW(status->st_size);
    struct statx *more = FRESH(struct statx);
    SHOW(statx(AT_FDCWD, text("one"), 0, STATX_SIZE, more));
    SHOW((long)more->stx_size);
    struct statfs *system = FRESH(struct statfs);
    SHOW(statfs(text("."), system));
    SHOW(system->f_bsize > 0);
    struct timespec times[2] = {{1000, 0}, {2000, 0}};
    SHOW(utimensat(AT_FDCWD, text("one"), gone(times, sizeof times), 0));
    SHOW(stat(text("one"), status = FRESH(struct stat)));
    SHOW(status->st_mtim.tv_sec);
    char *value = fresh(100);
    SHOW(setxattr(text("one"), text("user.colour"), text("blue"), 5, 0));
    SHOW(getxattr(text("one"), text("user.colour"), value, 100));
    SHOW(*value);
    SHOW(statvfs(text("."), FRESH(struct statvfs)));
    char *target = fresh(100);
    SHOW(readlink(text("sign"), target, 100));
    SHOW(strcmp(target, "one"));
    char *here = getcwd(fresh(1000), 1000), there[1000];
    SHOW(here && getcwd(there, sizeof there) && strcmp(here, there) == 0);
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    SHOW(getdents64(fd, fresh(10000), 10000) > 0);
    close(fd);
}

static void control(void)
{
    int fd = open("one", O_RDWR), to = open("copy", O_RDWR | O_CREAT, 0600), ends[2];
    SHOW(fstat(fd, FRESH(struct stat)));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, *lock = GONE(whole);
    SHOW(fcntl(fd, F_SETLK, lock));
    SHOW(fcntl(fd, F_GETLK, lock = GONE(whole)));
    SHOW(lock->l_type == F_UNLCK);
    SHOW(fcntl(fd, F_GETFL) & O_ACCMODE);
    SHOW(pipe(ends));
    SHOW(write(ends[1], "hello", 5));
    int *waiting = FRESH(int);
    SHOW(ioctl(ends[0], FIONREAD, waiting));
    SHOW(*waiting);
    off_t from = 2345, *offset = GONE(from);
    SHOW(sendfile(to, fd, offset, 10000));
    SHOW(*offset);
    off64_t begin = 12000, *in = GONE(begin), *out = GONE(begin);
    SHOW(copy_file_range(fd, in, to, out, 1000, 0));
    SHOW(*in);
    SHOW(*out);
    off64_t at = 3, *position = GONE(at);
    SHOW(splice(ends[0], NULL, to, position, 5, 0));
    SHOW(*position);
}

/* The kernel says no as it would without us. */
static void refusals(void)
{
    SHOW(stat(nowhere, FRESH(struct stat)));
    SHOW(stat(text("one"), nowhere));
    SHOW(open(nowhere, O_RDONLY));
    SHOW(access(text(""), F_OK));
    char *endless = fresh(8192);
    memset(endless, 'x', 8192);
    page_out(endless, 8192);
    SHOW(access(endless, F_OK));
    SHOW(fcntl(-1, F_GETLK, FRESH(struct flock)));
}

int main(void)
{
    fill_memory();
    names();
    structures();
    control();
    refusals();
    return 0;
}
