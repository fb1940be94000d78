// connection: one connection of an HTTP server: bytes to requests, and
// responses to bytes. One request is with the owner at a time; the next head is
// looked at when its response stands in the output.
#include "http/connection.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"

enum {
    input_max = 16 * 1024,   // bytes kept unread before reading pauses
    output_hold = 64 * 1024, // responses held back for one write
    buffer_keep = 16 * 1024, // capacity that an idle connection keeps
    body_step = 64 * 1024,   // bytes of a body per body_timeout
};
static const double linger_seconds = 2, probe_seconds = 1;
static const uint64_t never = UINT64_MAX;

enum connection_state {
    CONN_IDLE,    // between requests; nothing of the next has come
    CONN_HEAD,    // part of a head has come
    CONN_BODY,    // the head is parsed, its body is coming
    CONN_RUNNING, // the request is with the owner
    CONN_LAST,    // the last response is on its way out
    CONN_LINGER,  // shut down; input is thrown away until the client closes
    CONN_CLOSED,  // until uv's close callback
};

struct http_connection {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct http_server *server;
    struct list link; // in the server's conns
    struct list hold; // in the server's held
    struct http_request *request;
    struct buf in;      // bytes that are not used yet
    struct buf out;     // leaves at the end of the turn
    struct buf writing; // with uv
    uv_write_t write;
    struct defer flush;
    struct timer timer; // due at deadline_ns or before: it looks again then
    uint64_t deadline_ns;
    size_t unsent;  // when the write timeout was last renewed
    size_t scanned; // see http_parse_head
    struct http_chunked chunked;
    enum connection_state state;
    bool is_eof;
    bool is_reading;
    bool is_writing;
};

struct http_connection *connection_of_link(struct list *link) {
    return list_entry(link, struct http_connection, link);
}

struct http_connection *connection_of_hold(struct list *hold) {
    return list_entry(hold, struct http_connection, hold);
}

// -- deadlines

// expect_within sets the deadline. The timer is moved only to come nearer:
// most deadlines are met, and moving it for each request would cost more
// than that it looks once too often.
static void expect_within(struct http_connection *c, double seconds) {
    struct runtime *rt = c->server->rt;
    c->deadline_ns =
        uv_now(rt->loop) * UINT64_C(1000000) + (uint64_t)(seconds * 1e9);
    if (!timer_is_active(&c->timer) || c->timer.due_ns > c->deadline_ns) {
        timer_start(&rt->timers, &c->timer, c->deadline_ns);
    }
}

// -- closing

static void on_closed(uv_handle_t *h) {
    struct http_connection *c = h->data;
    struct http_server *s = c->server;
    list_remove(&c->link);
    buf_clear(&c->in);
    buf_clear(&c->out);
    buf_clear(&c->writing);
    free(c);
    server_connection_closed(s);
}

void connection_close(struct http_connection *c) {
    struct http_server *s = c->server;
    struct http_request *r = c->request;
    bool is_running = c->state == CONN_RUNNING;
    if (c->state == CONN_CLOSED) {
        return;
    }
    c->state = CONN_CLOSED;
    c->request = NULL;
    timer_stop(&s->rt->timers, &c->timer);
    runtime_undefer(s->rt, &c->flush);
    list_remove(&c->hold);
    uv_close((uv_handle_t *)&c->uv, on_closed);
    if (r) {
        r->conn = NULL;
        if (is_running) {
            s->handler.on_gone(r);
        } else {
            server_give_request(s, r);
        }
    }
}

void connection_stop(struct http_connection *c) {
    if (c->state == CONN_IDLE && c->in.len == 0 && c->out.len == 0 &&
        !c->is_writing) {
        connection_close(c);
    }
}

