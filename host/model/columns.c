// columns: bitmaps and packed columns, read in one transaction and combined.
#include "model/columns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/be.h"
#include "base/mem.h"
#include "base/num.h"
#include "model/generation.h"
#include "model/index.h"
#include "model/key.h"
#include "model/steps.h"

static const struct sink columns_sink;

enum { stamp_size = sizeof(uint64_t) };
static const int trusted_most = 2;       // rounds
static const uint32_t cached_most = 128; // columns of a plan
static const uint32_t spare_most = 256;  // segments

uint64_t columns_bytes(const struct query *q, const struct plan *p,
                       uint32_t segments) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->step_count; i++) {
        const struct plan_step *step = &p->steps[i];
        if (step->read == READ_PACKED) {
            uint32_t field = q->conditions[step->condition].field;
            n += BITS_ROWS * (uint64_t)q->schema->fields[field].width;
        } else if (step->read == READ_ORDER) {
            uint32_t field = q->orders[0].field;
            n += BITS_ROWS * (uint64_t)q->schema->fields[field].width;
        } else if (step->read < BEGIN_ALL) {
            n += BITS_BYTES;
        }
    }
    return n * segments;
}

// -- what a step is

static bool is_read(const struct plan_step *step) {
    return step->read != BEGIN_ALL && step->read != BEGIN_NONE &&
           step->read != END_SET;
}

static const struct condition *condition_of(const struct columns *c,
                                            const struct plan_step *step) {
    return step->condition < 0 ? NULL : &c->query->conditions[step->condition];
}

// -- asking

static void command_key(struct buf *out, const char *name, struct buf *key) {
    resp_command(out, 2);
    resp_arg_s(out, name);
    resp_arg(out, key->data, key->len);
}

static void ask_zset(struct columns *c, const struct plan_step *step) {
    const struct condition *cond = condition_of(c, step);
    const struct field *f = &c->query->schema->fields[cond->field];
    struct buf *out = conn_out(c->conn), key = {0};
    double low = -INFINITY, high = INFINITY;
    if (!step->is_whole && cond->op == COND_IN) {
        low = high = index_order_number(f, cond->values[step->value]);
    } else if (!step->is_whole) {
        low = cond->low;
        high = cond->high;
    }
    key_zset(&key, c->query->schema, cond->field);
    resp_command(out, 4);
    resp_arg_s(out, "ZRANGEBYSCORE");
    resp_arg(out, key.data, key.len);
    resp_arg_score(out, low);
    resp_arg_score(out, high);
    buf_clear(&key);
}

static void ask_lex(struct columns *c, const struct plan_step *step) {
    const struct condition *cond = condition_of(c, step);
    struct buf *out = conn_out(c->conn), key = {0};
    struct condition bounds = {0};
    if (!step->is_whole && cond->op == COND_IN) {
        struct value v = cond->values[step->value];
        query_text_range(&bounds, v, v, false, false);
    } else if (!step->is_whole) {
        bounds.least = cond->least;
        bounds.most = cond->most;
    }
    struct value low = bounds.least, high = bounds.most;
    key_lex(&key, c->query->schema, cond->field);
    resp_command(out, 4);
    resp_arg_s(out, "ZRANGEBYLEX");
    resp_arg(out, key.data, key.len);
    resp_arg(out, low.p ? low.p : "-", low.p ? low.len : 1);
    resp_arg(out, high.p ? high.p : "+", high.p ? high.len : 1);
    if (cond->op == COND_IN) {
        free((char *)(uintptr_t)low.p);
        free((char *)(uintptr_t)high.p);
    }
    buf_clear(&key);
}

// add_choice appends the value of a field's choice, counted from 0.
static void add_choice(struct buf *key, const struct field *f, uint32_t i) {
    if (f->type == FIELD_BOOLEAN) {
        buf_addc(key, (char)('0' + i));
    } else {
        key_value(key, (struct value){f->choices[i], strlen(f->choices[i])});
    }
}

// column_prefix and column_suffix: the key of the column that a step reads of a
// segment, before the segment's number and behind it.
static void column_prefix(const struct columns *c, const struct plan_step *step,
                          struct buf *key) {
    const struct query *q = c->query;
    const struct condition *cond = condition_of(c, step);
    if (step->read == READ_ROWS) {
        key_rows_prefix(key, q->schema);
    } else {
        key_column_prefix(key, q->schema,
                          cond ? cond->field : q->orders[0].field);
    }
}

