// conn: one connection to a Redis server.
#include "redis/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { queue_max = 1000000 };
static const size_t bytes_max = 256u << 20;

// A turn's commands leave in one write, but a busy turn's first ones do not
// wait for its last: the server works on them meanwhile.
static const size_t early_bytes = 2000;
static const double backoff_first = 0.05, backoff_most = 2;

static void open_link(struct conn *c);
static void lose(struct conn *c, const char *code, const char *text);
static void flush(struct conn *c);

struct waiter *conn_current_waiter(struct conn *c) {
    if (c->state == CONN_GREETING) {
        return &c->greeting;
    }
    return &c->ring[c->head & (c->cap - 1)];
}

// now_ms reads the clock: the loop's own time is stale in a long slice.
static uint64_t now_ms(void) {
    return uv_hrtime() / 1000000;
}

// set_timer: while connected the socket keeps the loop alive, not the timer.
static void set_timer(struct conn *c, double seconds) {
    timer_stop(&c->rt->timers, &c->timer);
    c->timer.is_background = c->state == CONN_READY;
    timer_start(&c->rt->timers, &c->timer, timer_after(seconds));
}

// -- closing

static void drop_link(struct conn *c) {
    if (c->link) {
        link_close(c->link);
        c->link = NULL;
    }
    timer_stop(&c->rt->timers, &c->timer);
}

// keep_loop_alive: a connection counts as work only while someone waits.
static void keep_loop_alive(struct conn *c) {
    if (!c->link || !c->link->has_handle) {
        return;
    }
    if (conn_pending(c) || c->state != CONN_READY) {
        uv_ref(&c->link->handle);
    } else {
        uv_unref(&c->link->handle);
    }
}

// fail_waiters fails the first n of the queue. They leave the queue before
// they are told, so that what they do cannot disturb it.
static void fail_waiters(struct conn *c, uint32_t n, const char *code,
                         const char *text) {
    while (n-- > 0) {
        struct waiter w = c->ring[c->head++ & (c->cap - 1)];
        c->settled = w.end;
        w.sink->failed(&w, code, text);
    }
}

// settle_all ends an attempt that it is no use to repeat: all who wait fail.
static void settle_all(struct conn *c, const char *code, const char *text) {
    drop_link(c);
    c->state = CONN_IDLE;
    c->out_base += c->out.len;
    c->out.len = 0;
    fail_waiters(c, conn_pending(c), code, text);
    if (c->is_pooled) {
        c->on_lost(c);
    }
}

void conn_close(struct conn *c, const char *code, const char *text) {
    if (c->state == CONN_CLOSED) {
        return;
    }
    drop_link(c);
    c->state = CONN_CLOSED;
    runtime_undefer(c->rt, &c->flush);
    fail_waiters(c, conn_pending(c), code, text);
    if (c->decoder) {
        c->free_decoder(c->decoder);
    }
    redisReaderFree(c->reader);
    buf_clear(&c->out);
    buf_clear(&c->sending);
    list_remove(&c->place);
    free(c->ring);
    free(c);
}

// -- writing

static void on_written(uv_write_t *req, int status) {
    struct link *l = req->data;
    l->is_writing = false;
    struct conn *c = l->conn;
    if (!c) {
        return;
    }
    if (status < 0) {
        lose(c, "redis.unknown_outcome", uv_strerror(status));
        return;
    }
    c->sending.len = 0;
    flush(c);
}

// try_send writes what is queued; what the socket doesn't take is left to uv.
// Returns a negative error of uv's, and has done nothing then.
static int try_send(struct conn *c) {
    if (c->state != CONN_READY || c->link->is_writing || c->out.len == 0) {
        return 0;
    }
    uv_buf_t b = uv_buf_init(c->out.data, (unsigned)c->out.len);
    int n = uv_try_write(&c->link->stream, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return n;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == c->out.len) {
        c->out_base += c->out.len;
        c->out.len = 0;
        if (c->out.cap > (1 << 20)) {
            buf_clear(&c->out);
        }
        return 0;
    }
    struct buf empty = c->sending;
    c->sending = c->out;
    c->sending_base = c->out_base;
    c->out_base += c->out.len;
    c->out = empty;
    struct link *l = c->link;
    l->is_writing = true;
    l->write.data = l;
    b = uv_buf_init(c->sending.data + sent, (unsigned)(c->sending.len - sent));
    return uv_write(&l->write, &l->stream, &b, 1, on_written);
}

static void flush(struct conn *c) {
    int r = try_send(c);
    if (r < 0) {
        lose(c, "redis.unknown_outcome", uv_strerror(r));
    }
}

