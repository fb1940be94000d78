// fetch: rows by their ids, in one pipeline, decoded as they arrive.
#ifndef NEAP_MODEL_FETCH_H
#define NEAP_MODEL_FETCH_H

#include "model/row.h"
#include "model/schema.h"
#include "redis/conn.h"

struct fetch {
    const struct schema *schema;
    struct row **rows; // NULL where there is none; the callback may take them
    char *ids;         // the bytes of all ids, one after the other
    uint32_t *id_ends; // where each ends
    uint32_t count;
    uint32_t pending;
    uint64_t now_ms;   // by the server's clock, where rows expire
    bool with_expired; // the caller may set it: those too
    // called once all replies are there. error is NULL, or what went wrong
    // (with its code). The rows are freed after it.
    void (*done)(struct fetch *f, const char *code, const char *error);
    void *ctx;
    char code[32], error[256]; // the first failure
    // the row that is being decoded
    struct buf bytes;
    char version[ROW_VERSION];
    uint32_t ordinal;
    uint64_t expires_ms;
    int field;             // whose value comes next; see fetch.c
    struct value values[]; // of the fields; p is an offset + 1 until the end
};

// fetch_rows asks for `count` rows; the ids are copied. A fetch that is not
// wanted any more gets its done set to fetch_ignore.
struct fetch *fetch_rows(struct conn *c, const struct schema *s,
                         const struct value *ids, uint32_t count,
                         void (*done)(struct fetch *f, const char *code,
                                      const char *error),
                         void *ctx);

// fetch_ignore is the done of a fetch that nobody waits for.
void fetch_ignore(struct fetch *f, const char *code, const char *error);

#endif
