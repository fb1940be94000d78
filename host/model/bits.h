// bits: the algebra over one segment of columns, 65,536 rows at a time.
//
//   struct bits found;
//   bits_load(&found, rows, rows_len);      // GET {user}/@rows.0
//   bits_and_bytes(&found, male, male_len); // GET {user}/gender.0=male
//   for (uint32_t o = bits_next(&found, 0); o < BITS_ROWS;
//        o = bits_next(&found, o + 1)) { ... }
//
// A row is its offset o in the segment, 0 to 65535. Redis strings are read
// where they lie: any alignment, any length (what a string is too short to
// hold is zero, what it holds past the segment is ignored), NULL with length 0
// for an absent key. A bitmap is in the order of SETBIT: row o is bit 7 - o % 8
// of byte o / 8.
#ifndef NEAP_MODEL_BITS_H
#define NEAP_MODEL_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITS_ROWS  65536u
#define BITS_WORDS (BITS_ROWS / 64)
#define BITS_BYTES (BITS_ROWS / 8)

// Row o is bit 63 - o % 64 of word o / 64: a word is eight bytes of the Redis
// string read big-endian, and leading zeros count rows in rising order.
struct bits {
    _Alignas(64) uint64_t word[BITS_WORDS];
};

// bits_zero empties the set.
void bits_zero(struct bits *b);

// bits_load makes b the set a Redis bitmap of len bytes holds.
void bits_load(struct bits *b, const void *bitmap, size_t len);

// bits_store writes b as a Redis bitmap of BITS_BYTES bytes.
void bits_store(const struct bits *b, void *bitmap);

// bits_and keeps in dst the rows that are in src too; dst is not src.
void bits_and(struct bits *restrict dst, const struct bits *restrict src);

// bits_or adds the rows of src to dst; dst is not src.
void bits_or(struct bits *restrict dst, const struct bits *restrict src);

// bits_andnot takes the rows of src out of dst; dst is not src.
void bits_andnot(struct bits *restrict dst, const struct bits *restrict src);

// bits_and_bytes is bits_and straight from a Redis bitmap of len bytes.
void bits_and_bytes(struct bits *restrict dst, const void *restrict bitmap,
                    size_t len);

// bits_or_bytes is bits_or straight from a Redis bitmap of len bytes.
void bits_or_bytes(struct bits *restrict dst, const void *restrict bitmap,
                   size_t len);

// bits_andnot_bytes is bits_andnot straight from a Redis bitmap of len bytes.
void bits_andnot_bytes(struct bits *restrict dst, const void *restrict bitmap,
                       size_t len);

// bits_set adds row o.
static inline void bits_set(struct bits *b, uint32_t o) {
    b->word[o / 64] |= UINT64_C(1) << (63 - o % 64);
}

// bits_clear takes row o out.
static inline void bits_clear(struct bits *b, uint32_t o) {
    b->word[o / 64] &= ~(UINT64_C(1) << (63 - o % 64));
}

// bits_test tells whether row o is in the set.
static inline bool bits_test(const struct bits *b, uint32_t o) {
    return b->word[o / 64] >> (63 - o % 64) & 1;
}

// bits_set_list adds n rows, in any order, repeated or not.
void bits_set_list(struct bits *restrict b, const uint16_t *restrict offsets,
                   size_t n);

// bits_count returns how many rows are in the set.
uint32_t bits_count(const struct bits *b);

// bits_and_count returns how many rows of the set are in a Redis bitmap of len
// bytes too.
uint32_t bits_and_count(const struct bits *b, const void *bitmap, size_t len);

// bits_any tells whether a row is in the set.
bool bits_any(const struct bits *b);

// bits_next returns the first row at or after from, BITS_ROWS when there is
// none; from may be BITS_ROWS or more.
uint32_t bits_next(const struct bits *b, uint32_t from);

// bits_prev returns the last row at or before from, -1 when there is none; from
// may be negative or past the segment.
int32_t bits_prev(const struct bits *b, int32_t from);

// bits_last returns the last row, -1 when the set is empty.
int32_t bits_last(const struct bits *b);

// bits_list writes up to max rows at or after from in rising order and returns
// how many it wrote.
size_t bits_list(const struct bits *restrict b, uint16_t *restrict out,
                 size_t max, uint32_t from);

#endif
