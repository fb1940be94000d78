// pool: one shared connection, and a bounded number of others on loan.
#include "redis/pool.h"

#include <stdlib.h>

#include "base/mem.h"

static const double idle_seconds = 60;
static const double default_timeout = 5, default_connect_timeout = 5;
enum { default_limit = 1024 };

static struct pool *owner_of(struct conn *c) {
    return c->owner;
}

// A connection comes back when its command was answered: it is clean, since
// nothing else was said on it.
static void on_idle(struct conn *c) {
    struct pool *p = owner_of(c);
    list_remove(&c->place);
    list_append(&p->idle, &c->place);
    p->busy_count--;
    p->idle_count++;
    if (!timer_is_active(&p->reaper)) {
        timer_start(&p->rt->timers, &p->reaper, timer_after(idle_seconds));
    }
}

static void forget_conn(struct conn *c) {
    struct pool *p = owner_of(c);
    bool is_idle = false;
    for (struct list *n = p->idle.next; n != &p->idle; n = n->next) {
        is_idle = is_idle || n == &c->place;
    }
    p->idle_count -= is_idle;
    p->busy_count -= !is_idle;
}

static void on_lost(struct conn *c) {
    forget_conn(c);
    conn_close(c, "redis.closed", "the connection was lost");
}

void pool_discard(struct conn *c) {
    forget_conn(c);
    conn_close(c, "redis.closed", "the call was cancelled");
}

// on_reap closes the half of the idle connections that was used least
// recently; what is in steady use moves to the end and stays.
static void on_reap(struct timer *t) {
    struct pool *p =
        (struct pool *)(void *)((char *)t - offsetof(struct pool, reaper));
    uint32_t n = (p->idle_count + 1) / 2;
    while (n-- > 0) {
        struct conn *c = list_entry(p->idle.next, struct conn, place);
        p->idle_count--;
        conn_close(c, "redis.closed", "idle");
    }
    if (p->idle_count) {
        timer_start(&p->rt->timers, &p->reaper, timer_after(idle_seconds));
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
        c = conn_new(p->rt, &p->options, true);
        c->on_idle = on_idle;
        c->on_lost = on_lost;
        c->owner = p;
        p->created++;
    }
    list_append(&p->busy, &c->place);
    p->busy_count++;
    return c;
}

void pool_close(struct pool *p) {
    const char *code = "redis.closed", *text = "the client was closed";
    runtime_remove(&p->resource);
    timer_stop(&p->rt->timers, &p->reaper);
    conn_close(p->shared, code, text);
    struct list *lists[] = {&p->idle, &p->busy};
    for (int i = 0; i < 2; i++) {
        while (!list_is_empty(lists[i])) {
            conn_close(list_entry(lists[i]->next, struct conn, place), code,
                       text);
        }
    }
    if (p->embedded) {
        embedded_close(p->embedded);
    }
    redis_url_clear(&p->url);
    free(p);
}

static void on_runtime_close(struct resource *r) {
    pool_close(
        (struct pool *)(void *)((char *)r - offsetof(struct pool, resource)));
}

struct pool *pool_new(struct runtime *rt, struct redis_url *url,
                      const char *dir) {
    struct pool *p = xcalloc(1, sizeof *p);
    p->rt = rt;
    p->limit = default_limit;
    p->options =
        (struct conn_options){.url = &p->url,
                              .timeout = default_timeout,
                              .connect_timeout = default_connect_timeout};
    if (url) {
        p->url = *url;
        *url = (struct redis_url){0};
        if (p->url.timeout > 0) {
            p->options.timeout = p->url.timeout;
        }
        if (p->url.connect_timeout > 0) {
            p->options.connect_timeout = p->url.connect_timeout;
        }
        if (p->url.pool > 0) {
            p->limit = (uint32_t)p->url.pool;
        }
    } else {
        p->embedded = embedded_open(rt->loop, dir);
        p->options.embedded = p->embedded;
    }
    p->shared = conn_new(rt, &p->options, false);
    list_init(&p->idle);
    list_init(&p->busy);
    timer_init(&p->reaper, on_reap);
    p->reaper.is_background = true;
    p->resource.close = on_runtime_close;
    runtime_add(rt, &p->resource);
    return p;
}