static void column_suffix(const struct columns *c, const struct plan_step *step,
                          struct buf *key) {
    const struct query *q = c->query;
    const struct condition *cond = condition_of(c, step);
    if (step->read == READ_BITMAP || step->read == READ_SET) {
        buf_addc(key, step->read == READ_SET ? KEY_SMALL_SET : KEY_BITMAP);
        key_value(key, cond->values[step->value]);
    } else if (step->read == READ_NULL) {
        buf_adds(key, KEY_NULL);
    } else if (step->read == READ_ORDER_OF) {
        uint32_t field = cond ? cond->field : q->orders[0].field;
        buf_addc(key, KEY_BITMAP);
        add_choice(key, &q->schema->fields[field], step->value);
    }
}

static void ask_column(struct columns *c, const struct plan_step *step,
                       uint32_t segment) {
    struct buf key = {0};
    column_prefix(c, step, &key);
    buf_addu(&key, segment);
    column_suffix(c, step, &key);
    command_key(conn_out(c->conn), step->read == READ_SET ? "SMEMBERS" : "GET",
                &key);
    buf_clear(&key);
}

// find_columns opens the columns of all reads in the cache.
static void find_columns(struct columns *c) {
    struct buf key = {0};
    for (uint32_t i = 0; c->has_cache && i < c->read_count; i++) {
        key.len = 0;
        column_prefix(c, &c->plan->steps[c->reads[i]], &key);
        column_suffix(c, &c->plan->steps[c->reads[i]], &key);
        c->refs[i] = cache_open(&c->memory->cache, key.data, key.len);
    }
    buf_clear(&key);
}

// is_likely says whether the cache is likely to have the cell as it is now.
static bool is_likely(const struct columns *c, uint32_t cell) {
    uint32_t at = cell / c->read_count, segment = c->first + at;
    uint64_t stamp = cache_expect(&c->memory->cache, segment);
    if (!c->has_cache || !stamp || c->states[at].is_stale ||
        c->rounds == trusted_most) {
        return false;
    }
    const struct piece *p = cache_find(c->refs[cell % c->read_count], segment);
    return p && p->stamp == stamp;
}

static void ask_stamps(struct columns *c) {
    struct buf *out = conn_out(c->conn), key = {0};
    key_stamps(&key, c->query->schema);
    resp_command(out, 4);
    resp_arg_s(out, "GETRANGE");
    resp_arg(out, key.data, key.len);
    resp_arg_u(out, c->first * stamp_size);
    resp_arg_u(out, (c->first + c->segments) * stamp_size - 1);
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
    c->asked_ms = clock_ms(c);
    c->margin_ms = c->margin_ms ? c->margin_ms * 2 : 1000;
    c->until_ms = c->asked_ms + c->margin_ms;
    key_expires(&key, c->query->schema);
    resp_command(out, 5);
    resp_arg_s(out, "ZRANGEBYSCORE");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "-inf");
    resp_arg_u(out, c->until_ms);
    resp_arg_s(out, "WITHSCORES");
    buf_clear(&key);
}

static int ask_whole(struct columns *c) {
    int commands = 0;
    for (uint32_t i = 0; i < c->plan->step_count; i++) {
        const struct plan_step *step = &c->plan->steps[i];
        if (step->read == READ_LEX) {
            ask_lex(c, step);
        } else if (step->read == READ_ZSET) {
            ask_zset(c, step);
        }
        commands += steps_are_whole(step);
    }
    return commands;
}

static void ask(struct columns *c) {
    struct buf *out = conn_out(c->conn), key = {0};
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
    int commands = 1 + ask_whole(c);
    c->clock_item = -1;
    if (c->query->schema->has_ttl) {
        c->clock_item = commands;
        ask_expired(c);
        commands += 2;
    }
    c->stamps_item = commands++;
    ask_stamps(c);
    c->first_item = commands;
    for (uint32_t i = 0; i < c->segments * c->read_count; i++) {
        c->is_asked[i] = !is_likely(c, i);
        if (c->is_asked[i]) {
            ask_column(c, &c->plan->steps[c->reads[i % c->read_count]],
                       c->first + i / c->read_count);
            commands++;
        }
    }
    c->last_item = commands;
    for (int i = 0; i < commands; i++) {
        conn_wait(c->conn, &sink_ignore, NULL)->is_joined = true;
    }
    resp_command(out, 1);
    resp_arg_s(out, "EXEC");
    conn_wait(c->conn, &columns_sink, c)->is_joined = true;
}

// -- what has come

static uint32_t segment_of(const struct columns *c) {
    return c->cell / c->read_count;
}

static bool is_set(const struct columns *c) {
    return c->plan->steps[c->reads[c->cell % c->read_count]].read == READ_SET;
}

