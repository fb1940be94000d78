// tally: sums, extremes and counts by value of a field that is in a packed
// column or in bitmaps of its choices, segment by segment. Pure.
#ifndef NEAP_MODEL_TALLY_H
#define NEAP_MODEL_TALLY_H

#include "model/bits.h"
#include "model/schema.h"

struct tally {
    const struct field *field;
    __int128 sum;         // of the numbers
    uint64_t count;       // rows with a value
    uint64_t nulls;       // rows without one
    uint64_t least, most; // as stored, 0 for none
    uint64_t *by_value;   // by what is stored; NULL if that is too wide
    uint32_t values;      // how many places it has
};

// tally_init begins a tally of the field, tally_clear frees it.
void tally_init(struct tally *t, const struct field *f);
void tally_clear(struct tally *t);

// tally_add adds the rows of one segment, with the field's column.
void tally_add(struct tally *t, const struct bits *rows, const char *column,
               size_t len);

// tally_number returns the number for which v is stored: a date's is its days
// since 1970, a choice's its place.
double tally_number(const struct tally *t, uint64_t v);

#endif