static void on_flush(struct defer *d) {
    struct conn *c =
        (struct conn *)(void *)((char *)d - offsetof(struct conn, flush));
    flush(c);
}

// -- the queue

static void grow_ring(struct conn *c) {
    uint32_t cap = c->cap * 2, n = conn_pending(c);
    struct waiter *ring = xmalloc(cap * sizeof ring[0]);
    for (uint32_t i = 0; i < n; i++) {
        ring[(c->head + i) & (cap - 1)] = c->ring[(c->head + i) & (c->cap - 1)];
    }
    free(c->ring);
    c->ring = ring;
    c->cap = cap;
}

struct waiter *conn_wait(struct conn *c, const struct sink *sink, void *ctx) {
    if (conn_pending(c) == c->cap) {
        grow_ring(c);
    }
    struct waiter *w = &c->ring[c->tail++ & (c->cap - 1)];
    *w = (struct waiter){.sink = sink,
                         .conn = c,
                         .ctx = ctx,
                         .end = c->out_base + c->out.len,
                         .due_ms =
                             now_ms() + (uint64_t)(c->options->timeout * 1000)};
    if (conn_pending(c) == 1) {
        keep_loop_alive(c);
    }
    if (c->state == CONN_READY && !timer_is_active(&c->timer)) {
        set_timer(c, c->options->timeout);
    }
    if (c->state == CONN_READY) {
        if (c->out.len >= early_bytes) {
            try_send(c); // an error shows again when the turn ends
        }
        runtime_defer(c->rt, &c->flush);
    } else if (c->state == CONN_IDLE) {
        open_link(c);
    }
    return w;
}

void conn_forget(struct conn *c, uint32_t place, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (place + i - c->head < conn_pending(c)) {
            struct waiter *w = &c->ring[(place + i) & (c->cap - 1)];
            w->sink = &sink_ignore;
            w->ctx = NULL;
        }
    }
}

bool conn_is_full(const struct conn *c) {
    return conn_pending(c) >= queue_max || c->out.len >= bytes_max;
}

// -- reading

static void on_greeted(struct conn *c);

static void take_reply(struct conn *c) {
    if (c->state == CONN_GREETING) {
        if (--c->greetings_left == 0) {
            on_greeted(c);
        }
        return;
    }
    struct waiter w = c->ring[c->head++ & (c->cap - 1)];
    c->settled = w.end;
    w.sink->done(&w);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    (void)hint;
    struct link *l = h->data;
    struct runtime *rt = l->rt; // consumed within the callback
    *b = uv_buf_init(rt->read_buffer, sizeof rt->read_buffer);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    struct link *l = s->data;
    struct conn *c = l->conn;
    if (!c || n == 0) {
        return;
    }
    if (n < 0) {
        const char *why = n == UV_EOF ? "the server closed the connection"
                                      : uv_strerror((int)n);
        lose(c, "redis.unknown_outcome", why);
        return;
    }
    c->active_ms = now_ms();
    redisReaderFeed(c->reader, b->base, (size_t)n);
    void *reply = NULL;
    while (l->conn) {
        if (c->state == CONN_READY && conn_pending(c) == 0) {
            if (c->reader->len > c->reader->pos) {
                lose(c, "redis.protocol", "a reply that nobody asked for");
            }
            break;
        }
        if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
            lose(c, "redis.protocol", c->reader->errstr);
            return;
        }
        if (!reply) {
            break;
        }
        reply = NULL;
        take_reply(c);
    }
    if (l->conn && conn_pending(c) == 0 && c->state == CONN_READY) {
        keep_loop_alive(c);
        if (c->on_idle) {
            c->on_idle(c);
        }
    }
}

// -- greeting: what has to be said before anything else

static void *greeting_string(struct waiter *w, const redisReadTask *t,
                             const char *s, size_t len) {
    struct conn *c = w->conn;
    if (t->type == REDIS_REPLY_ERROR && !c->greeting_error[0]) {
        snprintf(c->greeting_error, sizeof c->greeting_error, "%.*s", (int)len,
                 s);
    }
    return c;
}

static void *greeting_array(struct waiter *w, const redisReadTask *t,
                            size_t n) {
    (void)t, (void)n;
    return w->conn;
}

static void *greeting_integer(struct waiter *w, const redisReadTask *t,
                              long long v) {
    (void)t, (void)v;
    return w->conn;
}

static void *greeting_nil(struct waiter *w, const redisReadTask *t) {
    (void)t;
    return w->conn;
}

static const struct sink greeting_sink = {
    .string = greeting_string,
    .array = greeting_array,
    .integer = greeting_integer,
    .nil = greeting_nil,
};

