// pool: a client of one Redis: one shared connection for ordinary commands,
// and connections of their own for commands that block, taken and given back.
#ifndef NEAP_REDIS_POOL_H
#define NEAP_REDIS_POOL_H

#include "redis/conn.h"

struct pubsub;

// What the connections that are gone have counted.
struct pool_totals {
    uint64_t sent, received; // bytes
    uint64_t reconnects, timeouts;
};

struct pool {
    struct runtime *rt;
    struct conn_options options;
    struct redis_url url;
    struct embedded *embedded;
    struct sentinel *sentinel;
    struct tls_context *sentinel_tls;
    struct conn *shared;
    struct list idle, busy; // pooled connections
    uint32_t limit, idle_count, busy_count;
    uint64_t created;
    struct pool_totals past;
    double pool_timeout;   // seconds that a call waits for a connection
    double idle_seconds;   // after which one that is not used is closed
    struct timer reaper;   // closes them
    struct timer pulse;    // asks a server that may block for ever for a reply
    uint64_t asked_ns;     // when it asked and got no answer yet
    int silent_pulses;     // since then
    struct waitq choked;   // tasks that wait until the server takes more
    struct pubsub *pubsub; // its subscriptions, once there is one
    struct resource resource;
    struct defer closing; // asked for while a reply is decoded
};

// pool_new makes a client for the URL (which it takes over); with is_embedded
// for the embedded server of directory dir (NULL: one in memory) instead of
// the URL's address. NULL with a reason in err if its TLS files are no good.
// It is closed with the runtime, or by pool_close.
struct pool *pool_new(struct runtime *rt, struct redis_url *url,
                      bool is_embedded, const char *dir, char *err,
                      size_t errlen);

// pool_close closes all connections; calls that wait are failed.
void pool_close(struct pool *p);

// pool_take lends a connection for a command that blocks; NULL if the limit
// is reached. It comes back by itself when its last reply was read, or is
// closed when it breaks.
struct conn *pool_take(struct pool *p);

// pool_hold keeps a connection on loan until it is given back; *holder is set
// to NULL if it breaks meanwhile.
void pool_hold(struct conn *c, struct conn **holder);

// pool_give gives a connection that was held back; one that still waits for
// replies, or is not clean, is closed.
void pool_give(struct conn *c, bool is_clean);

// pool_discard closes a connection on loan, whose command is not wanted any
// more.
void pool_discard(struct conn *c);

// pool_renew gives up all connections: their server is not the right one any
// more. What was sent fails as of unknown outcome.
void pool_renew(struct pool *p, const char *why);

// pool_totals_now adds up what all connections have counted.
struct pool_totals pool_totals_now(const struct pool *p);

#endif