// linger closes our side and waits for the client to close its own: a close
// with unread input would reset the connection, and the client might lose
// the response (RFC 9112 §9.6).
static void linger(struct http_connection *c) {
    uv_os_fd_t fd;
    if (c->is_eof || uv_fileno((uv_handle_t *)&c->uv, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0) {
        connection_close(c);
        return;
    }
    c->state = CONN_LINGER;
    buf_clear(&c->in);
    expect_within(c, linger_seconds);
}

// -- output

static void on_written(uv_write_t *w, int status) {
    struct http_connection *c = w->data;
    c->is_writing = false;
    buf_clear(&c->writing);
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (status < 0) {
        connection_close(c);
        return;
    }
    expect_within(c, c->server->options.idle_timeout);
    if (c->state == CONN_RUNNING) {
        c->deadline_ns = never;
    }
    runtime_defer(c->server->rt, &c->flush);
}

// write_rest lets uv write what did not fit the socket's buffer.
static void write_rest(struct http_connection *c, size_t sent) {
    c->writing = c->out;
    c->out = (struct buf){0};
    c->is_writing = true;
    c->write.data = c;
    uv_buf_t b =
        uv_buf_init(c->writing.data + sent, (unsigned)(c->writing.len - sent));
    if (uv_write(&c->write, &c->uv.stream, &b, 1, on_written) != 0) {
        c->is_writing = false;
        buf_clear(&c->writing);
        connection_close(c);
        return;
    }
    c->unsent = b.len;
    expect_within(c, c->server->options.write_timeout);
}

void connection_write(struct http_connection *c) {
    if (c->is_writing || c->state == CONN_CLOSED) {
        return;
    }
    if (c->out.len > 0) {
        uv_buf_t b = uv_buf_init(c->out.data, (unsigned)c->out.len);
        int n = uv_try_write(&c->uv.stream, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            connection_close(c);
            return;
        }
        size_t sent = n > 0 ? (size_t)n : 0;
        if (sent < c->out.len) {
            write_rest(c, sent);
            return;
        }
        c->out.len = 0;
        if (c->out.cap > buffer_keep) {
            buf_clear(&c->out);
        }
    }
    if (c->state == CONN_LAST) {
        linger(c);
    }
}

// refuse answers what cannot be served, and ends the connection: where the
// next request begins is not known.
static void refuse(struct http_connection *c, int status) {
    struct http_server *s = c->server;
    char text[64];
    int len = snprintf(text, sizeof text, "%s\n", http_reason(status));
    response_write(
        &c->out, &(struct response){.status = status,
                                    .type = SLICE("text/plain; charset=utf-8"),
                                    .body = {text, (size_t)len},
                                    .close = true});
    if (c->request) {
        c->request->conn = NULL;
        server_give_request(s, c->request);
        c->request = NULL;
    }
    c->state = CONN_LAST;
    expect_within(c, s->options.write_timeout);
    runtime_defer(s->rt, &c->flush);
}

void connection_respond(struct http_connection *c, struct response *response) {
    struct http_server *s = c->server;
    struct http_request *r = c->request;
    bool is_last = !r->head.keep_alive || response->close || s->is_stopping ||
                   (c->is_eof && c->in.len == 0);
    response->close = is_last;
    response->persist = !is_last && r->head.minor_version == 0;
    response_write(&c->out, response);
    c->request = NULL;
    c->state = is_last ? CONN_LAST : CONN_IDLE;
    expect_within(c, s->options.idle_timeout);
    runtime_defer(s->rt, &c->flush);
}

// -- input

static void start(struct http_connection *c) {
    struct http_server *s = c->server;
    c->state = CONN_RUNNING;
    c->deadline_ns = never;
    s->requests++;
    s->taken++;
    s->handler.on_request(c->request, s->handler.arg);
}

static void move_slice(struct slice *s, const char *from, size_t len,
                       const char *to) {
    if (s->p >= from && s->p <= from + len) { // not a literal of the parser
        s->p = to + (s->p - from);
    }
}

// keep_head copies the head's bytes out of the buffer they were read into.
static void keep_head(struct http_request *r, const char *from) {
    struct http_head *h = &r->head;
    size_t len = h->size;
    r->bytes.len = 0;
    buf_add(&r->bytes, from, len);
    const char *to = r->bytes.data;
    move_slice(&h->method, from, len, to);
    move_slice(&h->target, from, len, to);
    move_slice(&h->path, from, len, to);
    move_slice(&h->query, from, len, to);
    move_slice(&h->host, from, len, to);
    for (int i = 0; i < h->header_count; i++) {
        h->headers[i].name.p = to + (h->headers[i].name.p - from);
        h->headers[i].value.p = to + (h->headers[i].value.p - from);
    }
}

// begin_body looks at what follows the head of the connection's request.
static void begin_body(struct http_connection *c, bool has_more) {
    const struct http_head *h = &c->request->head;
    const struct http_server_options *o = &c->server->options;
    if (!h->chunked && h->content_length == 0) {
        start(c);
        return;
    }
    if (!h->chunked && h->content_length > o->body_max) {
        refuse(c, 413);
        return;
    }
    c->state = CONN_BODY;
    c->chunked = (struct http_chunked){0};
    expect_within(c, o->body_timeout);
    if (h->expect_continue && !has_more) { // RFC 9110 §10.1.1
        buf_adds(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
        runtime_defer(c->server->rt, &c->flush);
    }
}

// take_head returns how many bytes it took, 0 to wait for more.
static size_t take_head(struct http_connection *c, const char *p, size_t len) {
    struct http_server *s = c->server;
    const struct http_server_options *o = &s->options;
    struct http_request *r = server_take_request(s);
    size_t limit = len < o->head_max ? len : o->head_max;
    int rc = http_parse_head(&r->head, p, limit, &c->scanned);
    if (rc == HTTP_MORE && limit == o->head_max) {
        rc = 431; // RFC 6585 §5
    }
    if (rc == HTTP_OK && r->head.header_count > o->headers_max) {
        rc = 431;
    }
    if (rc != HTTP_OK) {
        server_give_request(s, r);
        if (rc != HTTP_MORE) {
            refuse(c, rc);
        } else if (c->state == CONN_IDLE) {
            c->state = CONN_HEAD;
            expect_within(c, o->header_timeout);
        }
        return 0;
    }
    keep_head(r, p);
    r->conn = c;
    c->request = r;
    begin_body(c, len > r->head.size);
    return r->head.size;
}

static size_t take_sized_body(struct http_connection *c, const char *p,
                              size_t len) {
    struct http_request *r = c->request;
    size_t left = (size_t)r->head.content_length - r->body.len;
    size_t n = len < left ? len : left;
    buf_add(&r->body, p, n);
    if (n == left) {
        start(c);
    }
    return n;
}

static size_t take_chunked_body(struct http_connection *c, const char *p,
                                size_t len) {
    struct http_request *r = c->request;
    size_t used;
    struct slice data;
    int rc = http_chunked_feed(&c->chunked, p, len, &used, &data);
    if (data.len > c->server->options.body_max - r->body.len) {
        refuse(c, 413);
        return used;
    }
    buf_add(&r->body, data.p, data.len);
    if (rc == HTTP_OK) {
        start(c);
    } else if (rc != HTTP_MORE) {
        refuse(c, rc);
    }
    return used;
}

static size_t take_body(struct http_connection *c, const char *p, size_t len) {
    struct http_request *r = c->request;
    size_t steps = r->body.len / body_step;
    size_t used = r->head.chunked ? take_chunked_body(c, p, len)
                                  : take_sized_body(c, p, len);
    if (c->state == CONN_BODY && r->body.len / body_step > steps) {
        expect_within(c, c->server->options.body_timeout);
    }
    return used;
}

// consume serves from the bytes and returns how many it used. No request is
// begun while an answer waits for the client to take it.
static size_t consume(struct http_connection *c, const char *p, size_t len) {
    size_t at = 0, used = 1;
    while (at < len && used > 0) {
        if (c->state == CONN_BODY) {
            used = take_body(c, p + at, len - at);
        } else if (c->state <= CONN_HEAD && !c->is_writing) {
            used = take_head(c, p + at, len - at);
        } else {
            break;
        }
        at += used;
    }
    return at;
}

// advance goes on with what was read before.
static void advance(struct http_connection *c) {
    if (c->in.len > 0) {
        size_t used = consume(c, c->in.data, c->in.len);
        buf_shift(&c->in, used);
        if (c->in.len == 0 && c->in.cap > buffer_keep) {
            buf_clear(&c->in);
        }
    }
    if (c->is_eof && c->state < CONN_RUNNING && !c->is_writing) {
        if (c->request) { // its body will not come
            c->request->conn = NULL;
            server_give_request(c->server, c->request);
            c->request = NULL;
        }
        c->state = CONN_LAST;
    }
}

static void take(struct http_connection *c, const char *p, size_t len) {
    if (c->state >= CONN_LAST) {
        return;
    }
    if (c->in.len > 0) {
        buf_add(&c->in, p, len);
        advance(c);
    } else {
        size_t used = consume(c, p, len);
        if (used < len && c->state < CONN_LAST) {
            buf_add(&c->in, p + used, len - used);
        }
    }
}

// is_gone says whether a client that sent EOF has left altogether: a reset,
// or the end of a unix socket. A TCP peer that closed in order can't be told
// from one that still reads.
static bool is_gone(struct http_connection *c) {
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&c->uv, &fd) != 0) {
        return true;
    }
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP));
}

