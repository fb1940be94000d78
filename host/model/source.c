// source: the rows that may match a query, in its order, as ordinals.
#include "model/source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/generation.h"
#include "model/index.h"
#include "model/steps.h"
#include "model/tally.h"
#include "model/value.h"

static const uint64_t walk_most = 4096;      // entries read at a time,
static const uint32_t window_most = 16;      // segments read at a time
static const uint64_t shared_most = 1 << 20; // bytes on the shared connection

static void go_on(struct source *s);
static void read_columns(struct source *s, const struct plan *p);
static void count_path(struct source *s);

// -- life

static bool is_walked(const struct source *s) {
    return s->plan->way == PLAN_WALK || s->plan->order == ORDER_WALK;
}

// new_walk: along what the rows are walked, and from where on.
static struct walk *new_walk(struct source *s) {
    const struct query *q = s->query;
    const struct path *p = &s->plan->path;
    const struct field *f = &q->schema->fields[p->field];
    struct walk_path path = {.is_lex = p->compound < 0 && f->has_lex,
                             .low = -INFINITY,
                             .high = INFINITY};
    path.is_descending = q->order_count && q->orders[0].is_descending;
    if (p->bounds >= 0) {
        const struct condition *c = &q->conditions[p->bounds];
        path.low = c->low;
        path.high = c->high;
        path.least = c->least;
        path.most = c->most;
    }
    path_key(q, p, &path.key);
    struct walk *w = walk_new(s->pool->shared, &path);
    if (!q->after || q->order_count == 0) {
        return w;
    }
    struct value v = row_get(q->after, p->field);
    bool is_only = q->order_count == 1;
    if (!v.p) {
        w->is_over = true; // those with a value lie before
    } else if (path.is_lex) {
        walk_begin_text(w, v, is_only ? q->after->ordinal : WALK_GROUP);
    } else {
        walk_begin(w, index_order_number(f, v),
                   is_only ? q->after->ordinal : WALK_GROUP);
    }
    return w;
}

void source_init(struct source *s, const struct query *q, const struct plan *p,
                 struct pool *pool, struct columns_memory *memory) {
    *s = (struct source){.query = q, .plan = p, .pool = pool, .memory = memory};
    if (q->after && q->order_count == 0) {
        s->scan = q->after->ordinal + 1;
    }
}

void source_drop_reads(struct source *s) {
    ranking_clear(&s->ranking);
    if (s->columns) {
        columns_free(s->columns);
    }
    if (s->walk) {
        walk_free(s->walk);
    }
    s->columns = NULL;
    s->walk = NULL;
    s->is_over = true;
}

void source_clear(struct source *s) {
    source_drop_reads(s);
    if (s->tally) {
        tally_clear(s->tally);
        free(s->tally);
    }
    buf_clear(&s->ready);
    *s = (struct source){0};
}

static void finish(struct source *s, const char *code, const char *error) {
    source_fn done = s->done;
    s->done = NULL;
    done(s, code, error);
}

static void finish_stale(struct source *s) {
    char text[200];
    generation_text(s->query, text, sizeof text);
    finish(s, "model.schema_changed", text);
}

bool source_may_retry(const char *code, int *tries) {
    static const int tries_most = 3;
    if (!code) {
        *tries = 0;
    }
    return code && strcmp(code, "redis.unknown_outcome") == 0 &&
           ++*tries <= tries_most;
}

// -- what is ready

uint64_t source_ready(const struct source *s) {
    return s->ready.len / sizeof(struct candidate) - s->ready_at;
}

const struct candidate *source_peek(const struct source *s) {
    const struct candidate *list = (const void *)s->ready.data;
    return source_ready(s) ? list + s->ready_at : NULL;
}

void source_drop(struct source *s, uint64_t count) {
    s->ready_at += (size_t)count;
    // what was handed out makes room, so that a long walk needs little
    size_t used = s->ready_at * sizeof(struct candidate);
    if (used * 2 >= s->ready.len) {
        buf_shift(&s->ready, used);
        s->ready_at = 0;
    }
}

