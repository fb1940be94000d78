// hash: MurmurHash3 x64 128 (Austin Appleby, public domain): where a short
// name for long bytes is wanted, not where somebody may want to cheat.
#ifndef NEAP_BASE_HASH_H
#define NEAP_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t low, high;
};

// hash128 returns the hash of the bytes, the same on every machine.
struct hash128 hash128(const void *bytes, size_t len);

#endif
