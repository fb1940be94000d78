// conn: one connection to a Redis server.
#include "redis/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/protect.h"
#include "redis/sentinel.h"

// A turn's commands leave in one write, but a busy turn's first ones do not
// wait for its last: the server works on them meanwhile.
static const size_t early_bytes = 2000;
// So many unsent bytes are enough: who comes then waits.
static const size_t choke_bytes = 1 << 20;
static const uint32_t pending_max = 4000000;
static const double backoff_first = 0.05, backoff_most = 2;

static void open_link(struct conn *c);
static void lose(struct conn *c, const char *code, const char *text);
static bool flush(struct conn *c);

struct waiter *conn_current_waiter(struct conn *c) {
    if (c->state == CONN_GREETING) {
        return &c->greeting.waiter;
    }
    if (c->kind == CONN_PUSH) {
        return &c->push;
    }
    return queue_at(&c->queue, 0);
}

// now_ms reads the clock: the loop's own time is stale in a long slice.
static uint64_t now_ms(void) {
    return uv_hrtime() / 1000000;
}

// to_ms rounds up: only 0 seconds are none.
static uint64_t to_ms(double seconds) {
    return (uint64_t)(seconds * 1000 + 0.999);
}

static uint64_t timeout_ms(const struct conn *c) {
    return to_ms(c->options->timeout);
}

// set_timer: while connected the socket keeps the loop alive, not the timer.
static void set_timer(struct conn *c, double seconds) {
    timer_stop(&c->rt->timers, &c->timer);
    c->timer.is_background =
        c->state == CONN_READY || (c->kind == CONN_PUSH && !c->is_work);
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
    if (c->link) {
        link_keep_alive(c->link,
                        conn_pending(c) || c->is_work ||
                            (c->state != CONN_READY && c->kind != CONN_PUSH));
    }
}

// fail_waiters fails the first n of the queue. They leave the queue before
// they are told, so that what they do cannot disturb it.
static void fail_waiters(struct conn *c, uint32_t n, enum waiter_phase phase,
                         const char *code, const char *text) {
    while (n-- > 0) {
        struct waiter w = queue_take(&c->queue);
        c->settled = w.end;
        w.phase = (uint8_t)phase;
        w.sink->failed(&w, code, text);
    }
}

static void tell(struct conn *c, void (*what)(struct conn *c)) {
    if (what) {
        what(c);
    }
}

// unchoke lets those who wait for room come again.
static void unchoke(struct conn *c) {
    if (c->is_choked) {
        c->is_choked = false;
        tell(c, c->owner->drained);
    }
}

// settle_all ends an attempt that it is no use to repeat: all who wait fail.
static void settle_all(struct conn *c, const char *code, const char *text) {
    drop_link(c);
    if (c->options->sentinel) {
        sentinel_doubt(c->options->sentinel);
    }
    c->state = CONN_IDLE;
    outbox_keep_from(&c->outbox, NULL, outbox_end(&c->outbox));
    fail_waiters(c, conn_pending(c), PHASE_QUEUED, code, text);
    unchoke(c);
    if (c->is_wanted) { // somebody may mend it
        c->state = CONN_BACKOFF;
        set_timer(c, backoff_most);
    }
    if (c->owner->refused) {
        c->owner->refused(c, code, text);
    }
    tell(c, c->owner->lost);
}

static void drop_decoder(struct conn *c) {
    if (c->decoder) {
        c->free_decoder(c->decoder);
        c->decoder = NULL;
    }
}

void conn_close(struct conn *c, const char *code, const char *text) {
    if (c->state == CONN_CLOSED) {
        return;
    }
    drop_link(c);
    if (c->is_gone) {
        *c->is_gone = true;
    }
    enum waiter_phase phase =
        c->state == CONN_READY ? PHASE_SENT : PHASE_QUEUED;
    c->state = CONN_CLOSED;
    runtime_undefer(c->rt, &c->flush);
    fail_waiters(c, conn_pending(c), phase, code, text);
    unchoke(c);
    drop_decoder(c);
    reader_clear(&c->reader);
    buf_clear(&c->outbox.bytes);
    list_remove(&c->place);
    queue_clear(&c->queue);
    free(c);
}

// -- writing

