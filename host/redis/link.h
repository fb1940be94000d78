// link: one attempt to reach a Redis server, and the stream of bytes that
// comes of it: finds the address (a name's, the embedded server's, the one
// that a sentinel names), tries each that a name has, connects, speaks TLS.
//
//   c->link = link_open(rt, options, &events, c);
//   ... events.opened(c): link_send(c->link, &bytes)
//   link_close(c->link);                  // no event comes after that
#ifndef NEAP_REDIS_LINK_H
#define NEAP_REDIS_LINK_H

#include <uv.h>

#include "base/buf.h"
#include "core/runtime.h"
#include "redis/embedded.h"
#include "redis/url.h"

struct conn;
struct sentinel;
struct tls_context;

// What all connections of a client share.
struct conn_options {
    const struct redis_url *url;
    struct embedded *embedded;       // instead of the URL's address, or NULL
    struct sentinel *sentinel;       // likewise
    struct tls_context *tls;         // or NULL
    double timeout, connect_timeout; // seconds
    uint32_t queue_max;              // commands that wait for a connection
    size_t queue_bytes;              // and their bytes
    uint64_t slow_ns;                // a reply later than that is reported
    bool is_once;                    // an attempt that failed is not repeated
};

// One of opened and failed is called, never inside link_open; the others come
// after opened. It is final when trying again is of no use. With TLS 1.3 a peer
// refuses our certificate only after that: failed may then come after opened,
// but not after received.
struct link_events {
    void (*opened)(struct conn *c);
    void (*failed)(struct conn *c, bool is_final, const char *code,
                   const char *error);
    void (*received)(struct conn *c, const char *bytes, size_t len);
    void (*ended)(struct conn *c, const char *error);
    void (*written)(struct conn *c); // what link_send kept has left
};

struct link;

// link_open begins an attempt for the connection.
struct link *link_open(struct runtime *rt, const struct conn_options *options,
                       const struct link_events *events, struct conn *conn);

// link_close ends it in any state.
void link_close(struct link *l);

// link_send writes the bytes and leaves the buffer empty: what the socket does
// not take is kept. Or it returns a negative error of uv's. Not to be called
// while link_is_sending.
int link_send(struct link *l, struct buf *bytes);

// link_is_sending says that `written` is still to come.
bool link_is_sending(const struct link *l);

// link_unsent returns how many of the bytes last given to link_send have not
// left for certain; *bytes is then where they all stand, else NULL. Of a TLS
// link all bytes count as sent.
size_t link_unsent(const struct link *l, const struct buf **bytes);

// link_keep_alive says whether the open socket keeps the loop alive.
void link_keep_alive(struct link *l, bool on);

// link_describe writes where the options lead to, without a password.
const char *link_describe(const struct conn_options *options, char *out,
                          size_t size);

// link_address returns the "host:port" that the link leads to, which sentinels
// name anew; "" before it is known, or where there is no such thing.
const char *link_address(const struct link *l);

// link_where is link_describe, and the address that sentinels named if the link
// (or NULL) has one.
const char *link_where(const struct conn_options *options, const struct link *l,
                       char *out, size_t size);

#endif
