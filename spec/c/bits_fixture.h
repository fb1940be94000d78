// bits_fixture: seeded random strings and sets, for bits_test and packed_test.
#ifndef SPEC_BITS_FIXTURE_H
#define SPEC_BITS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/bits.h"

#define ROWS     BITS_ROWS
#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t seed;

static inline uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static inline int reseed(void **state) {
    (void)state;
    seed = UINT64_C(0x9e3779b97f4a7c15);
    return 0;
}

// A Redis string at an odd address that ends where its allocation does, so
// that a sanitizer sees any read past the end.
struct string {
    char *room;
    char *data;
    size_t len;
};

static inline struct string string_new(size_t len) {
    struct string s = {.room = malloc(len + 1), .len = len};
    assert_non_null(s.room);
    s.data = s.room + 1;
    memset(s.data, 0, len);
    return s;
}

// How full a random set is: one row in 2 to the density; 64 is none.
enum { FULL = 0, HALF = 1, SPARSE = 9, EMPTY = 64 };
static const int densities[] = {FULL, HALF, 3, SPARSE, EMPTY};

static inline bool happens(int density) {
    return density < 64 &&
           !(next_random() >> 7 & ((UINT64_C(1) << density) - 1));
}

static inline void random_set(struct bits *b, bool *model, int density) {
    bits_zero(b);
    memset(model, 0, ROWS);
    for (uint32_t o = 0; o < ROWS; o++) {
        if (happens(density)) {
            bits_set(b, o);
            model[o] = true;
        }
    }
}

#endif
