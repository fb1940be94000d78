// server: an HTTP/1.1 server on the runtime's loop. Mechanism only: what
// answers the requests is the owner's.
//
//   static void on_request(struct http_request *r, void *arg) {
//       ...now or later: http_respond(r, &(struct response){.status = 204});
//   }
//   struct http_server *s = http_server_open(rt, &options, &handler, text,
//                                            sizeof text);
//
// A request belongs to the owner from on_request until http_respond, which is
// called once for each, also when the client is gone.
#ifndef NEAP_HTTP_SERVER_H
#define NEAP_HTTP_SERVER_H

#include <uv.h>

#include "base/buf.h"
#include "http/parse.h"
#include "http/response.h"

struct http_connection;
struct http_server;
struct runtime;

// What becomes of the handler when the client ends its side, which most do
// that leave, and few that still read (RFC 9112 §9.6 knows no half-closed
// ones).
enum http_half_close {
    HALF_CLOSE_BRIEF, // it has another second
    HALF_CLOSE_KEPT,  // it is answered as long as nothing shows that it left
    HALF_CLOSE_GONE,  // the client is gone
};

// Zero stands for the default, named in brackets.
struct http_server_options {
    const char *host;         // name or address [127.0.0.1]
    int port;                 // [any that is free]
    const char *path;         // of a unix socket, instead of host and port
    int backlog;              // [511]
    uint32_t max_connections; // [open files allowed, less 128]
    size_t head_max;          // bytes [HTTP_HEAD_MAX, which is also the most]
    int headers_max;          // fields [HTTP_HEADERS_MAX, also the most]
    size_t body_max;          // bytes [1 MiB]
    double header_timeout;    // s, from a head's first byte to its last [10]
    double body_timeout;      // s, for each 64 KiB of a body [30]
    double idle_timeout;      // s, between requests [60]
    double write_timeout;     // s, without the client taking anything [30]
    enum http_half_close half_close; // [HALF_CLOSE_BRIEF]
};

struct http_request {
    struct http_head head; // its slices point into bytes
    struct buf bytes;
    struct buf body;
    struct http_server *server;   // NULL in process
    struct http_connection *conn; // NULL once the client is gone
    struct buf *sink;             // takes the response, in process
    void *data;                   // the owner's
    struct http_request *next;    // in the server's pool
};

// None of these may call back into the server except http_respond.
struct http_handler {
    void (*on_request)(struct http_request *r, void *arg);
    // the client left before it was answered; http_respond is still due
    void (*on_gone)(struct http_request *r);
    // nothing will come from this server any more
    void (*on_end)(void *arg);
    void *arg;
};

// http_server_open listens at once. NULL: the reason is in error, a text.
struct http_server *http_server_open(struct runtime *rt,
                                     const struct http_server_options *o,
                                     const struct http_handler *handler,
                                     char *error, size_t error_size);

// http_server_stop closes the listener and idle connections, and lets the
// requests that run be answered. Then the server ends by itself.
void http_server_stop(struct http_server *s);

// http_server_close ends the server now; connections are cut.
void http_server_close(struct http_server *s);

// http_server_release gives back the pointer that open returned. The server
// goes on until it is stopped.
void http_server_release(struct http_server *s);

// http_server_port returns the port, 0 on a unix socket.
int http_server_port(const struct http_server *s);

// http_server_connections returns how many connections are open.
uint32_t http_server_connections(const struct http_server *s);

// http_server_requests returns how many requests have come so far.
uint64_t http_server_requests(const struct http_server *s);

// http_respond answers and takes the request back. Of the response, is_head
// and persist are set here. The answer leaves at the end of the turn.
void http_respond(struct http_request *r, struct response *response);

// http_abandon takes the request back and cuts its connection.
void http_abandon(struct http_request *r);

// http_request_local makes a request of a head, with its body aside, that
// came from no connection; its response is written to sink. NULL: *status
// says why.
struct http_request *http_request_local(const char *head, size_t head_len,
                                        struct slice body, struct buf *sink,
                                        int *status);

// http_request_remote writes the client's address, "" if it has none.
void http_request_remote(const struct http_request *r, char *out, size_t size);

#endif
