// link: one attempt to reach a Redis server.
//
// The socket is a thing of its own, since uv closes it later than the link:
// its callbacks find `link` NULL then. A name with several addresses has a
// socket for each in turn.
#include "redis/link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "redis/room.h"
#include "redis/sentinel.h"
#include "redis/tls.h"

struct socket {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    uv_connect_t connect;
    struct buf sending; // what the socket did not take at once
    size_t sent;        // of it, so far
    bool is_sending;
    struct room room;  // for the rest
    int handles;       // that are not closed yet
    struct link *link; // NULL once given up
};

// A lookup finds out where to connect to. It may outlive its link.
struct lookup {
    uv_getaddrinfo_t req;
    struct link *link; // NULL once given up
};

struct link {
    struct runtime *rt;
    const struct conn_options *options;
    const struct link_events *events;
    struct conn *conn;
    struct socket *socket;
    struct lookup *lookup;      // while a name is looked up
    struct addrinfo *addresses; // of the name
    struct addrinfo *next;      // of them, the one to try next
    struct timer patience;      // with the address that is being tried
    uint64_t due_ns;            // when the time to connect is over
    struct tls *tls;
    bool is_waiting;      // for the embedded server or a sentinel
    bool is_open;         // opened was called
    bool has_received;    // and received
    struct defer failing; // what failed is told at the turn's end
    int error;
    char host[256]; // what the certificate is to be for
    char address[320];
};

const char *link_describe(const struct conn_options *options, char *out,
                          size_t size) {
    if (options->embedded) {
        snprintf(out, size, "the embedded redis-server");
        return out;
    }
    return redis_url_describe(options->url, out, size);
}

const char *link_address(const struct link *l) {
    return l->address;
}

const char *link_where(const struct conn_options *options, const struct link *l,
                       char *out, size_t size) {
    link_describe(options, out, size);
    size_t len = strlen(out);
    if (options->sentinel && l && *l->address) {
        snprintf(out + len, size - len, " (%s)", l->address);
    }
    return out;
}

static void try_address(struct link *l);

static void fail(struct link *l, const char *error) {
    l->events->failed(l->conn, false, "redis.connect", error);
}

static void on_failing(struct defer *d) {
    struct link *l =
        (struct link *)(void *)((char *)d - offsetof(struct link, failing));
    if (l->is_open) {
        l->events->ended(l->conn, uv_strerror(l->error));
    } else if (l->next) {
        try_address(l);
    } else {
        fail(l, uv_strerror(l->error));
    }
}

static void fail_soon(struct link *l, int error) {
    l->error = error;
    runtime_defer(l->rt, &l->failing);
}

// -- the socket

static void on_closed(uv_handle_t *h) {
    struct socket *s = h->data;
    if (--s->handles == 0) {
        buf_clear(&s->sending);
        free(s);
    }
}

static void drop_socket(struct link *l) {
    struct socket *s = l->socket;
    if (s) {
        s->link = NULL;
        l->socket = NULL;
        s->handles = 1 + room_close(&s->room, on_closed);
        uv_close(&s->handle, on_closed);
    }
}

static void on_room(void *owner);

static struct socket *new_socket(struct link *l, bool is_tcp) {
    struct socket *s = xcalloc(1, sizeof *s);
    s->link = l;
    if (is_tcp) {
        uv_tcp_init(l->rt->loop, &s->tcp);
    } else {
        uv_pipe_init(l->rt->loop, &s->pipe, 0);
    }
    s->handle.data = s->connect.data = s;
    room_init(&s->room, &s->stream, &l->rt->timers, on_room, s);
    l->socket = s;
    return s;
}

void link_keep_alive(struct link *l, bool on) {
    if (l->socket && on) {
        uv_ref(&l->socket->handle);
    } else if (l->socket) {
        uv_unref(&l->socket->handle);
    }
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    (void)hint;
    struct socket *s = h->data;
    static char nobody[16];
    if (!s->link) {
        *b = uv_buf_init(nobody, sizeof nobody);
        return;
    }
    struct runtime *rt = s->link->rt; // consumed within the callback
    *b = uv_buf_init(rt->read_buffer, sizeof rt->read_buffer);
}

static void receive_tls(struct link *l, const char *bytes, size_t len);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct socket *s = stream->data;
    struct link *l = s->link;
    if (!l || n == 0) {
        return;
    }
    if (n < 0) {
        const char *why = n == UV_EOF ? "the server closed the connection"
                                      : uv_strerror((int)n);
        if (l->is_open) {
            l->events->ended(l->conn, why);
        } else {
            fail(l, why);
        }
        return;
    }
    if (l->tls) {
        receive_tls(l, b->base, (size_t)n);
    } else {
        l->events->received(l->conn, b->base, (size_t)n);
    }
    if (s->link && s->is_sending) {
        on_room(s); // poll tells so late that the server would run dry
    }
}

// -- writing

static int put_tls(struct link *l);

