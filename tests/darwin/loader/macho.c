/* macho.c: see macho.h. Numbers and layouts: <mach-o/loader.h>, <mach-o/nlist.h>, which Linux does not have. */
#include "macho.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC_64      0xfeedfacfu
#define CPU_X86_64    0x01000007u
#define CMD_SEGMENT   0x19u
#define CMD_SYMTAB    0x2u
#define CMD_DYLD_INFO 0x80000022u
#define CONSTRUCTORS  0x9u /* S_MOD_INIT_FUNC_POINTERS */
#define SEGMENTS_MAX  16
#define PAGE          0x4000u

struct header {
    uint32_t magic, cpu, subtype, type, commands, size, flags, reserved;
};

struct command {
    uint32_t kind, size;
};

struct segment {
    struct command head;
    char name[16];
    uint64_t address, length, offset, file_length;
    uint32_t most, initial, sections, flags;
};

struct section {
    char name[16], segment[16];
    uint64_t address, length;
    uint32_t offset, alignment, relocations, relocation_count, flags, reserved[3];
};

struct symtab {
    struct command head;
    uint32_t symbols, count, strings, strings_size;
};

struct symbol {
    uint32_t name;
    uint8_t type, section;
    uint16_t description;
    uint64_t value;
};

struct dyld_info {
    struct command head;
    uint32_t rebase, rebase_size, bind, bind_size, weak, weak_size, lazy, lazy_size, exports, exports_size;
};

struct image {
    const char *file;
    char *base; /* where the image's address 0 is */
    const struct segment *segments[SEGMENTS_MAX];
    size_t segment_count;
    const struct symtab *symtab;
    const struct dyld_info *info;
};

__attribute__((noreturn)) static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "macho: %s: %s\n", what, detail);
    exit(1);
}

static const char *read_whole(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0)
        fail("cannot be opened", path);
    void *bytes = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        fail("cannot be read", path);
    return bytes;
}

static void read_commands(struct image *image)
{
    const struct header *header = (const void *) image->file;
    if (header->magic != MAGIC_64 || header->cpu != CPU_X86_64)
        fail("not for x86_64", "header");
    const struct command *command = (const void *) (header + 1);
    for (uint32_t i = 0; i < header->commands; i++, command = (const void *) ((const char *) command + command->size)) {
        if (command->kind == CMD_SEGMENT && image->segment_count < SEGMENTS_MAX)
            image->segments[image->segment_count++] = (const void *) command;
        if (command->kind == CMD_SYMTAB)
            image->symtab = (const void *) command;
        if (command->kind == CMD_DYLD_INFO)
            image->info = (const void *) command;
    }
    if (!image->symtab || !image->info)
        fail("no symbols or no dyld info", "commands");
}

static void map_segments(struct image *image)
{
    const struct segment *last = image->segments[image->segment_count - 1];
    size_t size = (last->address + last->length + PAGE - 1) & ~(size_t) (PAGE - 1);
    image->base = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (image->base == MAP_FAILED)
        fail("no memory", "image");
    for (size_t i = 0; i < image->segment_count; i++)
        memcpy(image->base + image->segments[i]->address, image->file + image->segments[i]->offset,
               image->segments[i]->file_length);
}

/* ---- dyld's little programs ---- */

struct stream {
    const uint8_t *at, *end;
};

static uint64_t uleb(struct stream *stream)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t byte = *stream->at++;
        value |= (uint64_t) (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
}