static void end_input(struct http_connection *c) {
    c->is_eof = true;
    c->is_reading = false; // uv has stopped it
    if (c->state == CONN_LINGER) {
        connection_close(c);
    } else if (c->state == CONN_RUNNING) {
        if (c->server->options.half_close == HALF_CLOSE_GONE || is_gone(c)) {
            connection_close(c);
        } else if (!c->is_writing) {
            expect_within(c, probe_seconds);
        }
    } else {
        runtime_defer(c->server->rt, &c->flush);
    }
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *b) {
    struct http_connection *c = h->data;
    (void)size;
    *b = uv_buf_init(c->server->read_buffer, http_read_size);
}

static void update_reading(struct http_connection *c);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct http_connection *c = stream->data;
    if (n > 0) {
        take(c, b->base, (size_t)n);
        update_reading(c);
    } else if (n == UV_EOF) {
        end_input(c);
    } else if (n < 0) {
        connection_close(c);
    }
}

// update_reading pauses reading while enough is waiting to be served.
static void update_reading(struct http_connection *c) {
    bool want = !c->is_eof && c->state != CONN_CLOSED &&
                c->state != CONN_LAST && c->in.len < input_max;
    if (want == c->is_reading || c->state == CONN_CLOSED) {
        return;
    }
    c->is_reading = want;
    if (want) {
        uv_read_start(&c->uv.stream, on_alloc, on_read);
    } else {
        uv_read_stop(&c->uv.stream);
    }
}