// on_room writes what is left, as far as the socket takes it. What goes wrong
// is told at the turn's end: replies may be there to be read.
static void on_room(void *owner) {
    struct socket *s = owner;
    struct link *l = s->link;
    size_t left = s->sending.len - s->sent;
    uv_buf_t b = uv_buf_init(s->sending.data + s->sent, (unsigned)left);
    int n = uv_try_write(&s->stream, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        room_stop(&s->room);
        fail_soon(l, n);
        return;
    }
    s->sent += n > 0 ? (size_t)n : 0;
    if (s->sent < s->sending.len) {
        return;
    }
    room_stop(&s->room);
    s->is_sending = false;
    s->sending.len = 0;
    if (l->tls) {
        put_tls(l); // an error shows again with the next bytes
    }
    if (l->is_open && !s->is_sending) {
        l->events->written(l->conn);
    }
}

// put writes bytes as they are.
static int put(struct link *l, struct buf *bytes) {
    struct socket *s = l->socket;
    uv_buf_t b = uv_buf_init(bytes->data, (unsigned)bytes->len);
    int n = uv_try_write(&s->stream, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return n;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == bytes->len) {
        bytes->len = 0;
        if (bytes->cap > (8 << 20)) {
            buf_clear(bytes);
        }
        return 0;
    }
    struct buf empty = s->sending;
    s->sending = *bytes;
    s->sent = sent;
    *bytes = empty;
    bytes->len = 0;
    s->is_sending = true;
    room_await(&s->room);
    return 0;
}

// put_tls sends what TLS itself has to say.
static int put_tls(struct link *l) {
    struct buf *out = tls_out(l->tls);
    return out->len && !l->socket->is_sending ? put(l, out) : 0;
}

int link_send(struct link *l, struct buf *bytes) {
    if (!l->tls) {
        return put(l, bytes);
    }
    int r = tls_write(l->tls, bytes->data, bytes->len);
    bytes->len = 0;
    return r < 0 ? UV_EPROTO : put_tls(l);
}

bool link_is_sending(const struct link *l) {
    return l->socket && l->socket->is_sending;
}

size_t link_unsent(const struct link *l, const struct buf **bytes) {
    *bytes = NULL;
    if (l->tls || !link_is_sending(l)) {
        return 0;
    }
    *bytes = &l->socket->sending;
    return l->socket->sending.len - l->socket->sent;
}

// -- TLS

static void open_now(struct link *l) {
    l->is_open = true;
    timer_stop(&l->rt->timers, &l->patience);
    l->events->opened(l->conn);
}

static void tls_failed(struct link *l) {
    char text[400];
    snprintf(text, sizeof text, "TLS: %s", tls_error(l->tls));
    if (l->has_received) {
        l->events->ended(l->conn, text);
    } else { // a certificate does not get better by trying again
        l->events->failed(l->conn, true, "redis.tls", text);
    }
}

static void go_on_tls(struct link *l) {
    int r = tls_handshake(l->tls);
    int w = put_tls(l);
    if (r < 0) {
        tls_failed(l);
    } else if (w < 0) {
        fail(l, uv_strerror(w));
    } else if (r > 0) {
        open_now(l);
    }
}

// receive_tls: the socket outlives what the connection does with the bytes,
// the link may not.
static void receive_tls(struct link *l, const char *bytes, size_t len) {
    struct socket *s = l->socket;
    tls_feed(l->tls, bytes, len);
    if (!l->is_open) {
        go_on_tls(l);
    }
    char plain[16384];
    while (s->link && l->is_open) {
        long n = tls_read(l->tls, plain, sizeof plain);
        if (n > 0) {
            l->has_received = true;
            l->events->received(l->conn, plain, (size_t)n);
        } else if (n == TLS_END) {
            l->events->ended(l->conn, "the server closed the connection");
            return;
        } else if (n < 0) {
            tls_failed(l);
            return;
        } else {
            put_tls(l);
            return;
        }
    }
}

// -- connecting

