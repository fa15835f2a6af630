/*
 * streams.c: strings that libc writes straight from where they are, and buffers that the program gives to a stream;
 * fread() and fwrite() are io.c's.
 *
 * Nothing is needed for what libc copies between its own buffer and the program's memory: fgets, getline, ungetc, scanf.
 * Nothing can be done here for printf() and its relatives: a %s longer than the stream's buffer is written from the
 * program's memory, and which arguments are strings only libc's own parser knows. That is the net's.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "../guard/resident.h"
#include "hooks.h"
#include "parts.h"
#include "stream.h"

/* ---- strings: fwrite() does large ones ---- */

VP_EXPORT int fputs(const char *text, FILE *stream)
{
    size_t size;
    if (!unguarded(text) || (size = strlen(text)) == 0)
        return originals()->fputs(text, stream);
    return fwrite(text, 1, size, stream) == size ? 1 : EOF;
}

VP_EXPORT int fputs_unlocked(const char *text, FILE *stream)
{
    size_t size;
    if (!unguarded(text) || (size = strlen(text)) == 0)
        return originals()->fputs_unlocked(text, stream);
    return fwrite_unlocked(text, 1, size, stream) == size ? 1 : EOF;
}

static int put_line(const char *text, size_t size)
{
    if (fputs_unlocked(text, stdout) == EOF || putc_unlocked('\n', stdout) == EOF)
        return EOF;
    return size < INT_MAX ? (int) size + 1 : INT_MAX;
}

VP_EXPORT int puts(const char *text)
{
    if (!unguarded(text))
        return originals()->puts(text);
    int result;
    LOCKED(result, stdout, put_line(text, strlen(text)));
    return result;
}

/* ---- a stream's buffer: the kernel's to read and write until the stream ends or gets another ---- */

VP_EXPORT int setvbuf(FILE *stream, char *buffer, int mode, size_t size)
{
    bool replaces = buffer || mode == _IONBF;
    bool keeps = mode != _IONBF && ours(buffer);
    int failed = ALWAYS_HELD(__extension__({
                                 int error = originals()->setvbuf(stream, buffer, mode, size);
                                 if (!error && keeps)
                                     resident_add(stream, buffer, size);
                                 error;
                             }),
                             OUT(buffer, size));
    if (!failed && replaces && !keeps)
        resident_drop(stream);
    return failed;
}

/* What they are, but for the answer. */
VP_EXPORT void setbuffer(FILE *stream, char *buffer, size_t size)
{
    if (ours(buffer) || resident_any())
        setvbuf(stream, buffer, buffer && size ? _IOFBF : _IONBF, size);
    else
        originals()->setbuffer(stream, buffer, size);
}

VP_EXPORT void setbuf(FILE *stream, char *buffer) { setbuffer(stream, buffer, BUFSIZ); }

/* Taken from the stream first, let go of last: as soon as it is closed another stream may be in its place. */
#define LAST_USE(stream, call)                                      \
    __extension__({                                                 \
        struct held buffer_ = {NULL, 0};                            \
        __typeof__(call) last_;                                     \
        resident_take(stream, &buffer_.buffer, &buffer_.size);      \
        CLEANUP_PUSH(let_go, &buffer_);                     \
        last_ = call;                                               \
        CLEANUP_POP;                                     \
        last_;                                                    \
    })

VP_EXPORT int fclose(FILE *stream)
{
    return resident_any() ? LAST_USE(stream, originals()->fclose(stream)) : originals()->fclose(stream);
}

VP_EXPORT int pclose(FILE *stream)
{
    return resident_any() ? LAST_USE(stream, originals()->pclose(stream)) : originals()->pclose(stream);
}

VP_EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
    return LAST_USE(stream, GUARDED(originals()->freopen(path, mode, stream), TEXT(path)));
}

VP_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
    return LAST_USE(stream, GUARDED(originals()->freopen64(path, mode, stream), TEXT(path)));
}
