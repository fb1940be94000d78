// bits: set algebra over one segment of rows.
#include "model/bits.h"

#include <string.h>

#include "base/be.h"

// Returns the word a bitmap ends with: n bytes, fewer than 8, then zeros.
static uint64_t load_tail(const uint8_t *p, size_t n) {
    uint8_t last[8] = {0};
    memcpy(last, p, n);
    return be_get64(last);
}

static size_t clip(size_t n, size_t max) {
    return n < max ? n : max;
}

void bits_zero(struct bits *b) {
    memset(b, 0, sizeof *b);
}

void bits_load(struct bits *b, const void *bitmap, size_t len) {
    bits_zero(b);
    bits_or_bytes(b, bitmap, len);
}

void bits_store(const struct bits *b, void *bitmap) {
    uint8_t *p = bitmap;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        be_put64(p + 8 * w, b->word[w]);
    }
}

void bits_and(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] &= src->word[w];
    }
}

void bits_or(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] |= src->word[w];
    }
}

void bits_andnot(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] &= ~src->word[w];
    }
}

void bits_and_bytes(struct bits *restrict dst, const void *restrict bitmap,
                    size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] &= be_get64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] &= load_tail(p + 8 * w, len % 8);
        w++;
    }
    for (; w < BITS_WORDS; w++) {
        dst->word[w] = 0;
    }
}

void bits_or_bytes(struct bits *restrict dst, const void *restrict bitmap,
                   size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] |= be_get64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] |= load_tail(p + 8 * w, len % 8);
    }
}

void bits_andnot_bytes(struct bits *restrict dst, const void *restrict bitmap,
                       size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] &= ~be_get64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] &= ~load_tail(p + 8 * w, len % 8);
    }
}

void bits_set_list(struct bits *restrict b, const uint16_t *restrict offsets,
                   size_t n) {
    for (size_t i = 0; i < n; i++) {
        bits_set(b, offsets[i]);
    }
}

// Counts in lanes rather than with a popcount a word, because the baseline
// x86-64 has no such instruction and this vectorises everywhere.
uint32_t bits_count(const struct bits *b) {
    const uint64_t m1 = UINT64_C(0x5555555555555555);
    const uint64_t m2 = UINT64_C(0x3333333333333333);
    const uint64_t m4 = UINT64_C(0x0f0f0f0f0f0f0f0f);
    const uint64_t m8 = UINT64_C(0x00ff00ff00ff00ff);
    uint64_t lanes16 = 0; // a lane counts a quarter of the rows: 16384 at most
    for (size_t w = 0; w < BITS_WORDS; w += 16) {
        uint64_t lanes8 = 0; // at most 16 * 8
        for (size_t i = 0; i < 16; i++) {
            uint64_t x = b->word[w + i];
            x -= x >> 1 & m1;
            x = (x & m2) + (x >> 2 & m2);
            lanes8 += (x + (x >> 4)) & m4;
        }
        lanes16 += (lanes8 & m8) + (lanes8 >> 8 & m8);
    }
    return (uint32_t)((lanes16 & 0xffff) + (lanes16 >> 16 & 0xffff) +
                      (lanes16 >> 32 & 0xffff) + (lanes16 >> 48));
}

uint32_t bits_and_count(const struct bits *b, const void *bitmap, size_t len) {
    struct bits both = *b;
    bits_and_bytes(&both, bitmap, len);
    return bits_count(&both);
}

bool bits_any(const struct bits *b) {
    uint64_t any = 0;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        any |= b->word[w];
    }
    return any;
}

uint32_t bits_next(const struct bits *b, uint32_t from) {
    if (from >= BITS_ROWS) {
        return BITS_ROWS;
    }
    uint32_t w = from / 64;
    uint64_t x = b->word[w] & UINT64_MAX >> from % 64;
    while (!x) {
        if (++w == BITS_WORDS) {
            return BITS_ROWS;
        }
        x = b->word[w];
    }
    return w * 64 + (uint32_t)__builtin_clzll(x);
}

int32_t bits_prev(const struct bits *b, int32_t from) {
    if (from < 0) {
        return -1;
    }
    uint32_t o = (uint32_t)clip((size_t)from, BITS_ROWS - 1);
    uint32_t w = o / 64;
    uint64_t x = b->word[w] & UINT64_MAX << (63 - o % 64);
    while (!x) {
        if (w-- == 0) {
            return -1;
        }
        x = b->word[w];
    }
    return (int32_t)(w * 64 + 63) - __builtin_ctzll(x);
}

int32_t bits_last(const struct bits *b) {
    return bits_prev(b, BITS_ROWS - 1);
}

size_t bits_list(const struct bits *restrict b, uint16_t *restrict out,
                 size_t max, uint32_t from) {
    size_t n = 0;
    uint64_t mask = UINT64_MAX >> from % 64;
    for (uint32_t w = from / 64; w < BITS_WORDS; w++) {
        uint64_t x = b->word[w] & mask;
        mask = UINT64_MAX;
        while (x) {
            if (n == max) {
                return n;
            }
            uint32_t bit = 63 ^ (uint32_t)__builtin_clzll(x);
            out[n++] = (uint16_t)(w * 64 + 63 - bit);
            x ^= UINT64_C(1) << bit;
        }
    }
    return n;
}
