#include "hooks.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

#include "libc_heap.h"

struct hooks next;

struct text {
    uintptr_t start, end;
};

static struct text libc_text, loader_text;

struct wanted_text {
    uintptr_t inside;
    struct text *out;
};

static int find_text(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct wanted_text *wanted = context;
    (void) size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) || wanted->inside - start >= header->p_memsz)
            continue;
        *wanted->out = (struct text){start, start + header->p_memsz};
        return 1;
    }
    return 0;
}

static void note_text(const void *inside, struct text *out)
{
    struct wanted_text wanted = {(uintptr_t) inside, out};
    if (inside)
        dl_iterate_phdr(find_text, &wanted);
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
    note_text(dlsym(RTLD_NEXT, "gnu_get_libc_version"), &libc_text);
    note_text(dlsym(RTLD_NEXT, "__tls_get_addr"), &loader_text);
    next = found;
    libc_heap_init();
    resolving = false;
}

bool hooks_in_libc(const void *address)
{
    return (uintptr_t) address - libc_text.start < libc_text.end - libc_text.start ||
           (uintptr_t) address - loader_text.start < loader_text.end - loader_text.start;
}
