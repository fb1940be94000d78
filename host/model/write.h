// write: one change of one row, on its way from the binding through a batch
// into Redis. Pure data.
#ifndef NEAP_MODEL_WRITE_H
#define NEAP_MODEL_WRITE_H

#include "model/row.h"

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

#endif