static void become_ready(struct conn *c) {
    c->state = CONN_READY;
    c->attempts = 0;
    timer_stop(&c->rt->timers, &c->timer);
    uint64_t due = now_ms() + (uint64_t)(c->options->timeout * 1000);
    for (uint32_t i = c->head; i != c->tail; i++) {
        struct waiter *w = &c->ring[i & (c->cap - 1)];
        if (w->due_ms && w->due_ms < due) {
            w->due_ms = due; // the time to connect has a limit of its own
        }
    }
    if (conn_pending(c)) {
        set_timer(c, c->options->timeout);
    }
    keep_loop_alive(c);
    flush(c);
}

static bool is_passing(const char *error) {
    return strncmp(error, "LOADING", 7) == 0 ||
           strncmp(error, "ERR max number of clients", 25) == 0;
}

static void on_greeted(struct conn *c) {
    if (!c->greeting_error[0]) {
        become_ready(c);
        return;
    }
    if (is_passing(c->greeting_error)) {
        lose(c, "redis.loading", c->greeting_error);
        return;
    }
    // a wrong password or database does not get better by trying again
    char text[512], where[160];
    link_describe(c->options, where, sizeof where);
    snprintf(text, sizeof text, "%s refused us: %s", where, c->greeting_error);
    settle_all(c, "redis.auth", text);
}

static int build_greeting(struct conn *c, struct buf *b) {
    const struct redis_url *u = c->options->url;
    int n = 0;
    if (u->password) {
        resp_command(b, u->user ? 3 : 2);
        resp_arg_s(b, "AUTH");
        if (u->user) {
            resp_arg_s(b, u->user);
        }
        resp_arg_s(b, u->password);
        n++;
    }
    if (u->db) {
        resp_command(b, 2);
        resp_arg_s(b, "SELECT");
        resp_arg_u(b, (uint64_t)u->db);
        n++;
    }
    if (u->name) {
        resp_command(b, 3);
        resp_arg_s(b, "CLIENT");
        resp_arg_s(b, "SETNAME");
        resp_arg_s(b, u->name);
        n++;
    }
    if (!c->is_pooled) { // a server that still loads its data says so
        resp_command(b, 1);
        resp_arg_s(b, "PING");
        n++;
    }
    return n;
}

static void greet(struct conn *c) {
    struct buf b = {0};
    int n = build_greeting(c, &b);
    c->greeting_error[0] = 0;
    c->greetings_left = n;
    c->greeting = (struct waiter){.sink = &greeting_sink, .conn = c};
    if (n == 0) {
        become_ready(c);
        return;
    }
    c->state = CONN_GREETING;
    uv_buf_t out = uv_buf_init(b.data, (unsigned)b.len);
    int sent = uv_try_write(&c->link->stream, &out, 1);
    bool is_sent = sent == (int)b.len; // a fresh socket takes so little
    buf_clear(&b);
    if (!is_sent) {
        lose(c, "redis.connect", uv_strerror(sent < 0 ? sent : UV_EIO));
    }
}

// -- connecting

static void on_opened(struct conn *c) {
    redisReaderFree(c->reader);
    c->reader = reader_new(c);
    uv_read_start(&c->link->stream, on_alloc, on_read);
    greet(c);
}

static void on_failed(struct conn *c, bool is_final, const char *error) {
    if (is_final) {
        settle_all(c, "redis.embedded", error);
    } else {
        lose(c, "redis.connect", error);
    }
}

static const struct link_events link_events = {on_opened, on_failed};

static void open_link(struct conn *c) {
    c->state = CONN_CONNECTING;
    set_timer(c, c->options->embedded ? 30 : c->options->connect_timeout);
    c->link = link_open(c->rt, c->options, &link_events, c);
}

// -- losing

// count_sent returns how many of the queue the server may have read.
static uint32_t count_sent(struct conn *c) {
    uint64_t written = c->out_base;
    if (c->link && c->link->is_writing) {
        written -= uv_stream_get_write_queue_size(&c->link->stream);
    }
    uint32_t n = 0;
    while (n < conn_pending(c) &&
           c->ring[(c->head + n) & (c->cap - 1)].end <= written) {
        n++;
    }
    return n;
}

// keep_unsent puts the bytes that are to be sent on the next connection, from
// that offset on, together at the front.
static void keep_unsent(struct conn *c, uint64_t from) {
    if (from < c->out_base) {
        struct buf b = {0};
        buf_add(&b, c->sending.data + (from - c->sending_base),
                (size_t)(c->sending_base + c->sending.len - from));
        buf_add(&b, c->out.data, c->out.len);
        buf_clear(&c->out);
        c->out = b;
    } else {
        buf_shift(&c->out, (size_t)(from - c->out_base));
    }
    c->out_base = from;
    c->sending.len = 0;
}

