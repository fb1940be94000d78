// sizes: about how many rows each condition of a query finds, asked for in one
// round trip: ordered indexes are counted, bitmaps in the first, the middle and
// the last segment, packed columns among a thousand rows of these. What was
// answered is remembered for a second.
#ifndef NEAP_MODEL_SIZES_H
#define NEAP_MODEL_SIZES_H

#include "model/plan.h"
#include "redis/conn.h"

enum { SIZES_REMEMBERED = 256, SIZES_LOOKED_AT = 3 };

// What a model remembers: answers, by the hash of what was asked.
struct sizes_memory {
    struct {
        uint64_t asked, answer, at_ms;
    } answers[SIZES_REMEMBERED];
};

struct sizes {
    struct plan_sizes plan;
    // called once; error is NULL, or what went wrong (with its code)
    void (*done)(struct sizes *s, const char *code, const char *error);
    void *ctx;
    // the questions
    struct conn *conn;
    const struct query *query;
    struct sizes_memory *memory;
    struct question *questions;
    uint32_t count, pending;
    uint32_t segments[SIZES_LOOKED_AT]; // that are looked at
    uint32_t segment_count;
    uint64_t top, sample; // ordinals in use; rows of those segments
    uint32_t round_trips;
    bool is_asking; // the questions are being written
    char code[32], error[256];
};

// sizes_ask asks for the sizes of what q needs; `segments` is how many there
// were when last seen. done is called later, or at once if all of it is
// remembered. sizes_free frees the sizes, once done was called.
struct sizes *sizes_ask(struct conn *conn, const struct query *q,
                        uint32_t segments, struct sizes_memory *memory,
                        void (*done)(struct sizes *s, const char *code,
                                     const char *error),
                        void *ctx);
void sizes_free(struct sizes *s);

#endif
