// commit: the writes of a model. What is queued in a turn of the loop goes out
// as one call of apply.lua; while two batches are under way the rest gathers,
// so that batches grow with the load. Each batch has a number in the host's
// journal: sent again after a lost connection, it is applied only once.
#ifndef NEAP_MODEL_COMMIT_H
#define NEAP_MODEL_COMMIT_H

#include "core/runtime.h"
#include "model/row.h"
#include "model/schema.h"
#include "redis/pool.h"

enum write_kind { WRITE_CREATE, WRITE_SAVE, WRITE_DELETE };

enum write_code {
    WRITE_DONE,
    WRITE_EXISTS,         // create: the id is taken
    WRITE_GONE,           // save, delete: no such row, or another with its id
    WRITE_UNIQUE,         // a unique value is taken: `field` says which
    WRITE_SCHEMA_CHANGED, // the stored definition is another one
    WRITE_FAILED,         // `error_code` and `error` say why
};

// A write is allocated by the caller with xcalloc; the commit frees it, with
// its rows, after done was called.
struct write {
    struct write *next;
    enum write_kind kind;
    struct row *old; // as loaded; NULL to create
    struct row *new; // as it shall be; NULL to delete
    uint64_t dirty;  // the fields that a save changes
    char *id;        // the primary key's bytes; empty: a counter gives it
    size_t id_len;
    // called once; new->version and ->ordinal are then those stored. field is
    // for WRITE_UNIQUE; error_code and error for WRITE_FAILED.
    void (*done)(struct write *w, enum write_code code, int field,
                 const char *error_code, const char *error);
    void *ctx;
    uint8_t claimed[SCHEMA_FIELDS]; // the commit's own
    bool is_merged; // a conflicting write was merged: new holds its fields too
};

struct commit {
    struct runtime *rt;
    const struct schema *schema;
    struct conn *conn;
    struct pool *const *client; // points to NULL once the client is closed
    struct write *first, **last;
    uint32_t count; // queued
    // the batches under way by the parity of their numbers: the journal keeps
    // one verdict of each
    struct batch *flying[2];
    uint64_t number; // of the last batch
    char host[17];   // names this host's journal
    char sha[41];    // of apply.lua, once the server told it
    bool is_sha_asked;
    uint64_t refreshed_ms; // when the journal's expiry was last renewed
    struct defer defer;
};

// commit_init readies the writes of a schema over a client's shared
// connection; *client becomes NULL when the client is closed.
void commit_init(struct commit *c, struct runtime *rt, const struct schema *s,
                 struct pool *const *client);

// commit_add queues a write.
void commit_add(struct commit *c, struct write *w);

// commit_clear forgets what is queued; nobody is told.
void commit_clear(struct commit *c);

#endif
