// sizes: about how many rows each condition of a query finds.
#include "model/sizes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "core/timer.h"
#include "model/combine.h"
#include "model/index.h"
#include "model/key.h"
#include "model/packed.h"
#include "model/steps.h"
#include "model/value.h"

enum {
    values_most = 16,   // of a list are looked at
    sample_rows = 1024, // of a packed column
    remember_ms = 1000,
};

// What an answer says.
enum about {
    ABOUT_TOP,     // ordinals in use
    ABOUT_ROWS,    // rows of a segment that is looked at
    ABOUT_PATH,    // entries of the path
    ABOUT_ENTRIES, // entries of an ordered index that fulfil a condition
    ABOUT_BITS,    // rows of such a segment
    ABOUT_SAMPLE,  // rows of a sample
};

struct question {
    enum about about;
    int condition; // or -1
    double weight; // of the answer: how many values it stands for
    uint64_t asked, answer;
    bool is_known;
};

// -- asking

static uint64_t now_ms(void) {
    return timer_coarse_ns() / 1000000;
}

// hash_condition tells conditions on one packed column apart.
static uint64_t hash_condition(const struct condition *c) {
    struct buf b = {0};
    double bounds[] = {(double)c->op, c->low, c->high};
    buf_add(&b, bounds, sizeof bounds);
    for (uint32_t i = 0; i < c->count; i++) {
        value_add_part(&b, c->values[i].p, c->values[i].len);
    }
    uint64_t hash = hash128(b.data, b.len).low;
    buf_clear(&b);
    return hash;
}

static struct question *add(struct sizes *s, enum about about, int condition) {
    s->questions =
        xrealloc(s->questions, (s->count + 1) * sizeof s->questions[0]);
    struct question *q = &s->questions[s->count++];
    *q = (struct question){.about = about, .condition = condition, .weight = 1};
    return q;
}

static const struct sink sizes_sink;

// put sends the command, unless its answer is remembered.
static void put(struct sizes *s, struct question *q, struct buf *command) {
    q->asked = hash128(command->data, command->len).low | 1;
    if (q->about == ABOUT_SAMPLE) {
        q->asked += 2 * hash_condition(&s->query->conditions[q->condition]);
    }
    uint32_t place = (uint32_t)(q->asked / 2 % SIZES_REMEMBERED);
    if (s->memory->answers[place].asked == q->asked &&
        now_ms() - s->memory->answers[place].at_ms < remember_ms) {
        q->answer = s->memory->answers[place].answer;
        q->is_known = true;
    } else {
        buf_add(conn_out(s->conn), command->data, command->len);
        conn_wait(s->conn, &sizes_sink, s)->wait = (uint32_t)(q - s->questions);
        s->pending++;
    }
    buf_clear(command);
}

static void command(struct buf *b, size_t argc, const char *name,
                    struct buf *key) {
    resp_command(b, argc);
    resp_arg_s(b, name);
    resp_arg(b, key->data, key->len);
    buf_clear(key);
}

static void ask_zset(struct sizes *s, struct question *q, struct buf *key,
                     double low, double high) {
    struct buf b = {0};
    command(&b, 4, "ZCOUNT", key);
    resp_arg_score(&b, low);
    resp_arg_score(&b, high);
    put(s, q, &b);
}

static void ask_lex(struct sizes *s, struct question *q, uint32_t field,
                    struct value low, struct value high) {
    struct buf b = {0}, key = {0};
    key_lex(&key, s->query->schema, field);
    command(&b, 4, "ZLEXCOUNT", &key);
    resp_arg(&b, low.p ? low.p : "-", low.p ? low.len : 1);
    resp_arg(&b, high.p ? high.p : "+", high.p ? high.len : 1);
    put(s, q, &b);
}

static void column_key(const struct sizes *s, uint32_t field, uint32_t segment,
                       struct buf *key) {
    key_column_prefix(key, s->query->schema, field);
    buf_addu(key, segment);
}

static void ask_bits(struct sizes *s, struct question *q, const char *name,
                     struct buf *key) {
    struct buf b = {0};
    command(&b, 2, name, key);
    put(s, q, &b);
}

