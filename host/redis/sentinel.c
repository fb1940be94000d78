// sentinel: asks one sentinel after the other where the primary is, in a round
// that ends with the first good answer. The one that gave it is asked first
// the next time, and is listened to meanwhile: it publishes +switch-master
// when another server takes over. That is not believed by itself: it only
// begins another round, and so does a new connection to listen on, since a
// switch may have been missed before it. What counts is that the answer is not
// the last one.
#include "redis/sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "redis/conn.h"

enum { known_max = 32 };
static const double round_most = 5; // seconds, if connect_timeout isn't given
static const double patience_most = 1, patience_least = 0.1; // with one of them
static const double watch_patience = 1, watch_again = 1;

struct question {
    struct question *next;
    sentinel_cb *cb;
    void *arg;
};

// A sentinel as it is known, and how to ask it and to listen to it.
struct known {
    struct redis_url url;
    struct conn_options ask, watch;
    bool is_learned; // from another one
    bool has_failed; // in this round
};

// What the push that is being read says.
enum pushed { PUSHED_OTHER, PUSHED_SUBSCRIBED, PUSHED_SWITCH };

struct address {
    char host[256];
    int port; // 0: none
};

struct sentinel {
    struct runtime *rt;
    const struct redis_url *url;
    struct tls_context *tls;
    void (*on_switch)(void *arg);
    void *arg;
    double round_seconds; // that a round may take
    struct known *known[known_max];
    int count, at; // at: the one that is asked, or was last
    int tried;     // of them, in this round
    uint64_t round_due_ns;
    struct question *first, **last;
    struct question *answered; // those who are being told
    struct conn *asked;        // while one is asked
    struct conn *watch;        // the one that is listened to
    struct known *watched;
    struct timer again;  // to find another to listen to
    struct defer asking; // the next is asked when the turn ends
    struct defer answering;
    struct address answer;  // the last good one
    struct address reply;   // what is being read
    struct address learned; // likewise, of another sentinel
    int field;              // of the reply: which string comes
    char key[16]; // of a sentinel's description: the name of what comes
    char refusal[256];
    char error[512];
    enum pushed pushed;
    bool is_answered; // the round ended well
    bool is_doubted;  // the last answer led to no primary
    bool is_told;     // of a switch, which the round is to confirm
    bool is_mixed;    // not all connections lead to the last answer
};

static void ask_next(struct sentinel *s);

// port_of returns the port that the text is, or 0.
static int port_of(const char *text, size_t len) {
    int port = 0;
    if (len == 0 || len > 5) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        port = port * 10 + text[i] - '0';
    }
    return port <= 65535 ? port : 0;
}

// set_host copies a host, which becomes empty if it can be none.
static void set_host(struct address *a, const char *text, size_t len) {
    bool is_host = len < sizeof a->host && !memchr(text, 0, len);
    snprintf(a->host, sizeof a->host, "%.*s", is_host ? (int)len : 0, text);
}