static int64_t sleb(struct stream *stream)
{
    int64_t value = 0;
    int shift = 0;
    uint8_t byte;
    do {
        byte = *stream->at++;
        value |= (int64_t) (byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    return byte & 0x40 && shift < 64 ? value | -(INT64_C(1) << shift) : value;
}

static char *segment_at(const struct image *image, unsigned segment, uint64_t offset)
{
    return image->base + image->segments[segment]->address + offset;
}

static char *rebase_run(const struct image *image, char *at, uint64_t count, uint64_t skip)
{
    for (uint64_t i = 0; i < count; i++, at += 8 + skip)
        *(uint64_t *) at += (uint64_t) image->base;
    return at;
}

static void rebase(const struct image *image)
{
    const uint8_t *start = (const uint8_t *) image->file + image->info->rebase;
    struct stream in = {start, start + image->info->rebase_size};
    char *at = NULL;
    while (in.at < in.end) {
        uint8_t byte = *in.at++, low = byte & 0x0f;
        uint64_t count;
        switch (byte & 0xf0) {
        case 0x00: return;
        case 0x10: break; /* the kind: a pointer */
        case 0x20: at = segment_at(image, low, uleb(&in)); break;
        case 0x30: at += uleb(&in); break;
        case 0x40: at += 8 * (uint64_t) low; break;
        case 0x50: at = rebase_run(image, at, low, 0); break;
        case 0x60: at = rebase_run(image, at, uleb(&in), 0); break;
        case 0x70: at = rebase_run(image, at, 1, uleb(&in)); break;
        case 0x80:
            count = uleb(&in);
            at = rebase_run(image, at, count, uleb(&in));
            break;
        default: fail("unknown opcode", "rebase");
        }
    }
}

static void bind(const struct image *image, uint32_t offset, uint32_t size, macho_resolver resolve)
{
    const uint8_t *start = (const uint8_t *) image->file + offset;
    struct stream in = {start, start + size};
    const char *symbol = "";
    char *at = NULL;
    int64_t addend = 0;
#define PUT(skip) (*(uint64_t *) at = (uint64_t) resolve(symbol) + (uint64_t) addend, at += 8 + (skip))
    while (in.at < in.end) {
        uint8_t byte = *in.at++, low = byte & 0x0f;
        uint64_t count, skip;
        switch (byte & 0xf0) {
        case 0x00: break; /* the end of one lazy symbol, or of all */
        case 0x10: case 0x30: case 0x50: break; /* which library; the kind: a pointer */
        case 0x20: uleb(&in); break;
        case 0x40:
            symbol = (const char *) in.at;
            in.at += strlen(symbol) + 1;
            break;
        case 0x60: addend = sleb(&in); break;
        case 0x70: at = segment_at(image, low, uleb(&in)); break;
        case 0x80: at += uleb(&in); break;
        case 0x90: PUT(0); break;
        case 0xa0: PUT(uleb(&in)); break;
        case 0xb0: PUT(8 * (uint64_t) low); break;
        case 0xc0:
            count = uleb(&in);
            skip = uleb(&in);
            while (count-- > 0)
                PUT(skip);
            break;
        default: fail("unknown opcode", "bind");
        }
    }
#undef PUT
}

/* ---- the interface ---- */

struct image *macho_load(const char *path, macho_resolver resolve)
{
    static struct image image;
    image.file = read_whole(path);
    read_commands(&image);
    map_segments(&image);
    rebase(&image);
    bind(&image, image.info->bind, image.info->bind_size, resolve);
    bind(&image, image.info->lazy, image.info->lazy_size, resolve);
    return &image;
}

void *macho_symbol(const struct image *image, const char *name)
{
    const struct symbol *symbols = (const void *) (image->file + image->symtab->symbols);
    const char *strings = image->file + image->symtab->strings;
    for (uint32_t i = 0; i < image->symtab->count; i++)
        if ((symbols[i].type & 0xee) == 0x0e && strcmp(strings + symbols[i].name, name) == 0) /* in a section, no debugging */
            return image->base + symbols[i].value;
    fail("no such symbol", name);
}

void macho_construct(const struct image *image)
{
    for (size_t i = 0; i < image->segment_count; i++) {
        const struct section *sections = (const void *) (image->segments[i] + 1);
        for (uint32_t j = 0; j < image->segments[i]->sections; j++)
            if ((sections[j].flags & 0xff) == CONSTRUCTORS)
                for (uint64_t at = 0; at < sections[j].length; at += 8)
                    (*(void (**)(void)) (image->base + sections[j].address + at))();
    }
}
