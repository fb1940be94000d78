// columns: the bitmaps and packed columns that a plan names, read in one
// transaction and combined as they arrive into one set of rows a segment.
#ifndef NEAP_MODEL_COLUMNS_H
#define NEAP_MODEL_COLUMNS_H

#include "model/bits.h"
#include "model/plan.h"
#include "redis/conn.h"

// What a model remembers from one read to the next.
struct columns_memory {
    uint32_t segments; // that there are
    int64_t ahead_ms;  // of the server's clock before ours
};

struct columns {
    struct columns_memory *memory;
    const struct query *query;
    const struct plan *plan;
    struct conn *conn;
    uint32_t segments; // that were asked for
    uint32_t top;      // ordinals in use are below it
    struct bits *rows; // the result, a segment each
    struct buf *order; // READ_ORDER: the packed columns as they are
    uint64_t bytes;    // read
    bool is_unknown;   // the model has no stored schema: it has no rows
    // called once; error is NULL, or what went wrong (with its code)
    void (*done)(struct columns *c, const char *code, const char *error);
    void *ctx;
    // the reply in hand
    uint32_t step, segment; // of the element that comes next
    int item;               // its place in the reply, -1 before the first
    struct bits *pending;   // the rows of the condition in hand
    int clock_item;         // where the clock stands in the reply, -1 nowhere;
                            // the expired follow it
    uint64_t now_ms, until_ms; // the server's clock; expired until then asked
    uint32_t member;           // whose expiry comes next
    struct buf expiries;       // of struct expiry
    char generation[17];
    char code[32], error[256];
};

// columns_read reads the segments that the memory knows of. When the model has
// more by then, it reads again. The result is freed by columns_free, once done
// was called.
struct columns *columns_read(struct conn *conn, const struct query *q,
                             const struct plan *p,
                             struct columns_memory *memory,
                             void (*done)(struct columns *c, const char *code,
                                          const char *error),
                             void *ctx);
void columns_free(struct columns *c);

#endif
