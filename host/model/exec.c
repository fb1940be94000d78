// exec: runs a planned query: columns, order, ids, rows.
#include "model/exec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/key.h"
#include "model/packed.h"

enum { walk_chunk = 1024, more_ranked = 64 };

// -- life

void query_clear(struct query *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        for (uint32_t j = 0; j < q->conditions[i].count; j++) {
            free((char *)(uintptr_t)q->conditions[i].values[j].p);
        }
        free(q->conditions[i].values);
        free((char *)(uintptr_t)q->conditions[i].least.p);
        free((char *)(uintptr_t)q->conditions[i].most.p);
    }
    free(q->conditions);
    q->conditions = NULL;
    q->count = 0;
}

// path_of says along what the query's rows are walked.
static struct walk_path path_of(const struct query *q, const struct plan *p) {
    const struct schema *s = q->schema;
    struct walk_path path = {
        .is_descending = q->is_descending, .low = -INFINITY, .high = INFINITY};
    uint32_t field = (uint32_t)q->order;
    if (p->bounds >= 0) {
        path.low = q->conditions[p->bounds].low;
        path.high = q->conditions[p->bounds].high;
        path.least = q->conditions[p->bounds].least;
        path.most = q->conditions[p->bounds].most;
    }
    if (p->compound >= 0) {
        struct value values[SCHEMA_PARTS];
        const struct compound *c = &s->compounds[p->compound];
        for (uint32_t i = 0; i + 1 < c->count; i++) {
            values[i] =
                q->conditions[plan_find_equal(q, c->fields[i])].values[0];
        }
        key_compound_prefix(&path.key, s, (uint32_t)p->compound);
        key_compound_suffix(&path.key, values, c->count - 1);
    } else if (s->fields[field].has_lex) {
        path.is_lex = true;
        key_lex(&path.key, s, field);
    } else {
        key_zset(&path.key, s, field);
    }
    return path;
}

struct exec *exec_new(struct conn *conn, const struct query *q,
                      struct columns_memory *memory, bool *is_building,
                      char *error, size_t size) {
    struct plan p;
    if (plan_make(q, &p, error, size) < 0) {
        *is_building = p.is_building;
        return NULL;
    }
    struct exec *e = xcalloc(1, sizeof *e);
    e->query = *q;
    memcpy(e->query.generation, q->schema->generation,
           sizeof e->query.generation);
    e->plan = p;
    e->conn = conn;
    e->memory = memory;
    e->references = 1;
    e->to_skip = q->offset;
    e->left = q->limit;
    if (p.order == ORDER_WALK) {
        struct walk_path path = path_of(q, &p);
        e->walk = walk_new(conn, &path);
    }
    return e;
}

static void free_rows(struct exec *e) {
    for (uint32_t i = 0; i < e->row_count; i++) {
        free(e->rows[i]);
    }
    free(e->rows);
    e->rows = NULL;
    e->row_count = 0;
}

void exec_release(struct exec *e) {
    if (--e->references > 0) {
        return;
    }
    if (e->columns) {
        columns_free(e->columns);
    }
    free_rows(e);
    query_clear(&e->query);
    plan_clear(&e->plan);
    buf_clear(&e->ready);
    if (e->walk) {
        walk_free(e->walk);
    }
    free(e->ordinals);
    free(e);
}

void exec_forget(struct exec *e, exec_fn done, void *ctx) {
    e->done = done;
    e->ctx = ctx;
}

bool exec_is_busy(const struct exec *e) {
    return e->references - e->checks > 1;
}

static void begin(struct exec *e, exec_fn done, void *ctx) {
    e->references++;
    e->done = done;
    e->ctx = ctx;
}

static void end(struct exec *e, const char *code, const char *error) {
    e->done(e, code, error);
    exec_release(e);
}

// -- opening: columns

static void push_ordinal(struct buf *b, uint32_t n) {
    buf_add(b, &n, sizeof n);
}

static uint32_t ready_count(const struct exec *e) {
    return (uint32_t)(e->ready.len / sizeof(uint32_t) - e->ready_at);
}

struct ranked {
    uint64_t value; // as packed; 0 is null
    uint32_t ordinal;
};

