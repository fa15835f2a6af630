/*
 * target.c: see target.h. Layouts: <mach-o/fat.h>, <mach-o/loader.h>; of signatures, whose header is not public, those
 * of XNU's cs_blobs.h. All numbers of fat headers and signatures are big-endian.
 */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mach-o/fat.h>
#include <mach-o/loader.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLANKS       " \t"
#define HEAD         512 /* where a script must name its interpreter */
#define SLICES_MAX   16
#define COMMANDS_MAX 4096
#define BLOBS_MAX    32

#if defined(__x86_64__)
#define OUR_CPU CPU_TYPE_X86_64
#else
#define OUR_CPU CPU_TYPE_ARM64
#endif

#define SUBTYPE_MASK   0x00ffffffu
#define SUBTYPE_ARM64E 2u

enum { BLOB_DIRECTORY = 0, BLOB_ENTITLEMENTS = 5 };
enum { SIGNED_RESTRICT = 0x800, SIGNED_LIBRARY_VALIDATION = 0x2000, SIGNED_RUNTIME = 0x10000 };

#define LETS_VARIABLES "com.apple.security.cs.allow-dyld-environment-variables"
#define LETS_LIBRARIES "com.apple.security.cs.disable-library-validation"
#define ENTITLEMENTS   (16 << 10)

static bool read_at(int fd, void *out, size_t size, uint64_t offset)
{
    return pread(fd, out, size, (off_t) offset) == (ssize_t) size;
}

static uint32_t big(uint32_t value) { return __builtin_bswap32(value); }

/* ---- the signature ---- */

/* What a key of the entitlements says; they are XML, with "<true/>" behind the key. */
static bool entitled(const char *entitlements, const char *key)
{
    const char *at = strstr(entitlements, key);
    const char *yes = at ? strstr(at, "<true/>") : NULL, *next = at ? strstr(at, "<key>") : NULL;
    return yes && (!next || yes < next);
}

struct signature {
    uint32_t flags;
    bool lets_variables, lets_libraries;
};

static void read_entitlements(int fd, uint64_t at, struct signature *out)
{
    char text[ENTITLEMENTS];
    uint32_t head[2];
    if (!read_at(fd, head, sizeof head, at) || big(head[1]) < sizeof head)
        return;
    size_t size = big(head[1]) - sizeof head;
    size = size < sizeof text ? size : sizeof text - 1;
    if (!read_at(fd, text, size, at + sizeof head))
        return;
    text[size] = 0;
    out->lets_variables = entitled(text, LETS_VARIABLES);
    out->lets_libraries = entitled(text, LETS_LIBRARIES);
}

static void read_blob(int fd, uint32_t type, uint64_t at, struct signature *out)
{
    uint32_t directory[4]; /* magic, length, version, flags */
    if (type == BLOB_DIRECTORY && read_at(fd, directory, sizeof directory, at))
        out->flags = big(directory[3]);
    if (type == BLOB_ENTITLEMENTS)
        read_entitlements(fd, at, out);
}

static struct signature read_signature(int fd, uint64_t at)
{
    struct signature signature = {0};
    uint32_t head[3], entry[2]; /* magic, length, count; type, offset */
    if (!read_at(fd, head, sizeof head, at))
        return signature;
    for (uint32_t i = 0; i < big(head[2]) && i < BLOBS_MAX; i++)
        if (read_at(fd, entry, sizeof entry, at + sizeof head + i * sizeof entry))
            read_blob(fd, big(entry[0]), at + big(entry[1]), &signature);
    return signature;
}

static const char *signature_obstacle(struct signature signature)
{
    if (signature.flags & (SIGNED_RUNTIME | SIGNED_RESTRICT) && !signature.lets_variables)
        return "is hardened: its signature has DYLD_INSERT_LIBRARIES ignored";
    if (signature.flags & (SIGNED_RUNTIME | SIGNED_LIBRARY_VALIDATION) && !signature.lets_libraries)
        return "is hardened: its signature admits no library but its maker's and Apple's";
    return NULL;
}

/* ---- the program ---- */

