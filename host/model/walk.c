// walk: along an ordered index, a few entries at a time, while others write.
//
// Ranks shift between two reads. So a read begins at the score where the last
// one ended, some entries before its place. It has missed nothing if its first
// entry is one that was taken over already.
#include "model/walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "model/index.h"
#include "model/value.h"

struct walk *walk_new(struct conn *conn, const struct walk_path *path) {
    struct walk *w = xcalloc(1, sizeof *w);
    w->conn = conn;
    w->path = *path;
    w->overlap = 1;
    return w;
}

void walk_free(struct walk *w) {
    for (uint32_t i = 0; i < w->seen_count; i++) {
        free(w->seen[i]);
    }
    free(w->seen);
    buf_clear(&w->found);
    buf_clear(&w->last);
    buf_clear(&w->path.key);
    free(w);
}

// -- taking entries over

uint64_t walk_key_number(double v) {
    uint64_t key;
    v += 0.0; // -0 and 0 are the same
    memcpy(&key, &v, sizeof key);
    return key;
}

uint64_t walk_key_text(const char *escaped, size_t len) {
    return hash128(escaped, len).low & INT64_MAX;
}

static struct bits *seen_segment(struct walk *w, uint32_t segment) {
    if (segment >= w->seen_count) {
        w->seen = xrealloc(w->seen, (segment + 1) * sizeof w->seen[0]);
        while (w->seen_count <= segment) {
            w->seen[w->seen_count++] = NULL;
        }
    }
    if (!w->seen[segment]) {
        w->seen[segment] = aligned_alloc(64, sizeof(struct bits));
        if (!w->seen[segment]) {
            abort();
        }
        bits_zero(w->seen[segment]);
    }
    return w->seen[segment];
}

// find puts an ordinal out, unless it was: then its row has moved.
static void find(struct walk *w, uint32_t n) {
    struct bits *seen = seen_segment(w, n / SCHEMA_SEGMENT);
    if (!bits_test(seen, n % SCHEMA_SEGMENT)) {
        struct candidate found = {n, w->group, w->key};
        bits_set(seen, n % SCHEMA_SEGMENT);
        buf_add(&w->found, &found, sizeof found);
    }
}

// is_done says whether an entry is, or lies before, the last one taken over.
static bool is_done(const struct walk *w, double score) {
    if (!w->is_begun) {
        return false;
    }
    if (score != w->done_score) {
        return (score < w->done_score) != w->path.is_descending;
    }
    return w->path.is_descending ? w->member >= w->done_member
                                 : w->member <= w->done_member;
}

static void take_entry(struct walk *w, double score) {
    bool was_done = is_done(w, score);
    if (w->taken++ == 0 && w->tie > 0 && !was_done) {
        w->is_torn = true;
    }
    if (w->is_torn) {
        return;
    }
    w->tie = w->is_begun && score == w->score ? w->tie + 1 : 1;
    w->score = score;
    if (was_done) {
        return;
    }
    w->group += !w->is_begun || score != w->done_score;
    w->key = walk_key_number(score);
    w->is_begun = true;
    w->done_score = score;
    w->done_member = w->member;
    find(w, w->member);
}

// take_member takes an entry of an index by bytes over: none comes twice, as
// the next read begins behind it.
static void take_member(struct walk *w, const char *s, size_t len) {
    bool is_same =
        w->last.len == len && len >= 4 && memcmp(w->last.data, s, len - 4) == 0;
    w->taken++;
    if (!is_same && len >= 4) {
        w->group++;
        w->key = walk_key_text(s, len - 4);
    }
    w->last.len = 0;
    buf_add(&w->last, s, len);
    uint32_t n = index_member_ordinal(s, len);
    if (n != ROW_NO_ORDINAL) {
        find(w, n);
    }
}

// -- reading

static void ask(struct walk *w);