static void ask_value(struct sizes *s, int i, uint32_t value, double weight,
                      uint32_t segment) {
    const struct condition *c = &s->query->conditions[i];
    const struct field *f = &s->query->schema->fields[c->field];
    for (int is_set = 0; is_set <= (f->index == INDEX_SET); is_set++) {
        struct buf key = {0};
        struct question *q = add(s, ABOUT_BITS, i);
        q->weight = weight;
        column_key(s, c->field, segment, &key);
        buf_addc(&key, is_set ? KEY_SMALL_SET : KEY_BITMAP);
        key_value(&key, c->values[value]);
        ask_bits(s, q, is_set ? "SCARD" : "BITCOUNT", &key);
    }
}

static void ask_values(struct sizes *s, int i) {
    const struct condition *c = &s->query->conditions[i];
    uint32_t n = c->count < values_most ? c->count : values_most;
    for (uint32_t v = 0; v < n; v++) {
        for (uint32_t k = 0; k < s->segment_count; k++) {
            ask_value(s, i, v, (double)c->count / n, s->segments[k]);
        }
    }
}

static void ask_packed(struct sizes *s, int i) {
    const struct condition *c = &s->query->conditions[i];
    int width = s->query->schema->fields[c->field].width;
    for (uint32_t k = 0; k < s->segment_count; k++) {
        struct buf b = {0}, key = {0};
        column_key(s, c->field, s->segments[k], &key);
        command(&b, 4, "GETRANGE", &key);
        resp_arg_u(&b, 0);
        resp_arg_u(&b, (uint64_t)(sample_rows * width - 1));
        put(s, add(s, ABOUT_SAMPLE, i), &b);
    }
}

static void ask_ranged(struct sizes *s, int i) {
    const struct condition *c = &s->query->conditions[i];
    const struct field *f = &s->query->schema->fields[c->field];
    uint32_t n = c->op == COND_IN ? c->count : 1;
    uint32_t asked = n < values_most ? n : values_most;
    for (uint32_t v = 0; v < asked; v++) {
        struct question *q = add(s, ABOUT_ENTRIES, i);
        q->weight = (double)n / asked;
        struct buf key = {0};
        if (f->has_lex) {
            struct condition one = {.least = c->least, .most = c->most};
            if (c->op == COND_IN) {
                query_text_range(&one, c->values[v], c->values[v], false,
                                 false);
            }
            ask_lex(s, q, c->field, one.least, one.most);
            if (c->op == COND_IN) {
                free((char *)(uintptr_t)one.least.p);
                free((char *)(uintptr_t)one.most.p);
            }
            continue;
        }
        double low = c->op == COND_RANGE ? c->low : -INFINITY;
        double high = c->op == COND_RANGE ? c->high : INFINITY;
        if (c->op == COND_IN) {
            low = high = index_order_number(f, c->values[v]);
        }
        key_zset(&key, s->query->schema, c->field);
        ask_zset(s, q, &key, low, high);
    }
}

static void ask_condition(struct sizes *s, int i) {
    const struct condition *c = &s->query->conditions[i];
    const struct field *f = &s->query->schema->fields[c->field];
    if (!steps_can_read_condition(s->query, c)) {
        return;
    }
    if (f->index == INDEX_PACKED && (!f->has_zset || c->op == COND_NULL)) {
        ask_packed(s, i);
    } else if (!steps_have_values(f) || c->op == COND_RANGE) {
        ask_ranged(s, i);
    } else if (c->op == COND_NULL) {
        for (uint32_t k = 0; k < s->segment_count; k++) {
            struct buf key = {0};
            column_key(s, c->field, s->segments[k], &key);
            buf_adds(&key, KEY_NULL);
            ask_bits(s, add(s, ABOUT_BITS, i), "BITCOUNT", &key);
        }
    } else {
        ask_values(s, i);
    }
}