// -- the turn's end

static void on_idle(uv_idle_t *idle) {
    struct http_server *s = idle->data;
    uv_idle_stop(idle);
    while (!list_is_empty(&s->held)) {
        struct http_connection *c = connection_of_hold(s->held.next);
        list_remove(&c->hold);
        connection_write(c);
        if (c->state != CONN_CLOSED) {
            update_reading(c);
        }
    }
}

// on_flush begins the next request and sends what was answered. A pipelined
// request is likely to be answered in this turn too, so its predecessors'
// responses wait for it, but no longer than until the loop comes round.
static void on_flush(struct defer *d) {
    struct http_connection *c =
        (struct http_connection *)(void *)((char *)d -
                                           offsetof(struct http_connection,
                                                    flush));
    struct http_server *s = c->server;
    advance(c);
    if (c->state == CONN_RUNNING && c->out.len < output_hold) {
        if (c->out.len > 0 && list_is_empty(&c->hold)) {
            list_append(&s->held, &c->hold);
            uv_idle_start(&s->idle, on_idle);
        }
    } else {
        list_remove(&c->hold);
        connection_write(c);
    }
    update_reading(c);
}

static void on_due(struct timer *t) {
    struct http_connection *c =
        (struct http_connection *)(void *)((char *)t -
                                           offsetof(struct http_connection,
                                                    timer));
    const struct http_server_options *o = &c->server->options;
    if (c->deadline_ns > uv_hrtime()) {
        if (c->deadline_ns != never) {
            timer_start(&c->server->rt->timers, t, c->deadline_ns);
        }
    } else if (c->is_writing) {
        size_t unsent = uv_stream_get_write_queue_size(&c->uv.stream);
        if (unsent >= c->unsent) {
            connection_close(c);
            return;
        }
        c->unsent = unsent;
        expect_within(c, o->write_timeout);
    } else if (c->state == CONN_HEAD || c->state == CONN_BODY) {
        refuse(c, 408);
    } else if (c->state != CONN_RUNNING || is_gone(c) ||
               (c->is_eof && o->half_close == HALF_CLOSE_BRIEF)) {
        connection_close(c);
    } else {
        expect_within(c, probe_seconds);
    }
}

// -- beginning

static int open_stream(struct http_server *s, struct http_connection *c) {
    uv_loop_t *loop = s->rt->loop;
    if (s->is_unix) {
        uv_pipe_init(loop, &c->uv.pipe, 0);
    } else {
        uv_tcp_init(loop, &c->uv.tcp);
    }
    c->uv.stream.data = c;
    int rc = uv_accept(&s->listener.stream, &c->uv.stream);
    if (rc == 0 && !s->is_unix) {
        uv_tcp_nodelay(&c->uv.tcp, 1);
    }
    return rc;
}

void connection_accept(struct http_server *s) {
    struct http_connection *c = xcalloc(1, sizeof *c);
    c->server = s;
    list_init(&c->hold);
    timer_init(&c->timer, on_due);
    c->timer.is_background = true;
    c->flush.fn = on_flush;
    c->flush.is_late = true;
    list_append(&s->conns, &c->link);
    s->connections++;
    if (open_stream(s, c) != 0) {
        connection_close(c);
        return;
    }
    expect_within(c, s->options.idle_timeout);
    update_reading(c);
}

void connection_remote(struct http_connection *c, char *out, size_t size) {
    struct sockaddr_storage a;
    int len = sizeof a;
    out[0] = 0;
    if (c->server->is_unix ||
        uv_tcp_getpeername(&c->uv.tcp, (struct sockaddr *)&a, &len) != 0) {
        return;
    }
    if (a.ss_family == AF_INET6) {
        uv_ip6_name((struct sockaddr_in6 *)&a, out, size);
    } else {
        uv_ip4_name((struct sockaddr_in *)&a, out, size);
    }
}
