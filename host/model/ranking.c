// ranking: the rows of many segments in the order of a packed column.
#include "model/ranking.h"

#include <stdlib.h>

#include "base/mem.h"

enum { run_most = 256 };

// The next rows of a segment.
struct run {
    uint16_t offsets[run_most];
    uint64_t values[run_most];
    uint32_t at, count;
    bool is_begun; // `after` is the place to go on from
    struct packed_position after;
};

// fill takes the segment's next rows; false if there are none.
static bool fill(struct ranking *r, uint32_t segment) {
    struct run *run = &r->runs[segment];
    const struct buf *column = &r->columns[segment];
    run->at = 0;
    run->count = (uint32_t)packed_top(column->data, column->len, r->width,
                                      &r->rows[segment], r->is_descending,
                                      run->is_begun ? &run->after : NULL,
                                      r->run_len, run->offsets, run->values);
    if (run->count == 0) {
        return false;
    }
    run->is_begun = true;
    run->after.value = run->values[run->count - 1];
    run->after.row = run->offsets[run->count - 1];
    return true;
}

// is_before compares the first rows of two segments.
static bool is_before(const struct ranking *r, uint32_t a, uint32_t b) {
    uint64_t x = r->runs[a].values[r->runs[a].at];
    uint64_t y = r->runs[b].values[r->runs[b].at];
    if (x == y) {
        return r->is_descending ? a > b : a < b;
    }
    if (x == 0 || y == 0) {
        return y == 0;
    }
    return r->is_descending ? x > y : x < y;
}

// sink puts the segment at a place of the heap where it belongs below it.
static void sink(struct ranking *r, uint32_t at) {
    uint32_t segment = r->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < r->heap_count &&
            is_before(r, r->heap[child + 1], r->heap[child])) {
            child++;
        }
        if (child >= r->heap_count || !is_before(r, r->heap[child], segment)) {
            break;
        }
        r->heap[at] = r->heap[child];
        at = child;
    }
    r->heap[at] = segment;
}

void ranking_init(struct ranking *r, const struct bits *rows,
                  const struct buf *columns, uint32_t segments, int width,
                  bool is_descending, const struct packed_position *after,
                  uint64_t wanted) {
    *r = (struct ranking){.rows = rows,
                          .columns = columns,
                          .segments = segments,
                          .width = width,
                          .is_descending = is_descending,
                          .run_len = wanted < run_most ? (uint32_t)wanted + 1
                                                       : run_most};
    r->run_len = r->run_len < run_most ? r->run_len : run_most;
    r->runs = xmalloc(segments * sizeof r->runs[0]);
    r->heap = xmalloc(segments * sizeof r->heap[0]);
    for (uint32_t i = 0; i < segments; i++) {
        r->runs[i].is_begun = after != NULL;
        if (after) {
            r->runs[i].after = *after;
            r->runs[i].after.row -= (int64_t)i * BITS_ROWS;
        }
        if (fill(r, i)) {
            r->heap[r->heap_count++] = i;
        }
    }
    for (uint32_t i = r->heap_count / 2; i > 0; i--) {
        sink(r, i - 1);
    }
}

void ranking_clear(struct ranking *r) {
    free(r->runs);
    free(r->heap);
    *r = (struct ranking){0};
}

const struct ranked *ranking_next(struct ranking *r) {
    if (r->heap_count == 0) {
        return NULL;
    }
    uint32_t segment = r->heap[0];
    struct run *run = &r->runs[segment];
    r->next.value = run->values[run->at];
    r->next.ordinal = segment * BITS_ROWS + run->offsets[run->at];
    if (++run->at == run->count && !fill(r, segment)) {
        r->heap[0] = r->heap[--r->heap_count];
    }
    if (r->heap_count > 0) {
        sink(r, 0);
    }
    return &r->next;
}
