// wire: HTTP/1.1 requests to servers over TCP and unix sockets, whole: head and
// body out, head and body in. Connections are kept, a pool for each server.
//
//   struct wire_call *w = wire_start(wire, &options, on_done, me);
//   ...on_done(w): w->code, or w->answer: status, head, body
//   wire_free(w);                     // at any time: it is given up if it is
//                                     // not done
//
// on_done is called from the loop, never from within these functions.
#ifndef NEAP_HTTP_WIRE_H
#define NEAP_HTTP_WIRE_H

#include "base/buf.h"
#include "base/list.h"
#include "core/runtime.h"
#include "http/answer.h"

struct origin;
struct wire;
struct wire_conn;

struct wire_options {
    struct slice host; // a name or an address, IPv6 without brackets
    int port;
    const char *path;       // of a unix socket, instead of host and port
    struct buf head;        // the request's, taken over
    struct slice body;      // it has to live as long as the call
    bool is_head;           // a HEAD: no body comes back
    bool is_repeatable;     // it may be sent again
    bool is_decoding;       // a body in gzip is unpacked
    double connect_timeout; // s
    size_t head_max;        // bytes
    uint64_t body_max;      // bytes, decoded
};

struct wire_call {
    struct wire *wire;
    struct list link; // of those that are told at the turn's end, or wait for
                      // a connection
    struct list near; // of those of its origin that wait for one
    void (*on_done)(struct wire_call *w);
    void *ctx;
    // the result
    const char *code; // NULL, or what it failed with: "http.connect"
    char error[160];
    const char *phase; // how far it came
    struct answer answer;
    // what is under way
    struct wire_conn *conn; // that serves it
    struct wire_conn *dial; // that is being made for it
    struct buf request;
    struct slice request_body;
    struct origin *origin;
    bool is_repeatable;
    uint64_t connect_due_ns;
};

// wire_new makes the pools; wire_close ends all that is under way.
struct wire *wire_new(struct runtime *rt);
void wire_close(struct wire *w);

// wire_start begins a request; wire_free ends it, wherever it is.
struct wire_call *wire_start(struct wire *wire, const struct wire_options *o,
                             void (*on_done)(struct wire_call *w), void *ctx);
void wire_free(struct wire_call *w);

// wire_phase says how far a call has come: "resolve", "connect", "wait",
// "receive".
const char *wire_phase(const struct wire_call *w);

#endif