static void put(struct source *s, uint32_t ordinal, uint32_t group,
                uint64_t key) {
    struct candidate c = {ordinal, group, key};
    buf_add(&s->ready, &c, sizeof c);
}

uint64_t source_key(const struct source *s, const struct row *r) {
    const struct path *path = &s->plan->path;
    bool is_ranked = s->plan->order == ORDER_PACKED;
    uint32_t field = is_ranked ? s->query->orders[0].field : path->field;
    const struct field *f = &s->query->schema->fields[field];
    struct value v = row_get(r, field);
    if (!v.p) {
        return CANDIDATE_NULL;
    }
    if (is_ranked) {
        return index_rank(f, v);
    }
    if (path->compound >= 0 || !f->has_lex) {
        return walk_key_number(index_order_number(f, v));
    }
    struct buf escaped = {0};
    value_escape(&escaped, v.p, v.len);
    uint64_t key = walk_key_text(escaped.data, escaped.len);
    buf_clear(&escaped);
    return key;
}

// What a walk has found is behind it, so that stays ready; ordinals are
// scanned again from the first one that nobody took.
void source_forget_columns(struct source *s) {
    if (s->columns) {
        columns_free(s->columns);
        s->columns = NULL;
    }
    s->window = 0;
    s->is_over = false;
    const struct candidate *first = source_peek(s);
    if (s->plan->order == ORDER_NONE && first) {
        s->scan = first->ordinal;
        source_drop(s, source_ready(s));
    }
}

// -- columns

static void on_columns(struct columns *c, const char *code, const char *error) {
    struct source *s = c->ctx;
    s->columns = c; // in case that it failed at once
    s->costs.bytes += c->bytes;
    s->costs.cached += c->cached;
    if (source_may_retry(code, &s->tries)) {
        read_columns(s, s->is_tail ? s->plan->tail : s->plan);
        return;
    }
    if (code) {
        finish(s, code, error);
        return;
    }
    for (uint32_t i = 0; s->walk && i < c->segments; i++) {
        walk_take_out(s->walk, c->first + i, &c->rows[i]);
    }
    go_on(s);
}

// tally_window adds what was read; false if that was all.
static bool tally_window(struct source *s) {
    const struct columns *c = s->columns;
    for (uint32_t i = 0; i < c->segments; i++) {
        tally_add(s->tally, &c->rows[i], c->order[i].data, c->order[i].len);
    }
    s->scan = (c->first + c->segments) * SCHEMA_SEGMENT;
    return c->first + c->segments < c->total;
}

// read_columns reads those of the segments that come next, or of all. Many
// bytes take a connection of their own, so that they delay nobody.
static void read_columns(struct source *s, const struct plan *p) {
    uint32_t first = 0, count = 0, known = s->memory->segments;
    if (steps_are_windowed(s->query, s->plan)) {
        first = s->scan / SCHEMA_SEGMENT;
        count = s->window ? s->window * 2 : s->query->limit == NO_LIMIT ? 8 : 1;
        count = count < window_most ? count : window_most;
        count = first + count > known && known > first ? known - first : count;
        s->window = count;
    }
    if (s->columns) {
        columns_free(s->columns);
    }
    struct conn *c = s->pool->shared;
    uint64_t bytes = columns_bytes(s->query, p, count ? count : known);
    if (bytes > shared_most) {
        struct conn *own = pool_take(s->pool);
        c = own ? own : c;
    }
    s->costs.round_trips++;
    s->columns =
        columns_read(c, s->query, p, s->memory, first, count, on_columns, s);
}

uint64_t source_found(const struct source *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; s->columns && i < s->columns->segments; i++) {
        n += bits_count(&s->columns->rows[i]);
    }
    return n;
}

