// sentinel: asks one sentinel after the other where the primary is. The one
// that knew it is asked first the next time, and is listened to meanwhile: it
// publishes +switch-master when another server takes over.
#include "redis/sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "redis/conn.h"

enum { known_max = 32 };
static const double patience = 1; // seconds, with one sentinel
static const double watch_again = 1;

struct question {
    struct question *next;
    sentinel_cb *cb;
    void *arg;
};

// A sentinel as it is known, and how to talk to it.
struct known {
    struct redis_url url;
    struct conn_options options;
};

struct sentinel {
    struct runtime *rt;
    const struct redis_url *url;
    struct tls_context *tls;
    void (*on_switch)(void *arg);
    void *arg;
    struct known *known[known_max];
    int count, at;  // at: the one to ask first
    int tried;      // of them, for the questions that wait
    struct question *first, **last;
    struct conn *asked;  // while one is asked
    struct conn *watch;  // the one that is listened to
    int watched;         // its number
    struct timer again;  // to find another to listen to
    struct defer asking; // the next is asked when the turn ends
    struct defer answering;
    char host[256]; // the answer
    int port;
    int field;    // of the reply: which string comes
    char key[16]; // of a sentinel's description: the name of what comes
    char peer[256];
    char error[512];
    bool is_answered;
};

static void ask_next(struct sentinel *s);

static bool is_known(const struct sentinel *s, const char *host, int port) {
    for (int i = 0; i < s->count; i++) {
        const struct redis_url *u = &s->known[i]->url;
        if (u->port == port && strcmp(u->host, host) == 0) {
            return true;
        }
    }
    return false;
}

// add_known takes the URL over.
static void add_known(struct sentinel *s, struct redis_url url) {
    struct known *k = xcalloc(1, sizeof *k);
    k->url = url;
    double seconds = s->url->connect_timeout > 0 &&
                             s->url->connect_timeout < patience
                         ? s->url->connect_timeout
                         : patience;
    k->options = (struct conn_options){.url = &k->url,
                                       .tls = s->tls,
                                       .timeout = seconds,
                                       .connect_timeout = seconds,
                                       .queue_max = 100,
                                       .queue_bytes = 1 << 20,
                                       .is_once = true};
    s->known[s->count++] = k;
}

static void learn(struct sentinel *s, const char *host, int port) {
    if (s->count == known_max || port < 1 || port > 65535 ||
        is_known(s, host, port)) {
        return;
    }
    struct redis_url url = redis_url_sentinel(s->url, 0);
    free(url.host);
    url.host = xstrdup(host);
    url.port = port;
    add_known(s, url);
}

// -- answers

static void settle(struct sentinel *s, const char *error) {
    struct question *q = s->first;
    s->first = NULL;
    s->last = &s->first;
    while (q) {
        struct question *next = q->next;
        q->cb(q->arg, s->host, s->port, error);
        free(q);
        q = next;
    }
}

static void on_answering(struct defer *d) {
    struct sentinel *s =
        (struct sentinel *)(void *)((char *)d -
                                    offsetof(struct sentinel, answering));
    settle(s, s->is_answered ? NULL : s->error);
}

static void end_asking(struct sentinel *s) {
    if (s->asked) {
        struct conn *c = s->asked;
        s->asked = NULL;
        conn_close(c, "redis.closed", "done");
    }
}

static void watch_later(struct sentinel *s) {
    timer_start(&s->rt->timers, &s->again, timer_after(watch_again));
}

// refuse: this sentinel does not help; the next one is asked, or all fail.
static void refuse(struct sentinel *s, const char *why) {
    const struct redis_url *u = &s->known[s->at]->url;
    size_t len = strlen(s->error);
    snprintf(s->error + len, sizeof s->error - len, "%s%s:%d: %.120s",
             len ? "; " : "", u->host, u->port, why);
    s->at = (s->at + 1) % s->count;
    s->tried++;
    runtime_defer(s->rt, &s->asking);
}

