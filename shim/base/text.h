/*
 * text.h: building short texts without stdio: usable in signal handlers, before libc is up and with no allocation.
 */
#ifndef VP_BASE_TEXT_H
#define VP_BASE_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* A bounded text under construction; what does not fit is cut. Always NUL-terminated. */
struct text {
    char *at;
    size_t size; /* of the buffer */
    size_t length;
};

/** Starts an empty text in buffer[0..size), size > 0. */
struct text text_in(char *buffer, size_t size);

void text_add(struct text *text, const char *string);
void text_add_u64(struct text *text, uint64_t value);
void text_add_hex(struct text *text, uint64_t value);

/** Adds `string` as the inside of a JSON string: quotes, backslashes and control characters escaped. */
void text_add_json(struct text *text, const char *string);

/**
 * A tiny printf: %s (const char *), %u (uint64_t), %x (uint64_t, hexadecimal), %z (uint64_t, a size for people), %%.
 * Arguments of %u, %x and %z must be cast to uint64_t.
 */
void text_addf(struct text *text, const char *format, ...);

/** The same for a list of arguments. */
void text_addv(struct text *text, const char *format, va_list arguments);

#endif
