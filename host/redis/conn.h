// conn: one connection to a Redis server: a stream, and the queue of those
// who wait for replies. Commands may be queued in any state; they leave when
// the connection is ready, all of a turn in one write. It knows no Lua.
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
#include "redis/link.h"
#include "redis/resp.h"

enum conn_state {
    CONN_IDLE,       // no socket; the next command opens one
    CONN_CONNECTING, // the link finds its address and connects
    CONN_GREETING,   // AUTH, SELECT and so on are answered first
    CONN_READY,
    CONN_BACKOFF, // the last attempt failed; a timer starts the next
    CONN_CLOSED,  // for good
};

struct conn {
    struct runtime *rt;
    const struct conn_options *options;
    enum conn_state state;
    bool is_expiring;  // the timer has run; one more poll comes first
    bool is_pooled;    // for blocking commands: not reconnected, closed on loss
    struct link *link; // the socket of the current attempt
    redisReader *reader;
    struct buf out;           // queued commands
    struct buf sending;       // handed to uv_write
    uint64_t out_base;        // stream offset of out.data[0]
    uint64_t sending_base;    // likewise
    uint64_t settled;         // stream offset of the first waiter's command
    struct waiter *ring;      // the queue: [head, tail) modulo cap
    uint32_t head, tail, cap; // cap is a power of two
    struct waiter greeting;
    int greetings_left;
    char greeting_error[256];
    struct defer flush;
    struct timer timer; // the oldest waiter's deadline, connect or backoff
    uint64_t active_ms; // loop time of the last bytes received
    int attempts;       // that failed in a row
    uint64_t reconnects, timeouts;
    void *decoder; // the sinks' own scratch, freed by free_decoder
    void (*free_decoder)(void *decoder);
    void (*on_idle)(struct conn *c); // the last reply came (pooled)
    void (*on_lost)(struct conn *c); // closed by itself (pooled)
    void *owner;
    struct list place; // in the owner's lists
};

// conn_new makes a connection that is opened by its first command.
struct conn *conn_new(struct runtime *rt, const struct conn_options *options,
                      bool is_pooled);

// conn_close closes for good and frees; those who wait are failed with code
// and text.
void conn_close(struct conn *c, const char *code, const char *text);

// conn_out is where the next command's bytes go.
static inline struct buf *conn_out(struct conn *c) {
    return &c->out;
}

// conn_wait queues a waiter for the command just appended. The result is
// valid until the next call.
struct waiter *conn_wait(struct conn *c, const struct sink *sink, void *ctx);

// conn_place is the place in the queue that the next waiter gets.
static inline uint32_t conn_place(const struct conn *c) {
    return c->tail;
}

// conn_forget drops the replies of `count` waiters from that place on; their
// places stay. Those that were answered already are left alone.
void conn_forget(struct conn *c, uint32_t place, uint32_t count);

// conn_pending is how many replies are outstanding.
static inline uint32_t conn_pending(const struct conn *c) {
    return c->tail - c->head;
}

// conn_is_full says that so much is queued that more should be refused.
bool conn_is_full(const struct conn *c);

#endif
