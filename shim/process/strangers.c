#include "strangers.h"

#include "../../platform/os.h"
#include "../../platform/vm.h"
#include "../lifecycle.h"

static bool *mark; /* NULL until paging arms; the page it is in reads as zero in a child */

void strangers_exclude(void)
{
    bool *page = mark ? NULL : os_map(os_page_size());
    if (!page)
        return;
    *page = true;
    if (vm_inherit((uintptr_t) page, os_page_size(), VM_ZEROED) < 0)
        return; /* an old kernel, or Darwin: children that touch no absent page are well, the others die of it */
    mark = page;
    __atomic_store_n(&vp.arena.here, mark, __ATOMIC_RELEASE);
}

void strangers_admit(void)
{
    if (mark)
        *mark = true;
}
