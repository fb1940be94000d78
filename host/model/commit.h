// commit: the writes of a model. What is queued in a turn of the loop goes out
// as one call of apply.lua; while two batches are under way the rest gathers,
// so that batches grow with the load. Each batch has a number in the host's
// journal: sent again after a lost connection, it is applied only once. Writes
// to one row go one after the other.
#ifndef NEAP_MODEL_COMMIT_H
#define NEAP_MODEL_COMMIT_H

#include "core/runtime.h"
#include "model/schema.h"
#include "model/write.h"
#include "redis/pool.h"

enum { COMMIT_BATCH_ROWS = 256 }; // at most

struct commit {
    struct runtime *rt;
    struct schema *schema; // it adopts the stored builds
    void *rows;            // tree of the rows that are being written, by id
    struct conn *conn;
    struct pool *const *client; // points to NULL once the client is closed
    struct write *first, **last;
    uint32_t count; // queued
    // the batches under way by the parity of their numbers: the journal keeps
    // one verdict of each
    struct batch *flying[2];
    uint64_t number; // of the last batch
    char host[17];   // names this host's journal
    uint64_t stamp;  // of the batch sent last; begins at random
    char sha[41];    // of apply.lua, once the server told it
    bool is_sha_asked;
    uint64_t refreshed_ms; // when the journal's expiry was last renewed
    uint64_t told_ms;      // when a damaged index was last told of
    struct defer defer;
};

// commit_init readies the writes of a schema over a client's shared
// connection; *client becomes NULL when the client is closed.
void commit_init(struct commit *c, struct runtime *rt, struct schema *s,
                 struct pool *const *client);

// commit_add queues a write.
void commit_add(struct commit *c, struct write *w);

// commit_clear forgets what is queued; nobody is told.
void commit_clear(struct commit *c);

#endif
