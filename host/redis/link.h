// link: one attempt to reach a Redis server: finds its address (a name, or
// the embedded server's socket), connects, and is the socket from then on.
//
//   c->link = link_open(rt, options, &events, c);
//   ... events.opened(c): write to and read from link->stream
//   link_close(c->link);                  // no event comes after that
#ifndef NEAP_REDIS_LINK_H
#define NEAP_REDIS_LINK_H

#include <uv.h>

#include "core/runtime.h"
#include "redis/embedded.h"
#include "redis/url.h"

struct conn;

// What all connections of a client share.
struct conn_options {
    const struct redis_url *url;
    struct embedded *embedded;       // instead of the URL's address, or NULL
    double timeout, connect_timeout; // seconds
};

// Exactly one of opened and failed is called, never inside link_open. It is
// final when trying again is of no use.
struct link_events {
    void (*opened)(struct conn *c);
    void (*failed)(struct conn *c, bool is_final, const char *error);
};

// A link outlives its connection until uv has closed it: callbacks on its
// handle find `conn` NULL then.
struct link {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    uv_connect_t connect;
    uv_write_t write; // the connection's
    bool is_writing;  // likewise
    bool has_handle;
    struct runtime *rt;
    const struct conn_options *options;
    const struct link_events *events;
    struct conn *conn;
    struct lookup *lookup; // while the address is looked for
    struct defer failing;  // what failed at once is told at the turn's end
    int error;
};

// link_open begins an attempt for the connection.
struct link *link_open(struct runtime *rt, const struct conn_options *options,
                       const struct link_events *events, struct conn *conn);

// link_close ends it in any state and frees it in the end.
void link_close(struct link *l);

// link_describe writes where the options lead to, without a password.
const char *link_describe(const struct conn_options *options, char *out,
                          size_t size);

#endif
