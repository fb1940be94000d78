// source: the rows that may match a query, in its order, as ordinals: from
// columns that were combined, from an ordered index that is walked, or both.
//
//   source_open(s, on_open, me);      // reads what the plan needs first
//   source_more(s, 256, on_more, me); // so many are ready, or s->is_over
//   while ((c = source_peek(s))) { ... source_drop(s, 1); }
//
// One operation at a time; each ends with one call of its function.
#ifndef NEAP_MODEL_SOURCE_H
#define NEAP_MODEL_SOURCE_H

#include "model/columns.h"
#include "model/plan.h"
#include "model/ranking.h"
#include "model/tally.h"
#include "model/walk.h"
#include "redis/pool.h"

struct source;
typedef void (*source_fn)(struct source *s, const char *code,
                          const char *error);

// What an answer has cost so far.
struct source_costs {
    uint64_t round_trips;
    uint64_t bytes;   // of columns
    uint64_t cached;  // of those that did not have to be read
    uint64_t entries; // of ordered indexes that were walked
};

struct source {
    const struct query *query;
    const struct plan *plan;
    struct pool *pool;
    struct columns_memory *memory;
    source_fn done;
    void *ctx;
    struct columns *columns; // of a window of segments, or of all
    uint32_t window;         // segments in the next one
    struct walk *walk;
    bool is_stale;       // the stored definition is another one
    bool is_over;        // nothing follows what is ready
    uint64_t count;      // of a query that is counted: how many there are
    struct tally *tally; // of one that is tallied, if its plan is
    struct buf ready;    // of struct candidate
    size_t ready_at;     // in elements
    uint64_t wanted;     // how many shall be ready
    uint32_t scan;       // the next ordinal to look at
    bool is_tail;        // the columns are those of the plan's tail
    uint64_t walked;     // entries asked for last
    // ORDER_PACKED
    bool is_ranking;
    struct ranking ranking;
    uint64_t ranked; // the value of the last row that was readied
    uint32_t group;  // of it
    int tries;       // of the step in hand, that lost the connection
    struct source_costs costs;
};

// source_may_retry says whether a step is to be asked again: it only reads, and
// its connection was lost before the reply came. *tries counts these.
bool source_may_retry(const char *code, int *tries);

// source_init makes a source for a query and its plan, which live as long as
// it does. source_clear frees what it holds.
void source_init(struct source *s, const struct query *q, const struct plan *p,
                 struct pool *pool, struct columns_memory *memory);
void source_clear(struct source *s);

// source_drop_reads frees what was read, as nothing more is wanted of it; the
// count, the tally and the costs stay.
void source_drop_reads(struct source *s);

// source_open reads what has to be known before the first row: for an exact
// plan of a query that is counted, s->count.
void source_open(struct source *s, source_fn done, void *ctx);

// source_key returns by which key the row would be a candidate now, in an
// order that comes from an index.
uint64_t source_key(const struct source *s, const struct row *r);

// source_found returns how many rows the columns have that were read.
uint64_t source_found(const struct source *s);

// source_more readies `wanted` candidates, or all that there are.
void source_more(struct source *s, uint64_t wanted, source_fn done, void *ctx);

// source_forget_columns: the plan is going to be changed, to one in the same
// order that reads columns of its own.
void source_forget_columns(struct source *s);

// source_ready returns how many candidates are ready, source_peek the first of
// them, source_drop passes over so many.
uint64_t source_ready(const struct source *s);
const struct candidate *source_peek(const struct source *s);
void source_drop(struct source *s, uint64_t count);

#endif