// begin_cell carries out the steps before the one that reads the cell.
static void begin_cell(struct columns *c) {
    if (c->cell % c->read_count == 0) {
        combine_begin(&c->machine, &c->order[segment_of(c)]);
    }
    combine_to(&c->machine, c->reads[c->cell % c->read_count], segment_of(c));
    c->members.len = 0;
}

static void end_cell(struct columns *c) {
    uint32_t segment = segment_of(c);
    c->cell++;
    if (c->cell % c->read_count == 0) {
        combine_end(&c->machine, segment, &c->rows[segment]);
    }
}

// keep puts what was read into the cache.
static void keep(struct columns *c, const char *s, size_t len) {
    uint64_t stamp = c->states[segment_of(c)].stamp;
    if (c->has_cache && stamp) {
        cache_put(&c->memory->cache, c->refs[c->cell % c->read_count],
                  c->first + segment_of(c), stamp, s, len);
    }
}

static void take_members(struct columns *c, const char *s, size_t len) {
    for (size_t i = 0; i + 2 <= len; i += 2) {
        combine_member(&c->machine, be_get16((const unsigned char *)s + i));
    }
}

// recall takes the cell from the cache, if that has it as it is now.
static void recall(struct columns *c) {
    struct segment_read *state = &c->states[segment_of(c)];
    const struct piece *p =
        cache_find(c->refs[c->cell % c->read_count], c->first + segment_of(c));
    if (!p || !state->stamp || p->stamp != state->stamp) {
        state->is_stale = c->is_torn = true;
        return;
    }
    c->cached += p->len;
    if (is_set(c)) {
        take_members(c, p->data, p->len);
    } else {
        combine_column(&c->machine, p->data, p->len);
    }
}

// move_to goes on to the reply's element `item`, ending what lies before, and
// recalling what was not asked for.
static void move_to(struct columns *c, int item) {
    while (c->item < item) {
        if (c->item >= c->first_item) {
            if (is_set(c) && !c->code[0]) {
                keep(c, c->members.data, c->members.len);
            }
            end_cell(c);
        }
        c->item++;
        uint32_t cells = c->segments * c->read_count;
        while (c->item >= c->first_item && c->cell < cells) {
            begin_cell(c);
            if (c->is_asked[c->cell]) {
                break;
            }
            recall(c);
            end_cell(c);
        }
    }
}

// take_stamps takes the stamps of the segments that have one.
static void take_stamps(struct columns *c, const char *s, size_t len) {
    for (uint32_t i = 0; i < c->segments; i++) {
        uint64_t stamp = 0;
        if ((i + 1) * stamp_size <= len) {
            memcpy(&stamp, s + i * stamp_size, stamp_size);
        }
        c->states[i].stamp = stamp;
        if (c->rounds == 0) {
            cache_see(&c->memory->cache, c->first + i, stamp);
        }
    }
}

// take_member takes a member of a small set: an offset as text.
static void take_member(struct columns *c, const char *s, size_t len) {
    uint32_t row = 0;
    for (size_t i = 0; i < len && row < SCHEMA_SEGMENT; i++) {
        row = row * 10 + (uint32_t)(s[i] - '0');
    }
    if (row < SCHEMA_SEGMENT) {
        const char bytes[2] = {(char)(row >> 8), (char)(row & 0xff)};
        buf_add(&c->members, bytes, sizeof bytes);
        combine_member(&c->machine, row);
    }
}

// whole_of returns the rows of the whole index that is the reply's element
// `item`, or NULL.
static struct bits *whole_of(const struct columns *c, int item) {
    bool is = item > 0 && (uint32_t)item <= c->index_count;
    return is ? c->whole[c->indexes[item - 1]] : NULL;
}

