// exec: runs a query: sizes, plan, candidates, ids, rows.
#include "model/exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/generation.h"

static const uint32_t window_least = 16, window_most = 1024; // rows
static const uint64_t skip_most = 16384; // candidates in one turn
static const uint64_t wary_from = 512;   // rows that were fetched
enum { REMEMBERED_MOST = 64 };           // rows of a window, for their ids

// -- life

void exec_memory_clear(struct exec_memory *m) {
    columns_memory_clear(&m->columns);
    ids_memory_clear(&m->ids);
}

struct exec *exec_new(struct pool *pool, const struct query *q,
                      struct exec_memory *memory, bool *is_building,
                      char *error, size_t size) {
    struct plan p;
    if (plan_make(q, NULL, &p, error, size) < 0) {
        *is_building = p.is_building;
        return NULL;
    }
    struct exec *e = xcalloc(1, sizeof *e);
    e->query = *q;
    memcpy(e->query.generation, q->schema->generation,
           sizeof e->query.generation);
    e->plan = p;
    e->pool = pool;
    e->memory = memory;
    e->references = 1;
    e->to_skip = q->offset;
    e->left = q->limit;
    return e;
}

static void free_list(struct row **rows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        free(rows[i]);
    }
    free(rows);
}

static void drop_held(struct exec *e, uint32_t count) {
    if (count == 0) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        free(e->held[i]);
    }
    e->held += count;
    e->held_count -= count;
}

void exec_release(struct exec *e) {
    if (--e->references > 0) {
        return;
    }
    source_clear(&e->source);
    if (e->sizes) {
        sizes_free(e->sizes);
    }
    drop_held(e, e->held_count);
    free(e->held_memory);
    free_list(e->rows, e->row_count);
    plan_clear(&e->plan);
    query_clear(&e->query);
    free(e->ordinals);
    free(e->keys);
    free(e->last);
    free(e);
}

void exec_forget(struct exec *e, exec_fn done, void *ctx) {
    e->done = done;
    e->ctx = ctx;
}

bool exec_is_busy(const struct exec *e) {
    return e->done != NULL;
}

bool exec_is_running(const struct exec *e) {
    return e->references > 1;
}

static void begin(struct exec *e, exec_fn done, void *ctx) {
    e->references++;
    e->done = done;
    e->ctx = ctx;
}

// end ends the operation under way: with a call, or, if it was begun ahead of
// the next one, with a note for that.
static void end(struct exec *e, const char *code, const char *error) {
    exec_fn done = e->done;
    e->is_full = !code && e->max && e->row_count == e->max;
    bool is_over = e->max && (e->row_count == 0 || e->left == 0);
    bool is_counted = e->query.is_counted && e->plan.is_exact;
    if (!code && (is_over || is_counted)) {
        source_drop_reads(&e->source); // rather than when Lua collects it
    }
    e->done = NULL;
    if (done) {
        e->ahead = AHEAD_NOT;
        done(e, code, error);
    } else {
        e->ahead = AHEAD_READY;
        snprintf(e->code, sizeof e->code, "%s", code ? code : "");
        snprintf(e->error, sizeof e->error, "%s", error ? error : "");
    }
    exec_release(e);
}

// -- the rows that are held

static bool is_named(const struct exec *e) {
    return e->plan.way == PLAN_KEYS || e->plan.way == PLAN_UNIQUE;
}

// is_sorting: the rows are sorted when they are here: all of them, or those of
// one group after the other.
static bool is_sorting(const struct exec *e) {
    return e->plan.order == ORDER_FETCHED || e->query.order_count > 1;
}

// is_counting_candidates: each candidate is a row that matches.
static bool is_counting_candidates(const struct exec *e) {
    return e->plan.can_skip && !is_sorting(e) && !e->query.after;
}

static int compare_rows(const void *a, const void *b, void *query) {
    return query_compare(query, *(struct row *const *)a,
                         *(struct row *const *)b);
}

