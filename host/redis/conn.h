// conn: one connection to a Redis server: a link, and the queue of those who
// wait for replies. Commands may be queued in any state; they leave when the
// connection is ready, all of a turn in one write. It knows no Lua.
//
//   resp_command(conn_out(c), 1); resp_arg(conn_out(c), "PING", 4);
//   struct waiter *w = conn_wait(c, &my_sink, me);
//
// The queue is strict: a reply belongs to the waiter at its head. A waiter
// that loses interest keeps its place (conn_forget) and its reply is dropped.
#ifndef NEAP_REDIS_CONN_H
#define NEAP_REDIS_CONN_H

#include <uv.h>

#include "base/buf.h"
#include "core/runtime.h"
#include "core/timer.h"
#include "redis/greeting.h"
#include "redis/link.h"
#include "redis/outbox.h"
#include "redis/queue.h"
#include "redis/reader.h"
#include "redis/resp.h"

enum conn_state {
    CONN_IDLE,       // no socket; the next command opens one
    CONN_CONNECTING, // the link finds its address and connects
    CONN_GREETING,   // AUTH, SELECT and so on are answered first
    CONN_READY,
    CONN_BACKOFF, // the last attempt failed; a timer starts the next
    CONN_CLOSED,  // for good
};

enum conn_kind {
    CONN_SHARED, // reconnected as long as somebody waits
    CONN_LOAN,   // a loan's: until it is ready like the shared one, but given
                 // up when it is lost after that
    CONN_PUSH,   // its replies belong to nobody (SUBSCRIBE): all go to
                 // owner's sink, and it is reconnected while is_wanted
};

// What the owner of a connection is told.
struct conn_owner {
    void (*ready)(struct conn *c);   // it may be NULL, as any of these
    void (*idle)(struct conn *c);    // the last reply came
    void (*drained)(struct conn *c); // conn_is_choked no longer holds
    void (*lost)(struct conn *c);    // it was ready, or won't be tried again
    void (*refused)(struct conn *c, const char *code, const char *text);
    const struct sink *push; // of a CONN_PUSH
};

struct conn {
    struct runtime *rt;
    const struct conn_options *options;
    enum conn_state state;
    enum conn_kind kind;
    bool is_expiring; // the timer has run; one more poll comes first
    bool is_wanted;   // a CONN_PUSH: it is to be open
    bool is_work;     // likewise: it keeps the loop alive
    bool is_choked;   // somebody was told so
    bool is_doubtful; // a PING on a CONN_PUSH was not answered yet
    bool is_silent;   // when it was lost: it had said nothing for long
    bool *is_gone;    // set when it is closed while bytes are read
    int send_error;   // of a write before the turn's end
    struct link *link;
    struct reader reader;
    struct outbox outbox;
    uint64_t settled; // stream offset of the first waiter's command
    struct queue queue;
    struct greeting greeting;
    struct waiter push; // of a CONN_PUSH
    struct defer flush;
    struct timer timer;  // the oldest waiter's deadline, connect or backoff
    uint64_t limit_ms;   // a reply's, once it is ready; 0: none
    uint64_t active_ns;  // when bytes came last
    int attempts;        // that failed in a row
    uint64_t taken;      // stream offset of the replies decoded so far
    uint64_t reply_size; // bytes of the last reply
    uint64_t received, reconnects, timeouts;
    void *decoder; // the sinks' own scratch, freed by free_decoder
    void (*free_decoder)(void *decoder);
    const struct conn_owner *owner;
    void *ctx;            // the owner's
    struct list place;    // in the owner's lists
    struct conn **holder; // of a loan that is held: set to NULL at its end
};

// conn_new makes a connection that is opened by its first command.
struct conn *conn_new(struct runtime *rt, const struct conn_options *options,
                      enum conn_kind kind, const struct conn_owner *owner,
                      void *ctx);

// conn_close closes for good and frees; those who wait are failed with code
// and text.
void conn_close(struct conn *c, const char *code, const char *text);

// conn_renew gives a ready connection up and opens another when it is needed:
// its server is not the right one any more.
void conn_renew(struct conn *c, const char *why);

// conn_want says whether a CONN_PUSH is to be open, and whether it keeps the
// loop alive.
void conn_want(struct conn *c, bool is_wanted, bool is_work);

// conn_out is where the next command's bytes go.
static inline struct buf *conn_out(struct conn *c) {
    return &c->outbox.bytes;
}

// conn_wait queues a waiter for the command just appended. The result is
// valid until the next call.
struct waiter *conn_wait(struct conn *c, const struct sink *sink, void *ctx);

// conn_end is the offset in the stream at which the next command will begin.
static inline uint64_t conn_end(const struct conn *c) {
    return outbox_end(&c->outbox);
}

// conn_waiter returns a waiter like those that conn_wait queues, for several
// commands that were appended: the caller queues one for each (queue_add), with
// the command's end, and conn_wait_all follows. now_ns is the time
// (timer_coarse_ns).
struct waiter conn_waiter(struct conn *c, const struct sink *sink, void *ctx,
                          uint64_t now_ns);

// conn_wait_all sends the commands whose waiters, so many, were queued.
void conn_wait_all(struct conn *c, uint32_t count);

// conn_push sends what was appended without waiting for a reply (CONN_PUSH).
void conn_push(struct conn *c);

// conn_limit sets the time limit of later replies, in seconds, 0 for none.
void conn_limit(struct conn *c, double seconds);

// conn_place is the place in the queue that the next waiter gets.
static inline uint32_t conn_place(const struct conn *c) {
    return c->queue.tail;
}

// conn_forget drops the replies of `count` waiters from that place on; their
// places stay. Those that were answered already are left alone.
static inline void conn_forget(struct conn *c, uint32_t place, uint32_t count) {
    queue_forget(&c->queue, place, count);
}

// conn_pending is how many replies are outstanding.
static inline uint32_t conn_pending(const struct conn *c) {
    return queue_count(&c->queue);
}

// conn_is_full says that so much is queued that more should be refused.
bool conn_is_full(const struct conn *c);

// conn_is_choked says that the server takes the bytes more slowly than they
// come: who wants to add some should wait for owner->drained.
bool conn_is_choked(struct conn *c);

// conn_sent is how many bytes of commands have been queued and sent, in all.
static inline uint64_t conn_sent(const struct conn *c) {
    return c->outbox.base;
}

// conn_address writes where it leads, as far as that is known.
static inline const char *conn_address(const struct conn *c, char *out,
                                       size_t size) {
    return link_where(c->options, c->link, out, size);
}

#endif
