// server: the listener, the pool of requests, and the server's life. It ends
// when it was stopped, its handles are closed, its connections are gone and
// every request was given back.
#include "http/server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/connection.h"

enum {
    pool_max = 1024,         // requests kept for reuse
    buffer_keep = 16 * 1024, // capacity of its buffers that one keeps
    spare_files = 128,       // left to Redis, logs and scripts
};

// -- requests

struct http_request *server_take_request(struct http_server *s) {
    struct http_request *r = s->free_requests;
    if (r) {
        s->free_requests = r->next;
        s->free_count--;
        return r;
    }
    r = xmalloc(sizeof *r); // http_head may stay uninitialized
    r->bytes = r->body = (struct buf){0};
    r->server = s;
    r->conn = NULL;
    r->sink = NULL;
    r->data = NULL;
    return r;
}

static void free_request(struct http_request *r) {
    buf_clear(&r->bytes);
    buf_clear(&r->body);
    free(r);
}

static void trim(struct buf *b) {
    b->len = 0;
    if (b->cap > buffer_keep) {
        buf_clear(b);
    }
}

void server_give_request(struct http_server *s, struct http_request *r) {
    if (s->free_count == pool_max) {
        free_request(r);
        return;
    }
    trim(&r->bytes);
    trim(&r->body);
    r->conn = NULL;
    r->data = NULL;
    r->next = s->free_requests;
    s->free_requests = r;
    s->free_count++;
}

static void maybe_end(struct http_server *s);

// give_back takes a request from its owner.
static void give_back(struct http_request *r) {
    struct http_server *s = r->server;
    if (!s) {
        free_request(r);
        return;
    }
    server_give_request(s, r);
    s->requests--;
    maybe_end(s);
}

void http_respond(struct http_request *r, struct response *response) {
    response->is_head =
        r->head.method.len == 4 && memcmp(r->head.method.p, "HEAD", 4) == 0;
    if (r->sink) {
        response_write(r->sink, response);
    } else if (r->conn) {
        connection_respond(r->conn, response);
    }
    give_back(r);
}

void http_abandon(struct http_request *r) {
    struct http_connection *c = r->conn;
    if (c) {
        connection_close(c); // tells the owner, who knows
    }
    give_back(r);
}

struct http_request *http_request_local(const char *head, size_t head_len,
                                        struct slice body, struct buf *sink,
                                        int *status) {
    struct http_request *r = xcalloc(1, sizeof *r);
    size_t scanned = 0;
    buf_add(&r->bytes, head, head_len);
    buf_add(&r->body, body.p, body.len);
    r->sink = sink;
    *status = http_parse_head(&r->head, r->bytes.data, head_len, &scanned);
    if (*status == HTTP_OK && r->head.size == head_len) {
        return r;
    }
    *status = *status > HTTP_MORE ? *status : 400;
    free_request(r);
    return NULL;
}

void http_request_remote(const struct http_request *r, char *out, size_t size) {
    out[0] = 0;
    if (r->conn) {
        connection_remote(r->conn, out, size);
    }
}

// -- life

static void free_server(struct http_server *s) {
    while (s->free_requests) {
        struct http_request *r = s->free_requests;
        s->free_requests = r->next;
        free_request(r);
    }
    free(s);
}

static void maybe_end(struct http_server *s) {
    if (!s->is_stopping || s->handles || s->connections || s->requests) {
        return;
    }
    if (!s->is_over) {
        s->is_over = true;
        runtime_remove(&s->resource);
        if (s->handler.on_end) {
            s->handler.on_end(s->handler.arg);
        }
    }
    if (!s->is_referenced) {
        free_server(s);
    }
}

static void on_handle_closed(uv_handle_t *h) {
    struct http_server *s = h->data;
    s->handles--;
    maybe_end(s);
}

static void each_conn(struct http_server *s,
                      void (*fn)(struct http_connection *)) {
    struct list *next;
    for (struct list *n = s->conns.next; n != &s->conns; n = next) {
        next = n->next;
        fn(connection_of_link(n));
    }
}

static void close_handles(struct http_server *s) {
    s->is_stopping = true;
    uv_close((uv_handle_t *)&s->listener, on_handle_closed);
    // what is held back is written now
    while (!list_is_empty(&s->held)) {
        struct http_connection *c = connection_of_hold(s->held.next);
        list_remove(s->held.next);
        connection_write(c);
    }
    uv_close((uv_handle_t *)&s->idle, on_handle_closed);
}

void http_server_stop(struct http_server *s) {
    if (!s->is_stopping) {
        close_handles(s);
        each_conn(s, connection_stop);
    }
}

void http_server_close(struct http_server *s) {
    if (!s->is_stopping) {
        close_handles(s);
    }
    each_conn(s, connection_close);
}

void http_server_release(struct http_server *s) {
    s->is_referenced = false;
    maybe_end(s);
}

static struct http_server *of_resource(struct resource *r) {
    return (
        struct http_server *)(void *)((char *)r -
                                      offsetof(struct http_server, resource));
}

static void on_stop(struct resource *r) {
    http_server_stop(of_resource(r));
}

static void on_close(struct resource *r) {
    http_server_close(of_resource(r));
}

// -- accepting

static void warn(struct http_server *s, const char *text) {
    uint64_t now = uv_hrtime();
    if (s->warned_ns == 0 || now - s->warned_ns > UINT64_C(10000000000)) {
        s->warned_ns = now;
        log_write(&s->rt->log, LOG_WARN, "http: %s (%u connections are open)",
                  text, s->connections);
    }
}

