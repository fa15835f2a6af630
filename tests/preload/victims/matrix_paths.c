/* matrix_paths.c: calls with names of files, and those that tell about files. */
#include "matrix.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static const char file[] = "matrix-path-file-with-a-name", link_name[] = "matrix-path-link-with-a-name",
                  other[] = "matrix-path-other-name", directory[] = "matrix-path-directory";

enum { SIZE = 12345 };

static void make_file(void)
{
    const int fd = own(open(file, O_CREAT | O_TRUNC | O_WRONLY, 0600));
    CHECK(ftruncate(fd, SIZE) == 0);
}

static void exists(const char *name)
{
    note("%s %s", name, faccessat(AT_FDCWD, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? "exists" : "does not exist");
}

/* ---- what a file is like ---- */

static void note_stat(const struct stat *found)
{
    note("mode %o, size %ld", found->st_mode, (long)found->st_size);
}

static void fstatat_row(void)
{
    make_file();
    const char *const name = text(file);
    struct stat *const found = ROOM(struct stat);
    begin();
    outcome("fstatat", CALL(newfstatat, AT_FDCWD, name, found, AT_SYMLINK_NOFOLLOW));
    finish();
    note_stat(found);
    unlink(file);
}

static void fstat_row(void)
{
    const int fd = scratch_with(1000, 1);
    struct stat *const found = ROOM(struct stat);
    begin();
    outcome("fstat", CALL(fstat, fd, found));
    finish();
    note_stat(found);
}

static void statx_row(void)
{
    make_file();
    const char *const name = text(file);
    struct statx *const found = ROOM(struct statx);
    begin();
    outcome("statx", CALL(statx, AT_FDCWD, name, 0, STATX_BASIC_STATS, found));
    finish();
    note("mode %o, size %lu", found->stx_mode, (unsigned long)found->stx_size);
    unlink(file);
}

static void statfs_row(void)
{
    const char *const name = text("/proc/self/..");
    struct statfs *const found = ROOM(struct statfs), *const again = ROOM(struct statfs);
    const int fd = own(open("/proc", O_RDONLY));
    begin();
    outcome("statfs", CALL(statfs, name, found));
    outcome("fstatfs", CALL(fstatfs, fd, again));
    finish();
    note("types %lx %lx", (unsigned long)found->f_type, (unsigned long)again->f_type);
}

static void readlinkat_row(void)
{
    CHECK(symlink(file, link_name) == 0);
    const char *const name = text(link_name);
    char *const target = room(200);
    begin();
    outcome("readlinkat", CALL(readlinkat, AT_FDCWD, name, target, 200));
    finish();
    note_bytes("target", target, 40);
    unlink(link_name);
}

/* The extended attributes of a file that may have none. */
static void xattr_row(void)
{
    make_file();
    if (setxattr(file, "user.probe", "x", 1, 0) != 0) {
        skip("no extended attributes here");
        unlink(file);
        return;
    }
    const char *const path = text(file), *const name = text("user.matrix");
    const void *const value = filled(300, 1);
    void *const back = room(300), *const list = room(100);
    begin();
    outcome("setxattr", CALL(setxattr, path, name, value, 300, 0));
    outcome("getxattr", CALL(getxattr, path, name, back, 300));
    const long listed = CALL(listxattr, path, list, 100);
    finish();
    outcome("listxattr", listed);
    note_bytes("value", back, 300);
    note_bytes("names", list, listed > 0 ? (size_t)listed : 0);
    unlink(file);
}

/* ---- names ---- */

static void openat_row(void)
{
    const char *const name = text(file);
    begin();
    const long fd = CALL(openat, AT_FDCWD, name, O_CREAT | O_WRONLY, 0600);
    finish();
    outcome("openat", fd < 0 ? fd : 0);
    if (fd >= 0)
        own((int)fd);
    exists(file);
    unlink(file);
}

static void names_at(void)
{
    make_file();
    const char *const name = text(file), *const second = text(other), *const made = text(directory);
    const struct timespec times[2] = {{1000, 0}, {2000, 0}};
    const struct timespec *const given = copied(times, sizeof times);
    begin();
    outcome("faccessat", CALL(faccessat, AT_FDCWD, name, R_OK));
    outcome("truncate", CALL(truncate, name, 5));
    outcome("utimensat", CALL(utimensat, AT_FDCWD, name, given, 0));
    outcome("renameat2", CALL(renameat2, AT_FDCWD, name, AT_FDCWD, second, 0));
    outcome("mkdirat", CALL(mkdirat, AT_FDCWD, made, 0700));
    finish();
    struct stat found = {0};
    stat(other, &found);
    note("time %ld, size %ld", (long)found.st_mtime, (long)found.st_size);
    begin();
    outcome("unlinkat", CALL(unlinkat, AT_FDCWD, second, 0));
    outcome("unlinkat", CALL(unlinkat, AT_FDCWD, made, AT_REMOVEDIR));
    finish();
    exists(other);
    exists(directory);
    unlink(file);
}

#ifdef SYS_open
static void stat_row(void)
{
    make_file();
    const char *const name = text(file);
    struct stat *const found = ROOM(struct stat), *const again = ROOM(struct stat);
    begin();
    outcome("stat", CALL(stat, name, found));
    outcome("lstat", CALL(lstat, name, again));
    finish();
    note_stat(found);
    note_stat(again);
    unlink(file);
}

static void names(void)
{
    const char *const name = text(file), *const second = text(other), *const third = text(link_name),
                      *const made = text(directory);
    begin();
    const long fd = CALL(open, name, O_CREAT | O_WRONLY, 0600);
    outcome("open", fd < 0 ? fd : 0);
    if (fd >= 0)
        own((int)fd);
    outcome("access", CALL(access, name, R_OK));
    outcome("chmod", CALL(chmod, name, 0640));
    outcome("link", CALL(link, name, second));
    outcome("symlink", CALL(symlink, second, third));
    outcome("unlink", CALL(unlink, name));
    outcome("rename", CALL(rename, second, name));
    outcome("mkdir", CALL(mkdir, made, 0700));
    outcome("rmdir", CALL(rmdir, made));
    finish();
    struct stat found = {0};
    stat(file, &found);
    note("mode %o", found.st_mode);
    exists(other);
    exists(link_name);
    exists(directory);
    unlink(file);
    unlink(link_name);
}

static void readlink_row(void)
{
    CHECK(symlink(file, link_name) == 0);
    const char *const name = text(link_name);
    char *const target = room(200);
    begin();
    outcome("readlink", CALL(readlink, name, target, 200));
    finish();
    note_bytes("target", target, 40);
    unlink(link_name);
}
#endif

/* ---- directories ---- */

static void getcwd_row(void)
{
    char *const name = room(4096);
    char right[4096];
    CHECK(getcwd(right, sizeof right));
    begin();
    outcome("getcwd", CALL(getcwd, name, 4096));
    finish();
    note("%s", strcmp(name, right) == 0 ? "right" : "wrong");
}

static void note_entries(const char *entries, long size)
{
    for (long at = 0; at < size;) {
        const struct dirent64 *const entry = (const void *)(entries + at);
        note("entry %s", entry->d_name);
        at += entry->d_reclen;
    }
}

/* An entry that does not arrive is not read again by the next call. */
static void getdents_row(void)
{
    CHECK(mkdir(directory, 0700) == 0);
    const int fd = own(open(directory, O_RDONLY | O_DIRECTORY)), at = own(dup(fd));
    for (int i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%02d", i);
        CHECK(close(openat(at, name, O_CREAT | O_WRONLY, 0600)) == 0);
    }
    char *const some = room(400), *const rest = room(8192);
    begin();
    const long first = CALL(getdents64, fd, some, 400), second = CALL(getdents64, fd, rest, 8192);
    finish();
    outcome("getdents64", first);
    outcome("getdents64", second);
    note_entries(some, first);
    note_entries(rest, second);
    for (int i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%02d", i);
        CHECK(unlinkat(at, name, 0) == 0);
    }
    CHECK(rmdir(directory) == 0);
}

void rows_paths(void)
{
    static const struct row rows[] = {
        {"fstatat", fstatat_row, 0},
        {"fstat", fstat_row, 0},
        {"statx", statx_row, 0},
        {"statfs", statfs_row, 0},
        {"readlinkat", readlinkat_row, 0},
        {"xattr", xattr_row, 0},
        {"openat", openat_row, 0},
        {"names at a directory", names_at, 0},
#ifdef SYS_open
        {"stat", stat_row, 0},
        {"names", names, 0},
        {"readlink", readlink_row, 0},
#endif
        {"getcwd", getcwd_row, 0},
        {"getdents64", getdents_row, 0},
    };
    RUN_ROWS(rows);
}
