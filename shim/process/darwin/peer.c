/*
 * peer.c: peer.h on Darwin: without a segment (segment.c) there are no others to look at.
 */
#include "../peer.h"

uint64_t peer_namespace(void) { return 0; }

bool peer_look(uint32_t pid, struct peer *out)
{
    (void) pid;
    *out = (struct peer){0};
    return false;
}

bool peer_self(uint64_t *resident, uint64_t *proportional)
{
    (void) resident, (void) proportional;
    return false;
}