// set_keepalive: a peer that vanished is found in 75 s by the system too, for
// connections on which nothing is due.
static void set_keepalive(struct socket *s) {
    uv_os_fd_t fd;
    int interval = 5, count = 3;
    uv_tcp_nodelay(&s->tcp, 1);
    uv_tcp_keepalive(&s->tcp, 1, 60);
    if (uv_fileno(&s->handle, &fd) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
}

static void on_connected(uv_connect_t *req, int status) {
    struct socket *s = req->data;
    struct link *l = s->link;
    if (!l) {
        return;
    }
    if (status < 0 && l->next) {
        try_address(l);
        return;
    }
    if (status < 0) {
        fail(l, uv_strerror(status));
        return;
    }
    if (s->handle.type == UV_TCP) {
        set_keepalive(s);
    }
    l->next = NULL;
    timer_stop(&l->rt->timers, &l->patience);
    uv_read_start(&s->stream, on_alloc, on_read);
    if (!l->options->tls) {
        open_now(l);
        return;
    }
    l->tls = tls_new(l->options->tls, l->host, l->options->url->sni);
    go_on_tls(l);
}

static void connect_path(struct link *l, const char *path) {
    struct socket *s = new_socket(l, false);
    uv_pipe_connect(&s->connect, &s->pipe, path, on_connected);
}

static void connect_address(struct link *l, const struct sockaddr *address) {
    struct socket *s = new_socket(l, true);
    int r = uv_tcp_connect(&s->connect, &s->tcp, address, on_connected);
    if (r < 0) {
        fail_soon(l, r);
    }
}

// share_of returns when one of so many addresses has had its share of the time
// that is left to connect.
static uint64_t share_of(const struct link *l, unsigned addresses) {
    uint64_t now = uv_hrtime();
    return now + (l->due_ns > now ? (l->due_ns - now) / addresses : 0);
}

// try_address goes on to the name's next address. One that does not answer
// leaves time for those behind it.
static void try_address(struct link *l) {
    struct addrinfo *a = l->next;
    unsigned left = 0;
    for (struct addrinfo *p = a; p; p = p->ai_next) {
        left++;
    }
    drop_socket(l);
    timer_stop(&l->rt->timers, &l->patience);
    l->next = a->ai_next;
    if (l->next) {
        timer_start(&l->rt->timers, &l->patience, share_of(l, left));
    }
    connect_address(l, a->ai_addr);
}

static void on_impatient(struct timer *t) {
    struct link *l =
        (struct link *)(void *)((char *)t - offsetof(struct link, patience));
    if (l->next) {
        try_address(l);
    }
}

// -- finding the address

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *list) {
    struct lookup *k = req->data;
    struct link *l = k->link;
    free(k);
    if (!l) {
        uv_freeaddrinfo(list);
        return;
    }
    l->lookup = NULL;
    if (status < 0) {
        fail(l, uv_strerror(status));
        return;
    }
    l->addresses = l->next = list;
    try_address(l);
}

static void resolve(struct link *l, const char *host, int port) {
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct lookup *k = xcalloc(1, sizeof *k);
    k->link = l;
    k->req.data = k;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int r = uv_getaddrinfo(l->rt->loop, &k->req, on_resolved, host, service,
                           &hints);
    if (r < 0) {
        free(k);
        fail_soon(l, r);
    } else {
        l->lookup = k;
    }
}

static void connect_host(struct link *l, const char *host, int port) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    bool is_v6 = strchr(host, ':') != NULL;
    snprintf(l->host, sizeof l->host, "%s", host);
    snprintf(l->address, sizeof l->address, is_v6 ? "[%s]:%d" : "%s:%d", host,
             port);
    if (uv_ip4_addr(host, port, &v4) == 0) {
        connect_address(l, (struct sockaddr *)&v4);
    } else if (uv_ip6_addr(host, port, &v6) == 0) {
        connect_address(l, (struct sockaddr *)&v6);
    } else {
        resolve(l, host, port);
    }
}

// on_embedded: what keeps a server from starting rarely goes away by itself.
static void on_embedded(void *arg, int status, const char *path,
                        const char *error) {
    struct link *l = arg;
    l->is_waiting = false;
    if (status < 0) {
        l->events->failed(l->conn, true, "redis.embedded", error);
    } else {
        connect_path(l, path);
    }
}

static void on_sentinel(void *arg, const char *host, int port,
                        const char *error) {
    struct link *l = arg;
    l->is_waiting = false;
    if (error) {
        l->events->failed(l->conn, false, "redis.sentinel", error);
    } else {
        l->due_ns = timer_after(l->options->connect_timeout);
        connect_host(l, host, port);
    }
}

struct link *link_open(struct runtime *rt, const struct conn_options *options,
                       const struct link_events *events, struct conn *conn) {
    const struct redis_url *u = options->url;
    struct link *l = xcalloc(1, sizeof *l);
    l->rt = rt;
    l->options = options;
    l->events = events;
    l->conn = conn;
    l->due_ns = timer_after(options->connect_timeout);
    l->failing.fn = on_failing;
    timer_init(&l->patience, on_impatient);
    if (options->embedded) {
        l->is_waiting = true;
        embedded_ready(options->embedded, on_embedded, l);
    } else if (options->sentinel) {
        l->is_waiting = true;
        sentinel_ask(options->sentinel, on_sentinel, l);
    } else if (u->path) {
        connect_path(l, u->path);
    } else {
        connect_host(l, u->host, u->port);
    }
    return l;
}

void link_close(struct link *l) {
    runtime_undefer(l->rt, &l->failing);
    timer_stop(&l->rt->timers, &l->patience);
    if (l->lookup) {
        l->lookup->link = NULL; // it is freed when its callback comes
        uv_cancel((uv_req_t *)&l->lookup->req);
    }
    if (l->is_waiting && l->options->embedded) {
        embedded_forget(l->options->embedded, l);
    } else if (l->is_waiting) {
        sentinel_forget(l->options->sentinel, l);
    }
    drop_socket(l);
    if (l->addresses) {
        uv_freeaddrinfo(l->addresses);
    }
    if (l->tls) {
        tls_free(l->tls);
    }
    free(l);
}
