// resp: commands as Redis reads them (RESP2 arrays of bulk strings), and how
// whoever waits for a reply is given it.
//
//   resp_command(&b, 2); resp_arg(&b, "GET", 3); resp_arg(&b, key, len);
#ifndef NEAP_REDIS_RESP_H
#define NEAP_REDIS_RESP_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct conn;
struct waiter;

// resp_command begins a command of argc arguments, its name counted.
void resp_command(struct buf *b, size_t argc);

// resp_arg appends one argument.
void resp_arg(struct buf *b, const void *bytes, size_t len);

// resp_arg_s appends a C string, resp_arg_u a number in decimal.
void resp_arg_s(struct buf *b, const char *s);
void resp_arg_u(struct buf *b, uint64_t v);

// resp_arg_score adds a bound as ZRANGEBYSCORE takes it, infinite ones too.
void resp_arg_score(struct buf *b, double v);

// A sink receives the parts of a reply while the reader decodes them. The
// functions return anything but NULL; array's result is in the task->parent
// ->obj of its elements. type tells strings, statuses and errors apart.
// Then exactly one of done and failed is called.
struct sink {
    void *(*string)(struct waiter *w, const redisReadTask *t, const char *s,
                    size_t len);
    void *(*array)(struct waiter *w, const redisReadTask *t, size_t count);
    void *(*integer)(struct waiter *w, const redisReadTask *t, long long v);
    void *(*nil)(struct waiter *w, const redisReadTask *t);
    void (*done)(struct waiter *w);
    void (*failed)(struct waiter *w, const char *code, const char *text);
};

// How far a command had come when it failed.
enum waiter_phase {
    PHASE_QUEUED, // not sent: it was not carried out
    PHASE_SENT,   // sent, in part or whole, and no reply came
};

// sink_ignore drops a reply: its place in the queue stays, nobody is told. Its
// functions are also for sinks that want some kinds of values only.
extern const struct sink sink_ignore;
void *sink_ignore_string(struct waiter *w, const redisReadTask *t,
                         const char *s, size_t len);
void *sink_ignore_array(struct waiter *w, const redisReadTask *t, size_t n);
void *sink_ignore_integer(struct waiter *w, const redisReadTask *t,
                          long long v);
void *sink_ignore_nil(struct waiter *w, const redisReadTask *t);
void sink_ignore_done(struct waiter *w);
void sink_ignore_failed(struct waiter *w, const char *code, const char *text);

// A waiter stands in a connection's queue for one reply.
struct waiter {
    const struct sink *sink;
    struct conn *conn;
    void *ctx;         // the sink's own: a task, a batch
    uint32_t wait;     // the sink's own: a task's wait, a slot
    uint16_t shape;    // the sink's own: what the reply is made into
    bool is_error;     // the sink's own: the reply is an error
    bool is_joined;    // its command is of no use without the one before it
    uint8_t phase;     // when it failed
    uint64_t end;      // offset in the stream where its command ends
    uint64_t start_ns; // when it was queued
    uint64_t due_ms;   // loop time at which it is given up, 0: never
};

// conn_current_waiter is what the reader asks for whom it decodes.
struct waiter *conn_current_waiter(struct conn *conn);

#endif