// try_send writes what is queued; what the socket doesn't take the link keeps.
// Returns a negative error of uv's.
static int try_send(struct conn *c) {
    if (c->state != CONN_READY || c->outbox.bytes.len == 0 ||
        link_is_sending(c->link)) {
        return 0;
    }
    return outbox_send(&c->outbox, c->link);
}

// flush returns false if that cost the connection.
static bool flush(struct conn *c) {
    int r = c->send_error ? c->send_error : try_send(c);
    if (r < 0) {
        lose(c, "redis.unknown_outcome", uv_strerror(r));
    }
    return r >= 0;
}

static void on_written(struct conn *c) {
    if (flush(c) && c->outbox.bytes.len < choke_bytes / 2) {
        unchoke(c);
    }
}

static void on_flush(struct defer *d) {
    struct conn *c =
        (struct conn *)(void *)((char *)d - offsetof(struct conn, flush));
    flush(c);
}

bool conn_is_choked(struct conn *c) {
    bool is = c->state == CONN_READY && c->outbox.bytes.len > choke_bytes &&
              link_is_sending(c->link);
    c->is_choked = c->is_choked || is;
    return is;
}

bool conn_is_full(const struct conn *c) {
    if (c->state == CONN_READY) {
        return conn_pending(c) >= pending_max;
    }
    return conn_pending(c) >= c->options->queue_max ||
           c->outbox.bytes.len >= c->options->queue_bytes;
}

// -- the queue

// send_soon: what was appended leaves when the turn ends, or opens a link.
static void send_soon(struct conn *c) {
    if (c->state == CONN_READY) {
        if (c->outbox.bytes.len >= early_bytes && !c->send_error) {
            c->send_error = try_send(c); // dealt with when the turn ends
        }
        runtime_defer(c->rt, &c->flush);
    } else if (c->state == CONN_IDLE) {
        open_link(c);
    }
}

struct waiter conn_waiter(struct conn *c, const struct sink *sink, void *ctx,
                          uint64_t now_ns) {
    uint64_t limit = c->state == CONN_READY ? c->limit_ms : timeout_ms(c);
    return (struct waiter){.sink = sink,
                           .conn = c,
                           .ctx = ctx,
                           .end = conn_end(c),
                           .start_ns = now_ns,
                           .due_ms = limit ? now_ns / 1000000 + limit : 0};
}

void conn_wait_all(struct conn *c, uint32_t count) {
    if (conn_pending(c) == count) {
        keep_loop_alive(c);
    }
    if (c->state == CONN_READY && c->limit_ms && !timer_is_active(&c->timer)) {
        set_timer(c, (double)c->limit_ms / 1000);
    }
    send_soon(c);
}

struct waiter *conn_wait(struct conn *c, const struct sink *sink, void *ctx) {
    bool is_traced = c->options->slow_ns == 0;
    uint64_t now = is_traced ? uv_hrtime() : timer_coarse_ns();
    struct waiter w = conn_waiter(c, sink, ctx, now);
    struct waiter *place = queue_add(&c->queue, &w);
    conn_wait_all(c, 1);
    return place;
}

void conn_push(struct conn *c) {
    send_soon(c);
}

void conn_limit(struct conn *c, double seconds) {
    c->limit_ms = to_ms(seconds);
    if (c->state == CONN_READY) {
        timer_stop(&c->rt->timers, &c->timer);
    }
}

void conn_want(struct conn *c, bool is_wanted, bool is_work) {
    c->is_wanted = is_wanted;
    c->is_work = is_work;
    if (timer_is_active(&c->timer) && c->state != CONN_READY) {
        uint64_t due_ns = c->timer.due_ns;
        timer_stop(&c->rt->timers, &c->timer);
        c->timer.is_background = !is_work;
        timer_start(&c->rt->timers, &c->timer, due_ns);
    }
    if (is_wanted && c->state == CONN_IDLE) {
        open_link(c);
    }
    keep_loop_alive(c);
}

// -- reading

static void on_greeted(struct conn *c);

