/*
 * lines.h: the doctor's report, line by line; and the part of it that is the system's own (linux/machine.c, ...).
 */
#ifndef VP_VPRUN_LINES_H
#define VP_VPRUN_LINES_H

#include <stdint.h>

#include "../process/memory.h"

__attribute__((format(printf, 2, 3))) void line(const char *name, const char *format, ...);
void size_line(const char *name, uint64_t bytes);

/** A size for a line; the text lives in `buffer`. */
const char *size_text(uint64_t bytes, char buffer[16]);

/* ---- of each system ---- */

void print_machine(const struct memory_limits *limits);

/** The file system of the spill directory and what it has left. */
void print_file_system(const char *directory);

#endif
