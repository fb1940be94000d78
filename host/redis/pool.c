// pool: one shared connection, and a bounded number of others on loan.
#include "redis/pool.h"

#include <stdlib.h>

#include "base/mem.h"
#include "redis/pubsub.h"
#include "redis/sentinel.h"
#include "redis/tls.h"

static const double default_idle = 60;
static const double default_timeout = 5;
static const double default_slow = 1;
enum { default_limit = 1024, default_queue = 1000000 };
static const size_t default_queue_bytes = 64 << 20;

// -- loans

static void add_totals(struct pool_totals *t, const struct conn *c) {
    t->sent += conn_sent(c);
    t->received += c->received;
    t->reconnects += c->reconnects;
    t->timeouts += c->timeouts;
}

// end closes a connection on loan for good.
static void end(struct conn *c, const char *text) {
    struct pool *p = c->ctx;
    add_totals(&p->past, c);
    if (c->holder) {
        *c->holder = NULL;
    }
    conn_close(c, "redis.closed", text);
}

// A connection comes back when its command was answered: it is clean, since
// nothing else was said on it.
static void on_idle(struct conn *c) {
    struct pool *p = c->ctx;
    if (c->holder) {
        return;
    }
    list_remove(&c->place);
    list_append(&p->idle, &c->place);
    p->busy_count--;
    p->idle_count++;
    if (!timer_is_active(&p->reaper)) {
        timer_start(&p->rt->timers, &p->reaper, timer_after(p->idle_seconds));
    }
}

static void forget_conn(struct conn *c) {
    struct pool *p = c->ctx;
    bool is_idle = false;
    for (struct list *n = p->idle.next; n != &p->idle; n = n->next) {
        is_idle = is_idle || n == &c->place;
    }
    p->idle_count -= is_idle;
    p->busy_count -= !is_idle;
}

static void on_lost(struct conn *c) {
    forget_conn(c);
    end(c, "the connection was lost");
}

static const struct conn_owner loan_owner = {.idle = on_idle, .lost = on_lost};

void pool_discard(struct conn *c) {
    forget_conn(c);
    end(c, "the call was cancelled");
}

void pool_hold(struct conn *c, struct conn **holder) {
    c->holder = holder;
    *holder = c;
}

void pool_give(struct conn *c, bool is_clean) {
    c->holder = NULL;
    if (is_clean && conn_pending(c) == 0 && c->state == CONN_READY) {
        on_idle(c);
    } else {
        pool_discard(c);
    }
}

static void close_idle(struct pool *p, uint32_t n) {
    while (n-- > 0) {
        struct conn *c = list_entry(p->idle.next, struct conn, place);
        p->idle_count--;
        end(c, "idle");
    }
}

// on_reap closes the half of the idle connections that was used least
// recently; what is in steady use moves to the end and stays.
static void on_reap(struct timer *t) {
    struct pool *p =
        (struct pool *)(void *)((char *)t - offsetof(struct pool, reaper));
    close_idle(p, (p->idle_count + 1) / 2);
    if (p->idle_count) {
        timer_start(&p->rt->timers, &p->reaper, timer_after(p->idle_seconds));
    }
}

struct conn *pool_take(struct pool *p) {
    struct conn *c;
    if (p->idle_count) {
        c = list_entry(p->idle.prev, struct conn, place);
        list_remove(&c->place);
        p->idle_count--;
    } else if (p->busy_count >= p->limit) {
        return NULL;
    } else {
        c = conn_new(p->rt, &p->options, CONN_LOAN, &loan_owner, p);
        p->created++;
    }
    conn_limit(c, p->options.timeout);
    list_append(&p->busy, &c->place);
    p->busy_count++;
    if (!timer_is_active(&p->pulse)) {
        timer_start(&p->rt->timers, &p->pulse, timer_after(p->options.timeout));
    }
    return c;
}

// renew_busy gives up the busy connections, or those with a command that may
// block for ever.
static void renew_busy(struct pool *p, bool only_endless, const char *why) {
    struct list *next;
    for (struct list *n = p->busy.next; n != &p->busy; n = next) {
        next = n->next;
        struct conn *c = list_entry(n, struct conn, place);
        if (!only_endless || c->limit_ms == 0) {
            conn_renew(c, why);
        }
    }
}

void pool_renew(struct pool *p, const char *why) {
    conn_renew(p->shared, why);
    close_idle(p, p->idle_count);
    renew_busy(p, false, why);
    if (p->pubsub) {
        pubsub_renew(p->pubsub, why);
    }
}

// -- the shared connection

// on_pulse: a command that may block for ever has no deadline by which a dead
// server would be found, so the shared connection looks after that.
static void on_pulse(struct timer *t) {
    struct pool *p =
        (struct pool *)(void *)((char *)t - offsetof(struct pool, pulse));
    if (p->busy_count == 0) {
        p->asked_ns = 0;
        p->silent_pulses = 0;
        return;
    }
    bool is_silent = p->asked_ns && p->shared->active_ns < p->asked_ns;
    p->silent_pulses = is_silent ? p->silent_pulses + 1 : 0;
    if (p->silent_pulses >= 2) {
        renew_busy(p, true, "the server is silent");
    }
    if (!is_silent) {
        p->asked_ns = uv_hrtime();
    }
    if (conn_pending(p->shared) == 0) {
        resp_command(conn_out(p->shared), 1);
        resp_arg_s(conn_out(p->shared), "PING");
        conn_wait(p->shared, &sink_ignore, NULL);
    }
    timer_start(&p->rt->timers, &p->pulse, timer_after(p->options.timeout));
}

