/*
 * libsystem.h: what the image's imports are bound to: the made-up kernel's calls (xnu.h), libSystem's functions in
 * terms of Linux's, and those of the C library that are the same here. A call of anything else ends the test with its
 * name.
 */
#ifndef VP_TESTS_LIBSYSTEM_H
#define VP_TESTS_LIBSYSTEM_H

void *libsystem_resolve(const char *symbol);

/** The value of a variable in the environment of the last program that was "executed"; all executing fails here. */
const char *libsystem_executed_with(const char *variable);

#endif
