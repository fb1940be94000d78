// reader: the replies in a stream of bytes: hiredis's reader, whose object
// functions feed the sink of whoever stands first in the connection's queue.
//
//   reader_feed(&r, bytes, len);
//   while ((got = reader_next(&r)) == READER_REPLY) { ... }
#ifndef NEAP_REDIS_READER_H
#define NEAP_REDIS_READER_H

#include <stdbool.h>

#include "base/buf.h"
#include "redis/resp.h"

struct reader {
    struct conn *conn;
    redisReader *hiredis;
    uint64_t fed;         // bytes, in all
    const char *bytes;    // fed, and not given to hiredis yet
    size_t len;           // of these
    struct buf bulk;      // a string that comes in pieces, from its '$' on
    size_t bulk_head;     // where in it the string begins
    size_t bulk_size;     // how much it will be; 0: none comes
    struct buf rest;      // while a reply nests to the limit: what came since
    size_t rest_at;       // where in it the last array at the limit begins
    uint64_t rest_values; // values of the reply that begin there
    size_t rest_bulk;     // bytes of a string that is being passed over
    bool is_deep;         // `rest` is kept
    bool is_too_deep;     // an array lies beyond the limit
    bool is_skipping;     // the reply is too deep: its values are passed over
    const char *error;    // what was wrong
};

enum reader_result {
    READER_ERROR = -1, // what came is no reply: reader.error
    READER_MORE,       // more bytes are needed
    READER_REPLY,      // one reply was decoded
    READER_TOO_DEEP,   // one reply was passed over: it nests too deeply
};

// How many arrays may lie in each other.
enum { READER_DEPTH = 8 };

// reader_init readies a reader that feeds conn_current_waiter(conn)'s sink.
void reader_init(struct reader *r, struct conn *conn);

// reader_clear frees what it holds.
void reader_clear(struct reader *r);

// reader_reset begins a new stream.
void reader_reset(struct reader *r);

// reader_feed takes bytes in, which have to stay until reader_next returned
// READER_MORE or an error.
void reader_feed(struct reader *r, const char *bytes, size_t len);

// reader_next decodes up to the end of the next reply.
enum reader_result reader_next(struct reader *r);

// reader_left is how many bytes were fed and not yet decoded.
size_t reader_left(const struct reader *r);

// reader_taken is the offset in the stream up to which it was decoded.
static inline uint64_t reader_taken(const struct reader *r) {
    return r->fed - reader_left(r);
}

#endif
