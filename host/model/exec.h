// exec: runs a planned query: columns, order, ids, rows. It hands rows out in
// windows, so that any number of them takes constant memory.
//
//   exec_open(e, on_open, me);           // reads what the plan needs first
//   exec_next(e, 256, on_rows, me);      // again and again, until no row comes
//
// One operation at a time; each ends with one call of its function, in the
// loop. An exec is counted: exec_release frees it when nothing is under way.
#ifndef NEAP_MODEL_EXEC_H
#define NEAP_MODEL_EXEC_H

#include "core/runtime.h"
#include "model/columns.h"
#include "model/fetch.h"
#include "model/ids.h"
#include "model/plan.h"
#include "model/walk.h"

struct exec;
typedef void (*exec_fn)(struct exec *e, const char *code, const char *error);

struct exec {
    struct query query; // owned: conditions and their values
    struct plan plan;
    struct conn *conn;
    struct columns_memory *memory; // the model's
    int references;
    int checks;    // of the generation, under way
    bool is_stale; // the stored definition is another one
    exec_fn done;
    void *ctx;
    struct columns *columns;
    // ordinals that come next, and where their source stands
    struct buf ready; // of uint32_t
    size_t ready_at;
    uint64_t ranked;   // ORDER_PACKED: how many were readied
    uint32_t scan;     // ORDER_NONE: the next ordinal to look at
    struct walk *walk; // ORDER_WALK
    uint64_t to_skip, left;
    // the window in hand
    uint32_t want;
    uint32_t *ordinals;
    struct fetch *fetch;
    // the result: rows that match, in order; the callback may take them
    struct row **rows;
    uint32_t row_count, row_at;
};

// exec_new takes over the query (its conditions and values); NULL with the
// reason in error if it cannot be planned; is_building says
// that an index is under construction.
struct exec *exec_new(struct conn *conn, const struct query *q,
                      struct columns_memory *memory, bool *is_building,
                      char *error, size_t size);
void exec_release(struct exec *e);

// exec_forget: nobody waits for the operation under way any more; done is
// called in the place of its function.
void exec_forget(struct exec *e, exec_fn done, void *ctx);

// exec_is_busy says whether an operation is under way.
bool exec_is_busy(const struct exec *e);

// exec_open reads what the plan needs before rows can be handed out.
void exec_open(struct exec *e, exec_fn done, void *ctx);

// exec_next leaves up to `max` rows in rows[0..row_count).
void exec_next(struct exec *e, uint32_t max, exec_fn done, void *ctx);

// exec_count returns how many rows match, after exec_open of a query whose
// plan is PLAN_COLUMNS.
uint64_t exec_count(const struct exec *e);

// query_clear frees a query's conditions.
void query_clear(struct query *q);

#endif