static int by_value(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

// order_packed readies the first `most` rows in order, but for those that it
// readied before: the best of each segment, merged. Nulls rank last in either
// direction.
static void order_packed(struct exec *e, uint64_t most) {
    const struct columns *c = e->columns;
    const struct field *f = &e->query.schema->fields[e->query.order];
    struct ranked *all = NULL;
    uint32_t flip = e->query.is_descending ? UINT32_MAX : 0; // ties fall too
    size_t n = 0;
    for (uint32_t i = 0; i < c->segments; i++) {
        size_t k = bits_count(&c->rows[i]);
        k = k < most ? k : (size_t)most;
        uint16_t *offsets = xmalloc((k + 1) * sizeof offsets[0]);
        uint64_t *values = xmalloc((k + 1) * sizeof values[0]);
        k = packed_top(c->order[i].data, c->order[i].len, f->width, &c->rows[i],
                       e->query.is_descending, NULL, k, offsets, values);
        all = xrealloc(all, (n + k + 1) * sizeof all[0]);
        for (size_t j = 0; j < k; j++) {
            uint64_t v = values[j];
            uint64_t rank = v == 0                   ? UINT64_MAX
                            : e->query.is_descending ? UINT64_MAX - v
                                                     : v;
            uint32_t ordinal = i * SCHEMA_SEGMENT + offsets[j];
            all[n++] = (struct ranked){rank, ordinal ^ flip};
        }
        free(offsets);
        free(values);
    }
    if (c->segments > 1 && n) {
        qsort(all, n, sizeof all[0], by_value);
    }
    for (size_t i = (size_t)e->ranked; i < n && i < most; i++) {
        push_ordinal(&e->ready, all[i].ordinal ^ flip);
        e->ranked++;
    }
    free(all);
}

static void on_columns(struct columns *c, const char *code, const char *error) {
    struct exec *e = c->ctx;
    if (!code) {
        e->memory->segments = c->segments;
        if (e->plan.order == ORDER_PACKED) {
            const struct query *q = &e->query;
            bool is_all = q->limit > NO_LIMIT - q->offset;
            order_packed(e, is_all ? NO_LIMIT : q->limit + q->offset);
        }
    }
    end(e, code, error);
}

uint64_t exec_count(const struct exec *e) {
    uint64_t n = 0;
    for (uint32_t i = 0; e->columns && i < e->columns->segments; i++) {
        n += bits_count(&e->columns->rows[i]);
    }
    return n;
}

// -- opening: rows that are named

static int compare_rows(const void *a, const void *b, void *query) {
    return query_compare(query, *(struct row *const *)a,
                         *(struct row *const *)b);
}

// keep_matching moves the rows that match to the front; the rest is freed.
static uint32_t keep_matching(struct exec *e, struct row **rows,
                              uint32_t count) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i] && query_matches(&e->query, rows[i])) {
            rows[n++] = rows[i];
        } else {
            free(rows[i]);
        }
    }
    memset(rows + n, 0, (count - n) * sizeof rows[0]);
    return n;
}

static void on_named_rows(struct fetch *f, const char *code,
                          const char *error) {
    struct exec *e = f->ctx;
    if (!code) {
        e->rows = f->rows;
        e->row_count = keep_matching(e, f->rows, f->count);
        f->rows = NULL;
        f->count = 0;
        qsort_r(e->rows, e->row_count, sizeof e->rows[0], compare_rows,
                &e->query);
    }
    end(e, code, error);
}

static void fetch_named(struct exec *e, const struct value *ids, uint32_t n) {
    if (n == 0) {
        end(e, NULL, NULL);
        return;
    }
    fetch_rows(e->conn, e->query.schema, ids, n, on_named_rows, e);
}

static void end_stale(struct exec *e);

static void on_holders(struct ids *ids, const char *code, const char *error) {
    struct exec *e = ids->ctx;
    if (code) {
        end(e, code, error);
        return;
    }
    if (e->is_stale) {
        end_stale(e);
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < ids->count; i++) { // values that nobody holds
        if (ids->values[i].p) {
            ids->values[n++] = ids->values[i];
        }
    }
    fetch_named(e, ids->values, n);
}

// -- the generation, where no columns are read that would show it

static void *generation_string(struct waiter *w, const redisReadTask *t,
                               const char *s, size_t len) {
    struct exec *e = w->ctx;
    const char *ours = e->query.generation;
    e->is_stale = t->type != REDIS_REPLY_ERROR &&
                  (len != strlen(ours) || memcmp(s, ours, len) != 0);
    return e;
}

static void generation_done(struct waiter *w) {
    struct exec *e = w->ctx;
    e->checks--;
    exec_release(e);
}