static void sort_held(struct exec *e) {
    if (e->held_count > 1 && !e->is_sorted) {
        qsort_r(e->held, e->held_count, sizeof e->held[0], compare_rows,
                &e->query);
    }
    e->is_sorted = true;
}

// prune drops rows that are beyond the limit whatever follows.
static void prune(struct exec *e) {
    uint64_t need = e->left == NO_LIMIT ? NO_LIMIT : e->left + e->to_skip;
    if (need > UINT32_MAX / 4 || e->held_count <= 2 * need + window_most) {
        return;
    }
    sort_held(e);
    while (e->held_count > need) {
        free(e->held[--e->held_count]);
    }
}

// hold keeps a row that matches, and frees others.
static void hold(struct exec *e, struct row *r) {
    if (!query_matches(&e->query, r)) {
        free(r);
        return;
    }
    if (e->held != e->held_memory) { // some were handed out
        memmove(e->held_memory, e->held, e->held_count * sizeof e->held[0]);
    }
    if (e->held_count == e->held_cap) {
        e->held_cap = e->held_cap ? e->held_cap * 2 : 64;
        e->held_memory =
            xrealloc(e->held_memory, e->held_cap * sizeof e->held[0]);
    }
    e->held = e->held_memory;
    e->held[e->held_count++] = r;
    e->is_sorted = false;
    e->matched++;
}

// hand_out makes the first rows that are held the result; it says whether that
// has any.
static bool hand_out(struct exec *e) {
    if (e->to_skip) {
        uint32_t n =
            e->to_skip < e->held_count ? (uint32_t)e->to_skip : e->held_count;
        drop_held(e, n);
        e->to_skip -= n;
    }
    uint32_t n = e->held_count < e->max ? e->held_count : e->max;
    n = n < e->left ? n : (uint32_t)e->left;
    if (n == 0) {
        return false;
    }
    e->rows = xmalloc(n * sizeof e->rows[0]);
    memcpy(e->rows, e->held, n * sizeof e->rows[0]);
    memset(e->held, 0, n * sizeof e->held[0]);
    drop_held(e, n);
    e->row_count = n;
    free(e->last);
    e->last = row_copy(e->rows[n - 1]);
    e->left -= e->left == NO_LIMIT ? 0 : n;
    return true;
}

// -- rows by key

static void on_named_rows(struct fetch *f, const char *code,
                          const char *error) {
    struct exec *e = f->ctx;
    for (uint32_t i = 0; i < f->count && !code; i++) {
        if (f->rows[i]) {
            hold(e, f->rows[i]);
            f->rows[i] = NULL;
        }
    }
    e->fetched += f->count;
    sort_held(e);
    end(e, code, error);
}

static void fetch_named(struct exec *e, const struct value *ids, uint32_t n) {
    if (n == 0) {
        end(e, NULL, NULL);
        return;
    }
    e->round_trips++;
    fetch_rows(e->pool->shared, e->query.schema, ids, n, on_named_rows, e);
}

static void end_stale(struct exec *e) {
    char text[200];
    generation_text(&e->query, text, sizeof text);
    end(e, "model.schema_changed", text);
}

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

// -- opening

static void on_source(struct source *s, const char *code, const char *error) {
    struct exec *e = s->ctx;
    if (!code && s->columns) {
        plan_correct(&e->query, e->sizes ? &e->sizes->plan : NULL, &e->plan,
                     source_found(s));
    }
    end(e, code, error);
}

static void open_planned(struct exec *e) {
    const struct condition *c = NULL;
    if (is_named(e)) {
        c = &e->query.conditions[e->plan.driver];
    }
    switch (e->plan.way) {
    case PLAN_KEYS: fetch_named(e, c->values, c->count); break;
    case PLAN_UNIQUE:
        generation_ask(e->pool->shared, &e->query, &e->is_stale);
        e->round_trips++;
        ids_of_uniques(e->pool->shared, e->query.schema, c, on_holders, e);
        break;
    case PLAN_COLUMNS:
    case PLAN_WALK:
        source_init(&e->source, &e->query, &e->plan, e->pool,
                    &e->memory->columns);
        source_open(&e->source, on_source, e);
        break;
    case PLAN_NOTHING: end(e, NULL, NULL); break;
    }
}