// take_reply gives the reply just decoded to the one whom it belongs to. One
// that is too deep counts as a failure of his.
static void take_reply(struct conn *c, bool is_too_deep) {
    uint64_t taken = reader_taken(&c->reader);
    c->reply_size = taken - c->taken;
    c->taken = taken;
    if (c->state == CONN_GREETING) {
        if (greeting_is_over(&c->greeting)) {
            on_greeted(c);
        }
        return;
    }
    if (c->kind == CONN_PUSH) {
        if (!is_too_deep) {
            c->push.sink->done(&c->push);
        }
        return;
    }
    struct waiter w = queue_take(&c->queue);
    uint64_t begin = c->settled;
    c->settled = w.end;
    w.end -= begin; // what the sink may want to know is the command's size
    if (is_too_deep) {
        w.phase = PHASE_SENT;
        w.sink->failed(&w, "redis.too_deep",
                       "the reply nests deeper than 8 levels");
    } else {
        w.sink->done(&w);
    }
}

// What has come, while it is worked through.
struct received {
    struct runtime *rt;
    struct conn *conn;
    struct link *link;
    const char *error; // what was wrong with it
    bool is_gone;      // what a reply led to closed the connection
};

static void take_replies(void *arg) {
    struct received *r = arg;
    struct conn *c = r->conn;
    while (!r->is_gone && c->link == r->link) {
        if (c->state == CONN_READY && c->kind != CONN_PUSH &&
            conn_pending(c) == 0) {
            if (reader_left(&c->reader)) {
                r->error = "a reply that nobody asked for";
            }
            return;
        }
        r->rt->decoding++;
        enum reader_result got = reader_next(&c->reader);
        r->rt->decoding--;
        if (got == READER_ERROR) {
            r->error = c->reader.error;
        }
        if (got == READER_ERROR || got == READER_MORE) {
            return;
        }
        take_reply(c, got == READER_TOO_DEEP);
    }
}

// fail_decoding: a Lua error came up while the first waiter's reply was
// decoded. Nobody knows where in the stream that leaves us: it costs the
// connection.
static void fail_decoding(struct received *r, bool is_memory) {
    struct conn *c = r->conn;
    drop_decoder(c); // what it holds is garbage
    if (is_memory && c->state == CONN_READY && c->kind != CONN_PUSH) {
        struct waiter w = queue_take(&c->queue);
        c->settled = w.end;
        w.phase = PHASE_SENT;
        w.sink->failed(&w, "memory",
                       "the reply is more than the memory limit allows");
    }
    if (!r->is_gone) {
        c->is_gone = NULL;
        lose(c, "redis.unknown_outcome",
             is_memory ? "a reply before was more than memory allows"
                       : "a finalizer raised an error in a reply");
    }
}

// work_through takes the replies in what has come. An error of the program's,
// in a function that was told of a reply, is logged; the others are still to
// come. Any other error leaves somebody half told, and ends the process.
static enum protect_result work_through(struct received *r) {
    struct runtime *rt = r->rt;
    enum protect_result result;
    char text[256];
    while ((result = protect_call(rt, take_replies, r, 0, text, sizeof text)) !=
               PROTECT_RETURNED &&
           !rt->decoding) {
        log_write(&rt->log, LOG_ERROR, "an error in %s: %s",
                  rt->calling ? rt->calling : "a finalizer", text);
        if (!rt->calling) {
            abort();
        }
        rt->calling = NULL;
        if (r->is_gone) {
            return PROTECT_RETURNED;
        }
    }
    return result;
}

static void on_received(struct conn *c, const char *bytes, size_t len) {
    struct runtime *rt = c->rt;
    struct received r = {.rt = rt, .conn = c, .link = c->link};
    c->is_gone = &r.is_gone;
    c->active_ns = uv_hrtime();
    c->received += len;
    c->is_doubtful = c->is_silent = false;
    runtime_begin_work(rt);
    reader_feed(&c->reader, bytes, len);
    enum protect_result result = work_through(&r);
    if (rt->decoding) {
        rt->decoding = 0;
        fail_decoding(&r, result == PROTECT_NO_MEMORY);
        return;
    }
    if (r.is_gone) {
        return;
    }
    c->is_gone = NULL;
    if (r.error) {
        lose(c, "redis.protocol", r.error);
    } else if (c->link == r.link && conn_pending(c) == 0 &&
               c->state == CONN_READY) {
        keep_loop_alive(c);
        tell(c, c->owner->idle);
    }
}

// -- connecting

