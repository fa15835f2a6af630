#include "../program.h"

#include "../../base/text.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

const char program_library[] = "libvp.so";
const char program_preload[] = "LD_PRELOAD";
const char program_separators[] = " :"; /* ld.so(8): neither can be escaped */

#define MANY        64  /* program headers and dynamic entries looked at: real programs have a dozen, or thirty */
#define SCRIPTS_MAX 5   /* interpreters that are scripts themselves: the kernel gives up there too */
#define HEAD        256 /* bytes in which a script must name its interpreter (BINPRM_BUF_SIZE); an ELF header fits too */
#define BLANKS      " \t"

/* Our own ELF header, from the linker: what libvp.so can be loaded into is what it looks like. */
typedef ElfW(Ehdr) elf_header;
typedef ElfW(Phdr) elf_segment;
extern const elf_header __ehdr_start __attribute__((visibility("hidden")));

/* ---- programs that change identity: the loader drops LD_PRELOAD ("secure-execution mode", ld.so(8)) ---- */

/* The kernel then ignores the set-id bits and capabilities of files (execve(2)). */
static bool privileges_ignored(int fd)
{
    struct statvfs fs;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || (fstatvfs(fd, &fs) == 0 && fs.f_flag & ST_NOSUID);
}

static const char *identity_change(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return NULL;
    const mode_t set_group = S_ISGID | S_IXGRP;
    const char *reason = NULL;
    if (status.st_mode & S_ISUID && status.st_uid != getuid())
        reason = "is setuid";
    else if ((status.st_mode & set_group) == set_group && status.st_gid != getgid())
        reason = "is setgid";
    else if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        reason = "has file capabilities";
    return reason && !privileges_ignored(fd) ? reason : NULL;
}

/* ---- ELF ---- */

static bool read_at(int fd, void *buffer, size_t size, uint64_t offset)
{
    return pread(fd, buffer, size, (off_t)offset) == (ssize_t)size;
}

static const char *machine_mismatch(const elf_header *header)
{
    const elf_header *own = &__ehdr_start;
    if (header->e_ident[EI_CLASS] != own->e_ident[EI_CLASS])
        return "is a program of another word size than libvp.so (32-bit, 64-bit)";
    if (header->e_ident[EI_DATA] != own->e_ident[EI_DATA] || header->e_machine != own->e_machine)
        return "is a program for another kind of processor than libvp.so";
    return NULL;
}

/* The dynamic loader may be run as a program and has no interpreter either, but a name; a static-pie has none. */
static bool is_loader(int fd, const elf_segment *dynamic)
{
    ElfW(Dyn) entries[MANY];
    size_t size = dynamic->p_filesz < sizeof entries ? dynamic->p_filesz : sizeof entries;
    if (!read_at(fd, entries, size, dynamic->p_offset))
        return false;
    for (size_t i = 0; i < size / sizeof *entries; i++)
        if (entries[i].d_tag == DT_SONAME)
            return true;
    return false;
}

static const char *foreign_libc(int fd, const elf_segment *interpreter)
{
    char name[PATH_MAX] = "";
    size_t size = interpreter->p_filesz < sizeof name ? interpreter->p_filesz : sizeof name - 1;
    bool musl = read_at(fd, name, size, interpreter->p_offset) && strstr(name, "/ld-musl");
    return musl ? "is linked with musl, libvp.so with the GNU C library" : NULL;
}

/* `head`: the first bytes of the file, enough for the fields that say what kind of ELF it is. */
static const char *elf_obstacle(int fd, const char *head)
{
    elf_header header;
    elf_segment segments[MANY];
    memcpy(&header, head, sizeof header);
    const char *mismatch = machine_mismatch(&header);
    if (mismatch)
        return mismatch;
    size_t n = header.e_phnum < MANY ? header.e_phnum : MANY;
    if (header.e_phentsize != sizeof *segments || !read_at(fd, segments, n * sizeof *segments, header.e_phoff))
        return NULL;
    bool loader = false;
    for (size_t i = 0; i < n; i++) {
        if (segments[i].p_type == PT_INTERP)
            return foreign_libc(fd, &segments[i]);
        loader |= segments[i].p_type == PT_DYNAMIC && is_loader(fd, &segments[i]);
    }
    return loader ? NULL : "is statically linked";
}

/* ---- scripts ---- */

/* Cuts the interpreter's path out of "#! /path/to/it argument". NULL when there is none. */
static char *script_interpreter(char *line)
{
    char *path = line + 2 + strspn(line + 2, BLANKS);
    path[strcspn(path, BLANKS "\n")] = '\0';
    return *path ? path : NULL;
}

/* `head` receives the file's first bytes, and the path of its interpreter in place if it is a script. */
static const char *obstacle(int fd, char head[HEAD], char **interpreter)
{
    *interpreter = NULL;
    memset(head, 0, HEAD);
    if (pread(fd, head, HEAD - 1, 0) > 2 && memcmp(head, "#!", 2) == 0) {
        *interpreter = script_interpreter(head); /* the set-id bits of a script itself mean nothing */
        return NULL;
    }
    const char *reason = memcmp(head, ELFMAG, SELFMAG) == 0 ? elf_obstacle(fd, head) : NULL;
    return reason ? reason : identity_change(fd);
}

bool program_reachable(const char *path, char *why, size_t size)
{
    char heads[2][HEAD]; /* this file's, and that of the script whose interpreter it is: `path` points there */
    struct text text = text_in(why, size);
    for (int depth = 0; path && depth <= SCRIPTS_MAX; depth++) {
        char *interpreter;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return true;
        const char *reason = obstacle(fd, heads[depth % 2], &interpreter);
        close(fd);
        if (reason) {
            text_addf(&text, "%s%s%s%s: it cannot be shimmed", depth ? "is run by " : "", depth ? path : "",
                      depth ? ", which " : "", reason);
            return false;
        }
        path = interpreter;
    }
    return true;
}
