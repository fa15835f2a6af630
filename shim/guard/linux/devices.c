/* devices.c: see devices.h, and guard.h: guard_finds_devices(). */
#include "devices.h"

#include <linux/if_xdp.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../../../platform/linux/syscall.h"
#include "../../base/log.h"
#include "../../lifecycle.h"
#include "../guard.h"
#include "proc.h"

#define ZERO_DEVICE makedev(1, 5) /* /dev/zero */

#define IOMMUFD_MAP _IO(VFIO_TYPE, 0x85) /* IOMMU_IOAS_MAP, younger than many a header */

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

static bool known; /* any thread, atomically */

static bool is_known(void) { return __atomic_load_n(&known, __ATOMIC_SEQ_CST); }

/* Arming reads it after it has cleared the other: whoever comes second sees the first. */
static void note(void)
{
    if (__atomic_exchange_n(&known, true, __ATOMIC_SEQ_CST))
        return;
    __atomic_store_n(&vp.engine.take_only, true, __ATOMIC_SEQ_CST);
    log_info("a device may reach into the program's memory: pages leave one step at a time");
}

void devices_note_mapping(int fd)
{
    struct stat status;
    if (!is_known() && SYS2(SYS_fstat, fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev != ZERO_DEVICE)
        note();
}

void devices_note_request(unsigned long request)
{
    if (__builtin_expect(request == VFIO_IOMMU_MAP_DMA || request == IOMMUFD_MAP || request == VIDIOC_QBUF, 0))
        note();
}

void devices_note_option(int level, int name)
{
    if (__builtin_expect(level == SOL_XDP && name == XDP_UMEM_REG, 0))
        note();
}

/* Where such devices show that were there before us: their programs map most of them to talk to them. */
bool guard_finds_devices(void)
{
    static const char maps[] = "/proc/thread-self/maps";
    return is_known() || proc_count(maps, " /dev/") > proc_count(maps, " /dev/zero") + proc_count(maps, " /dev/shm/");
}