static bool is_same(const struct address *a, const struct address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

// -- the sentinels

static struct known *find_known(const struct sentinel *s,
                                const struct address *a) {
    for (int i = 0; i < s->count; i++) {
        const struct redis_url *u = &s->known[i]->url;
        if (u->port == a->port && strcmp(u->host, a->host) == 0) {
            return s->known[i];
        }
    }
    return NULL;
}

static struct conn_options options_for(const struct sentinel *s,
                                       const struct known *k, double seconds) {
    return (struct conn_options){.url = &k->url,
                                 .tls = s->tls,
                                 .timeout = seconds,
                                 .connect_timeout = seconds,
                                 .queue_max = 100,
                                 .queue_bytes = 1 << 20,
                                 .slow_ns = UINT64_MAX,
                                 .is_once = true};
}

// add_known takes the URL over.
static void add_known(struct sentinel *s, struct redis_url url,
                      bool is_learned) {
    struct known *k = xcalloc(1, sizeof *k);
    k->url = url;
    k->is_learned = is_learned;
    k->watch = options_for(s, k, watch_patience);
    s->known[s->count++] = k;
}

static void free_known(struct known *k) {
    redis_url_clear(&k->url);
    free(k);
}

// learn: another sentinel knows of this one.
static void learn(struct sentinel *s, const struct address *a) {
    struct known *k = find_known(s, a);
    if (k) {
        k->has_failed = false;
    }
    if (k || s->count == known_max || !a->port || !a->host[0]) {
        return;
    }
    struct redis_url url = redis_url_sentinel(s->url, 0);
    free(url.host);
    url.host = xstrdup(a->host);
    url.port = a->port;
    add_known(s, url, true);
}

// drop_failed forgets those who were only heard of, do not answer, and that
// the one that does has not named again. No connection leads to them.
static void drop_failed(struct sentinel *s) {
    struct known *at = s->known[s->at];
    int n = 0;
    for (int i = 0; i < s->count; i++) {
        struct known *k = s->known[i];
        if (k->is_learned && k->has_failed && k != at && k != s->watched) {
            free_known(k);
        } else {
            s->at = k == at ? n : s->at;
            s->known[n++] = k;
        }
    }
    s->count = n;
}

// -- answers

// settle tells those who asked. What they do about it may forget others.
static void settle(struct sentinel *s, const char *error) {
    s->answered = s->first;
    s->first = NULL;
    s->last = &s->first;
    while (s->answered) {
        struct question *q = s->answered;
        s->answered = q->next;
        q->cb(q->arg, s->answer.host, s->answer.port, error);
        free(q);
    }
}

// take_answer says whether connections may lead to what is no primary any
// more. When the last answer was no good, they ended or will soon, and another
// answer need not be better.
static bool take_answer(struct sentinel *s) {
    bool is_new = s->answer.port && !is_same(&s->answer, &s->reply);
    bool is_switch = (is_new && (s->is_told || !s->is_doubted)) ||
                     (s->is_told && s->is_mixed);
    s->is_mixed = !is_switch && (s->is_mixed || is_new);
    s->answer = s->reply;
    return is_switch;
}

static void on_answering(struct defer *d) {
    struct sentinel *s =
        (struct sentinel *)(void *)((char *)d -
                                    offsetof(struct sentinel, answering));
    bool is_switch = false;
    if (s->is_answered) {
        is_switch = take_answer(s);
        drop_failed(s);
    }
    if (is_switch) { // before those who asked connect
        s->on_switch(s->arg);
    }
    s->is_told = s->is_doubted = false;
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
    struct known *k = s->known[s->at];
    bool is_v6 = strchr(k->url.host, ':') != NULL;
    size_t len = strlen(s->error);
    snprintf(s->error + len, sizeof s->error - len,
             is_v6 ? "%s[%s]:%d: %.120s" : "%s%s:%d: %.120s", len ? "; " : "",
             k->url.host, k->url.port, why);
    k->has_failed = true;
    s->at = (s->at + 1) % s->count;
    s->tried++;
    runtime_defer(s->rt, &s->asking);
}

// The address comes as a list of two strings.
static void *on_string(struct waiter *w, const redisReadTask *t,
                       const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    bool is_field = t->parent && !t->parent->parent;
    if (t->type == REDIS_REPLY_ERROR) {
        w->is_error = true;
        snprintf(s->refusal, sizeof s->refusal, "%.*s",
                 (int)(len < 200 ? len : 200), text);
    } else if (is_field && t->idx == 0) {
        set_host(&s->reply, text, len);
    } else if (is_field && t->idx == 1) {
        s->reply.port = port_of(text, len);
    }
    s->field++;
    return s;
}

static void start_watch(struct sentinel *s);

static void on_address(struct waiter *w) {
    struct sentinel *s = w->ctx;
    if (s->asking.is_queued) {
        return; // another round has begun meanwhile
    }
    if (w->is_error) {
        refuse(s, s->refusal);
    } else if (s->field == 0) {
        refuse(s, "it does not know that name");
    } else if (s->field != 2 || !s->reply.host[0] || !s->reply.port) {
        refuse(s, "what it answered is no address");
    } else {
        s->is_answered = true;
        runtime_defer(s->rt, &s->answering);
        start_watch(s);
    }
}

// on_address_failed: what the text says begins with the sentinel's URL.
static void on_address_failed(struct waiter *w, const char *code,
                              const char *text) {
    (void)code;
    struct sentinel *s = w->ctx;
    char where[256];
    if (!s->asked || s->is_answered || s->asking.is_queued) {
        return;
    }
    link_describe(&s->known[s->at]->ask, where, sizeof where);
    size_t len = strlen(where);
    bool is_named = strncmp(text, where, len) == 0 && text[len] == ':';
    refuse(s, is_named ? text + len + 2 : text);
}

static const struct sink address_sink = {
    on_string,       sink_ignore_array, sink_ignore_integer,
    sink_ignore_nil, on_address,        on_address_failed};

// The other sentinels come as lists of field, value; two of these are wanted.
static void *on_other(struct waiter *w, const redisReadTask *t,
                      const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    if (t->type == REDIS_REPLY_ERROR || !t->parent || !t->parent->parent) {
        return s;
    }
    if (t->idx == 0) {
        s->learned.host[0] = 0;
    }
    if (t->idx % 2 == 0) {
        snprintf(s->key, sizeof s->key, "%.*s", (int)(len < 15 ? len : 15),
                 text);
    } else if (strcmp(s->key, "ip") == 0) {
        set_host(&s->learned, text, len);
    } else if (strcmp(s->key, "port") == 0) {
        s->learned.port = port_of(text, len);
        learn(s, &s->learned);
    }
    return s;
}

static const struct sink others_sink = {
    on_other,        sink_ignore_array, sink_ignore_integer,
    sink_ignore_nil, sink_ignore_done,  sink_ignore_failed};

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

// patience returns how many seconds one of them gets, so that all get some.
static double patience(const struct sentinel *s) {
    double share = s->round_seconds / s->count;
    double least =
        s->round_seconds < patience_least ? s->round_seconds : patience_least;
    return share > patience_most ? patience_most
           : share < least       ? least
                                 : share;
}

static void ask_next(struct sentinel *s) {
    end_asking(s);
    bool is_late = s->tried > 0 && uv_hrtime() >= s->round_due_ns;
    if (s->tried >= s->count || is_late) {
        runtime_defer(s->rt, &s->answering);
        watch_later(s);
        return;
    }
    struct known *k = s->known[s->at];
    k->ask = options_for(s, k, patience(s));
    struct conn *c = conn_new(s->rt, &k->ask, CONN_LOAN, &asked_owner, s);
    s->asked = c;
    s->field = 0;
    s->reply = (struct address){0};
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

static bool is_asking(const struct sentinel *s) {
    return (s->asked && !s->is_answered) || s->asking.is_queued ||
           s->answering.is_queued;
}

// begin starts a round. One that is under way ends without an answer.
static void begin(struct sentinel *s, int at) {
    runtime_undefer(s->rt, &s->answering);
    for (int i = 0; i < s->count; i++) {
        s->known[i]->has_failed = false;
    }
    s->at = at % s->count;
    s->tried = 0;
    s->is_answered = false;
    s->error[0] = 0;
    s->round_due_ns = timer_after(s->round_seconds);
    runtime_defer(s->rt, &s->asking);
}

static void begin_if_idle(struct sentinel *s) {
    if (!is_asking(s)) {
        begin(s, s->at + s->is_doubted);
    }
}

void sentinel_ask(struct sentinel *s, sentinel_cb *cb, void *arg) {
    struct question *q = xcalloc(1, sizeof *q);
    q->cb = cb;
    q->arg = arg;
    *s->last = q;
    s->last = &q->next;
    begin_if_idle(s);
}

static struct question **forget_in(struct question **at, const void *arg) {
    while (*at) {
        struct question *q = *at;
        if (q->arg == arg) {
            *at = q->next;
            free(q);
        } else {
            at = &q->next;
        }
    }
    return at;
}

void sentinel_forget(struct sentinel *s, const void *arg) {
    forget_in(&s->answered, arg);
    s->last = forget_in(&s->first, arg);
}

// sentinel_doubt: several connections may say so of the same answer, so it
// counts once, when the next round begins; and some say so of an earlier
// answer, or got none.
void sentinel_doubt(struct sentinel *s) {
    s->is_doubted = s->is_doubted || (s->is_answered && !is_asking(s));
}

// -- listening

// hear_switch reads "name old-host old-port host port" and says whether that
// is news.
static bool hear_switch(const struct sentinel *s, const char *text,
                        size_t len) {
    size_t name = strlen(s->url->master);
    char line[600], port[16];
    struct address a;
    if (len <= name || len >= sizeof line || text[name] != ' ' ||
        memcmp(text, s->url->master, name) != 0) {
        return false;
    }
    memcpy(line, text, len);
    line[len] = 0;
    if (sscanf(line + name, " %*s %*s %255s %15s", a.host, port) != 2) {
        return false;
    }
    a.port = port_of(port, strlen(port));
    return s->is_mixed || !is_same(&a, &s->answer);
}

static void *on_push_string(struct waiter *w, const redisReadTask *t,
                            const char *text, size_t len) {
    struct sentinel *s = w->ctx;
    if (!t->parent || t->parent->parent) {
        return s;
    }
    if (t->idx == 0) {
        bool is_first = len == 9 && memcmp(text, "subscribe", 9) == 0;
        s->pushed = is_first ? PUSHED_SUBSCRIBED : PUSHED_OTHER;
    } else if (t->idx == 2 && hear_switch(s, text, len)) {
        s->pushed = PUSHED_SWITCH;
    }
    return s;
}

static int place_of(const struct sentinel *s, const struct known *k) {
    int i = 0;
    while (i < s->count - 1 && s->known[i] != k) {
        i++;
    }
    return i;
}

static void on_push(struct waiter *w) {
    struct sentinel *s = w->ctx;
    if (s->pushed == PUSHED_SUBSCRIBED) {
        begin_if_idle(s);
    } else if (s->pushed == PUSHED_SWITCH && !s->is_told) {
        s->is_told = true;
        begin(s, place_of(s, s->watched));
    }
    s->pushed = PUSHED_OTHER;
}

static const struct sink push_sink = {
    on_push_string,  sink_ignore_array, sink_ignore_integer,
    sink_ignore_nil, on_push,           sink_ignore_failed};

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
        s->watched = NULL;
        conn_close(c, "redis.closed", "the sentinel is gone");
        watch_later(s);
    }
}

static const struct conn_owner watch_owner = {
    .ready = on_watch_ready, .lost = on_watch_lost, .push = &push_sink};

static void start_watch(struct sentinel *s) {
    struct known *k = s->known[s->at];
    if (s->watch && s->watched == k) {
        return;
    }
    if (s->watch) {
        conn_close(s->watch, "redis.closed", "another is listened to");
    }
    s->pushed = PUSHED_OTHER;
    s->watched = k;
    s->watch = conn_new(s->rt, &k->watch, CONN_PUSH, &watch_owner, s);
    conn_want(s->watch, true, false);
}

static void on_again(struct timer *t) {
    struct sentinel *s =
        (struct sentinel *)(void *)((char *)t -
                                    offsetof(struct sentinel, again));
    if (!s->watch) {
        begin_if_idle(s);
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
    s->round_seconds =
        url->connect_timeout > 0 ? url->connect_timeout : round_most;
    s->asking.fn = on_asking;
    s->answering.fn = on_answering;
    timer_init(&s->again, on_again);
    s->again.is_background = true;
    for (int i = 0; i < url->sentinel_count && i < known_max; i++) {
        add_known(s, redis_url_sentinel(url, i), false);
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
        free_known(s->known[i]);
    }
    free(s);
}
