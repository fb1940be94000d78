// columns: bitmaps and packed columns, read in one transaction and combined.
#include "model/columns.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/index.h"
#include "model/key.h"
#include "model/packed.h"

static const struct sink columns_sink;

static bool is_global(const struct plan_step *step) {
    return step->read == READ_ZSET || step->read == READ_LEX;
}

// -- asking

static void command_key(struct buf *out, const char *name, struct buf *key) {
    resp_command(out, 2);
    resp_arg_s(out, name);
    resp_arg(out, key->data, key->len);
}

static void ask_zset(struct columns *c, const struct plan_step *step) {
    const struct condition *cond = &c->query->conditions[step->condition];
    struct buf *out = conn_out(c->conn), key = {0};
    key_zset(&key, c->query->schema, cond->field);
    resp_command(out, 4);
    resp_arg_s(out, "ZRANGEBYSCORE");
    resp_arg(out, key.data, key.len);
    if (cond->op == COND_RANGE) {
        char low[NUM_TEXT], high[NUM_TEXT];
        bool from = !isinf(cond->low), to = !isinf(cond->high);
        resp_arg(out,
                 from            ? low
                 : cond->low < 0 ? "-inf"
                                 : "+inf",
                 from ? num_format(low, cond->low) : 4);
        resp_arg(out,
                 to               ? high
                 : cond->high < 0 ? "-inf"
                                  : "+inf",
                 to ? num_format(high, cond->high) : 4);
    } else {
        const struct field *f = &c->query->schema->fields[cond->field];
        char score[NUM_TEXT];
        double v = index_order_number(f, cond->values[step->value]);
        size_t len = num_format(score, v);
        resp_arg(out, score, len);
        resp_arg(out, score, len);
    }
    buf_clear(&key);
}

static void ask_lex(struct columns *c, const struct plan_step *step) {
    const struct condition *cond = &c->query->conditions[step->condition];
    struct buf *out = conn_out(c->conn), key = {0};
    struct value low = cond->least, high = cond->most;
    key_lex(&key, c->query->schema, cond->field);
    resp_command(out, 4);
    resp_arg_s(out, "ZRANGEBYLEX");
    resp_arg(out, key.data, key.len);
    resp_arg(out, low.p ? low.p : "-", low.p ? low.len : 1);
    resp_arg(out, high.p ? high.p : "+", high.p ? high.len : 1);
    buf_clear(&key);
}

static void ask_column(struct columns *c, const struct plan_step *step,
                       uint32_t segment) {
    const struct schema *s = c->query->schema;
    const struct condition *cond =
        step->condition < 0 ? NULL : &c->query->conditions[step->condition];
    struct buf key = {0};
    if (step->read == READ_ROWS) {
        key_rows_prefix(&key, s);
    } else {
        key_column_prefix(&key, s,
                          cond ? cond->field : (uint32_t)c->query->order);
    }
    buf_addu(&key, segment);
    if (step->read == READ_BITMAP || step->read == READ_SET) {
        buf_addc(&key, step->read == READ_SET ? KEY_SMALL_SET : KEY_BITMAP);
        key_value(&key, cond->values[step->value]);
    } else if (step->read == READ_NULL) {
        buf_adds(&key, KEY_NULL);
    }
    command_key(conn_out(c->conn), step->read == READ_SET ? "SMEMBERS" : "GET",
                &key);
    buf_clear(&key);
}

static uint64_t clock_ms(const struct columns *c) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    return (uint64_t)(ms + c->memory->ahead_ms);
}

// ask_expired asks for the clock, and for those whose time is over by it: it is
// not known yet, so for some more, with their expiries.
static void ask_expired(struct columns *c) {
    struct buf *out = conn_out(c->conn), key = {0};
    resp_command(out, 1);
    resp_arg_s(out, "TIME");
    c->until_ms = clock_ms(c) + 1000;
    key_expires(&key, c->query->schema);
    resp_command(out, 5);
    resp_arg_s(out, "ZRANGEBYSCORE");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "-inf");
    resp_arg_u(out, c->until_ms);
    resp_arg_s(out, "WITHSCORES");
    buf_clear(&key);
}