// scan_up readies rows in the order of their ordinals, up to the window's end.
static void scan_up(struct source *s, uint32_t group) {
    const struct columns *c = s->columns;
    uint32_t end = (c->first + c->segments) * SCHEMA_SEGMENT;
    while (source_ready(s) < s->wanted && s->scan < end) {
        uint32_t at = s->scan / SCHEMA_SEGMENT;
        uint32_t o =
            bits_next(&c->rows[at - c->first], s->scan % SCHEMA_SEGMENT);
        s->scan = at * SCHEMA_SEGMENT + o;
        if (o < SCHEMA_SEGMENT) {
            put(s, s->scan++, group, CANDIDATE_NULL);
        }
    }
}

// scan_down readies them the other way round; all segments are here.
static void scan_down(struct source *s, uint32_t group) {
    const struct columns *c = s->columns;
    uint32_t end = c->segments * SCHEMA_SEGMENT;
    int64_t next = (int64_t)end - 1 - s->scan; // s->scan were passed over
    while (source_ready(s) < s->wanted && next >= 0) {
        uint32_t at = (uint32_t)(next / SCHEMA_SEGMENT);
        int32_t o = bits_prev(&c->rows[at], (int32_t)(next % SCHEMA_SEGMENT));
        next =
            (int64_t)at * SCHEMA_SEGMENT + o; // or the one before the segment
        if (o >= 0) {
            put(s, (uint32_t)next--, group, CANDIDATE_NULL);
        }
    }
    s->scan = (uint32_t)((int64_t)end - 1 - next);
}

// scan_bits readies what the columns have: by ordinal, behind a walk those
// without a value. Returns false if that was not enough.
static bool scan_bits(struct source *s) {
    bool is_tail = is_walked(s);
    if (is_tail && s->query->orders[0].is_descending) {
        scan_down(s, UINT32_MAX);
    } else {
        scan_up(s, is_tail ? UINT32_MAX : 0);
    }
    return source_ready(s) >= s->wanted;
}

// -- the order in memory

// begin_ranking: from the first row on, or behind the position to go on from.
static void begin_ranking(struct source *s) {
    const struct query *q = s->query;
    const struct order_key *key = &q->orders[0];
    const struct field *f = &q->schema->fields[key->field];
    struct packed_position after;
    if (q->after) {
        after.value = index_rank(f, row_get(q->after, key->field));
        after.row = q->after->ordinal;
        if (q->order_count > 1) { // its whole group is looked at again
            after.row = key->is_descending ? (int64_t)UINT32_MAX + 1 : -1;
        }
    }
    s->is_ranking = true;
    ranking_init(&s->ranking, s->columns->rows, s->columns->order,
                 s->columns->segments, f->index == INDEX_PACKED ? f->width : 1,
                 key->is_descending, q->after ? &after : NULL, s->wanted);
}

// rank readies rows that come next in the order in memory; false if they are
// not enough.
static bool rank(struct source *s) {
    const struct ranked *next = NULL;
    if (!s->is_ranking) {
        begin_ranking(s);
    }
    while (source_ready(s) < s->wanted && (next = ranking_next(&s->ranking))) {
        s->group += s->group == 0 || next->value != s->ranked;
        s->ranked = next->value;
        put(s, next->ordinal, s->group,
            next->value ? next->value : CANDIDATE_NULL);
    }
    return source_ready(s) >= s->wanted;
}

// -- walking

// emit puts an entry of the walk out if its bit is set, and clears the bit, so
// that what is left in the end are the rows without a value.
static void emit(struct source *s, const struct candidate *c) {
    uint32_t segment = c->ordinal / SCHEMA_SEGMENT;
    if (s->columns && s->plan->way == PLAN_COLUMNS) {
        if (segment >= s->columns->segments) {
            return;
        }
        struct bits *b = &s->columns->rows[segment];
        if (!bits_test(b, c->ordinal % SCHEMA_SEGMENT)) {
            return;
        }
        bits_clear(b, c->ordinal % SCHEMA_SEGMENT);
    }
    put(s, c->ordinal, c->group, c->key);
}

static void on_counted(struct walk *w, const char *code, const char *error) {
    struct source *s = w->ctx;
    if (source_may_retry(code, &s->tries)) {
        count_path(s);
    } else if (!code && s->is_stale) {
        finish_stale(s);
    } else {
        s->count = w->count;
        finish(s, code, error);
    }
}

