// connection: one connection of an HTTP server. For server.c alone.
#ifndef NEAP_HTTP_CONNECTION_H
#define NEAP_HTTP_CONNECTION_H

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
    uv_idle_t idle;    // writes what was held back, see on_flush
    struct list held;  // connections
    struct list conns; // all of them
    struct http_request *free_requests;
    uint32_t free_count;
    uint32_t connections;
    uint32_t requests; // with the owner
    uint64_t taken;    // requests in all
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

// connection_accept takes the connection that waits on the listener.
void connection_accept(struct http_server *s);

// connection_respond sends the answer to the connection's current request.
void connection_respond(struct http_connection *c, struct response *response);

// connection_stop closes the connection if nothing is under way on it.
void connection_stop(struct http_connection *c);

// connection_close cuts the connection.
void connection_close(struct http_connection *c);

// connection_write sends what is ready to be sent.
void connection_write(struct http_connection *c);

// connection_remote writes the peer's address.
void connection_remote(struct http_connection *c, char *out, size_t size);

// connection_of_link and _of_hold find the connection that a node stands for.
struct http_connection *connection_of_link(struct list *link);
struct http_connection *connection_of_hold(struct list *hold);

// server_take_request and _give_request lend requests from the pool.
struct http_request *server_take_request(struct http_server *s);
void server_give_request(struct http_server *s, struct http_request *r);

// server_connection_closed is told when a connection's memory is gone.
void server_connection_closed(struct http_server *s);

#endif
