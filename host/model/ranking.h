// ranking: the rows of many segments in the order of a packed column: runs of
// each segment's next rows, merged. Pure.
//
//   ranking_init(&r, rows, columns, segments, width, is_descending, after);
//   while ((next = ranking_next(&r))) { ... next->ordinal, next->value }
//
// Rows with 0 (no value) come last. Ties come by ordinal, and descending is
// the exact reverse but for those without a value.
#ifndef NEAP_MODEL_RANKING_H
#define NEAP_MODEL_RANKING_H

#include "base/buf.h"
#include "model/packed.h"

struct ranked {
    uint64_t value; // as stored
    uint32_t ordinal;
};

struct ranking {
    const struct bits *rows;   // by segment
    const struct buf *columns; // likewise
    uint32_t segments;
    int width;
    bool is_descending;
    uint32_t run_len; // rows that are taken of a segment at a time
    struct run *runs; // by segment
    uint32_t *heap;   // segments that have rows left, the next one first
    uint32_t heap_count;
    struct ranked next;
};

// ranking_init begins with the first row, or behind `after` (its row an
// ordinal, or below or above all of them). wanted is about how many rows will
// be asked for. The rows and columns have to stay as they are.
void ranking_init(struct ranking *r, const struct bits *rows,
                  const struct buf *columns, uint32_t segments, int width,
                  bool is_descending, const struct packed_position *after,
                  uint64_t wanted);
void ranking_clear(struct ranking *r);

// ranking_next returns the next row, until the next call, or NULL.
const struct ranked *ranking_next(struct ranking *r);

#endif