static void become_ready(struct conn *c) {
    c->state = CONN_READY;
    c->attempts = 0;
    timer_stop(&c->rt->timers, &c->timer);
    uint64_t now = now_ms();
    for (uint32_t i = 0; i < conn_pending(c); i++) {
        struct waiter *w = queue_at(&c->queue, i);
        // the time to connect has a limit of its own
        w->due_ms = c->limit_ms ? now + c->limit_ms : 0;
    }
    if (conn_pending(c) && c->limit_ms) {
        set_timer(c, (double)c->limit_ms / 1000);
    }
    if (c->kind == CONN_PUSH) {
        set_timer(c, c->options->timeout);
    }
    keep_loop_alive(c);
    tell(c, c->owner->ready);
    flush(c);
}

static void on_greeted(struct conn *c) {
    char code[64], text[600], where[256];
    enum greeting_verdict verdict =
        greeting_judge(&c->greeting, c->options, code, sizeof code);
    if (verdict == GREETING_WELL) {
        become_ready(c);
    } else if (verdict == GREETING_AGAIN) {
        bool is_role = !c->greeting.error[0];
        snprintf(text, sizeof text, "%s",
                 is_role ? "the sentinel named a server that is no primary"
                         : c->greeting.error);
        lose(c, code, text);
    } else {
        snprintf(text, sizeof text, "%s refused us: %s",
                 conn_address(c, where, sizeof where), c->greeting.error);
        settle_all(c, code, text);
    }
}

static void on_opened(struct conn *c) {
    struct buf b = {0};
    reader_reset(&c->reader);
    c->taken = 0;
    c->state = CONN_GREETING;
    greeting_begin(&c->greeting, c, c->options, &b);
    int r = link_send(c->link, &b);
    buf_clear(&b);
    if (r < 0) {
        lose(c, "redis.connect", uv_strerror(r));
    }
}

static void on_failed(struct conn *c, bool is_final, const char *code,
                      const char *error) {
    char text[640], where[256];
    if (is_final) {
        conn_address(c, where, sizeof where);
        snprintf(text, sizeof text, "%s: %s", where, error);
        settle_all(c, code, c->options->embedded ? error : text);
    } else {
        lose(c, code, error);
    }
}

static void on_ended(struct conn *c, const char *error) {
    bool is_ready = c->state == CONN_READY;
    if (c->state == CONN_GREETING && c->greeting.error[0]) {
        on_greeted(c); // it said why
        return;
    }
    lose(c, is_ready ? "redis.unknown_outcome" : "redis.connect", error);
}

static const struct link_events link_events = {
    on_opened, on_failed, on_received, on_ended, on_written};

static void open_link(struct conn *c) {
    double seconds = c->options->connect_timeout;
    c->state = CONN_CONNECTING;
    c->send_error = 0;
    if (c->options->sentinel) {
        seconds *= 2; // they are asked first
    }
    set_timer(c, c->options->embedded ? 30 : seconds);
    c->link = link_open(c->rt, c->options, &link_events, c);
}

// -- losing

// reconnect_later waits a while that doubles with each attempt that failed.
static void reconnect_later(struct conn *c) {
    if (c->options->is_once || (conn_pending(c) == 0 && !c->is_wanted)) {
        c->state = CONN_IDLE; // the next command tries again
        return;
    }
    c->state = CONN_BACKOFF;
    int doubled = c->attempts < 6 ? c->attempts : 6;
    double wait = backoff_first * (double)(1 << doubled);
    double jitter = 0.75 + (double)(uv_hrtime() % 1000) / 2000;
    wait = (wait < backoff_most ? wait : backoff_most) * jitter;
    uint64_t due_ms = conn_pending(c) ? queue_at(&c->queue, 0)->due_ms : 0;
    if (due_ms) { // whoever waits is told in his time
        double left = ((double)due_ms - (double)now_ms()) / 1000;
        left = left > backoff_first ? left : backoff_first;
        wait = wait < left ? wait : left;
    }
    set_timer(c, wait);
}

