/* seal.c: see seal.h. */
#include <errno.h>
#include <sodium.h>

#include "../../platform/os.h"
#include "seal.h"

struct seal {
    uint8_t key[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
};

_Static_assert(sizeof(struct seal_nonce) == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "the nonce is the struct");
_Static_assert(SEAL_TAG_SIZE == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag size");

/* Left to itself, libsodium opens /dev/urandom on some systems, under a number that the program counts on. */
static const char *random_name(void) { return "os"; }

static void random_bytes(void *out, size_t size)
{
    if (os_random(out, size) != 0)
        sodium_memzero(out, size); /* of libsodium only canaries come from here */
}

static uint32_t random_number(void)
{
    uint32_t number;
    random_bytes(&number, sizeof(number));
    return number;
}

static struct randombytes_implementation randomness = {
    .implementation_name = random_name, .random = random_number, .buf = random_bytes};

int seal_new(struct seal **out)
{
    randombytes_set_implementation(&randomness);
    if (sodium_init() < 0) /* chooses the implementations for this processor */
        return -ENOSYS;
    struct seal *seal = os_map(sizeof(*seal));
    if (!seal)
        return -ENOMEM;
    (void)sodium_mlock(seal, sizeof(*seal)); /* MADV_DONTDUMP comes first, and without a limit */
    int error = os_random(seal->key, sizeof(seal->key));
    if (error) {
        seal_free(seal);
        return error;
    }
    *out = seal;
    return 0;
}

void seal_free(struct seal *seal)
{
    if (!seal)
        return;
    (void)sodium_munlock(seal, sizeof(*seal));
    sodium_memzero(seal, sizeof(*seal)); /* munlock does not wipe what was never locked */
    os_unmap(seal, sizeof(*seal));
}

void seal_close(const struct seal *seal, const struct seal_nonce *nonce, void *bytes, size_t size, void *tag)
{
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(bytes, tag, NULL, bytes, size, NULL, 0, NULL,
                                                        (const uint8_t *)nonce, seal->key);
}

int seal_open(const struct seal *seal, const struct seal_nonce *nonce, void *bytes, size_t size, const void *tag)
{
    int error = crypto_aead_xchacha20poly1305_ietf_decrypt_detached(bytes, NULL, bytes, size, tag, NULL, 0,
                                                                    (const uint8_t *)nonce, seal->key);
    return error ? -EBADMSG : 0;
}
