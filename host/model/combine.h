// combine: runs a plan's steps over one segment, as its columns arrive: a
// machine whose values are sets of rows. Pure.
//
//   combine_begin(&m, order);        // a segment
//   combine_to(&m, step, segment);   // up to a step that reads
//   combine_column(&m, s, len);      // what it has read
//   combine_end(&m, segment, &rows); // the rest of the steps
#ifndef NEAP_MODEL_COMBINE_H
#define NEAP_MODEL_COMBINE_H

#include "model/bits.h"
#include "model/plan.h"

struct combine {
    struct bits *sets; // that were begun, at most plan->depth
    uint32_t depth;    // how many there are
    const struct query *query;
    const struct plan *plan;
    // by step: the rows of whole indexes, a segment each; further values of a
    // condition have those of the first, which are joined once
    struct bits **whole;
    struct buf *order; // gets the packed column to order by
    uint32_t *same;    // by step: one before it that reads the same, or it
    struct buf *kept;  // by step: what it has read, if others read the same
    uint32_t step;     // that comes next
};

// combine_init makes a machine for a plan, combine_clear frees it.
void combine_init(struct combine *m, const struct query *q,
                  const struct plan *p);
void combine_clear(struct combine *m);

// combine_begin begins with a segment's first step. combine_to carries out the
// steps up to one that reads; segment is its place in `whole`. combine_end
// carries out the rest and gives the rows.
void combine_begin(struct combine *m, struct buf *order);
void combine_to(struct combine *m, uint32_t step, uint32_t segment);
void combine_end(struct combine *m, uint32_t segment, struct bits *rows);

// combine_column takes the string that the step has read; NULL with 0 bytes
// where there is none. Steps that read the same as one before get it again.
// combine_member takes a member of a small set, a row of the segment.
void combine_column(struct combine *m, const char *s, size_t len);
void combine_member(struct combine *m, uint32_t row);

// combine_packed finds the rows of a packed column that fulfil a condition.
void combine_packed(const struct field *f, const struct condition *c,
                    struct bits *found, const char *s, size_t len);

#endif
