// packed: the numbers of one segment of rows, packed in a column.
//
//   struct bits age;
//   packed_range(&age, col, col_len, 1, 19, 23); // GET {user}/age.0
//   bits_and(&found, &age);
//
// A packed column holds row o as a big-endian unsigned number of width 1, 2, 4
// or 8 bytes at o * width, so that GETRANGE in redis-cli reads naturally.
// The stored number is 0 for null, else value - min + 1. A number cut short by
// the end of the string is null. Strings are read where they lie, as in bits.
#ifndef NEAP_MODEL_PACKED_H
#define NEAP_MODEL_PACKED_H

#include "model/bits.h"

// packed_range makes out the rows of a packed column with lo <= stored <= hi;
// lo 0 includes nulls, those past the end of the column too.
void packed_range(struct bits *restrict out, const void *restrict col,
                  size_t len, int width, uint64_t lo, uint64_t hi);

// packed_in makes out the rows of a packed column whose stored number is among
// n values, in any order; the value 0 includes nulls as in packed_range.
void packed_in(struct bits *restrict out, const void *restrict col, size_t len,
               int width, const uint64_t *restrict values, size_t n);

// packed_get returns the stored number of row o, 0 past the end.
uint64_t packed_get(const void *col, size_t len, int width, uint32_t o);

// packed_put writes v as the width bytes SETRANGE stores; bits of v above the
// width are lost.
void packed_put(char *out, int width, uint64_t v);

// A place in the order of packed_top, be there a row or not: a stored number,
// which the width can hold, and a row's offset in the segment at hand. A row of
// a segment before it counts as -1, one of a segment behind it as BITS_ROWS.
struct packed_position {
    uint64_t value;
    int64_t row;
};

// packed_top writes the first k rows of b by rising (descending: falling)
// stored number, in that order, and returns how many it wrote: fewer than k
// only if there are no more.
//
// Ties are in rising row order, descending in falling. Nulls come last in both
// directions. With `after`, only rows strictly behind that position count, so
// a long order is read in parts, each after the last row of the one before;
// NULL is the beginning. Both arrays have room for the smaller of k and
// bits_count(b). The memory taken meanwhile is proportional to that.
size_t packed_top(const void *col, size_t len, int width, const struct bits *b,
                  bool descending, const struct packed_position *after,
                  size_t k, uint16_t *out_offsets, uint64_t *out_values);

// packed_sum returns the exact sum of the values of the rows of b, nulls left
// out, and in count how many it added. A value is base + stored - 1. Sums of
// all segments, 2^32 rows of 64 bits, still add up without an overflow.
__int128 packed_sum(const void *col, size_t len, int width, int64_t base,
                    const struct bits *b, uint32_t *count);

// packed_min returns the least stored number of the rows of b, nulls left out;
// 0 when there is none.
uint64_t packed_min(const void *col, size_t len, int width,
                    const struct bits *b);

// packed_max returns the greatest stored number of the rows of b; 0 when all
// are null, or there is none.
uint64_t packed_max(const void *col, size_t len, int width,
                    const struct bits *b);

// packed_histogram adds to counts[v], for each number v, how many rows of b
// store it; nulls count in counts[0]. The width is 1 or 2, and counts has 256
// or 65,536 places.
void packed_histogram(const void *col, size_t len, int width,
                      const struct bits *b, uint64_t *counts);

#endif