static void *on_string(struct waiter *waiter, const redisReadTask *t,
                       const char *s, size_t len) {
    struct walk *w = waiter->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        snprintf(w->code, sizeof w->code, "model.damaged");
        snprintf(w->error, sizeof w->error, "%.*s", (int)len, s);
    } else if (t->parent && w->path.is_lex) {
        take_member(w, s, len);
    } else if (t->parent && t->idx % 2 == 0) {
        w->member = len == 4 ? index_member_ordinal(s, len) : UINT32_MAX;
    } else if (t->parent && w->member != UINT32_MAX) {
        take_entry(w, index_number((struct value){s, len}));
    }
    return w;
}

static void *on_array(struct waiter *waiter, const redisReadTask *t, size_t n) {
    struct walk *w = waiter->ctx;
    if (!t->parent) {
        w->is_over = (w->path.is_lex ? n : n / 2) < w->asked;
    }
    return w;
}

static void on_done(struct waiter *waiter) {
    struct walk *w = waiter->ctx;
    if (w->code[0]) {
        w->done(w, w->code, w->error);
        return;
    }
    bool is_lost = w->taken == 0 && w->tie > 0;
    if (!w->path.is_lex && (w->is_torn || is_lost)) {
        w->overlap *= 8;
        ask(w);
        return;
    }
    w->overlap = 1;
    w->done(w, NULL, NULL);
}

static void on_failed(struct waiter *waiter, const char *code,
                      const char *text) {
    struct walk *w = waiter->ctx;
    w->done(w, code, text);
}

static const struct sink walk_sink = {
    on_string,       on_array, sink_ignore_integer,
    sink_ignore_nil, on_done,  on_failed};

// ask_lex goes on behind the last member.
static void ask_lex(struct walk *w) {
    struct buf *out = conn_out(w->conn), from = {0};
    bool is_down = w->path.is_descending;
    struct value begin = is_down ? w->path.most : w->path.least;
    struct value end = is_down ? w->path.least : w->path.most;
    w->taken = 0;
    if (w->last.len) {
        buf_addc(&from, '(');
        buf_add(&from, w->last.data, w->last.len);
    } else if (begin.p) {
        buf_add(&from, begin.p, begin.len);
    } else {
        buf_addc(&from, is_down ? '+' : '-');
    }
    resp_command(out, 7);
    resp_arg_s(out, is_down ? "ZREVRANGEBYLEX" : "ZRANGEBYLEX");
    resp_arg(out, w->path.key.data, w->path.key.len);
    resp_arg(out, from.data, from.len);
    if (end.p) {
        resp_arg(out, end.p, end.len);
    } else {
        resp_arg_s(out, is_down ? "-" : "+");
    }
    resp_arg_s(out, "LIMIT");
    resp_arg_s(out, "0");
    resp_arg_u(out, w->asked);
    buf_clear(&from);
    conn_wait(w->conn, &walk_sink, w);
}

static void ask(struct walk *w) {
    struct buf *out = conn_out(w->conn);
    const struct walk_path *p = &w->path;
    double begin = p->is_descending ? p->high : p->low;
    resp_command(out, 8);
    resp_arg_s(out, p->is_descending ? "ZREVRANGEBYSCORE" : "ZRANGEBYSCORE");
    resp_arg(out, p->key.data, p->key.len);
    resp_arg_score(out, w->is_begun ? w->score : begin);
    resp_arg_score(out, p->is_descending ? p->low : p->high);
    resp_arg_s(out, "WITHSCORES");
    resp_arg_s(out, "LIMIT");
    w->tie = w->tie > w->overlap ? w->tie - w->overlap : 0;
    w->taken = 0;
    w->is_torn = false;
    resp_arg_u(out, w->tie);
    resp_arg_u(out, w->asked);
    conn_wait(w->conn, &walk_sink, w);
}

// -- beginning behind an entry

static void *place_integer(struct waiter *waiter, const redisReadTask *t,
                           long long v) {
    struct walk *w = waiter->ctx;
    (void)t;
    if (waiter->wait == 0) {
        w->tie = (uint64_t)v + 1; // its rank counts those before the tie
        return w;
    }
    w->tie = w->tie > (uint64_t)v ? w->tie - (uint64_t)v : 0;
    return w;
}

static void place_done(struct waiter *waiter) {
    if (waiter->wait == 1) {
        ask(waiter->ctx);
    }
}

