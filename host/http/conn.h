// conn: one connection of an HTTP server. For server.c alone.
#ifndef NEAP_HTTP_CONN_H
#define NEAP_HTTP_CONN_H

#include "base/list.h"
#include "core/runtime.h"
#include "http/server.h"

enum { http_read_size = 64 * 1024 };

struct http_server {
    struct runtime *rt;
    struct http_server_options options;
    struct http_handler handler;
    struct resource resource;
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    uv_idle_t idle;    // writes what was held back, see conn_flush
    struct list held;  // connections
    struct list conns; // all of them
    struct http_request *free_requests;
    uint32_t free_count;
    uint32_t connections;
    uint32_t requests; // with the owner
    uint32_t handles;  // listener and idle, until closed
    int port;
    bool is_unix;
    bool is_stopping;
    bool is_referenced; // by who opened it
    bool is_over;       // on_end was called
    bool is_full;       // a connection waits to be accepted
    uint64_t warned_ns; // when the log was last told of an accept that failed
    char read_buffer[http_read_size];
};

// conn_accept takes the connection that waits on the listener.
void conn_accept(struct http_server *s);

// conn_respond sends the answer to the connection's current request.
void conn_respond(struct http_conn *c, struct response *response);

// conn_stop closes the connection if nothing is under way on it.
void conn_stop(struct http_conn *c);

// conn_close cuts the connection.
void conn_close(struct http_conn *c);

// conn_write sends what is ready to be sent.
void conn_write(struct http_conn *c);

// conn_remote writes the peer's address.
void conn_remote(struct http_conn *c, char *out, size_t size);

struct http_conn *conn_of_link(struct list *link);
struct http_conn *conn_of_hold(struct list *hold);

// server_take_request and _give_request lend requests from the pool.
struct http_request *server_take_request(struct http_server *s);
void server_give_request(struct http_server *s, struct http_request *r);

// server_conn_closed is told when a connection's memory is gone.
void server_conn_closed(struct http_server *s);

#endif