// uv does not go on accepting until uv_accept is called: a connection that
// is left there is how the listener waits for room. Out of files, uv itself
// accepts and closes at once, so the listener never spins.
static void on_connection(uv_stream_t *listener, int status) {
    struct http_server *s = listener->data;
    if (status < 0) {
        warn(s, uv_strerror(status));
    } else if (s->connections >= s->options.max_connections) {
        s->is_full = true;
        warn(s, "no more connections are taken for now");
    } else {
        connection_accept(s);
    }
}

void server_connection_closed(struct http_server *s) {
    s->connections--;
    if (s->is_full && !s->is_stopping) {
        s->is_full = false;
        connection_accept(s);
    }
    maybe_end(s);
}

// -- opening

static void set_defaults(struct http_server_options *o) {
    struct rlimit files = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur > 1 << 20) {
        files.rlim_cur = 1 << 20;
    }
    uint32_t room = (uint32_t)files.rlim_cur;
    room = room > 2 * spare_files ? room - spare_files : room / 2;
    o->host = o->host ? o->host : "127.0.0.1";
    o->backlog = o->backlog ? o->backlog : 511;
    o->max_connections = o->max_connections ? o->max_connections : room;
    if (!o->head_max || o->head_max > HTTP_HEAD_MAX) {
        o->head_max = HTTP_HEAD_MAX;
    }
    if (!o->headers_max || o->headers_max > HTTP_HEADERS_MAX) {
        o->headers_max = HTTP_HEADERS_MAX;
    }
    o->body_max = o->body_max ? o->body_max : 1 << 20;
    o->header_timeout = o->header_timeout > 0 ? o->header_timeout : 10;
    o->body_timeout = o->body_timeout > 0 ? o->body_timeout : 30;
    o->idle_timeout = o->idle_timeout > 0 ? o->idle_timeout : 60;
    o->write_timeout = o->write_timeout > 0 ? o->write_timeout : 30;
}

// bind_tcp returns a uv error, or one of getaddrinfo in *gai.
static int bind_tcp(struct http_server *s, int *gai) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char port[16];
    snprintf(port, sizeof port, "%d", s->options.port);
    *gai = getaddrinfo(s->options.host, port, &hints, &found);
    if (*gai != 0) {
        return UV_EADDRNOTAVAIL;
    }
    struct addrinfo *a = found; // an IPv4 address where there is one
    while (a->ai_next && a->ai_family != AF_INET) {
        a = a->ai_next;
    }
    a = a->ai_family == AF_INET ? a : found;
    int rc = uv_tcp_bind(&s->listener.tcp, a->ai_addr, 0);
    freeaddrinfo(found);
    return rc;
}

static void read_port(struct http_server *s) {
    struct sockaddr_storage a;
    int len = sizeof a;
    if (uv_tcp_getsockname(&s->listener.tcp, (struct sockaddr *)&a, &len) ==
        0) {
        s->port = ntohs(a.ss_family == AF_INET6
                            ? ((struct sockaddr_in6 *)&a)->sin6_port
                            : ((struct sockaddr_in *)&a)->sin_port);
    }
}

// remove_stale unlinks a socket on which nobody listens any more.
static void remove_stale(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(a.sun_path, path, strlen(path));
    if (fd >= 0) {
        if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 &&
            errno == ECONNREFUSED) {
            unlink(path);
        }
        close(fd);
    }
}

static int bind_unix(struct http_server *s) {
    const char *path = s->options.path;
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        return UV_ENAMETOOLONG;
    }
    remove_stale(path);
    return uv_pipe_bind(&s->listener.pipe, path);
}

static int bind_and_listen(struct http_server *s, int *gai) {
    int rc = s->is_unix ? bind_unix(s) : bind_tcp(s, gai);
    if (rc == 0) {
        rc = uv_listen(&s->listener.stream, s->options.backlog, on_connection);
    }
    if (rc == 0 && !s->is_unix) {
        read_port(s);
    }
    return rc;
}

static struct http_server *new_server(struct runtime *rt,
                                      const struct http_server_options *o,
                                      const struct http_handler *handler) {
    struct http_server *s = xcalloc(1, sizeof *s);
    s->rt = rt;
    s->options = *o;
    s->handler = *handler;
    s->is_unix = o->path != NULL;
    set_defaults(&s->options);
    list_init(&s->held);
    list_init(&s->conns);
    s->resource.stop = on_stop;
    s->resource.close = on_close;
    uv_idle_init(rt->loop, &s->idle);
    if (s->is_unix) {
        uv_pipe_init(rt->loop, &s->listener.pipe, 0);
    } else {
        uv_tcp_init(rt->loop, &s->listener.tcp);
    }
    s->idle.data = s->listener.stream.data = s;
    s->handles = 2;
    runtime_add(rt, &s->resource);
    return s;
}

struct http_server *http_server_open(struct runtime *rt,
                                     const struct http_server_options *o,
                                     const struct http_handler *handler,
                                     char *error, size_t error_size) {
    struct http_server *s = new_server(rt, o, handler);
    int gai = 0;
    int rc = bind_and_listen(s, &gai);
    s->options.path = s->options.host = NULL; // they were the caller's
    if (rc == 0) {
        s->is_referenced = true;
        return s;
    }
    snprintf(error, error_size, "%s: %s", uv_err_name(rc),
             gai ? gai_strerror(gai) : uv_strerror(rc));
    s->handler.on_end = NULL;
    http_server_close(s);
    return NULL;
}

int http_server_port(const struct http_server *s) {
    return s->port;
}

uint64_t http_server_requests(const struct http_server *s) {
    return s->taken;
}

uint32_t http_server_connections(const struct http_server *s) {
    return s->connections;
}
