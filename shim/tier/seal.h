/*
 * seal.h: encryption and authentication of what leaves the machine's memory.
 *
 * XChaCha20-Poly1305 (Bernstein's ChaCha20 and Poly1305 as in RFC 8439, with the 24-byte nonce of
 * draft-irtf-cfrg-xchacha-03), by libsodium. The key is random, one a spill, and lives in memory only.
 * The nonce says who wrote what where; it is not stored but made again from the RAM tables by whoever reads. So a block
 * that was changed, moved to another place or replaced by its own former content does not open.
 */
#ifndef VP_TIER_SEAL_H
#define VP_TIER_SEAL_H

#include <stddef.h>
#include <stdint.h>

#define SEAL_TAG_SIZE 16

/* Never the same twice under one key: `writer` tells processes apart, `sequence` the segments that one of them wrote.
 */
struct seal_nonce {
    uint64_t writer;
    uint64_t sequence;
    uint32_t offset; /* bytes from the segment's start */
    uint32_t zero;
};

struct seal;

/**
 * Makes a fresh key, kept out of core dumps and, where RLIMIT_MEMLOCK allows, out of swap. A forked child shares the
 * key's content (its copy may be swapped). Returns 0 or a negative errno. Not for the fault path.
 */
int seal_new(struct seal **out);

/** Wipes the key. NULL is allowed. */
void seal_free(struct seal *seal);

/** Encrypts bytes[0..size) in place and writes SEAL_TAG_SIZE bytes to `tag`. Thread-safe, no allocation, no errno. */
void seal_close(const struct seal *seal, const struct seal_nonce *nonce, void *bytes, size_t size, void *tag);

/**
 * Checks and decrypts bytes[0..size) in place. Returns 0, or -EBADMSG when it is not what seal_close() made under this
 * nonce; nothing of it is decrypted then. Async-signal-safe; about 2 KiB of stack, which is libsodium's.
 */
int seal_open(const struct seal *seal, const struct seal_nonce *nonce, void *bytes, size_t size, const void *tag);

#endif