static void ask(struct columns *c) {
    struct buf *out = conn_out(c->conn), key = {0};
    uint32_t commands = 1;
    resp_command(out, 1);
    resp_arg_s(out, "MULTI");
    conn_wait(c->conn, &sink_ignore, NULL);
    key_meta(&key, c->query->schema);
    resp_command(out, 4);
    resp_arg_s(out, "HMGET");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "gen");
    resp_arg_s(out, "top");
    buf_clear(&key);
    for (uint32_t i = 0; i < c->plan->step_count; i++) {
        const struct plan_step *step = &c->plan->steps[i];
        uint32_t n = is_global(step) ? 1 : c->segments;
        for (uint32_t segment = 0; segment < n; segment++) {
            if (step->read == READ_LEX) {
                ask_lex(c, step);
            } else if (step->read == READ_ZSET) {
                ask_zset(c, step);
            } else {
                ask_column(c, step, segment);
            }
            commands++;
        }
    }
    c->clock_item = -1;
    if (c->query->schema->has_ttl) {
        c->clock_item = (int)commands;
        ask_expired(c);
        commands += 2;
    }
    for (uint32_t i = 0; i < commands; i++) {
        conn_wait(c->conn, &sink_ignore, NULL);
    }
    resp_command(out, 1);
    resp_arg_s(out, "EXEC");
    conn_wait(c->conn, &columns_sink, c);
}

// -- combining
//
// The elements come step by step, and within a step segment by segment. The
// values of one condition are alternatives: they are or-ed in `pending`, which
// is and-ed to the rows when the condition's last step is over.

static bool ends_condition(const struct columns *c, uint32_t step) {
    const struct plan_step *s = &c->plan->steps[step];
    return s->condition >= 0 &&
           (step + 1 == c->plan->step_count ||
            c->plan->steps[step + 1].condition != s->condition);
}

static void end_condition(struct columns *c) {
    for (uint32_t i = 0; i < c->segments; i++) {
        bits_and(&c->rows[i], &c->pending[i]);
        bits_zero(&c->pending[i]);
    }
}

// move_to goes on to the reply's element `item`, ending what lies before.
static void move_to(struct columns *c, int item) {
    while (c->item < item && c->step < c->plan->step_count) {
        c->item++;
        if (c->item < 2) { // 0 is the meta hash, 1 the first step's first
            continue;
        }
        const struct plan_step *step = &c->plan->steps[c->step];
        c->segment++;
        if (is_global(step) || c->segment >= c->segments) {
            if (ends_condition(c, c->step)) {
                end_condition(c);
            }
            c->segment = 0;
            c->step++;
        }
    }
}

// packed_most returns the largest number that a column of that width stores.
static uint64_t packed_most(int width) {
    return width == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * width)) - 1;
}

// range_packed tests for low <= value <= high. What is stored may be above the
// field's maximum of today: the width is what limits it.
static void range_packed(struct bits *to, const struct field *f, double low,
                         double high, const char *s, size_t len) {
    const double whole_max = 9007199254740992.0; // 2^53
    low = low < (double)f->base ? (double)f->base : ceil(low);
    high = high > whole_max ? whole_max : floor(high);
    if (low > high) {
        return;
    }
    int64_t min = f->base;
    uint64_t first = (uint64_t)((int64_t)low - min) + 1;
    uint64_t last = (uint64_t)((int64_t)high - min) + 1;
    uint64_t most = packed_most(f->width);
    if (first <= most) {
        packed_range(to, s, len, f->width, first, last < most ? last : most);
    }
}

static void test_packed(struct columns *c, const struct condition *cond,
                        const char *s, size_t len) {
    const struct field *f = &c->query->schema->fields[cond->field];
    struct bits *to = &c->pending[c->segment];
    if (cond->op == COND_NULL) {
        packed_range(to, s, len, f->width, 0, 0);
        return;
    }
    if (cond->op == COND_RANGE) {
        range_packed(to, f, cond->low, cond->high, s, len);
        return;
    }
    uint64_t *values = xmalloc((cond->count + 1) * sizeof values[0]);
    uint32_t n = 0;
    for (uint32_t i = 0; i < cond->count; i++) {
        uint64_t v = index_packed(f, cond->values[i]);
        if (index_order_number(f, cond->values[i]) >= (double)f->base &&
            v <= packed_most(f->width)) {
            values[n++] = v;
        }
    }
    packed_in(to, s, len, f->width, values, n);
    free(values);
}