static void ask_path(struct sizes *s) {
    const struct query *q = s->query;
    struct path path;
    if (!path_find(q, &path)) {
        return;
    }
    struct question *about = add(s, ABOUT_PATH, -1);
    const struct condition *c =
        path.bounds < 0 ? NULL : &q->conditions[path.bounds];
    if (path.compound < 0 && q->schema->fields[path.field].has_lex) {
        struct value open = {NULL, 0};
        ask_lex(s, about, path.field, c ? c->least : open, c ? c->most : open);
        return;
    }
    struct buf key = {0};
    path_key(q, &path, &key);
    ask_zset(s, about, &key, c ? c->low : -INFINITY, c ? c->high : INFINITY);
}

static void ask_rows(struct sizes *s) {
    struct buf b = {0}, key = {0};
    key_meta(&key, s->query->schema);
    command(&b, 3, "HGET", &key);
    resp_arg_s(&b, "top");
    put(s, add(s, ABOUT_TOP, -1), &b);
    for (uint32_t k = 0; k < s->segment_count; k++) {
        key_rows_prefix(&key, s->query->schema);
        buf_addu(&key, s->segments[k]);
        ask_bits(s, add(s, ABOUT_ROWS, -1), "BITCOUNT", &key);
    }
}

// -- what the answers say

// What was counted of a condition.
struct found {
    double entries, bits, sampled, of; // sampled ones among `of` with a value
    bool has_entries, has_bits;
};

// A packed column's sample: those that match, and those with a value.
static uint64_t pack_sample(uint32_t found, uint32_t of) {
    return (uint64_t)found << 32 | of;
}

static void count_answer(const struct question *q, struct found *f) {
    double n = (double)q->answer * q->weight;
    if (q->about == ABOUT_ENTRIES) {
        f->entries += n;
        f->has_entries = true;
    } else if (q->about == ABOUT_BITS) {
        f->bits += n;
        f->has_bits = true;
    } else if (q->about == ABOUT_SAMPLE) {
        f->sampled += (double)(q->answer >> 32);
        f->of += (double)(q->answer & UINT32_MAX);
    }
}

// matches_of concludes from what was counted; factor is how many rows one of
// the segments stands for.
static uint64_t matches_of(const struct sizes *s, uint32_t i,
                           const struct found *f, double factor) {
    const struct condition *c = &s->query->conditions[i];
    const struct field *field = &s->query->schema->fields[c->field];
    double rows = (double)s->plan.rows;
    if (f->has_entries) {
        bool is_rest = c->op == COND_NULL && !steps_have_values(field);
        double rest = f->entries < rows ? rows - f->entries : 0;
        return (uint64_t)(is_rest ? rest : f->entries);
    }
    if (f->has_bits && s->sample > 0) {
        return (uint64_t)(f->bits * factor);
    }
    return f->of > 0 && c->op != COND_NULL
               ? (uint64_t)(f->sampled / f->of * rows)
               : PLAN_UNKNOWN;
}

// slots_of returns how many ordinals in use the segments have.
static double slots_of(const struct sizes *s) {
    double n = 0;
    for (uint32_t k = 0; k < s->segment_count; k++) {
        double left = (double)s->top - (double)s->segments[k] * SCHEMA_SEGMENT;
        n += left < 0 ? 0 : left < SCHEMA_SEGMENT ? left : SCHEMA_SEGMENT;
    }
    return n;
}

static void conclude(struct sizes *s) {
    struct plan_sizes *p = &s->plan;
    struct found *found = xcalloc(s->query->count + 1, sizeof found[0]);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct question *q = &s->questions[i];
        s->top = q->about == ABOUT_TOP ? q->answer : s->top;
        s->sample += q->about == ABOUT_ROWS ? q->answer : 0;
        p->path = q->about == ABOUT_PATH ? q->answer : p->path;
        if (q->condition >= 0) {
            count_answer(q, &found[q->condition]);
        }
    }
    p->segments = (uint32_t)((s->top + SCHEMA_SEGMENT - 1) / SCHEMA_SEGMENT);
    p->segments = p->segments ? p->segments : 1;
    double slots = slots_of(s);
    double factor = slots > 0 ? (double)s->top / slots : 0;
    // the rows may lie where nobody looked
    p->rows = s->sample ? (uint64_t)((double)s->sample * factor) : s->top / 2;
    for (uint32_t i = 0; i < s->query->count; i++) {
        p->matches[i] = matches_of(s, i, &found[i], factor);
    }
    free(found);
}