// take_entry adds an entry of a whole index.
static void take_entry(struct columns *c, const char *s, size_t len) {
    struct bits *rows = c->entries;
    uint32_t n = index_member_ordinal(s, len);
    c->bytes += len;
    if (rows && n != ROW_NO_ORDINAL && n / SCHEMA_SEGMENT >= c->first &&
        n / SCHEMA_SEGMENT < c->first + c->segments) {
        bits_set(&rows[n / SCHEMA_SEGMENT - c->first], n % SCHEMA_SEGMENT);
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
        // or the way to it is long, which comes to the same
        c->memory->ahead_ms += (int64_t)c->now_ms - (int64_t)c->asked_ms;
        return false;
    }
    const struct expiry *list = (const void *)c->expiries.data;
    for (size_t i = 0; i < c->expiries.len / sizeof list[0]; i++) {
        uint32_t segment = list[i].ordinal / SCHEMA_SEGMENT;
        if (list[i].at_ms <= c->now_ms && segment >= c->first &&
            segment < c->first + c->segments) {
            bits_clear(&c->rows[segment - c->first],
                       list[i].ordinal % SCHEMA_SEGMENT);
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
    int item = t->parent && t->parent->parent ? t->parent->idx : t->idx;
    if (t->type == REDIS_REPLY_ERROR && t->parent && item == c->stamps_item) {
        return c; // without stamps there is no cache, that is all
    }
    if (t->type == REDIS_REPLY_ERROR && t->parent) {
        char text[200];
        int n = snprintf(text, sizeof text,
                         "model %s: an index is damaged: %.*s (verify { repair "
                         "= true } finds and rebuilds it)",
                         c->query->schema->name, (int)len, s);
        note_error(c, "model.damaged", text,
                   (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
        return c;
    }
    if (t->type == REDIS_REPLY_ERROR) {
        note_error(c, "redis.error", s, len);
        return c;
    }
    if (!t->parent) {
        return c;
    }
    move_to(c, item);
    if (c->code[0]) {
        return c;
    }
    if (item == 0) {
        take_meta(c, t->idx, s, len);
    } else if (item == c->stamps_item) {
        take_stamps(c, s, len);
    } else if (c->clock_item >= 0 && item >= c->clock_item &&
               item < c->first_item) {
        take_expiry(c, item, t->idx, s, len);
    } else if (item < c->first_item) {
        take_entry(c, s, len);
    } else if (t->parent->parent) {
        c->bytes += len;
        take_member(c, s, len);
    } else {
        c->bytes += len;
        combine_column(&c->machine, s, len);
        keep(c, s, len);
    }
    return c;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)n;
    struct columns *c = w->ctx;
    if (t->parent && !t->parent->parent) {
        move_to(c, t->idx);
        c->entries = whole_of(c, t->idx);
    }
    return c;
}

// A key that is absent: a packed column without bytes is all null.
static void *on_nil(struct waiter *w, const redisReadTask *t) {
    struct columns *c = w->ctx;
    if (t->parent && !t->parent->parent) {
        move_to(c, t->idx);
        if (!c->code[0] && t->idx >= c->first_item) {
            combine_column(&c->machine, NULL, 0);
            keep(c, NULL, 0);
        }
    }
    return c;
}

// -- life

// is_further: a step reads another value of the condition of the step before.
static bool is_further(const struct plan *p, uint32_t i) {
    const struct plan_step *step = &p->steps[i];
    const struct plan_step *before = i ? step - 1 : NULL;
    return before && steps_are_whole(step) && steps_are_whole(before) &&
           step->condition == before->condition && step->join == before->join &&
           step->is_whole == before->is_whole;
}

static bool owns_whole(const struct columns *c, uint32_t i) {
    return c->whole[i] && !is_further(c->plan, i);
}

static void reset(struct columns *c) {
    for (uint32_t i = 0; i < c->segments; i++) {
        c->order[i].len = 0;
        c->states[i].stamp = 0;
    }
    for (uint32_t i = 0; i < c->plan->step_count; i++) {
        for (uint32_t k = 0; owns_whole(c, i) && k < c->segments; k++) {
            bits_zero(&c->whole[i][k]);
        }
    }
    c->expiries.len = 0;
    c->now_ms = 0;
    c->item = -1;
    c->cell = 0;
    c->is_torn = false;
    c->cached = 0;
    c->top = 0;
    c->generation[0] = 0;
}

static struct bits *new_bits(uint32_t n) {
    struct bits *b = aligned_alloc(64, n * sizeof *b);
    if (!b) {
        abort();
    }
    return b;
}

// take_rows and give_rows: a model's queries use the same room, one at a time.
static void take_rows(struct columns *c) {
    struct columns_memory *m = c->memory;
    bool fits = m->spare && m->spare_count >= c->segments;
    c->rows = fits ? m->spare : new_bits(c->segments);
    c->room = fits ? m->spare_count : c->segments;
    m->spare = fits ? NULL : m->spare;
}

static void give_rows(struct columns *c) {
    struct columns_memory *m = c->memory;
    struct bits *left = c->rows;
    if (left && c->room <= spare_most &&
        (!m->spare || m->spare_count < c->room)) {
        left = m->spare;
        m->spare = c->rows;
        m->spare_count = c->room;
    }
    free(left);
    c->rows = NULL;
}

void columns_memory_clear(struct columns_memory *m) {
    cache_clear(&m->cache);
    free(m->spare);
    m->spare = NULL;
}

static void release(struct columns *c) {
    for (uint32_t i = 0; i < c->segments; i++) {
        buf_clear(&c->order[i]);
    }
    for (uint32_t i = 0; c->whole && i < c->plan->step_count; i++) {
        if (owns_whole(c, i)) {
            free(c->whole[i]);
        }
    }
    free(c->order);
    give_rows(c);
    free(c->whole);
    free(c->is_asked);
    free(c->states);
    c->whole = NULL;
}

static void allocate(struct columns *c, uint32_t segments) {
    release(c);
    c->segments = segments;
    c->has_cache = c->read_count <= cached_most &&
                   columns_bytes(c->query, c->plan, segments) <= CACHE_BYTES;
    take_rows(c);
    c->order = xcalloc(segments, sizeof c->order[0]);
    c->is_asked = xcalloc(segments * c->read_count, sizeof c->is_asked[0]);
    c->states = xcalloc(segments, sizeof c->states[0]);
    c->whole = c->machine.whole =
        xcalloc(c->plan->step_count, sizeof c->whole[0]);
    for (uint32_t i = 0; i < c->plan->step_count; i++) {
        if (is_further(c->plan, i)) {
            c->whole[i] = c->whole[i - 1];
        } else if (steps_are_whole(&c->plan->steps[i])) {
            c->whole[i] = new_bits(segments);
        }
    }
    reset(c);
}

// read_again says whether the reply was not enough, and asks for another.
static bool read_again(struct columns *c) {
    if (c->top > INT32_MAX) {
        static const char text[] =
            "the number of rows in the meta hash is none";
        note_error(c, "model.damaged", text, sizeof text - 1);
        return false;
    }
    c->total = (c->top + SCHEMA_SEGMENT - 1) / SCHEMA_SEGMENT;
    if (c->is_all && c->total > c->segments) {
        allocate(c, c->total);
        ask(c);
        return true;
    }
    bool is_late = c->clock_item >= 0 && !drop_expired(c);
    if (c->is_torn || is_late) {
        c->rounds += c->is_torn;
        reset(c);
        ask(c);
        return true;
    }
    return false;
}

static void on_done(struct waiter *w) {
    struct columns *c = w->ctx;
    if (!c->code[0]) {
        // the last segment ends with the reply
        move_to(c, c->last_item);
        if (read_again(c)) {
            return;
        }
        c->memory->segments = c->total;
        const char *stored = c->generation;
        if (stored[0] && strcmp(stored, c->query->generation) != 0) {
            char text[200];
            generation_text(c->query, text, sizeof text);
            note_error(c, "model.schema_changed", text, strlen(text));
        }
    }
    cache_trim(&c->memory->cache);
    c->done(c, c->code[0] ? c->code : NULL, c->error);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    struct columns *c = w->ctx;
    cache_trim(&c->memory->cache);
    note_error(c, code, text, strlen(text));
    c->done(c, c->code, c->error);
}

static const struct sink columns_sink = {
    on_string, on_array, sink_ignore_integer, on_nil, on_done, on_failed};

struct columns *columns_read(
    struct conn *conn, const struct query *q, const struct plan *p,
    struct columns_memory *memory, uint32_t first, uint32_t segments,
    void (*done)(struct columns *c, const char *code, const char *error),
    void *ctx) {
    struct columns *c = xmalloc(sizeof *c);
    *c = (struct columns){.conn = conn,
                          .query = q,
                          .plan = p,
                          .done = done,
                          .ctx = ctx,
                          .memory = memory,
                          .first = first,
                          .is_all = segments == 0};
    combine_init(&c->machine, q, p);
    c->reads = xcalloc(p->step_count, sizeof c->reads[0]);
    c->indexes = xcalloc(p->step_count, sizeof c->indexes[0]);
    for (uint32_t i = 0; i < p->step_count; i++) {
        bool is_first = c->machine.same[i] == i;
        if (is_first && is_read(&p->steps[i]) &&
            !steps_are_whole(&p->steps[i])) {
            c->reads[c->read_count++] = i;
        } else if (steps_are_whole(&p->steps[i])) {
            c->indexes[c->index_count++] = i;
        }
    }
    if (segments == 0) {
        segments = memory->segments ? memory->segments : 1;
    }
    c->refs = xcalloc(c->read_count, sizeof c->refs[0]);
    allocate(c, segments);
    find_columns(c);
    ask(c);
    return c;
}

void columns_free(struct columns *c) {
    release(c);
    buf_clear(&c->expiries);
    buf_clear(&c->members);
    free(c->refs);
    free(c->reads);
    free(c->indexes);
    combine_clear(&c->machine);
    free(c);
}