// replan makes the plan anew with the sizes; it cannot fail, as it did not
// without them.
static void replan(struct exec *e) {
    char error[256];
    plan_clear(&e->plan);
    plan_make(&e->query, &e->sizes->plan, &e->plan, error, sizeof error);
}

static bool needs_sizes(const struct exec *e) {
    return e->plan.way != PLAN_NOTHING && !is_named(e) &&
           plan_needs_sizes(&e->query, e->memory->columns.segments);
}

static void ask_sizes(struct exec *e,
                      void (*then)(struct sizes *s, const char *code,
                                   const char *error));

static void on_sizes(struct sizes *s, const char *code, const char *error) {
    struct exec *e = s->ctx;
    e->sizes = s;
    e->round_trips += s->round_trips;
    if (source_may_retry(code, &e->tries)) {
        sizes_free(s);
        e->sizes = NULL;
        ask_sizes(e, on_sizes);
        return;
    }
    if (code) {
        end(e, code, error);
        return;
    }
    replan(e);
    open_planned(e);
}

static void on_sizes_only(struct sizes *s, const char *code,
                          const char *error) {
    struct exec *e = s->ctx;
    e->sizes = s;
    if (!code && needs_sizes(e)) { // else they are only told
        replan(e);
    }
    end(e, code, error);
}

static void ask_sizes(struct exec *e,
                      void (*then)(struct sizes *s, const char *code,
                                   const char *error)) {
    sizes_ask(e->pool->shared, &e->query, e->memory->columns.segments,
              &e->memory->sizes, then, e);
}

void exec_plan(struct exec *e, exec_fn done, void *ctx) {
    begin(e, done, ctx);
    ask_sizes(e, on_sizes_only);
}

void exec_open(struct exec *e, exec_fn done, void *ctx) {
    begin(e, done, ctx);
    if (!e->sizes && needs_sizes(e)) {
        ask_sizes(e, on_sizes);
    } else {
        open_planned(e);
    }
}

bool exec_count(const struct exec *e, uint64_t *count) {
    *count = e->source.count;
    return e->plan.way == PLAN_NOTHING || (!is_named(e) && e->plan.is_exact);
}

// -- windows of rows

static void gather(struct exec *e);

// has_moved: the row has another place in the order than it was found at. It
// may be found there, too; where it was it would stand among the wrong rows,
// and as the last of a page it would stand for the wrong position.
static bool has_moved(const struct exec *e, uint32_t i, const struct row *r) {
    bool is_by_index =
        e->plan.order == ORDER_PACKED || e->plan.order == ORDER_WALK;
    return is_by_index && source_key(&e->source, r) != e->keys[i];
}

static void read_window(struct exec *e);

// be_wary changes the plan if hardly any row that it fetches matches: its
// estimates were wrong, or the rows that match lie together.
static void be_wary(struct exec *e) {
    struct plan p;
    bool is_bad = e->fetched > wary_from && e->matched * 16 < e->fetched;
    if (is_bad && !e->query.after &&
        plan_make_wary(&e->query, e->sizes ? &e->sizes->plan : NULL, &e->plan,
                       &p)) {
        source_forget_columns(&e->source); // which belong to the old plan
        plan_clear(&e->plan);
        e->plan = p;
    }
}

// has_other says whether the row at i is not the one that has its ordinal.
static bool has_other(const struct exec *e, const struct fetch *f, uint32_t i) {
    return f->rows[i] && f->rows[i]->ordinal != e->ordinals[i];
}

