// hash: MurmurHash3 x64 128.
#include "base/hash.h"

static const uint64_t c1 = 0x87c37b91114253d5, c2 = 0x4cf5ad432745937f;

static uint64_t rotl(uint64_t v, int by) {
    return v << by | v >> (64 - by);
}

static uint64_t little_endian(const unsigned char *p, size_t n) {
    uint64_t v = 0;
    while (n-- > 0) {
        v = v << 8 | p[n];
    }
    return v;
}

static uint64_t finish(uint64_t k) {
    k = (k ^ k >> 33) * 0xff51afd7ed558ccd;
    k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53;
    return k ^ k >> 33;
}

struct hash128 hash128(const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    uint64_t h1 = 0, h2 = 0;
    size_t left = len;
    for (; left >= 16; p += 16, left -= 16) {
        h1 ^= rotl(little_endian(p, 8) * c1, 31) * c2;
        h1 = (rotl(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= rotl(little_endian(p + 8, 8) * c2, 33) * c1;
        h2 = (rotl(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (left > 8) {
        h2 ^= rotl(little_endian(p + 8, left - 8) * c2, 33) * c1;
    }
    if (left > 0) {
        h1 ^= rotl(little_endian(p, left < 8 ? left : 8) * c1, 31) * c2;
    }
    h1 ^= len;
    h2 ^= len;
    h1 += h2;
    h2 += h1;
    h1 = finish(h1);
    h2 = finish(h2);
    h1 += h2;
    h2 += h1;
    return (struct hash128){h1, h2};
}