static void on_shared_lost(struct conn *c) {
    struct pool *p = c->ctx;
    if (c->is_silent) {
        c->is_silent = false;
        renew_busy(p, true, "the server is silent");
    }
}

static void on_drained(struct conn *c) {
    struct pool *p = c->ctx;
    while (waitq_wake(&p->choked, p->rt->L, 0)) {
    }
}

static const struct conn_owner shared_owner = {.lost = on_shared_lost,
                                               .drained = on_drained};

static void on_switch(void *arg) {
    pool_renew(arg, "another server is the primary now");
}

struct pool_totals pool_totals_now(const struct pool *p) {
    struct pool_totals t = p->past;
    add_totals(&t, p->shared);
    const struct list *lists[] = {&p->idle, &p->busy};
    for (int i = 0; i < 2; i++) {
        for (struct list *n = lists[i]->next; n != lists[i]; n = n->next) {
            add_totals(&t, list_entry(n, struct conn, place));
        }
    }
    if (p->pubsub) {
        add_totals(&t, pubsub_conn(p->pubsub));
    }
    return t;
}

// -- clients

static void free_rest(struct pool *p) {
    if (p->sentinel) {
        sentinel_close(p->sentinel);
    }
    if (p->embedded) {
        embedded_close(p->embedded);
    }
    if (p->options.tls) {
        tls_context_free(p->options.tls);
    }
    if (p->sentinel_tls) {
        tls_context_free(p->sentinel_tls);
    }
    redis_url_clear(&p->url);
    free(p);
}

void pool_close(struct pool *p) {
    const char *code = "redis.closed", *text = "the client was closed";
    if (p->rt->decoding) {
        runtime_defer(p->rt, &p->closing);
        return;
    }
    runtime_undefer(p->rt, &p->closing);
    runtime_remove(&p->resource);
    timer_stop(&p->rt->timers, &p->reaper);
    timer_stop(&p->rt->timers, &p->pulse);
    if (p->pubsub) {
        pubsub_close(p->pubsub);
    }
    conn_close(p->shared, code, text);
    struct list *lists[] = {&p->idle, &p->busy};
    for (int i = 0; i < 2; i++) {
        while (!list_is_empty(lists[i])) {
            end(list_entry(lists[i]->next, struct conn, place), text);
        }
    }
    free_rest(p);
}

static void on_closing(struct defer *d) {
    pool_close(
        (struct pool *)(void *)((char *)d - offsetof(struct pool, closing)));
}

static void on_runtime_close(struct resource *r) {
    struct pool *p =
        (struct pool *)(void *)((char *)r - offsetof(struct pool, resource));
    waitq_clear(&p->choked);
    pool_close(p);
}

static double given(double v, double otherwise) {
    return v > 0 ? v : otherwise;
}

static void set_options(struct pool *p) {
    const struct redis_url *u = &p->url;
    double slow = u->slow >= 0 ? u->slow : default_slow;
    p->limit = u->pool > 0 ? (uint32_t)u->pool : default_limit;
    p->pool_timeout = given(u->pool_timeout, default_timeout);
    p->idle_seconds = given(u->idle_timeout, default_idle);
    p->options = (struct conn_options){
        .url = u,
        .timeout = given(u->timeout, default_timeout),
        .connect_timeout = given(u->connect_timeout, default_timeout),
        .queue_max = u->queue > 0 ? (uint32_t)u->queue : default_queue,
        .queue_bytes =
            (size_t)given(u->queue_bytes, (double)default_queue_bytes),
        .slow_ns = slow > 0 ? (uint64_t)(slow * 1e9) : UINT64_MAX};
}

// set_tls readies the contexts that the URL asks for.
static int set_tls(struct pool *p, char *err, size_t errlen) {
    const struct redis_url *u = &p->url;
    struct tls_options o = {.ca = u->ca,
                            .cert = u->cert,
                            .key = u->key,
                            .is_verified = u->is_verified};
    if (u->is_tls && !(p->options.tls = tls_context_new(&o, err, errlen))) {
        return -1;
    }
    if (u->is_sentinel_tls &&
        !(p->sentinel_tls = tls_context_new(&o, err, errlen))) {
        return -1;
    }
    return 0;
}

struct pool *pool_new(struct runtime *rt, struct redis_url *url,
                      bool is_embedded, const char *dir, char *err,
                      size_t errlen) {
    struct pool *p = xcalloc(1, sizeof *p);
    p->rt = rt;
    p->url = *url;
    *url = (struct redis_url){0};
    set_options(p);
    if (set_tls(p, err, errlen) < 0) {
        free_rest(p);
        return NULL;
    }
    if (is_embedded) {
        p->embedded = embedded_open(rt->loop, dir);
        p->options.embedded = p->embedded;
    } else if (p->url.sentinel_count) {
        p->sentinel = sentinel_new(rt, &p->url, p->sentinel_tls, on_switch, p);
        p->options.sentinel = p->sentinel;
    }
    p->shared = conn_new(rt, &p->options, CONN_SHARED, &shared_owner, p);
    list_init(&p->idle);
    list_init(&p->busy);
    waitq_init(&p->choked, "redis, sending");
    timer_init(&p->reaper, on_reap);
    timer_init(&p->pulse, on_pulse);
    p->reaper.is_background = p->pulse.is_background = true;
    p->closing.fn = on_closing;
    p->resource.close = on_runtime_close;
    runtime_add(rt, &p->resource);
    return p;
}