// remembered_wrongly forgets the ids whose rows are gone or have another
// ordinal, if they were remembered ones. It says whether there were any.
static bool remembered_wrongly(struct exec *e, const struct fetch *f) {
    bool are_wrong = false;
    for (uint32_t i = 0; e->is_recalled && i < f->count; i++) {
        if (!f->rows[i] || has_other(e, f, i)) {
            ids_forget(&e->memory->ids, e->ordinals[i]);
            are_wrong = true;
        }
    }
    return are_wrong;
}

// on_window: rows that went away, or changed their place, since they were
// found are left out.
static void on_window(struct fetch *f, const char *code, const char *error) {
    struct exec *e = f->ctx;
    if (source_may_retry(code, &e->tries)) {
        read_window(e);
        return;
    }
    if (code) {
        end(e, code, error);
        return;
    }
    if (remembered_wrongly(e, f)) {
        read_window(e); // which asks for them now
        return;
    }
    uint32_t before = e->held_count;
    for (uint32_t i = 0; i < f->count; i++) {
        struct row *r = f->rows[i];
        bool is_other = has_other(e, f, i);
        if (r && !is_other && !has_moved(e, i, r)) {
            hold(e, r); // else the id's row is another one by now
            f->rows[i] = NULL;
        }
        e->lost += !r || is_other;
        if (!r && e->gone_count < EXEC_GONE) {
            e->gone[e->gone_count++] = e->ordinals[i];
        }
    }
    e->fetched += f->count;
    if (e->held_count - before < f->count / 2 && e->window < window_most) {
        e->window *= 2;
    }
    if (is_sorting(e)) {
        prune(e);
    }
    be_wary(e);
    gather(e);
}

static void fetch_window(struct exec *e, const struct value *ids) {
    e->round_trips++;
    fetch_rows(e->pool->shared, e->query.schema, ids, e->count, on_window, e);
}

static void on_ids(struct ids *ids, const char *code, const char *error) {
    struct exec *e = ids->ctx;
    if (source_may_retry(code, &e->tries)) {
        read_window(e);
        return;
    }
    if (code) {
        end(e, code, error);
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < ids->count; i++) { // drop those without an id
        if (ids->values[i].p) {
            if (e->count <= REMEMBERED_MOST) {
                ids_remember(&e->memory->ids, ids->ordinals[i], ids->values[i]);
            }
            ids->values[n] = ids->values[i];
            e->keys[n] = e->keys[i];
            e->ordinals[n++] = ids->ordinals[i];
        }
    }
    e->lost += ids->count - n;
    e->count = n;
    if (n == 0) {
        gather(e);
        return;
    }
    fetch_window(e, ids->values);
}

// read_window reads the ids of the window's candidates, unless all of them are
// remembered, and then the rows.
static void read_window(struct exec *e) {
    struct value ids[REMEMBERED_MOST];
    e->is_recalled = e->count <= REMEMBERED_MOST &&
                     ids_recall(&e->memory->ids, e->ordinals, e->count, ids);
    if (e->is_recalled) {
        fetch_window(e, ids);
        return;
    }
    e->round_trips++;
    ids_of_ordinals(e->pool->shared, e->query.schema, e->ordinals, e->count,
                    on_ids, e);
}

// take_window takes candidates that are ready, of one group only if rows are
// sorted group by group.
static uint32_t take_window(struct exec *e) {
    uint32_t n = 0;
    bool is_grouped =
        e->query.order_count > 1 && e->plan.order != ORDER_FETCHED;
    free(e->ordinals);
    free(e->keys);
    e->ordinals = xmalloc(e->window * sizeof e->ordinals[0]);
    e->keys = xmalloc(e->window * sizeof e->keys[0]);
    const struct candidate *c = source_peek(&e->source);
    uint32_t group = c ? c->group : 0;
    if (is_grouped && e->held_count && group != e->group) {
        return 0; // what is held is whole
    }
    e->group = group;
    while (n < e->window && (c = source_peek(&e->source)) &&
           (!is_grouped || c->group == group)) {
        e->keys[n] = c->key;
        e->ordinals[n++] = c->ordinal;
        source_drop(&e->source, 1);
    }
    return n;
}

