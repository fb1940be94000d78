// pool: a client of one Redis: one shared connection for ordinary commands,
// and connections of their own for commands that block, taken and given back.
#ifndef NEAP_REDIS_POOL_H
#define NEAP_REDIS_POOL_H

#include "redis/conn.h"

struct pool {
    struct runtime *rt;
    struct conn_options options;
    struct redis_url url;
    struct embedded *embedded;
    struct conn *shared;
    struct list idle, busy; // pooled connections
    uint32_t limit, idle_count, busy_count;
    uint64_t created;
    struct timer reaper; // closes what was idle for a minute
    struct resource resource;
};

// pool_new makes a client for the URL (which it takes over), or, when url is
// NULL, for the embedded server of directory dir (NULL: one in memory). It is
// closed with the runtime, or by pool_close.
struct pool *pool_new(struct runtime *rt, struct redis_url *url,
                      const char *dir);

// pool_close closes all connections; calls that wait are failed.
void pool_close(struct pool *p);

// pool_take lends a connection for a command that blocks; NULL if the limit
// is reached. It comes back by itself when its last reply was read, or is
// closed when it breaks.
struct conn *pool_take(struct pool *p);

// pool_discard closes a connection on loan, whose command is not wanted any
// more.
void pool_discard(struct conn *c);

#endif
