// pubsub: the subscriptions of a client, on one connection.
#include "redis/pubsub.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

// A topic is a channel or pattern that somebody listens to.
struct topic {
    struct topic *next; // in its bucket
    enum topic_kind kind;
    bool is_confirmed;
    uint64_t serial; // one number for each that there was
    struct list members;
    size_t len;
    char name[];
};

struct membership {
    struct list in_topic, in_subscriber;
    struct topic *topic;
    struct subscriber *subscriber;
};

// A piece of the push that is being read.
struct piece {
    size_t at, len;
};

struct pubsub {
    struct runtime *rt;
    const struct pubsub_events *events;
    struct conn *conn;
    struct list subscribers;
    struct topic **buckets;
    uint32_t count, cap; // cap is a power of two
    uint32_t waiting;    // subscribers that somebody waits for
    uint64_t serial;
    struct buf expected; // serials of what was asked for, in order
    struct buf text;     // of the push that is being read
    struct piece pieces[4];
    int piece_count;
    bool is_error;
    // who gets the message that is given out, up to the end of its topic's
    // members; NULL: the topic has gone
    struct list *next_member, *members_end;
    bool is_giving; // a message is given out
    bool is_closed; // meanwhile: it is freed after that
};

// -- topics

static uint32_t bucket_of(const struct pubsub *ps, enum topic_kind kind,
                          const char *name, size_t len) {
    uint64_t hash = hash128(name, len).low;
    return (uint32_t)(hash + (uint64_t)kind) & (ps->cap - 1);
}

static struct topic *find_topic(const struct pubsub *ps, enum topic_kind kind,
                                const char *name, size_t len) {
    struct topic *t = ps->buckets[bucket_of(ps, kind, name, len)];
    while (t && !(t->kind == kind && t->len == len &&
                  memcmp(t->name, name, len) == 0)) {
        t = t->next;
    }
    return t;
}

static void grow(struct pubsub *ps) {
    struct topic **old = ps->buckets;
    uint32_t cap = ps->cap;
    ps->cap = cap * 2;
    ps->buckets = xcalloc(ps->cap, sizeof ps->buckets[0]);
    for (uint32_t i = 0; i < cap; i++) {
        for (struct topic *t = old[i], *next; t; t = next) {
            uint32_t b = bucket_of(ps, t->kind, t->name, t->len);
            next = t->next;
            t->next = ps->buckets[b];
            ps->buckets[b] = t;
        }
    }
    free(old);
}

static struct topic *add_topic(struct pubsub *ps, enum topic_kind kind,
                               const char *name, size_t len) {
    if (ps->count++ == ps->cap) {
        grow(ps);
    }
    uint32_t b = bucket_of(ps, kind, name, len);
    struct topic *t = xcalloc(1, sizeof *t + len);
    t->kind = kind;
    t->len = len;
    t->serial = ++ps->serial;
    memcpy(t->name, name, len);
    list_init(&t->members);
    t->next = ps->buckets[b];
    ps->buckets[b] = t;
    return t;
}

static void remove_topic(struct pubsub *ps, struct topic *t) {
    if (ps->next_member == &t->members) {
        ps->next_member = NULL;
    }
    struct topic **at = &ps->buckets[bucket_of(ps, t->kind, t->name, t->len)];
    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    ps->count--;
    free(t);
}

// say sends a command for the topic, if there is a connection. Each has one
// topic, so that an error tells which was refused.
static void say(struct pubsub *ps, const char *command, const struct topic *t) {
    struct conn *c = ps->conn;
    if (c->state != CONN_READY) {
        return; // all that is wanted is said when there is one
    }
    char name[24];
    snprintf(name, sizeof name, "%s%s", t->kind == TOPIC_PATTERN ? "P" : "",
             command);
    resp_command(conn_out(c), 2);
    resp_arg_s(conn_out(c), name);
    resp_arg(conn_out(c), t->name, t->len);
    buf_add(&ps->expected, &t->serial, sizeof t->serial);
    conn_push(c);
}

static void update_want(struct pubsub *ps) {
    conn_want(ps->conn, ps->count > 0, ps->waiting > 0);
}

// -- what comes

static struct subscriber *member(const struct list *n) {
    return list_entry(n, struct membership, in_topic)->subscriber;
}