// count_overdue returns how many of the queue, `sent` and older than their
// time limit, get no second chance.
static uint32_t count_overdue(struct conn *c, uint32_t sent) {
    uint32_t n = sent;
    while (n < conn_pending(c)) {
        struct waiter *w = &c->ring[(c->head + n) & (c->cap - 1)];
        if (w->due_ms == 0 || w->due_ms > now_ms()) {
            break;
        }
        n++;
    }
    return n;
}

// lose ends an attempt or an established connection. Commands that were
// written are failed, as nobody knows whether they were carried out; those
// that were not stay queued for the next connection, until their time is up.
static void lose(struct conn *c, const char *code, const char *text) {
    char message[512], where[160];
    link_describe(c->options, where, sizeof where);
    snprintf(message, sizeof message, "%s: %s", where, text);
    bool was_ready = c->state == CONN_READY;
    uint32_t sent = was_ready ? count_sent(c) : 0;
    uint32_t lost = count_overdue(c, sent);
    uint64_t from = c->settled; // of what is being sent, some may be answered
    if (lost) {
        from = c->ring[(c->head + lost - 1) & (c->cap - 1)].end;
    }
    drop_link(c);
    if (c->is_pooled) {
        c->state = CONN_IDLE;
        fail_waiters(c, conn_pending(c), was_ready ? code : "redis.connect",
                     message);
        c->on_lost(c);
        return;
    }
    keep_unsent(c, from);
    c->attempts += !was_ready;
    c->reconnects += was_ready;
    c->state = CONN_BACKOFF;
    fail_waiters(c, sent, code, message);
    fail_waiters(c, lost - sent, "redis.connect", message);
    if (conn_pending(c) == 0) {
        c->state = CONN_IDLE; // the next command tries again
        return;
    }
    int doubled = c->attempts < 6 ? c->attempts : 6;
    double wait = backoff_first * (double)(1 << doubled);
    double jitter = 0.75 + (double)(uv_hrtime() % 1000) / 2000;
    set_timer(c, (wait < backoff_most ? wait : backoff_most) * jitter);
}

// give_up_overdue fails those whose time is up; their places stay, since
// their replies may still come. A peer that has been silent for as long, with
// a reply due (be it one that nobody wants any more), is given up.
static void give_up_overdue(struct conn *c) {
    uint64_t now = now_ms(), next = 0;
    bool is_late = false;
    char text[256], where[160];
    link_describe(c->options, where, sizeof where);
    snprintf(text, sizeof text, "%s gave no reply within %g s", where,
             c->options->timeout);
    for (uint32_t i = c->head; i != c->tail; i++) {
        struct waiter *w = &c->ring[i & (c->cap - 1)];
        if (!w->due_ms) {
            continue;
        }
        if (w->due_ms > now) {
            next = !next || w->due_ms < next ? w->due_ms : next;
            continue;
        }
        is_late = true;
        if (w->sink != &sink_ignore) {
            struct waiter told = *w;
            w->sink = &sink_ignore;
            w->ctx = NULL;
            c->timeouts++;
            told.sink->failed(&told, "redis.timeout", text);
        }
    }
    uint64_t silent_at = c->active_ms + (uint64_t)(c->options->timeout * 1000);
    if (is_late && (c->is_pooled || silent_at <= now)) {
        lose(c, "redis.timeout", "the server is silent");
        return;
    }
    if (is_late && (!next || silent_at < next)) {
        next = silent_at;
    }
    if (next) {
        set_timer(c, (double)(next - now) / 1000 + 0.001);
    }
}

static void on_timer(struct timer *t) {
    struct conn *c =
        (struct conn *)(void *)((char *)t - offsetof(struct conn, timer));
    switch (c->state) {
    case CONN_BACKOFF: open_link(c); break;
    case CONN_READY:
        // the reply may be in the socket already, behind a long slice: the
        // loop polls once more before anything is given up
        if (!c->is_expiring) {
            c->is_expiring = true;
            set_timer(c, 0.001);
        } else {
            c->is_expiring = false;
            give_up_overdue(c);
        }
        break;
    default: lose(c, "redis.connect", "no connection in time");
    }
}

struct conn *conn_new(struct runtime *rt, const struct conn_options *options,
                      bool is_pooled) {
    struct conn *c = xcalloc(1, sizeof *c);
    c->rt = rt;
    c->options = options;
    c->is_pooled = is_pooled;
    c->cap = 4;
    c->ring = xmalloc(c->cap * sizeof c->ring[0]);
    c->reader = reader_new(c);
    c->flush.fn = on_flush;
    timer_init(&c->timer, on_timer);
    list_init(&c->place);
    return c;
}