static void place_failed(struct waiter *waiter, const char *code,
                         const char *text) {
    if (waiter->wait == 1) {
        on_failed(waiter, code, text);
    }
}

static const struct sink place_sink = {sink_ignore_string, sink_ignore_array,
                                       place_integer,      sink_ignore_nil,
                                       place_done,         place_failed};

// ask_place asks how many entries of its score lie before the next one. If the
// entry is gone, the read begins with the first of that score.
static void ask_place(struct walk *w) {
    struct buf *out = conn_out(w->conn), from = {0};
    bool is_down = w->path.is_descending;
    char text[NUM_TEXT];
    unsigned char member[4];
    index_put_ordinal(member, w->done_member);
    resp_command(out, 3);
    resp_arg_s(out, is_down ? "ZREVRANK" : "ZRANK");
    resp_arg(out, w->path.key.data, w->path.key.len);
    resp_arg(out, member, sizeof member);
    conn_wait(w->conn, &place_sink, w)->wait = 0;
    buf_addc(&from, '(');
    buf_add(&from, text, num_format(text, w->score));
    resp_command(out, 4);
    resp_arg_s(out, "ZCOUNT");
    resp_arg(out, w->path.key.data, w->path.key.len);
    resp_arg(out, is_down ? from.data : "-inf", is_down ? from.len : 4);
    resp_arg(out, is_down ? "+inf" : from.data, is_down ? 4 : from.len);
    conn_wait(w->conn, &place_sink, w)->wait = 1;
    buf_clear(&from);
}

void walk_begin(struct walk *w, double score, uint32_t ordinal) {
    if (ordinal == WALK_GROUP) {
        *(w->path.is_descending ? &w->path.high : &w->path.low) = score;
        return;
    }
    w->is_begun = w->is_placed = true;
    w->score = w->done_score = score;
    w->done_member = ordinal;
}

void walk_begin_text(struct walk *w, struct value text, uint32_t ordinal) {
    unsigned char member[4];
    value_escape(&w->last, text.p, text.len);
    w->key = walk_key_text(w->last.data, w->last.len);
    if (ordinal != WALK_GROUP || w->path.is_descending) {
        index_put_ordinal(member, ordinal);
        buf_add(&w->last, member, sizeof member);
    }
}

static void *count_integer(struct waiter *waiter, const redisReadTask *t,
                           long long v) {
    struct walk *w = waiter->ctx;
    (void)t;
    w->count = (uint64_t)v;
    return w;
}

static const struct sink count_sink = {on_string,     sink_ignore_array,
                                       count_integer, sink_ignore_nil,
                                       on_done,       on_failed};

void walk_count(struct walk *w, walk_fn done, void *ctx) {
    struct buf *out = conn_out(w->conn);
    const struct walk_path *p = &w->path;
    w->done = done;
    w->ctx = ctx;
    w->is_over = true;
    resp_command(out, 4);
    resp_arg_s(out, p->is_lex ? "ZLEXCOUNT" : "ZCOUNT");
    resp_arg(out, p->key.data, p->key.len);
    if (p->is_lex) {
        resp_arg(out, p->least.p ? p->least.p : "-",
                 p->least.p ? p->least.len : 1);
        resp_arg(out, p->most.p ? p->most.p : "+", p->most.p ? p->most.len : 1);
    } else {
        resp_arg_score(out, p->low);
        resp_arg_score(out, p->high);
    }
    conn_wait(w->conn, &count_sink, w);
}

void walk_take_out(const struct walk *w, uint32_t segment, struct bits *rows) {
    if (segment < w->seen_count && w->seen[segment]) {
        bits_andnot(rows, w->seen[segment]);
    }
}

void walk_more(struct walk *w, uint32_t count, walk_fn done, void *ctx) {
    w->asked = count + 1; // one of them is read again
    w->done = done;
    w->ctx = ctx;
    w->found.len = 0;
    if (w->path.is_lex) {
        ask_lex(w);
    } else if (w->is_placed) {
        w->is_placed = false;
        ask_place(w);
    } else {
        ask(w);
    }
}
