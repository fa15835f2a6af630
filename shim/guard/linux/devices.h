/*
 * devices.h: which of the program's calls let a device at its memory.
 *
 * A device reads and writes without the processor's protections: where there may be one, pages leave memory only by a
 * call that refuses what the kernel holds for it (engine.h: take_only).
 */
#ifndef VP_GUARD_LINUX_DEVICES_H
#define VP_GUARD_LINUX_DEVICES_H

/** A file is mapped: a device's registers, perhaps. errno stays. */
void devices_note_mapping(int fd);

/** Requests that hand over buffers by their addresses, with nothing to be mapped: VFIO, iommufd, video capture. */
void devices_note_request(unsigned long request);

/** The same for sockets: AF_XDP. */
void devices_note_option(int level, int name);

#endif
