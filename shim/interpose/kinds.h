/*
 * kinds.h: what a descriptor's reads and writes mean. All keep errno.
 */
#ifndef VP_INTERPOSE_KINDS_H
#define VP_INTERPOSE_KINDS_H

#include <stdbool.h>

/** A file on a disk: it fills a request completely; anything else may answer with less. */
bool kind_is_file(int fd);

/** Bytes are all that counts, not how many came in one call. Devices are none: who knows. */
bool kind_is_stream(int fd);

/** A socket where one call is one message. */
bool kind_is_message(int fd);

#endif