// settle tells a subscriber that nothing it asked for is open any more.
static void settle(struct pubsub *ps, struct subscriber *s) {
    s->is_settled = true;
    if (s->has_gap) {
        s->has_gap = false;
        ps->events->gap(s);
    }
    ps->events->subscribed(s);
}

static void confirm(struct pubsub *ps, struct topic *t) {
    if (t->is_confirmed) {
        return;
    }
    t->is_confirmed = true;
    for (struct list *n = t->members.next; n != &t->members; n = n->next) {
        if (--member(n)->unconfirmed == 0) {
            settle(ps, member(n));
        }
    }
}

static void fail(struct pubsub *ps, struct subscriber *s, const char *code,
                 const char *text) {
    ps->events->failed(s, code, text);
    subscriber_close(s);
}

static uint32_t count_members(const struct topic *t) {
    uint32_t count = 0;
    for (struct list *n = t->members.next; n != &t->members; n = n->next) {
        count++;
    }
    return count;
}

static void fail_topic(struct pubsub *ps, struct topic *t, const char *text) {
    char code[64];
    snprintf(code, sizeof code, "redis.%.*s", (int)strcspn(text, " "), text);
    for (char *p = code; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    for (uint32_t n = count_members(t); n > 0; n--) { // the last ends the topic
        fail(ps, member(t->members.next), code, text);
    }
}

// take_expected returns the serial of the topic whose command is answered now.
static uint64_t take_expected(struct pubsub *ps) {
    uint64_t serial = 0;
    if (ps->expected.len >= sizeof serial) {
        memcpy(&serial, ps->expected.data, sizeof serial);
        buf_shift(&ps->expected, sizeof serial);
    }
    return serial;
}

// find_serial looks through all: an error does not name its topic.
static struct topic *find_serial(const struct pubsub *ps, uint64_t serial) {
    for (uint32_t i = 0; i < ps->cap; i++) {
        for (struct topic *t = ps->buckets[i]; t; t = t->next) {
            if (t->serial == serial) {
                return t;
            }
        }
    }
    return NULL;
}

static const char *piece(const struct pubsub *ps, int i, size_t *len) {
    *len = ps->pieces[i].len;
    return ps->text.data + ps->pieces[i].at;
}

static bool piece_is(const struct pubsub *ps, int i, const char *s) {
    size_t len;
    const char *p = piece(ps, i, &len);
    return i < ps->piece_count && len == strlen(s) && memcmp(p, s, len) == 0;
}

static void deliver(struct pubsub *ps, bool has_pattern) {
    struct pubsub_message m = {0};
    int i = 1;
    if (has_pattern) {
        m.pattern = piece(ps, i++, &m.pattern_len);
    }
    m.channel = piece(ps, i++, &m.channel_len);
    m.payload = piece(ps, i, &m.payload_len);
    struct topic *t =
        has_pattern ? find_topic(ps, TOPIC_PATTERN, m.pattern, m.pattern_len)
                    : find_topic(ps, TOPIC_CHANNEL, m.channel, m.channel_len);
    if (!t) {
        return; // its last subscriber has just left
    }
    ps->is_giving = true;
    ps->members_end = &t->members;
    ps->next_member = t->members.next;
    ps->events->message(ps, &m);
    ps->next_member = NULL;
    ps->is_giving = false;
}

bool pubsub_has_next(const struct pubsub *ps) {
    // of a topic that has gone, next_member is NULL: it stood at its head
    return ps->next_member && ps->next_member != ps->members_end;
}

struct subscriber *pubsub_next(struct pubsub *ps) {
    if (!pubsub_has_next(ps)) {
        return NULL;
    }
    struct list *n = ps->next_member;
    ps->next_member = n->next;
    return member(n);
}

// on_confirmed: the channel may have been left and asked for again since; then
// this is not the answer that it waits for.
static void on_confirmed(struct pubsub *ps, enum topic_kind kind) {
    size_t len;
    const char *name = piece(ps, 1, &len);
    struct topic *t = find_topic(ps, kind, name, len);
    uint64_t serial = take_expected(ps);
    if (t && t->serial == serial) {
        confirm(ps, t);
    }
}

static void on_error(struct pubsub *ps) {
    struct topic *t = find_serial(ps, take_expected(ps));
    buf_addc(&ps->text, 0);
    if (t) {
        fail_topic(ps, t, ps->text.data);
    }
}

static void free_pubsub(struct pubsub *ps) {
    buf_clear(&ps->expected);
    buf_clear(&ps->text);
    free(ps->buckets);
    free(ps);
}

static void on_push(struct waiter *w) {
    struct pubsub *ps = w->ctx;
    if (ps->is_error) {
        on_error(ps);
    } else if (piece_is(ps, 0, "message") && ps->piece_count == 3) {
        deliver(ps, false);
    } else if (piece_is(ps, 0, "pmessage") && ps->piece_count == 4) {
        deliver(ps, true);
    } else if (piece_is(ps, 0, "subscribe") && ps->piece_count == 2) {
        on_confirmed(ps, TOPIC_CHANNEL);
    } else if (piece_is(ps, 0, "psubscribe") && ps->piece_count == 2) {
        on_confirmed(ps, TOPIC_PATTERN);
    } else if (piece_is(ps, 0, "unsubscribe") ||
               piece_is(ps, 0, "punsubscribe")) {
        take_expected(ps);
    }
    if (ps->is_closed) {
        free_pubsub(ps);
        return;
    }
    ps->piece_count = 0;
    ps->text.len = 0;
    ps->is_error = false;
    if (ps->text.cap > (1 << 20)) {
        buf_clear(&ps->text);
    }
}

static void *on_string(struct waiter *w, const redisReadTask *t, const char *s,
                       size_t len) {
    struct pubsub *ps = w->ctx;
    if (!t->parent) {
        ps->is_error = t->type == REDIS_REPLY_ERROR;
        ps->text.len = 0;
        ps->piece_count = 0;
    }
    if (ps->piece_count < 4) {
        ps->pieces[ps->piece_count++] = (struct piece){ps->text.len, len};
        buf_add(&ps->text, s, len);
    }
    return ps;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t n) {
    struct pubsub *ps = w->ctx;
    (void)n;
    if (!t->parent) {
        ps->piece_count = 0;
        ps->text.len = 0;
        ps->is_error = false;
    }
    return ps;
}

static const struct sink push_sink = {
    on_string,       on_array, sink_ignore_integer,
    sink_ignore_nil, on_push,  sink_ignore_failed};

// -- the connection

static void on_ready(struct conn *c) {
    struct pubsub *ps = c->ctx;
    ps->expected.len = 0;
    conn_out(c)->len = 0; // what was said to the connection before is said anew
    for (uint32_t i = 0; i < ps->cap; i++) {
        for (struct topic *t = ps->buckets[i]; t; t = t->next) {
            say(ps, "SUBSCRIBE", t);
        }
    }
}

static void on_lost(struct conn *c) {
    struct pubsub *ps = c->ctx;
    for (uint32_t i = 0; i < ps->cap; i++) {
        for (struct topic *t = ps->buckets[i]; t; t = t->next) {
            struct list *members = &t->members;
            if (!t->is_confirmed) {
                continue;
            }
            t->is_confirmed = false;
            for (struct list *n = members->next; n != members; n = n->next) {
                member(n)->unconfirmed++;
                member(n)->has_gap = true;
            }
        }
    }
}

// on_refused: who is not subscribed yet is told; the others wait for better
// times.
static void on_refused(struct conn *c, const char *code, const char *text) {
    struct pubsub *ps = c->ctx;
    struct list *subs = &ps->subscribers, *next;
    for (struct list *n = subs->next; n != subs; n = next) {
        next = n->next;
        struct subscriber *s = list_entry(n, struct subscriber, link);
        if (s->unconfirmed && !s->is_settled) {
            fail(ps, s, code, text);
        }
    }
}

static const struct conn_owner push_owner = {.ready = on_ready,
                                             .lost = on_lost,
                                             .refused = on_refused,
                                             .push = &push_sink};

struct pubsub *pubsub_new(struct runtime *rt,
                          const struct conn_options *options,
                          const struct pubsub_events *events) {
    struct pubsub *ps = xcalloc(1, sizeof *ps);
    ps->rt = rt;
    ps->events = events;
    ps->cap = 16;
    ps->buckets = xcalloc(ps->cap, sizeof ps->buckets[0]);
    list_init(&ps->subscribers);
    ps->conn = conn_new(rt, options, CONN_PUSH, &push_owner, ps);
    return ps;
}

struct runtime *pubsub_runtime(const struct pubsub *ps) {
    return ps->rt;
}

struct conn *pubsub_conn(struct pubsub *ps) {
    return ps->conn;
}

void pubsub_renew(struct pubsub *ps, const char *why) {
    conn_renew(ps->conn, why);
}

void pubsub_close(struct pubsub *ps) {
    struct list *subs = &ps->subscribers;
    while (!list_is_empty(subs)) {
        fail(ps, list_entry(subs->next, struct subscriber, link),
             "redis.closed", "the client was closed");
    }
    conn_close(ps->conn, "redis.closed", "the client was closed");
    ps->is_closed = true;
    if (!ps->is_giving) {
        free_pubsub(ps);
    }
}

// -- subscribers

void subscriber_open(struct subscriber *s, struct pubsub *ps) {
    *s = (struct subscriber){.pubsub = ps};
    list_init(&s->memberships);
    list_append(&ps->subscribers, &s->link);
}

static struct membership *find_member(struct subscriber *s,
                                      const struct topic *t) {
    struct list *all = &s->memberships;
    for (struct list *n = all->next; n != all; n = n->next) {
        struct membership *m = list_entry(n, struct membership, in_subscriber);
        if (m->topic == t) {
            return m;
        }
    }
    return NULL;
}

bool subscriber_add(struct subscriber *s, enum topic_kind kind,
                    const char *name, size_t len) {
    struct pubsub *ps = s->pubsub;
    struct topic *t = find_topic(ps, kind, name, len);
    if (t && find_member(s, t)) {
        return false;
    }
    struct membership *m = xcalloc(1, sizeof *m);
    bool is_new = !t;
    if (is_new) {
        t = add_topic(ps, kind, name, len);
    }
    m->topic = t;
    m->subscriber = s;
    list_append(&t->members, &m->in_topic);
    list_append(&s->memberships, &m->in_subscriber);
    s->unconfirmed += !t->is_confirmed;
    if (is_new) {
        say(ps, "SUBSCRIBE", t);
    }
    update_want(ps);
    return true;
}

static void leave(struct pubsub *ps, struct membership *m) {
    struct topic *t = m->topic;
    m->subscriber->unconfirmed -= !t->is_confirmed;
    if (ps->next_member == &m->in_topic) {
        ps->next_member = m->in_topic.next;
    }
    list_remove(&m->in_topic);
    list_remove(&m->in_subscriber);
    free(m);
    if (list_is_empty(&t->members)) {
        say(ps, "UNSUBSCRIBE", t);
        remove_topic(ps, t);
    }
}

bool subscriber_remove(struct subscriber *s, enum topic_kind kind,
                       const char *name, size_t len) {
    struct topic *t = find_topic(s->pubsub, kind, name, len);
    struct membership *m = t ? find_member(s, t) : NULL;
    if (!m) {
        return false;
    }
    uint32_t before = s->unconfirmed;
    leave(s->pubsub, m);
    if (before && s->unconfirmed == 0) { // it was the last that was open
        settle(s->pubsub, s);
    }
    update_want(s->pubsub);
    return true;
}

void subscriber_close(struct subscriber *s) {
    struct pubsub *ps = s->pubsub;
    if (!ps) {
        return;
    }
    subscriber_wait(s, false);
    while (!list_is_empty(&s->memberships)) {
        leave(ps, list_entry(s->memberships.next, struct membership,
                             in_subscriber));
    }
    list_remove(&s->link);
    s->pubsub = NULL;
    update_want(ps);
}

void subscriber_wait(struct subscriber *s, bool is_waiting) {
    if (!s->pubsub || s->is_waiting == is_waiting) {
        return;
    }
    s->is_waiting = is_waiting;
    s->pubsub->waiting += is_waiting ? 1 : -1u;
    if (s->pubsub->waiting <= 1) { // it may have become the first, or the last
        update_want(s->pubsub);
    }
}