static const char *image_obstacle(int fd, uint64_t start)
{
    struct mach_header_64 header;
    struct load_command command;
    struct segment_command_64 segment;
    struct linkedit_data_command data;
    struct signature signature = {0};
    bool loader = false, restricted = false;
    if (!read_at(fd, &header, sizeof header, start))
        return NULL;
    uint64_t at = start + sizeof header;
    for (uint32_t i = 0; i < header.ncmds && i < COMMANDS_MAX && read_at(fd, &command, sizeof command, at); i++) {
        loader |= command.cmd == LC_LOAD_DYLINKER;
        if (command.cmd == LC_SEGMENT_64 && read_at(fd, &segment, sizeof segment, at))
            restricted |= strncmp(segment.segname, "__RESTRICT", sizeof segment.segname) == 0;
        if (command.cmd == LC_CODE_SIGNATURE && read_at(fd, &data, sizeof data, at))
            signature = read_signature(fd, start + data.dataoff);
        at += command.cmdsize;
    }
    return !loader      ? "is statically linked"
           : restricted ? "has a __RESTRICT segment: DYLD_INSERT_LIBRARIES is ignored for it"
                        : signature_obstacle(signature);
}

/* What the kernel would run of several: that for this processor, without arm64e's pointer signatures if there is one. */
static const char *cpu_obstacle(uint32_t type, uint32_t subtype)
{
    if (type != (uint32_t) OUR_CPU)
        return "has no code for this processor";
    if (OUR_CPU == CPU_TYPE_ARM64 && (subtype & SUBTYPE_MASK) == SUBTYPE_ARM64E)
        return "is built for arm64e, for which there is no shim";
    return NULL;
}

static const char *fat_obstacle(int fd, uint32_t slices)
{
    const char *why = "has no code for this processor";
    struct fat_arch slice;
    for (uint32_t i = 0; i < slices && i < SLICES_MAX; i++) {
        if (!read_at(fd, &slice, sizeof slice, sizeof(struct fat_header) + i * sizeof slice))
            return NULL;
        if (big((uint32_t) slice.cputype) != (uint32_t) OUR_CPU)
            continue;
        why = cpu_obstacle(big((uint32_t) slice.cputype), big((uint32_t) slice.cpusubtype));
        if (!why)
            return image_obstacle(fd, big(slice.offset));
    }
    return why;
}

static const char *file_obstacle(int fd, const char *head)
{
    struct stat status;
    struct mach_header_64 image;
    struct fat_header fat;
    memcpy(&image, head, sizeof image);
    memcpy(&fat, head, sizeof fat);
    if (fstat(fd, &status) == 0 && status.st_mode & (S_ISUID | S_ISGID))
        return "is setuid or setgid";
    if (fat.magic == FAT_CIGAM)
        return fat_obstacle(fd, big(fat.nfat_arch));
    if (image.magic != MH_MAGIC_64)
        return NULL;
    const char *why = cpu_obstacle((uint32_t) image.cputype, (uint32_t) image.cpusubtype);
    return why ? why : image_obstacle(fd, 0);
}

/* System Integrity Protection marks files, most below /System, /bin, /sbin and /usr. */
static bool is_protected(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_flags & SF_RESTRICTED;
}

/* ---- scripts ---- */

static void interpreter_of(const char *head, char *out, size_t size)
{
    const char *path = head + 2 + strspn(head + 2, BLANKS);
    size_t length = strcspn(path, BLANKS "\n");
    if (length >= size)
        length = 0;
    memcpy(out, path, length);
    out[length] = 0;
}

const char *target_obstacle(const char *path, char *interpreter, size_t size)
{
    char head[HEAD] = "";
    const char *why = NULL;
    int saved = errno, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    interpreter[0] = 0;
    if (fd >= 0 && pread(fd, head, sizeof head - 1, 0) > 2 && memcmp(head, "#!", 2) == 0)
        interpreter_of(head, interpreter, size);
    else if (fd >= 0 && is_protected(fd))
        why = "is protected by the system (SIP): copy it elsewhere, or name another";
    else if (fd >= 0)
        why = file_obstacle(fd, head);
    if (fd >= 0)
        close(fd);
    errno = saved;
    return why;
}

bool target_reachable(const char *path)
{
    char names[2][PATH_MAX];
    for (int depth = 0; depth <= TARGET_SCRIPTS && *path; depth++) {
        if (target_obstacle(path, names[depth % 2], sizeof names[0]))
            return false;
        path = names[depth % 2];
    }
    return true;
}
