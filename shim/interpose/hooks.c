#include "hooks.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

struct hooks next;

static struct {
    uintptr_t start, end;
} libc_text;

static int find_libc(struct dl_phdr_info *info, size_t size, void *inside)
{
    (void) size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) || (uintptr_t) inside - start >= header->p_memsz)
            continue;
        libc_text.start = start;
        libc_text.end = start + header->p_memsz;
        return 1;
    }
    return 0;
}

void hooks_resolve(void)
{
    static bool resolving; /* dlsym() itself may allocate; the bootstrap heap serves that */
    if (resolving || hooks_ready())
        return;
    resolving = true;
    struct hooks found;
    memset(&found, 0, sizeof found);
#define HOOK(result, name, parameters) *(void **) &found.name = dlsym(RTLD_NEXT, #name);
#include "hooks.def"
#undef HOOK
    dl_iterate_phdr(find_libc, dlsym(RTLD_NEXT, "gnu_get_libc_version"));
    next = found;
    resolving = false;
}

bool hooks_in_libc(const void *address)
{
    return (uintptr_t) address - libc_text.start < libc_text.end - libc_text.start;
}