static void *on_string(struct waiter *w, const redisReadTask *t,
                       const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        w->is_error = true;
        snprintf(s->peer, sizeof s->peer, "%.*s", (int)(len < 200 ? len : 200),
                 text);
    } else if (s->field++ == 0) {
        snprintf(s->host, sizeof s->host, "%.*s",
                 (int)(len < 255 ? len : 255), text);
    } else {
        char number[16];
        snprintf(number, sizeof number, "%.*s", (int)(len < 15 ? len : 15),
                 text);
        s->port = atoi(number);
    }
    return s;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)t, (void)n;
    return w->ctx;
}

static void *on_integer(struct waiter *w, const redisReadTask *t,
                        long long v) {
    (void)t, (void)v;
    return w->ctx;
}

static void *on_nil(struct waiter *w, const redisReadTask *t) {
    (void)t;
    return w->ctx;
}

static void start_watch(struct sentinel *s);

static void on_address(struct waiter *w) {
    struct sentinel *s = w->ctx;
    if (w->is_error) {
        refuse(s, s->peer);
    } else if (s->field != 2 || s->port < 1 || s->port > 65535) {
        refuse(s, "it does not know that name");
    } else {
        s->is_answered = true;
        runtime_defer(s->rt, &s->answering);
        start_watch(s);
    }
}

static void on_address_failed(struct waiter *w, const char *code,
                              const char *text) {
    (void)code;
    struct sentinel *s = w->ctx;
    if (s->asked && !s->is_answered) {
        refuse(s, text);
    }
}

static const struct sink address_sink = {on_string, on_array,   on_integer,
                                         on_nil,    on_address, on_address_failed};

// The other sentinels come as lists of field, value; two of these are wanted.
static void *on_other(struct waiter *w, const redisReadTask *t,
                      const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    int n = (int)(len < 255 ? len : 255);
    if (t->type == REDIS_REPLY_ERROR || !t->parent) {
        return s;
    }
    if (t->idx % 2 == 0) {
        snprintf(s->key, sizeof s->key, "%.*s", n < 15 ? n : 15, text);
    } else if (strcmp(s->key, "ip") == 0) {
        snprintf(s->peer, sizeof s->peer, "%.*s", n, text);
    } else if (strcmp(s->key, "port") == 0) {
        char port[16];
        snprintf(port, sizeof port, "%.*s", n < 15 ? n : 15, text);
        learn(s, s->peer, atoi(port));
    }
    return s;
}

static void on_others(struct waiter *w) {
    (void)w;
}

static void on_others_failed(struct waiter *w, const char *code,
                             const char *text) {
    (void)w, (void)code, (void)text;
}

static const struct sink others_sink = {on_other, on_array,  on_integer,
                                        on_nil,   on_others, on_others_failed};

// -- asking

static void on_asked_idle(struct conn *c) {
    struct sentinel *s = c->ctx;
    s->asked = NULL;
    conn_close(c, "redis.closed", "done");
}

static void on_asked_lost(struct conn *c) {
    struct sentinel *s = c->ctx;
    if (c == s->asked) {
        s->asked = NULL;
        conn_close(c, "redis.closed", "the sentinel is gone");
    }
}

static const struct conn_owner asked_owner = {.idle = on_asked_idle,
                                              .lost = on_asked_lost};

static void ask_next(struct sentinel *s) {
    end_asking(s);
    if (s->tried >= s->count) {
        runtime_defer(s->rt, &s->answering);
        watch_later(s);
        return;
    }
    struct known *k = s->known[s->at];
    struct conn *c =
        conn_new(s->rt, &k->options, CONN_LOAN, &asked_owner, s);
    s->asked = c;
    s->field = 0;
    resp_command(conn_out(c), 3);
    resp_arg_s(conn_out(c), "SENTINEL");
    resp_arg_s(conn_out(c), "get-master-addr-by-name");
    resp_arg_s(conn_out(c), s->url->master);
    conn_wait(c, &address_sink, s);
    resp_command(conn_out(c), 3);
    resp_arg_s(conn_out(c), "SENTINEL");
    resp_arg_s(conn_out(c), "sentinels");
    resp_arg_s(conn_out(c), s->url->master);
    conn_wait(c, &others_sink, s);
}

static void on_asking(struct defer *d) {
    ask_next((struct sentinel *)(void *)((char *)d -
                                         offsetof(struct sentinel, asking)));
}