static void generation_failed(struct waiter *w, const char *code,
                              const char *text) {
    (void)code, (void)text; // what was asked for next fails too
    generation_done(w);
}

static const struct sink generation_sink = {
    generation_string, sink_ignore_array, sink_ignore_integer,
    sink_ignore_nil,   generation_done,   generation_failed};

// check_generation asks for the stored generation: its answer comes before that
// of what is asked next.
static void check_generation(struct exec *e) {
    struct buf *out = conn_out(e->conn), key = {0};
    key_meta(&key, e->query.schema);
    resp_command(out, 3);
    resp_arg_s(out, "HGET");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "gen");
    buf_clear(&key);
    e->references++;
    e->checks++;
    conn_wait(e->conn, &generation_sink, e);
}

static void end_stale(struct exec *e) {
    char text[200];
    snprintf(text, sizeof text,
             "model %s is stored with another definition; call its sync()",
             e->query.schema->name);
    end(e, "model.schema_changed", text);
}

void exec_open(struct exec *e, exec_fn done, void *ctx) {
    begin(e, done, ctx);
    const struct condition *c = NULL;
    switch (e->plan.way) {
    case PLAN_KEYS:
        c = &e->query.conditions[e->plan.driver];
        fetch_named(e, c->values, c->count);
        break;
    case PLAN_UNIQUE:
        check_generation(e);
        ids_of_uniques(e->conn, e->query.schema,
                       &e->query.conditions[e->plan.driver], on_holders, e);
        break;
    case PLAN_COLUMNS:
        e->columns = columns_read(e->conn, &e->query, &e->plan, e->memory,
                                  on_columns, e);
        break;
    default: end(e, NULL, NULL); // nothing has to be read first
    }
}

// -- ordinals, in order

// emit puts an ordinal of the walk out if its bit is set, and clears the bit,
// so that what is left in the end are the rows without a value.
static void emit(struct exec *e, uint32_t n) {
    if (e->columns) {
        if (n / SCHEMA_SEGMENT >= e->columns->segments) {
            return;
        }
        struct bits *b = &e->columns->rows[n / SCHEMA_SEGMENT];
        if (!bits_test(b, n % SCHEMA_SEGMENT)) {
            return;
        }
        bits_clear(b, n % SCHEMA_SEGMENT);
    }
    push_ordinal(&e->ready, n);
}

static void gather(struct exec *e);

static void on_walked(struct walk *w, const char *code, const char *error) {
    struct exec *e = w->ctx;
    if (code) {
        end(e, code, error);
        return;
    }
    if (e->is_stale) {
        end_stale(e);
        return;
    }
    const uint32_t *list = (const uint32_t *)(const void *)w->found.data;
    for (size_t i = 0; i < w->found.len / sizeof list[0]; i++) {
        emit(e, list[i]);
    }
    gather(e);
}

static void ask_walk(struct exec *e) {
    // without columns each entry is a row
    uint64_t n = e->want + e->to_skip + 16;
    n = e->columns || n > walk_chunk ? walk_chunk : n;
    check_generation(e); // an index that was built anew since is gone
    walk_more(e->walk, (uint32_t)n, on_walked, e);
}

// scan_bits readies up to n of the rows that are set, from e->scan on.
static void scan_bits(struct exec *e, uint64_t n) {
    const struct columns *c = e->columns;
    while (n > 0 && c && e->scan / SCHEMA_SEGMENT < c->segments) {
        uint32_t segment = e->scan / SCHEMA_SEGMENT;
        uint32_t at = bits_next(&c->rows[segment], e->scan % SCHEMA_SEGMENT);
        if (at == SCHEMA_SEGMENT) {
            e->scan = (segment + 1) * SCHEMA_SEGMENT;
            continue;
        }
        e->scan = segment * SCHEMA_SEGMENT + at;
        push_ordinal(&e->ready, e->scan++);
        n--;
    }
}

static void read_window(struct exec *e);

static void skip_offset(struct exec *e) {
    uint32_t n = ready_count(e);
    uint32_t skipped = n < e->to_skip ? n : (uint32_t)e->to_skip;
    e->ready_at += skipped;
    e->to_skip -= skipped;
    // what was handed out makes room, so that a long walk needs little
    size_t used = e->ready_at * sizeof(uint32_t);
    if (used * 2 >= e->ready.len) {
        e->ready.len -= used;
        if (e->ready.len) {
            memmove(e->ready.data, e->ready.data + used, e->ready.len);
        }
        e->ready_at = 0;
    }
}

