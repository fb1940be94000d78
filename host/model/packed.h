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

// packed_top writes the k rows of b with the smallest (descending: largest)
// stored numbers, in that order, and returns how many it wrote: k or all of b.
//
// Nulls come last and ties in rising row order, in both directions. Both
// arrays have room for the smaller of k and bits_count(b).
size_t packed_top(const void *col, size_t len, int width, const struct bits *b,
                  bool descending, size_t k, uint16_t *out_offsets,
                  uint64_t *out_values);

#endif