static void count_path(struct source *s) {
    generation_ask(s->pool->shared, s->query, &s->is_stale);
    s->costs.round_trips++;
    walk_count(s->walk, on_counted, s);
}

static void on_walked(struct walk *w, const char *code, const char *error) {
    struct source *s = w->ctx;
    // what was read before the connection was lost is good
    bool is_lost = source_may_retry(code, &s->tries);
    if (code && !is_lost) {
        finish(s, code, error);
        return;
    }
    if (s->is_stale) {
        finish_stale(s);
        return;
    }
    const struct candidate *list = (const void *)w->found.data;
    size_t n = w->found.len / sizeof list[0];
    s->costs.entries += n;
    w->is_over = w->is_over && !is_lost;
    for (size_t i = 0; i < n; i++) {
        emit(s, &list[i]);
    }
    go_on(s);
}

static void walk_on(struct source *s) {
    // without columns each entry is a candidate
    uint64_t n = s->wanted - source_ready(s) + 1;
    bool is_tested = s->plan->way == PLAN_COLUMNS;
    n = is_tested ? 1024 : n;
    s->walked = s->walked * 2 > n ? s->walked * 2 : n;
    n = is_tested ? s->walked : n;
    n = n < walk_most ? n : walk_most;
    generation_ask(s->pool->shared, s->query, &s->is_stale);
    s->costs.round_trips++;
    walk_more(s->walk, (uint32_t)n, on_walked, s);
}

// -- going on

// go_on_walking: returns false when it has asked for more.
static bool go_on_walking(struct source *s) {
    const struct plan *p = s->plan;
    if (p->way == PLAN_COLUMNS && !s->columns) { // of a plan that was changed
        read_columns(s, p);
        return false;
    }
    if (!s->walk) {
        s->walk = new_walk(s);
    }
    if (!s->walk->is_over) {
        walk_on(s);
        return false;
    }
    if (p->tail && !s->is_tail) { // those without a value
        s->is_tail = true;
        read_columns(s, p->tail);
        return false;
    }
    s->is_over = !p->has_tail || !scan_bits(s);
    return true;
}

// go_on reads until as much is ready as is wanted.
static void go_on(struct source *s) {
    while (source_ready(s) < s->wanted && !s->is_over) {
        if (is_walked(s)) {
            if (!go_on_walking(s)) {
                return;
            }
        } else if (s->plan->order == ORDER_PACKED) {
            s->is_over = !rank(s);
        } else if (!s->columns) { // of a plan that was changed
            read_columns(s, s->plan);
            return;
        } else if (!scan_bits(s)) {
            if (steps_are_windowed(s->query, s->plan) &&
                s->scan / SCHEMA_SEGMENT < s->columns->total) {
                read_columns(s, s->plan);
                return;
            }
            s->is_over = true;
        }
    }
    if (s->tally && tally_window(s)) {
        read_columns(s, s->plan);
        return;
    }
    if (s->query->is_counted && s->columns && s->wanted == 0) {
        s->count = source_found(s);
    }
    finish(s, NULL, NULL);
}

void source_open(struct source *s, source_fn done, void *ctx) {
    const struct plan *p = s->plan;
    s->done = done;
    s->ctx = ctx;
    if (p->is_tallied) {
        s->tally = xmalloc(sizeof *s->tally);
        tally_init(s->tally,
                   &s->query->schema->fields[s->query->orders[0].field]);
    }
    if (p->way == PLAN_COLUMNS) {
        read_columns(s, p);
        return;
    }
    if (s->query->is_counted && p->is_exact) {
        s->walk = new_walk(s);
        count_path(s);
    } else {
        go_on(s);
    }
}

void source_more(struct source *s, uint64_t wanted, source_fn done, void *ctx) {
    s->done = done;
    s->ctx = ctx;
    s->wanted = wanted;
    go_on(s);
}
