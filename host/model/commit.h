// commit: the writes of a model. What is queued in a turn of the loop goes out
// as one call of apply.lua; while two batches are under way the rest gathers,
// so that batches grow with the load. Each batch has a number in the host's
// journal: sent again after a lost connection, it is applied only once. Writes
// to one row go one after the other.
#ifndef NEAP_MODEL_COMMIT_H
#define NEAP_MODEL_COMMIT_H

#include "core/runtime.h"
#include "model/row.h"
#include "model/schema.h"
#include "redis/pool.h"

enum write_kind {
    WRITE_CREATE,
    WRITE_SAVE,
    WRITE_DELETE,
    WRITE_INCREMENT, // old says which life of the row is meant, if it is given
    WRITE_INDEX,     // the indexes under construction, or all, once more
    WRITE_SWEEP,     // a row whose time is over
    WRITE_UPSERT,    // a create that becomes a save of the dirty fields
};

enum write_code {
    WRITE_DONE,
    WRITE_EXISTS,         // create: the id is taken
    WRITE_GONE,           // save, delete: no such row, or another with its id
    WRITE_UNIQUE,         // a unique value is taken: `field` says which
    WRITE_CONFLICT,       // optimistic: old is the row as it is now
    WRITE_RANGE,          // increment: `field` would pass a limit; error is its
                          // value
    WRITE_SCHEMA_CHANGED, // the stored definition is another one
    WRITE_FAILED,         // `error_code` and `error` say why
};

struct increment {
    uint32_t field;
    double by;
};

// What a WRITE_INDEX does besides.
enum { INDEX_BUILD, INDEX_ENTER, INDEX_RENUMBER };
static const int64_t life_forever = -1;

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
    bool is_merged; // a conflicting write was merged: new holds its fields too
    bool is_optimistic; // conflicting writes are not merged
    bool is_whole;      // WRITE_INDEX: all indexes, not those being built
    int64_t life;       // milliseconds until the row expires; 0: as it is. Of a
                        // WRITE_INDEX, see above
    struct increment *increments;
    uint32_t increment_count;
    // who holds the id or the value, as his time is over; the caller sweeps him
    char *expired;
    size_t expired_len;
    // the commit's own
    uint8_t claimed[SCHEMA_FIELDS];
    // writes to the same row, that wait for this one
    struct write *followers, *last_follower;
    bool is_registered;
};

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
    uint64_t number;    // of the last batch
    uint64_t creations; // of rows so far
    char host[17];      // names this host's journal
    char sha[41];       // of apply.lua, once the server told it
    bool is_sha_asked;
    uint64_t refreshed_ms; // when the journal's expiry was last renewed
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
