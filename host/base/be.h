// be: big-endian numbers in memory, at any alignment.
#ifndef NEAP_BASE_BE_H
#define NEAP_BASE_BE_H

#include <stdint.h>
#include <string.h>

// be_get16 reads two bytes.
static inline uint16_t be_get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = (uint16_t)(v << 8 | v >> 8);
#endif
    return v;
}

// be_get32 reads four bytes.
static inline uint32_t be_get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

// be_get64 reads eight bytes.
static inline uint64_t be_get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

// be_put64 writes eight bytes.
static inline void be_put64(uint8_t *p, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, sizeof v);
}

#endif