// take_column combines one whole string of the step in hand.
static void take_column(struct columns *c, const char *s, size_t len) {
    const struct plan_step *step = &c->plan->steps[c->step];
    c->bytes += len;
    switch (step->read) {
    case READ_ROWS: bits_load(&c->rows[c->segment], s, len); break;
    case READ_BITMAP:
    case READ_NULL: bits_or_bytes(&c->pending[c->segment], s, len); break;
    case READ_PACKED:
        test_packed(c, &c->query->conditions[step->condition], s, len);
        break;
    case READ_ORDER: buf_add(&c->order[c->segment], s, len); break;
    default: break;
    }
}

// take_member adds one member of a small set or of a range.
static void take_member(struct columns *c, const char *s, size_t len) {
    const struct plan_step *step = &c->plan->steps[c->step];
    c->bytes += len;
    if (step->read == READ_SET) {
        uint32_t offset = 0;
        for (size_t i = 0; i < len; i++) {
            offset = offset * 10 + (uint32_t)(s[i] - '0');
        }
        if (offset < SCHEMA_SEGMENT) {
            bits_set(&c->pending[c->segment], offset);
        }
    } else if (len >= 4) {
        uint32_t n = index_member_ordinal(s, len);
        if (n / SCHEMA_SEGMENT < c->segments) {
            bits_set(&c->pending[n / SCHEMA_SEGMENT], n % SCHEMA_SEGMENT);
        }
    }
}

struct expiry {
    uint64_t at_ms;
    uint32_t ordinal;
};

// take_expiry takes what ask_expired asked for.
static void take_expiry(struct columns *c, int item, int i, const char *s,
                        size_t len) {
    double n = 0;
    if (item == c->clock_item) {
        num_parse(s, len, &n);
        c->now_ms += (uint64_t)(i == 0 ? n * 1000 : n / 1000);
    } else if (i % 2 == 0) {
        c->member = index_member_ordinal(s, len);
    } else {
        num_parse(s, len, &n);
        struct expiry e = {(uint64_t)n, c->member};
        buf_add(&c->expiries, &e, sizeof e);
    }
}

// drop_expired takes those whose time is over out of the rows. Returns false if
// it has to be asked again, as the clocks differ by more than was thought.
static bool drop_expired(struct columns *c) {
    if (c->now_ms > c->until_ms) {
        c->memory->ahead_ms += (int64_t)c->now_ms - (int64_t)clock_ms(c);
        return false;
    }
    const struct expiry *list = (const void *)c->expiries.data;
    for (size_t i = 0; i < c->expiries.len / sizeof list[0]; i++) {
        uint32_t n = list[i].ordinal;
        if (list[i].at_ms <= c->now_ms && n / SCHEMA_SEGMENT < c->segments) {
            bits_clear(&c->rows[n / SCHEMA_SEGMENT], n % SCHEMA_SEGMENT);
        }
    }
    return true;
}

static void note_error(struct columns *c, const char *code, const char *s,
                       size_t len) {
    if (!c->code[0]) {
        snprintf(c->code, sizeof c->code, "%s", code);
        snprintf(c->error, sizeof c->error, "%.*s", (int)len, s);
    }
}

static void take_meta(struct columns *c, int item, const char *s, size_t len) {
    if (item == 0 && len < sizeof c->generation) {
        memcpy(c->generation, s, len);
        c->generation[len] = 0;
    } else if (item == 1) {
        c->top = (uint32_t)strtoul(s, NULL, 10);
    }
}

