#include "text.h"

#include <stdarg.h>
#include <stdbool.h>

#define UNITS 5

struct text text_in(char *buffer, size_t size)
{
    buffer[0] = '\0';
    return (struct text){buffer, size, 0};
}

static void add_bytes(struct text *text, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && text->length + 1 < text->size; i++)
        text->at[text->length++] = bytes[i];
    text->at[text->length] = '\0';
}

void text_add(struct text *text, const char *string)
{
    size_t n = 0;
    while (string[n])
        n++;
    add_bytes(text, string, n);
}

static void add_number(struct text *text, uint64_t value, unsigned base)
{
    char digits[20]; /* of UINT64_MAX in decimal */
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    add_bytes(text, digits + at, sizeof digits - at);
}

void text_add_u64(struct text *text, uint64_t value)
{
    add_number(text, value, 10);
}

void text_add_hex(struct text *text, uint64_t value)
{
    add_number(text, value, 16);
}

/* One decimal where it is not zero: "512M", "1.5G". */
static void add_size(struct text *text, uint64_t bytes)
{
    static const char *const suffix[UNITS] = {"", "K", "M", "G", "T"};
    unsigned unit = 0;
    while (unit + 1 < UNITS && bytes >> (10 * (unit + 1)))
        unit++;
    uint64_t one = 1ull << (10 * unit);
    uint64_t whole = bytes / one;
    uint64_t tenths = (bytes % one * 10 + one / 2) / one;
    if (tenths == 10) { /* rounded up to a whole one: 1023.99M is 1G */
        tenths = 0;
        whole++;
        if (whole == 1024 && unit + 1 < UNITS) {
            whole = 1;
            unit++;
        }
    }
    text_add_u64(text, whole);
    if (tenths) {
        text_add(text, ".");
        text_add_u64(text, tenths);
    }
    text_add(text, suffix[unit]);
}

/* Bytes of the well-formed UTF-8 sequence at `s` (RFC 3629, table 3-7 of the Unicode standard), or 0. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f;
    bool too_large = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : n;
}

static void add_control(struct text *text, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    text_add(text, "\\u00");
    add_bytes(text, (const char[]){digits[c >> 4], digits[c & 15]}, 2);
}

/* Names of files and programs are bytes, JSON is Unicode: what is not UTF-8 becomes the replacement character. */
void text_add_json(struct text *text, const char *string)
{
    const unsigned char *s = (const unsigned char *)string;
    while (*s) {
        size_t n = utf8_length(s);
        if (n == 0) {
            text_add(text, "\\ufffd");
            n = 1;
        } else if (*s < 0x20 || *s == 0x7f) {
            add_control(text, *s);
        } else {
            if (*s == '"' || *s == '\\')
                text_add(text, "\\");
            add_bytes(text, (const char *)s, n);
        }
        s += n;
    }
}

/* One conversion; an unknown one is copied as it stands. */
static void add_conversion(struct text *text, char conversion, va_list *arguments)
{
    switch (conversion) {
    case 's':
        text_add(text, va_arg(*arguments, const char *));
        break;
    case 'u':
        text_add_u64(text, va_arg(*arguments, uint64_t));
        break;
    case 'x':
        text_add_hex(text, va_arg(*arguments, uint64_t));
        break;
    case 'z':
        add_size(text, va_arg(*arguments, uint64_t));
        break;
    case '%':
        text_add(text, "%");
        break;
    default:
        add_bytes(text, (const char[]){'%', conversion}, 2);
    }
}

void text_addv(struct text *text, const char *format, va_list arguments)
{
    va_list rest;
    va_copy(rest, arguments);
    for (const char *p = format; *p; p++)
        if (*p == '%' && p[1])
            add_conversion(text, *++p, &rest);
        else
            add_bytes(text, p, 1);
    va_end(rest);
}

void text_addf(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_addv(text, format, arguments);
    va_end(arguments);
}