// gather readies the ordinals of the next window, then goes on to their ids.
static void gather(struct exec *e) {
    for (;;) {
        skip_offset(e);
        uint32_t have = ready_count(e);
        if (have >= e->want) {
            break;
        }
        if (e->plan.order == ORDER_PACKED) {
            uint64_t before = e->ranked;
            if (e->query.limit != NO_LIMIT) { // some were gone by now
                order_packed(e, before + e->want + e->to_skip + more_ranked);
            }
            if (e->ranked == before) {
                break;
            }
            continue;
        }
        if (e->plan.order == ORDER_WALK && !e->walk->is_over) {
            ask_walk(e);
            return;
        }
        if (e->plan.bounds >= 0) {
            break; // what the walk did not meet is not within them
        }
        uint32_t before = e->scan;
        scan_bits(e, e->want - have + e->to_skip);
        if (e->scan == before || ready_count(e) == have) {
            break;
        }
    }
    read_window(e);
}

// -- rows

// on_window: rows that went away or changed since their bits were read are
// left out; if all were, the next window is tried.
static void on_window(struct fetch *f, const char *code, const char *error) {
    struct exec *e = f->ctx;
    e->fetch = NULL;
    if (code) {
        end(e, code, error);
        return;
    }
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->rows[i] && f->rows[i]->ordinal != e->ordinals[i]) {
            free(f->rows[i]); // the id's row is another one by now
            f->rows[i] = NULL;
        }
    }
    uint32_t n = keep_matching(e, f->rows, f->count);
    if (n == 0) {
        gather(e);
        return;
    }
    e->rows = f->rows;
    e->row_count = n;
    f->rows = NULL;
    f->count = 0;
    e->left -= e->left == NO_LIMIT ? 0 : n;
    end(e, NULL, NULL);
}

static void on_ids(struct ids *ids, const char *code, const char *error) {
    struct exec *e = ids->ctx;
    if (code) {
        end(e, code, error);
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < ids->count; i++) { // drop those without an id
        if (ids->values[i].p) {
            ids->values[n] = ids->values[i];
            e->ordinals[n++] = ids->ordinals[i];
        }
    }
    if (n == 0) {
        gather(e);
        return;
    }
    e->fetch =
        fetch_rows(e->conn, e->query.schema, ids->values, n, on_window, e);
}

// read_window goes on to the ids and rows of the ordinals that are ready.
static void read_window(struct exec *e) {
    uint32_t n = ready_count(e);
    n = n < e->want ? n : e->want;
    if (n == 0) {
        end(e, NULL, NULL);
        return;
    }
    free(e->ordinals);
    e->ordinals = xmalloc(n * sizeof e->ordinals[0]);
    memcpy(e->ordinals, e->ready.data + e->ready_at * sizeof(uint32_t),
           n * sizeof e->ordinals[0]);
    e->ready_at += n;
    ids_of_ordinals(e->conn, e->query.schema, e->ordinals, n, on_ids, e);
}

// next_named hands out a window of the rows that exec_open fetched.
static void next_named(struct exec *e, uint32_t max) {
    uint64_t skip = e->row_at == 0 ? e->query.offset : 0;
    skip = skip < e->row_count ? skip : e->row_count;
    for (uint32_t i = 0; i < e->row_count; i++) {
        if (i < skip) {
            free(e->rows[i]);
        }
    }
    uint32_t n = e->row_count - (uint32_t)skip;
    if (n) {
        memmove(e->rows, e->rows + skip, n * sizeof e->rows[0]);
    }
    while (n > e->left) {
        free(e->rows[--n]);
    }
    (void)max; // named rows are few: they come at once
    e->row_count = n;
    e->row_at = 1;
    e->left = 0;
}

void exec_next(struct exec *e, uint32_t max, exec_fn done, void *ctx) {
    begin(e, done, ctx);
    bool is_named = e->plan.way == PLAN_KEYS || e->plan.way == PLAN_UNIQUE;
    if (is_named && e->row_at == 0) {
        next_named(e, max);
        end(e, NULL, NULL);
        return;
    }
    free_rows(e);
    e->want = max < e->left ? max : (uint32_t)e->left;
    if (is_named || e->plan.way == PLAN_NOTHING || e->want == 0) {
        end(e, NULL, NULL);
        return;
    }
    gather(e);
}