// take_a_pause lets others take their turn: it waits for the server to answer,
// so that it ends as every other wait does.
static void pause_done(struct waiter *w) {
    gather(w->ctx);
}

static void pause_failed(struct waiter *w, const char *code, const char *text) {
    end(w->ctx, code, text);
}

static const struct sink pause_sink = {sink_ignore_string,  sink_ignore_array,
                                       sink_ignore_integer, sink_ignore_nil,
                                       pause_done,          pause_failed};

static void take_a_pause(struct exec *e) {
    struct conn *c = e->pool->shared;
    resp_command(conn_out(c), 1);
    resp_arg_s(conn_out(c), "PING");
    conn_wait(c, &pause_sink, e);
}

// on_candidates goes on to the ids and rows of what is ready.
static void on_candidates(struct source *s, const char *code,
                          const char *error) {
    struct exec *e = s->ctx;
    if (code) {
        end(e, code, error);
        return;
    }
    if (is_counting_candidates(e)) {
        uint64_t n = source_ready(s);
        n = n < e->to_skip ? n : e->to_skip;
        source_drop(s, n);
        e->to_skip -= n;
        if (e->to_skip && !s->is_over) {
            take_a_pause(e);
            return;
        }
    }
    uint32_t n = take_window(e);
    if (n == 0) {
        if (is_sorting(e)) {
            sort_held(e);
        }
        bool is_more = !hand_out(e) && source_ready(s) && e->left;
        if (is_more) { // a group was skipped
            gather(e);
            return;
        }
        end(e, NULL, NULL);
        return;
    }
    e->count = n;
    read_window(e);
}

// gather looks for more rows, unless there are some to hand out.
static void gather(struct exec *e) {
    if (!is_sorting(e) && e->held_count) {
        if (hand_out(e)) {
            end(e, NULL, NULL);
            return;
        }
    }
    uint64_t skip = is_counting_candidates(e) ? e->to_skip : 0;
    skip = skip < skip_most ? skip : skip_most;
    // one more shows whether a group is over
    source_more(&e->source, e->window + skip + 1, on_candidates, e);
}

static void next_window(struct exec *e, uint32_t max) {
    free_list(e->rows, e->row_count);
    e->rows = NULL;
    e->row_count = 0;
    e->max = max;
    bool is_over = e->plan.way == PLAN_NOTHING || e->left == 0;
    bool is_ready = is_named(e) || (e->is_sorted && e->held_count);
    if (is_over || (is_ready && (hand_out(e) || is_named(e)))) {
        end(e, NULL, NULL);
        return;
    }
    // one more where that is the last: whoever asks for it next need not wait
    uint64_t want = e->left <= (uint64_t)max + 1 ? e->left : max;
    if (e->window < want || !is_sorting(e)) {
        uint64_t most = want + e->to_skip;
        most = most > window_least ? most : window_least;
        most = most < window_most ? most : window_most;
        e->window = (uint32_t)(is_counting_candidates(e) ? want : most);
    }
    gather(e);
}

void exec_read_ahead(struct exec *e) {
    bool is_streamed = e->plan.way == PLAN_COLUMNS || e->plan.way == PLAN_WALK;
    if (e->is_full && is_streamed && !is_sorting(e) &&
        e->query.limit == NO_LIMIT) {
        begin(e, NULL, NULL);
        e->ahead = AHEAD_RUNNING;
        next_window(e, e->max);
    }
}

void exec_next(struct exec *e, uint32_t max, exec_fn done, void *ctx) {
    if (e->ahead == AHEAD_RUNNING) {
        e->done = done;
        e->ctx = ctx;
        return;
    }
    begin(e, done, ctx);
    if (e->ahead == AHEAD_READY) {
        end(e, e->code[0] ? e->code : NULL, e->error);
    } else {
        next_window(e, max);
    }
}
