// columns: the bitmaps and packed columns that a plan names, read in one
// transaction and combined as they arrive into one set of rows a segment.
// Those of segments that have not changed of late are taken from a cache; if
// one of these turns out to have changed, it is all asked again.
#ifndef NEAP_MODEL_COLUMNS_H
#define NEAP_MODEL_COLUMNS_H

#include "model/cache.h"
#include "model/combine.h"
#include "model/plan.h"
#include "redis/conn.h"

// What a model remembers from one read to the next.
struct columns_memory {
    uint32_t segments; // that there are
    int64_t ahead_ms;  // of the server's clock before ours
    struct cache cache;
    struct bits *spare;   // room for the rows of as many segments, or NULL: the
    uint32_t spare_count; // kernel would clear new memory each time
};

struct columns {
    struct columns_memory *memory;
    const struct query *query;
    const struct plan *plan;
    struct conn *conn;
    uint32_t first, segments; // that were asked for
    bool is_all;              // all segments that there are
    uint32_t total;           // segments that there are
    struct bits *rows;        // the result, a segment each
    uint32_t room;            // for so many
    struct buf *order;        // the packed columns to order by
    uint64_t bytes, cached;   // read, and from the cache
    // called once; error is NULL, or what went wrong (with its code)
    void (*done)(struct columns *c, const char *code, const char *error);
    void *ctx;
    // the reply in hand: after the meta hash those of whole indexes, the clock
    // and the expired, then segment by segment
    int item;        // -1 before the first element
    int clock_item;  // where the clock stands, -1 nowhere
    int stamps_item; // where the segments' stamps stand
    int first_item;  // of the segments
    int last_item;   // behind all
    uint32_t *reads; // the steps that read something of each segment
    uint32_t read_count;
    struct cached_ref *refs; // by read: the column in the cache
    // A cell is one read of one segment; those not asked for are in the cache.
    uint32_t cell;      // in hand
    bool *is_asked;     // by cell
    struct buf members; // of the small set in hand, 2 bytes each
    bool has_cache;
    bool is_torn; // a piece of the cache turned out to be old
    int rounds;   // so far, in which the cache was trusted
    struct segment_read {
        uint64_t stamp; // it has now, 0 if it has none
        bool is_stale;  // the cache has old pieces of it: it is asked whole
    } * states;         // by segment
    uint32_t *indexes;  // the steps that read whole indexes
    uint32_t index_count;
    struct bits **whole;  // by step: what was read of whole indexes
    struct bits *entries; // of the one in hand
    struct combine machine;
    // the server's clock, and ours when it was asked; those expired until then
    // were asked for
    uint64_t now_ms, asked_ms, margin_ms, until_ms;
    uint32_t member;     // whose expiry comes next
    struct buf expiries; // of struct expiry
    uint32_t top;        // ordinals in use are below it
    char generation[17];
    char code[32], error[256];
};

// columns_read reads `segments` segments from the first one on; 0 for all that
// there are. The result is freed by columns_free, once done was called.
struct columns *columns_read(
    struct conn *conn, const struct query *q, const struct plan *p,
    struct columns_memory *memory, uint32_t first, uint32_t segments,
    void (*done)(struct columns *c, const char *code, const char *error),
    void *ctx);
void columns_free(struct columns *c);

// columns_memory_clear frees what a memory holds.
void columns_memory_clear(struct columns_memory *m);

// columns_bytes returns about how many bytes the columns of so many segments
// have.
uint64_t columns_bytes(const struct query *q, const struct plan *p,
                       uint32_t segments);

#endif
