// sentinel: where the primary of a name is, by asking its sentinels
// (redis.io, "Guidelines for Redis clients with support for Sentinel"), and
// word of it when that changes.
#ifndef NEAP_REDIS_SENTINEL_H
#define NEAP_REDIS_SENTINEL_H

#include "core/runtime.h"
#include "redis/tls.h"
#include "redis/url.h"

struct sentinel;

// sentinel_cb gets the primary's address, or an error; the strings are good
// until it returns.
typedef void sentinel_cb(void *arg, const char *host, int port,
                         const char *error);

// sentinel_new readies the sentinels of a URL, which has to outlive them. tls
// is for talking to them, or NULL. on_switch(arg) is called when they name
// another primary than before, though nobody doubted that one.
struct sentinel *sentinel_new(struct runtime *rt, const struct redis_url *url,
                              struct tls_context *tls,
                              void (*on_switch)(void *arg), void *arg);

// sentinel_close forgets all that wait.
void sentinel_close(struct sentinel *s);

// sentinel_ask calls cb, never before it returned.
void sentinel_ask(struct sentinel *s, sentinel_cb *cb, void *arg);

// sentinel_forget drops the callbacks that wait with arg.
void sentinel_forget(struct sentinel *s, const void *arg);

// sentinel_doubt: what was named last is no primary; another sentinel is to be
// asked first the next time. It may be said more than once.
void sentinel_doubt(struct sentinel *s);

#endif