static void finish(struct sizes *s) {
    conclude(s);
    s->done(s, s->code[0] ? s->code : NULL, s->error);
}

static void settle(struct sizes *s) {
    if (--s->pending == 0 && !s->is_asking) {
        finish(s);
    }
}

// -- replies

static void answer(struct waiter *w, uint64_t n) {
    struct sizes *s = w->ctx;
    s->questions[w->wait].answer = n;
    s->questions[w->wait].is_known = true;
}

// count_sample counts the rows of a packed column's beginning that fulfil the
// condition, were it not negated, and those with a value.
static uint64_t count_sample(const struct sizes *s, const struct question *q,
                             const char *bytes, size_t len) {
    struct condition c = s->query->conditions[q->condition];
    const struct field *f = &s->query->schema->fields[c.field];
    struct bits found, with_value;
    c.is_negated = false;
    combine_packed(f, &c, &found, bytes, len);
    packed_range(&with_value, bytes, len, f->width, 1, UINT64_MAX);
    bits_and(&found, &with_value);
    return pack_sample(bits_count(&found), bits_count(&with_value));
}

static void *on_string(struct waiter *w, const redisReadTask *t,
                       const char *bytes, size_t len) {
    struct sizes *s = w->ctx;
    const struct question *q = &s->questions[w->wait];
    if (t->type == REDIS_REPLY_ERROR) {
        if (!s->code[0]) {
            snprintf(s->code, sizeof s->code, "model.damaged");
            snprintf(s->error, sizeof s->error, "%.*s", (int)len, bytes);
        }
    } else if (q->about == ABOUT_SAMPLE) {
        answer(w, count_sample(s, q, bytes, len));
    } else if (q->about == ABOUT_TOP) {
        answer(w, strtoull(bytes, NULL, 10));
    }
    return s;
}

static void *on_integer(struct waiter *w, const redisReadTask *t, long long v) {
    (void)t;
    answer(w, (uint64_t)v);
    return w->ctx;
}

static void on_done(struct waiter *w) {
    struct sizes *s = w->ctx;
    const struct question *q = &s->questions[w->wait];
    uint32_t place = (uint32_t)(q->asked / 2 % SIZES_REMEMBERED);
    if (q->is_known) {
        s->memory->answers[place].asked = q->asked;
        s->memory->answers[place].answer = q->answer;
        s->memory->answers[place].at_ms = now_ms();
    }
    settle(s);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    struct sizes *s = w->ctx;
    snprintf(s->code, sizeof s->code, "%s", code);
    snprintf(s->error, sizeof s->error, "%s", text);
    settle(s);
}

static const struct sink sizes_sink = {on_string,  sink_ignore_array,
                                       on_integer, sink_ignore_nil,
                                       on_done,    on_failed};

// -- public

struct sizes *sizes_ask(struct conn *conn, const struct query *q,
                        uint32_t segments, struct sizes_memory *memory,
                        void (*done)(struct sizes *s, const char *code,
                                     const char *error),
                        void *ctx) {
    struct sizes *s = xcalloc(1, sizeof *s);
    s->conn = conn;
    s->query = q;
    s->memory = memory;
    s->done = done;
    s->ctx = ctx;
    uint32_t last = segments ? segments - 1 : 0;
    s->segment_count = segments < SIZES_LOOKED_AT ? last + 1 : SIZES_LOOKED_AT;
    for (uint32_t k = 0; k < s->segment_count; k++) {
        s->segments[k] =
            s->segment_count > 1 ? last * k / (s->segment_count - 1) : 0;
    }
    s->plan.path = PLAN_UNKNOWN;
    s->plan.matches = xcalloc(q->count + 1, sizeof s->plan.matches[0]);
    s->is_asking = true;
    ask_rows(s);
    ask_path(s);
    for (uint32_t i = 0; i < q->count; i++) {
        ask_condition(s, (int)i);
    }
    s->is_asking = false;
    s->round_trips = s->pending > 0;
    if (s->pending == 0) {
        finish(s);
    }
    return s;
}

void sizes_free(struct sizes *s) {
    free(s->plan.matches);
    free(s->questions);
    free(s);
}
