/*
 * macho.h: enough of dyld to execute an x86_64 image for macOS in a process of Linux, for tests. Both have the same
 * calling convention; what the image calls is the test's business.
 */
#ifndef VP_TESTS_MACHO_H
#define VP_TESTS_MACHO_H

struct image;

/** Finds what an imported symbol ("_read") is bound to; never NULL. */
typedef void *(*macho_resolver)(const char *symbol);

/** Loads, rebases and binds the image at `path`; runs nothing of it. Ends the test where it cannot. */
struct image *macho_load(const char *path, macho_resolver resolve);

/** The address of a symbol of the image's own ("_vp"), hidden ones too. Ends the test where there is none. */
void *macho_symbol(const struct image *image, const char *symbol);

/** Runs the image's constructors. */
void macho_construct(const struct image *image);

#endif
