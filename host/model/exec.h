// exec: runs a query: sizes, plan, candidates, ids, rows. It hands rows out in
// windows, so that any number of them takes constant memory, unless they have
// to be sorted.
//
//   exec_open(e, on_open, me);           // plans, and reads what that needs
//   exec_next(e, 256, on_rows, me);      // again and again, until no row comes
//
// One operation at a time; each ends with one call of its function, in the
// loop. An exec is counted: exec_release frees it when nothing is under way.
#ifndef NEAP_MODEL_EXEC_H
#define NEAP_MODEL_EXEC_H

#include "model/fetch.h"
#include "model/ids.h"
#include "model/plan.h"
#include "model/sizes.h"
#include "model/source.h"

struct exec;
typedef void (*exec_fn)(struct exec *e, const char *code, const char *error);

enum { EXEC_GONE = 8 };

// What a model remembers from one query to the next.
struct exec_memory {
    struct columns_memory columns;
    struct sizes_memory sizes;
    struct ids_memory ids;
};

// exec_memory_clear frees what a memory holds.
void exec_memory_clear(struct exec_memory *m);

// The next window, which is read while the rows of one are made use of.
enum exec_ahead { AHEAD_NOT, AHEAD_RUNNING, AHEAD_READY };

struct exec {
    struct query query; // owned: conditions and their values
    struct plan plan;
    struct pool *pool;
    struct exec_memory *memory;
    struct sizes *sizes; // NULL if there was only one way
    struct source source;
    int references;
    bool is_stale; // the stored definition is another one
    exec_fn done;  // NULL: nobody waits
    void *ctx;
    enum exec_ahead ahead;
    bool is_full; // the last window had as many rows as it was to have
    char code[32], error[256]; // AHEAD_READY: what it ended with
    uint64_t to_skip, left;
    // the window in hand
    uint32_t max, window;
    uint32_t *ordinals;
    uint64_t *keys; // by which they were found
    uint32_t count;
    int tries;        // of the window, that lost the connection
    bool is_recalled; // its ids were remembered: they may be others by now
    // rows that match: in order, but for those that are still to be sorted
    struct row **held;
    uint32_t held_count, held_cap;
    struct row **held_memory; // held lies in it, behind what was handed out
    bool is_sorted;
    uint32_t group; // of those that are held
    // the result: rows in order; the callback may take them
    struct row **rows;
    uint32_t row_count;
    struct row *last;                // a copy of the last one of them
    uint64_t fetched, matched, lost; // rows, so far
    uint32_t gone[EXEC_GONE]; // the first of those whose row was not there
    uint32_t gone_count;
    uint64_t round_trips;
};

// exec_new takes over the query (and what it holds); NULL with the reason in
// error if it cannot be planned; is_building says that an index is under
// construction.
struct exec *exec_new(struct pool *pool, const struct query *q,
                      struct exec_memory *memory, bool *is_building,
                      char *error, size_t size);
void exec_release(struct exec *e);

// exec_forget: nobody waits for the operation under way any more; done is
// called in the place of its function.
void exec_forget(struct exec *e, exec_fn done, void *ctx);

// exec_is_busy says whether an operation is under way; exec_is_running also
// whether the next window is being read ahead.
bool exec_is_busy(const struct exec *e);
bool exec_is_running(const struct exec *e);

// exec_open asks for sizes if they matter, plans, and reads what has to be
// known before rows can be handed out. exec_plan only plans.
void exec_open(struct exec *e, exec_fn done, void *ctx);
void exec_plan(struct exec *e, exec_fn done, void *ctx);

// exec_next leaves up to `max` rows in rows[0..row_count).
void exec_next(struct exec *e, uint32_t max, exec_fn done, void *ctx);

// exec_read_ahead begins to read the next window of many, once the rows of this
// one were taken.
void exec_read_ahead(struct exec *e);

// exec_count returns whether it is known how many rows match, without looking
// at them: after exec_open of a query that is counted.
bool exec_count(const struct exec *e, uint64_t *count);

#endif