// lose ends an attempt or an established connection. Commands that were
// written are failed, as nobody knows whether they were carried out; those
// that were not stay queued for the next connection, until their time is up.
static void lose(struct conn *c, const char *code, const char *text) {
    char message[640], where[256];
    conn_address(c, where, sizeof where);
    snprintf(message, sizeof message, "%s: %s", where, text);
    bool was_ready = c->state == CONN_READY;
    bool is_over = was_ready && c->kind == CONN_LOAN;
    uint32_t sent =
        was_ready
            ? queue_count_sent(&c->queue, outbox_written(&c->outbox, c->link))
            : 0;
    uint32_t unsent = queue_count_joined(&c->queue, sent);
    unsent += queue_count_overdue(&c->queue, sent + unsent, now_ms());
    if (is_over || c->options->is_once) {
        unsent = conn_pending(c) - sent;
    }
    uint64_t from = c->settled; // of what is being sent, some may be answered
    if (sent + unsent) {
        from = queue_at(&c->queue, sent + unsent - 1)->end;
    }
    if (conn_pending(c) == sent + unsent) {
        from = outbox_end(&c->outbox); // nothing else is to be sent
    }
    outbox_keep_from(&c->outbox, c->link, from);
    drop_link(c);
    if (!was_ready && c->options->sentinel) {
        sentinel_doubt(c->options->sentinel);
    }
    c->attempts += !was_ready;
    c->reconnects += was_ready;
    c->state = CONN_BACKOFF; // those who are told may call again
    fail_waiters(c, sent, PHASE_SENT, code, message);
    fail_waiters(c, unsent, PHASE_QUEUED, was_ready ? "redis.connect" : code,
                 message);
    if (!is_over) {
        reconnect_later(c);
    }
    unchoke(c);
    if (was_ready || c->state == CONN_IDLE) {
        tell(c, c->owner->lost); // last: it may free a loan
    }
}

void conn_renew(struct conn *c, const char *why) {
    bool is_ready = c->state == CONN_READY;
    bool is_on_its_way = c->state == CONN_CONNECTING && c->options->sentinel &&
                         *link_address(c->link);
    if (is_ready || is_on_its_way || c->state == CONN_GREETING) {
        lose(c, is_ready ? "redis.unknown_outcome" : "redis.connect", why);
    }
}

// -- time

// ping_push finds out whether the server of a CONN_PUSH is still there: it
// has to say something within each period.
static void ping_push(struct conn *c) {
    uint64_t age_ns = uv_hrtime() - c->active_ns;
    double period = c->options->timeout;
    if (c->is_doubtful) {
        lose(c, "redis.timeout", "the server is silent");
        return;
    }
    if ((double)age_ns / 1e9 >= period) {
        c->is_doubtful = true;
        resp_command(conn_out(c), 1);
        resp_arg_s(conn_out(c), "PING");
        conn_push(c);
    }
    set_timer(c, period);
}

// give_up_overdue fails those whose time is up; their places stay, since
// their replies may still come. A peer that has been silent for as long, with
// a reply due (be it one that nobody wants any more), is given up.
static void give_up_overdue(struct conn *c) {
    uint64_t now = now_ms(), next = 0;
    bool is_late = false;
    char text[400], where[256];
    snprintf(text, sizeof text, "%s gave no reply within %g s",
             conn_address(c, where, sizeof where), (double)c->limit_ms / 1000);
    for (uint32_t i = 0; i < conn_pending(c); i++) {
        struct waiter *w = queue_at(&c->queue, i);
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
            told.phase = PHASE_SENT;
            told.sink->failed(&told, "redis.timeout", text);
        }
    }
    uint64_t silent_at = c->active_ns / 1000000 + c->limit_ms;
    c->is_silent = is_late && silent_at <= now;
    if (is_late && (c->kind == CONN_LOAN || c->is_silent)) {
        lose(c, "redis.unknown_outcome", "the server is silent");
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
            break;
        }
        c->is_expiring = false;
        if (c->kind == CONN_PUSH) {
            ping_push(c);
        } else {
            give_up_overdue(c);
        }
        break;
    default: lose(c, "redis.connect", "no connection in time");
    }
}

struct conn *conn_new(struct runtime *rt, const struct conn_options *options,
                      enum conn_kind kind, const struct conn_owner *owner,
                      void *ctx) {
    struct conn *c = xcalloc(1, sizeof *c);
    c->rt = rt;
    c->options = options;
    c->kind = kind;
    c->owner = owner;
    c->ctx = ctx;
    queue_init(&c->queue);
    c->limit_ms = timeout_ms(c);
    c->push = (struct waiter){.sink = owner->push, .conn = c, .ctx = ctx};
    c->flush.fn = on_flush;
    reader_init(&c->reader, c);
    timer_init(&c->timer, on_timer);
    list_init(&c->place);
    return c;
}