static void *on_string(struct waiter *w, const redisReadTask *t, const char *s,
                       size_t len) {
    struct columns *c = w->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        note_error(c, t->parent ? "model.damaged" : "redis.error", s, len);
        return c;
    }
    if (!t->parent) {
        return c;
    }
    int item = t->parent->parent ? t->parent->idx : t->idx;
    move_to(c, item);
    if (c->code[0]) {
        return c;
    }
    if (item == 0) {
        take_meta(c, t->idx, s, len);
    } else if (c->clock_item >= 0 && item >= c->clock_item) {
        take_expiry(c, item, t->idx, s, len);
    } else if (t->parent->parent) {
        take_member(c, s, len);
    } else {
        take_column(c, s, len);
    }
    return c;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)n;
    struct columns *c = w->ctx;
    if (t->parent && !t->parent->parent) {
        move_to(c, t->idx);
    }
    return c;
}

static void *on_integer(struct waiter *w, const redisReadTask *t, long long v) {
    (void)t, (void)v;
    return w->ctx;
}

// A key that is absent: a packed column without bytes is all null.
static void *on_nil(struct waiter *w, const redisReadTask *t) {
    struct columns *c = w->ctx;
    if (t->parent && !t->parent->parent) {
        move_to(c, t->idx);
        if (!c->code[0] && t->idx > 0) {
            take_column(c, "", 0);
        }
    }
    return c;
}

static void reset(struct columns *c) {
    for (uint32_t i = 0; i < c->segments; i++) {
        bits_zero(&c->rows[i]);
        bits_zero(&c->pending[i]);
        c->order[i].len = 0;
    }
    c->expiries.len = 0;
    c->now_ms = 0;
    c->item = -1;
    c->step = c->segment = 0;
    c->top = 0;
    c->generation[0] = 0;
}

static void allocate(struct columns *c, uint32_t segments) {
    c->segments = segments ? segments : 1;
    size_t size = c->segments * sizeof(struct bits);
    free(c->rows);
    free(c->pending);
    c->rows = aligned_alloc(64, size);
    c->pending = aligned_alloc(64, size);
    if (!c->rows || !c->pending) {
        abort();
    }
    c->order = xrealloc(c->order, c->segments * sizeof c->order[0]);
    memset(c->order, 0, c->segments * sizeof c->order[0]);
    reset(c);
}

static void on_done(struct waiter *w) {
    struct columns *c = w->ctx;
    if (!c->code[0]) {
        // the last condition ends with the reply
        move_to(c, INT_MAX);
        uint32_t need = (c->top + SCHEMA_SEGMENT - 1) / SCHEMA_SEGMENT;
        if (need > c->segments) {
            for (uint32_t i = 0; i < c->segments; i++) {
                buf_clear(&c->order[i]);
            }
            allocate(c, need);
            ask(c);
            return;
        }
        if (c->clock_item >= 0 && !drop_expired(c)) {
            reset(c);
            ask(c);
            return;
        }
        const char *stored = c->generation;
        c->is_unknown = !stored[0];
        if (stored[0] && strcmp(stored, c->query->generation) != 0) {
            char text[200];
            snprintf(
                text, sizeof text,
                "model %s is stored with another definition; call its sync()",
                c->query->schema->name);
            note_error(c, "model.schema_changed", text, strlen(text));
        }
    }
    c->done(c, c->code[0] ? c->code : NULL, c->error);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    struct columns *c = w->ctx;
    note_error(c, code, text, strlen(text));
    c->done(c, c->code, c->error);
}

static const struct sink columns_sink = {on_string, on_array, on_integer,
                                         on_nil,    on_done,  on_failed};

struct columns *columns_read(struct conn *conn, const struct query *q,
                             const struct plan *p,
                             struct columns_memory *memory,
                             void (*done)(struct columns *c, const char *code,
                                          const char *error),
                             void *ctx) {
    struct columns *c = xcalloc(1, sizeof *c);
    c->conn = conn;
    c->query = q;
    c->plan = p;
    c->done = done;
    c->ctx = ctx;
    c->memory = memory;
    allocate(c, memory->segments);
    ask(c);
    return c;
}

void columns_free(struct columns *c) {
    for (uint32_t i = 0; i < c->segments; i++) {
        buf_clear(&c->order[i]);
    }
    buf_clear(&c->expiries);
    free(c->order);
    free(c->rows);
    free(c->pending);
    free(c);
}
