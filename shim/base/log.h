/*
 * log.h: the one place where the shim speaks: whole lines to the stderr that the process was started with.
 *
 * A program may close stderr and open something of its own under the same number; nothing is written then.
 * Async-signal-safe, errno untouched, no allocation. Formats: text.h.
 */
#ifndef VP_BASE_LOG_H
#define VP_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

/** Remembers what descriptor 2 is. Before any other call. */
void log_init(bool verbose);

/** Something the user has to know. */
void log_warn(const char *format, ...);

/** Something only --verbose shows. */
void log_info(const char *format, ...);

/** A text as it is, several lines perhaps. */
void log_raw(const char *text, size_t length);

#endif
