/*
 * libc.c: libc.h on Darwin: the originals need no finding, and "libc" is the few dozen libraries of libSystem, whose
 * code is looked up once.
 */
#include "../libc.h"

#include <mach-o/dyld.h>
#include <mach-o/loader.h>
#include <stdint.h>
#include <string.h>

#define LIBRARIES_MAX 64

static struct {
    uintptr_t start, length;
} code[LIBRARIES_MAX];
static size_t libraries; /* constant after start-up, like `code` */

static bool is_system(const char *path)
{
    return strncmp(path, "/usr/lib/system/", 16) == 0 || strcmp(path, "/usr/lib/libSystem.B.dylib") == 0;
}

static void add_code(const struct mach_header_64 *header, intptr_t slide)
{
    const struct load_command *command = (const void *) (header + 1);
    for (uint32_t i = 0; i < header->ncmds; i++, command = (const void *) ((const char *) command + command->cmdsize)) {
        const struct segment_command_64 *segment = (const void *) command;
        if (command->cmd != LC_SEGMENT_64 || strcmp(segment->segname, "__TEXT") != 0)
            continue;
        code[libraries].start = (uintptr_t) segment->vmaddr + (uintptr_t) slide;
        code[libraries].length = segment->vmsize;
        libraries++;
        return;
    }
}

void hooks_resolve(void)
{
    for (uint32_t i = 0; libraries < LIBRARIES_MAX && i < _dyld_image_count(); i++)
        if (is_system(_dyld_get_image_name(i)))
            add_code((const struct mach_header_64 *) _dyld_get_image_header(i), _dyld_get_image_vmaddr_slide(i));
}

bool hooks_in_libc(const void *address)
{
    for (size_t i = 0; i < libraries; i++)
        if ((uintptr_t) address - code[i].start < code[i].length)
            return true;
    return false;
}