static void begin(struct sentinel *s) {
    bool is_asking = s->asked && !s->is_answered;
    if (is_asking || s->asking.is_queued || s->answering.is_queued) {
        return;
    }
    s->tried = 0;
    s->is_answered = false;
    s->error[0] = 0;
    runtime_defer(s->rt, &s->asking);
}

void sentinel_ask(struct sentinel *s, sentinel_cb *cb, void *arg) {
    struct question *q = xcalloc(1, sizeof *q);
    q->cb = cb;
    q->arg = arg;
    *s->last = q;
    s->last = &q->next;
    begin(s);
}

void sentinel_forget(struct sentinel *s, const void *arg) {
    struct question **at = &s->first;
    while (*at) {
        struct question *q = *at;
        if (q->arg == arg) {
            *at = q->next;
            free(q);
        } else {
            at = &q->next;
        }
    }
    s->last = at;
}

void sentinel_doubt(struct sentinel *s) {
    s->at = (s->at + 1) % s->count;
}

// -- listening

static void *on_push_string(struct waiter *w, const redisReadTask *t,
                            const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    // "message", "+switch-master", "name old-host old-port host port"
    size_t name = strlen(s->url->master);
    if (t->parent && t->idx == 2 && len > name && text[name] == ' ' &&
        memcmp(text, s->url->master, name) == 0) {
        w->is_error = true; // what was known is wrong
    }
    return s;
}

static void on_push(struct waiter *w) {
    struct sentinel *s = w->ctx;
    if (w->is_error) {
        w->is_error = false;
        s->on_switch(s->arg);
    }
}

static const struct sink push_sink = {on_push_string, on_array,  on_integer,
                                      on_nil,         on_push,   on_others_failed};

static void on_watch_ready(struct conn *c) {
    resp_command(conn_out(c), 2);
    resp_arg_s(conn_out(c), "SUBSCRIBE");
    resp_arg_s(conn_out(c), "+switch-master");
    conn_push(c);
}

// on_watch_lost: another sentinel may be there to listen to.
static void on_watch_lost(struct conn *c) {
    struct sentinel *s = c->ctx;
    if (c == s->watch) {
        s->watch = NULL;
        conn_close(c, "redis.closed", "the sentinel is gone");
        watch_later(s);
    }
}

static const struct conn_owner watch_owner = {
    .ready = on_watch_ready, .lost = on_watch_lost, .push = &push_sink};

static void start_watch(struct sentinel *s) {
    if (s->watch && s->watched == s->at) {
        return;
    }
    if (s->watch) {
        conn_close(s->watch, "redis.closed", "another is listened to");
    }
    s->watched = s->at;
    s->watch = conn_new(s->rt, &s->known[s->at]->options, CONN_PUSH,
                        &watch_owner, s);
    conn_want(s->watch, true, false);
}

static void on_again(struct timer *t) {
    struct sentinel *s =
        (struct sentinel *)(void *)((char *)t -
                                    offsetof(struct sentinel, again));
    if (!s->watch) {
        begin(s);
    }
}

struct sentinel *sentinel_new(struct runtime *rt, const struct redis_url *url,
                              struct tls_context *tls,
                              void (*on_switch)(void *arg), void *arg) {
    struct sentinel *s = xcalloc(1, sizeof *s);
    s->rt = rt;
    s->url = url;
    s->tls = tls;
    s->on_switch = on_switch;
    s->arg = arg;
    s->last = &s->first;
    s->asking.fn = on_asking;
    s->answering.fn = on_answering;
    timer_init(&s->again, on_again);
    s->again.is_background = true;
    for (int i = 0; i < url->sentinel_count && i < known_max; i++) {
        add_known(s, redis_url_sentinel(url, i));
    }
    return s;
}

void sentinel_close(struct sentinel *s) {
    runtime_undefer(s->rt, &s->asking);
    runtime_undefer(s->rt, &s->answering);
    timer_stop(&s->rt->timers, &s->again);
    end_asking(s);
    if (s->watch) {
        conn_close(s->watch, "redis.closed", "the client was closed");
    }
    while (s->first) {
        sentinel_forget(s, s->first->arg);
    }
    for (int i = 0; i < s->count; i++) {
        redis_url_clear(&s->known[i]->url);
        free(s->known[i]);
    }
    free(s);
}
