// plan: from a query to the way in which it is answered.
#include "model/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/refuse.h"
#include "model/steps.h"

// What things cost, in nanoseconds of everybody's time together. spec/bench/
// query_cost.lua measures them; only their ratios matter.
static const double cost_command = 1200; // to ask for one key
static const double cost_byte = 0.5;     // of a column, read and combined
static const double cost_entry = 100;    // of an ordered index, as a set
static const double cost_walked = 400;   // of an ordered index, in order
static const double cost_row = 5000;     // its id, the row, its decoding
static const double cost_ranked = 5;     // to sort a row by a packed column
static const double cost_sorted = 500;   // to sort a row that was fetched

static const double fetch_most = 4096; // rows that are sorted in memory

// -- estimates

struct planner {
    const struct query *q;
    const struct plan_sizes *sizes;
    double rows;
    // the clauses that must all hold, those that are best read first in front
    struct top *tops;
    uint32_t count;
    bool has_path;
    struct path path;
};

struct top {
    uint32_t clause;
    double share; // of the rows
    double rank;
    bool is_covered; // by the path
};

// share_of estimates the share of the rows that fulfil a condition.
static double share_of(const struct planner *s, uint32_t i) {
    const struct condition *c = &s->q->conditions[i];
    const struct field *f = &s->q->schema->fields[c->field];
    double share = c->op == COND_NULL ? 0.1 : c->op == COND_RANGE ? 0.25 : 0.02;
    if (f->choice_count && c->op == COND_IN) {
        share = 1.0 / f->choice_count;
    }
    share *= c->op == COND_IN ? c->count : 1;
    if (s->sizes && s->sizes->matches[i] != PLAN_UNKNOWN) {
        share = (double)s->sizes->matches[i] / s->rows;
    }
    share = c->is_negated ? 1 - share : share;
    return share < 0.5 / s->rows ? 0.5 / s->rows : share > 1 ? 1 : share;
}

static double share_of_clause(const struct planner *s, uint32_t i) {
    const struct clause *c = &s->q->clauses[i];
    if (c->kind == CLAUSE_CONDITION) {
        return share_of(s, c->condition);
    }
    double share = 1; // of those that hold, or fail, so far
    for (uint32_t k = i + 1; k < c->end; k = s->q->clauses[k].end) {
        double one = share_of_clause(s, k);
        share *= c->kind == CLAUSE_ANY ? 1 - one : one;
    }
    return c->kind == CLAUSE_ANY ? 1 - share : share;
}

// read_cost of one condition's columns. A part of it can be saved where the
// segments are read one by one; *whole is the rest.
static double read_cost(const struct planner *s, uint32_t i, double *whole) {
    const struct condition *c = &s->q->conditions[i];
    const struct field *f = &s->q->schema->fields[c->field];
    double segments = s->sizes ? s->sizes->segments : 1;
    double bitmap = segments * cost_command + s->rows / 8 * cost_byte;
    if (f->index == INDEX_PACKED && !steps_by_range(s->q, s->sizes, i)) {
        return segments * cost_command + s->rows * f->width * cost_byte;
    }
    if (steps_have_values(f) && c->op != COND_RANGE) {
        double n = c->op == COND_NULL ? 1 : c->count;
        n *= f->index == INDEX_SET ? 1.5 : 1;
        return (n + (c->is_negated && c->op == COND_IN)) * bitmap;
    }
    double share = share_of(s, i);
    if (c->op == COND_NULL || c->is_negated) {
        share = 1; // the whole index is read
    }
    *whole += s->rows * share * cost_entry + cost_command;
    return segments * cost_command;
}

static double read_cost_clause(const struct planner *s, uint32_t i,
                               double *whole) {
    double cost = 0;
    const struct query *q = s->q;
    for (uint32_t k = i; k < q->clauses[i].end; k++) {
        if (q->clauses[k].kind == CLAUSE_CONDITION &&
            steps_can_read_condition(q,
                                     &q->conditions[q->clauses[k].condition])) {
            cost += read_cost(s, q->clauses[k].condition, whole);
        }
    }
    return cost;
}

// -- which columns to read

static void add_tops(struct planner *s, uint32_t i) {
    const struct query *q = s->q;
    for (uint32_t k = i + 1; k < q->clauses[i].end; k = q->clauses[k].end) {
        bool is_single = q->clauses[k].end == k + 2;
        if (q->clauses[k].kind == CLAUSE_ALL ||
            (q->clauses[k].kind == CLAUSE_ANY && is_single)) {
            add_tops(s, k);
        } else {
            s->tops[s->count++].clause = k;
        }
    }
}

// rank_of: the least cost for what a clause leaves out comes first; what cannot
// be read last.
static double rank_of(const struct planner *s, const struct top *top) {
    if (!steps_can_read(s->q, top->clause)) {
        return INFINITY;
    }
    double whole = 0, cost = read_cost_clause(s, top->clause, &whole);
    return (cost + whole) / -log(top->share < 0.999 ? top->share : 0.999);
}

static int by_rank(const void *a, const void *b) {
    const struct top *x = a, *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (x->clause > y->clause) - (x->clause < y->clause);
}

static void find_tops(struct planner *s) {
    s->tops = xcalloc(s->q->clause_count, sizeof s->tops[0]);
    s->has_path = path_find(s->q, &s->path);
    add_tops(s, 0);
    for (uint32_t i = 0; i < s->count; i++) {
        struct top *top = &s->tops[i];
        top->share = share_of_clause(s, top->clause);
        top->rank = rank_of(s, top);
        top->is_covered =
            s->has_path && path_covers(s->q, &s->path, top->clause);
    }
    qsort(s->tops, s->count, sizeof s->tops[0], by_rank);
}

// An option is one way to answer the query.
struct option {
    enum plan_way way;
    enum plan_order order;
    uint32_t read; // so many of the clauses are read
    bool is_exact, is_tested;
    struct path path;
    double candidates, matching;
    double ns;
};

// wanted returns how many of n rows are asked for.
static double wanted(const struct query *q, double n) {
    double most =
        q->limit == NO_LIMIT ? INFINITY : (double)q->limit + (double)q->offset;
    return most < n ? most : n;
}

// set_cost of what an option reads and fetches, with the cost of all of its
// columns, of the whole indexes that it reads, and the entries of its path.
static void set_cost(const struct planner *s, struct option *o, double columns,
                     double whole, double path) {
    const struct query *q = s->q;
    double segments = s->sizes ? s->sizes->segments : 1;
    double share = o->matching > 0 ? wanted(q, o->matching) / o->matching : 0;
    if (q->is_counted || o->order == ORDER_FETCHED) {
        share = 1;
    }
    bool is_only_counted = q->is_counted && o->is_exact;
    double fetched = o->candidates * share;
    if (is_only_counted) {
        fetched = 0;
    } else if (o->is_exact && o->order != ORDER_FETCHED) { // skipped unread
        fetched -= (double)q->offset < fetched ? (double)q->offset : fetched;
    }
    o->ns = whole + fetched * cost_row;
    if (o->way == PLAN_WALK && is_only_counted) {
        o->ns += cost_command;
    } else if (o->order == ORDER_WALK || o->way == PLAN_WALK) {
        o->ns += cost_command + path * share * cost_walked;
    } else if (o->order == ORDER_PACKED) {
        o->ns += o->candidates * cost_ranked;
    } else if (o->order == ORDER_FETCHED) {
        o->ns += o->candidates * cost_sorted;
    }
    if (o->way == PLAN_COLUMNS) { // without an order some segments may do
        bool is_part = o->order == ORDER_NONE && share * segments > 1;
        o->ns += columns * (o->order != ORDER_NONE ? 1
                            : is_part              ? share
                                                   : 1 / segments);
    }
}

// order_bytes returns how many bytes a row the columns to order by have.
static double order_bytes(const struct field *f) {
    double bitmaps = f->type == FIELD_BOOLEAN ? 2 : f->choice_count;
    return f->index == INDEX_PACKED ? f->width : bitmaps / 8;
}

// weigh_columns keeps the best option that reads columns of a number of the
// clauses, in the order given.
static void weigh_columns(const struct planner *s, enum plan_order order,
                          struct option *best) {
    const struct query *q = s->q;
    struct option o = {.way = PLAN_COLUMNS, .order = order};
    bool covers = false;
    if (order == ORDER_WALK) {
        o.path = s->path;
        // those without a value, which come last, are not in it
        covers = path_has_all(q, o.path.field);
    }
    double segments = s->sizes ? s->sizes->segments : 1;
    double columns = segments * cost_command + s->rows / 8 * cost_byte;
    double whole = 0, entries = s->rows;
    if (order == ORDER_PACKED) {
        const struct field *f = &q->schema->fields[q->orders[0].field];
        columns +=
            segments * cost_command + s->rows * order_bytes(f) * cost_byte;
    }
    if (order == ORDER_WALK && s->sizes && s->sizes->path != PLAN_UNKNOWN) {
        entries = (double)s->sizes->path;
    }
    o.matching = o.candidates = covers ? entries : s->rows;
    o.is_exact = true;
    uint32_t uncovered = 0; // that are not read yet
    for (uint32_t i = 0; i < s->count; i++) {
        bool is_covered = covers && s->tops[i].is_covered;
        o.matching *= is_covered ? 1 : s->tops[i].share;
        uncovered += !is_covered;
    }
    for (uint32_t i = 0; i <= s->count; i++) {
        struct option one = o;
        one.read = i;
        one.is_exact = o.is_exact && uncovered == 0;
        one.is_tested = !one.is_exact;
        set_cost(s, &one, columns, whole, entries);
        if (order == ORDER_FETCHED && one.candidates > fetch_most) {
            one.ns *= 1000; // only if there is no other way
        }
        bool is_allowed = !q->is_wary || one.is_exact;
        if (is_allowed && (best->ns < 0 || one.ns < best->ns)) {
            *best = one;
        }
        const struct top *top = &s->tops[i];
        if (i == s->count || isinf(top->rank)) {
            return;
        }
        if (!(covers && top->is_covered)) {
            o.candidates *= top->share;
            columns += read_cost_clause(s, top->clause, &whole);
            o.is_exact = o.is_exact && steps_are_exact(q, top->clause);
            uncovered--;
        }
    }
}

// weigh_walk looks at walking along an ordered index and testing the rows.
// Without an order, or with one that is not the path's, they have to be sorted.
static void weigh_walk(const struct planner *s, struct option *best) {
    const struct query *q = s->q;
    struct option o = {.way = PLAN_WALK, .path = s->path};
    if (!s->has_path) {
        return;
    }
    bool has_last = path_has_all(q, o.path.field);
    double entries = s->rows;
    if (s->sizes && s->sizes->path != PLAN_UNKNOWN) {
        entries = (double)s->sizes->path;
    }
    o.order = q->order_count ? ORDER_WALK : ORDER_FETCHED;
    o.candidates = o.matching = entries;
    o.is_exact = !q->schema->has_ttl && has_last;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->tops[i].is_covered) {
            o.matching *= s->tops[i].share;
            o.is_tested = true;
        }
    }
    o.is_exact = o.is_exact && !o.is_tested;
    set_cost(s, &o, 0, 0, entries);
    bool needs_tail = !has_last && (o.order == ORDER_FETCHED ||
                                    wanted(q, INFINITY) > o.matching / 2);
    bool is_much = o.order == ORDER_FETCHED && entries > fetch_most &&
                   !(q->is_counted && o.is_exact);
    if (needs_tail || is_much || (q->is_wary && o.is_tested)) {
        return;
    }
    if (best->ns < 0 || o.ns < best->ns) {
        *best = o;
    }
}

// -- choosing

// find_driver looks for a condition that names few rows outright.
static int find_driver(const struct query *q, bool want_primary) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        const struct field *f = &q->schema->fields[c->field];
        bool is_primary = (int)c->field == q->schema->primary;
        if (c->op == COND_IN && c->is_top && !c->is_negated && !f->element &&
            (want_primary ? is_primary : f->is_unique)) {
            return (int)i;
        }
    }
    return -1;
}

// is_empty: no row can match.
static bool is_empty(const struct query *q, uint32_t i) {
    const struct clause *c = &q->clauses[i];
    if (c->kind == CLAUSE_CONDITION) {
        const struct condition *cond = &q->conditions[c->condition];
        const struct field *f = &q->schema->fields[cond->field];
        return (cond->op == COND_IN && cond->count == 0 && !cond->is_negated) ||
               (cond->op == COND_RANGE && !cond->is_negated &&
                schema_is_numeric(f) && cond->low > cond->high);
    }
    bool is_any = c->kind == CLAUSE_ANY;
    for (uint32_t k = i + 1; k < c->end; k = q->clauses[k].end) {
        if (is_empty(q, k) != is_any) {
            return !is_any;
        }
    }
    return is_any;
}

// is_path_enough: the path has the rows that are wanted, in their order, and no
// others: then there is nothing to weigh.
static bool is_path_enough(const struct planner *s) {
    bool is_enough = s->q->order_count > 0 && s->has_path &&
                     path_has_all(s->q, s->path.field) &&
                     !s->q->schema->has_ttl;
    for (uint32_t i = 0; i < s->count; i++) {
        is_enough = is_enough && s->tops[i].is_covered;
    }
    return is_enough;
}

// can_skip_walk: the walk has rows that match only, and so has its tail.
static bool can_skip_walk(const struct planner *s, const struct option *o) {
    bool can = !o->is_tested && !s->q->schema->has_ttl;
    for (uint32_t i = 0; i < s->count; i++) {
        can = can && steps_can_read(s->q, s->tops[i].clause) &&
              steps_are_exact(s->q, s->tops[i].clause);
    }
    return can;
}

static struct option choose(struct planner *s) {
    const struct query *q = s->q;
    struct option best = {.ns = -1};
    if (is_path_enough(s)) {
        weigh_walk(s, &best);
        return best;
    }
    if (q->order_count == 0 || q->is_counted) {
        weigh_columns(s, ORDER_NONE, &best);
        if (!q->is_tallied) {
            weigh_walk(s, &best);
        }
        return best;
    }
    const struct field *f = &q->schema->fields[q->orders[0].field];
    if (steps_are_in_memory(f)) {
        weigh_columns(s, ORDER_PACKED, &best);
    }
    if (s->has_path) {
        weigh_columns(s, ORDER_WALK, &best);
    }
    weigh_columns(s, ORDER_FETCHED, &best);
    weigh_walk(s, &best);
    return best;
}

// make_tail: the rows without a value in the field that they are ordered by.
static struct plan *make_tail(const struct planner *s) {
    struct plan *p = xcalloc(1, sizeof *p);
    p->way = PLAN_COLUMNS;
    steps_begin(p);
    for (uint32_t i = 0; i < s->count; i++) {
        steps_add(s->q, s->sizes, p, s->tops[i].clause);
    }
    steps_add_null(s->q, s->sizes, p);
    return p;
}

int plan_make(const struct query *q, const struct plan_sizes *sizes,
              struct plan *p, char *error, size_t size) {
    *p = (struct plan){.way = PLAN_COLUMNS};
    int primary = find_driver(q, true), unique = find_driver(q, false);
    p->driver = primary >= 0 ? primary : unique;
    if (refuse_query(q, p->driver >= 0, &p->is_building, error, size) < 0) {
        return -1;
    }
    if (is_empty(q, 0) || q->limit == 0) {
        p->way = PLAN_NOTHING;
        return 0;
    }
    if (p->driver >= 0) {
        p->way = primary >= 0 ? PLAN_KEYS : PLAN_UNIQUE;
        p->order = q->order_count ? ORDER_FETCHED : ORDER_NONE;
        p->candidate = q->conditions[p->driver].count;
        return 0;
    }
    struct planner s = {.q = q, .sizes = sizes, .rows = 10000};
    if (sizes) {
        s.rows = sizes->rows > 1 ? (double)sizes->rows : 1;
    }
    find_tops(&s);
    struct option o = choose(&s);
    if (o.ns < 0) { // a wary query, not all of whose conditions have columns
        free(s.tops);
        snprintf(error, size, "there is no exact plan");
        return -1;
    }
    p->way = o.way;
    p->order = o.order;
    p->is_exact = o.is_exact;
    p->can_skip = o.is_exact || (o.way == PLAN_WALK && can_skip_walk(&s, &o));
    p->is_tested = o.is_tested;
    p->path = o.path;
    p->candidate = sizes ? (uint64_t)(o.candidates + 0.5) : PLAN_UNKNOWN;
    p->has_tail = o.order == ORDER_WALK && !path_has_all(q, o.path.field);
    if (p->has_tail && (o.way == PLAN_WALK || q->after)) {
        p->tail = make_tail(&s);
    }
    bool covers = o.order == ORDER_WALK && !p->has_tail;
    steps_begin(p);
    for (uint32_t i = 0; i < o.read; i++) {
        if (!(covers && s.tops[i].is_covered)) {
            steps_add(q, sizes, p, s.tops[i].clause);
        }
    }
    const struct field *f = &q->schema->fields[q->orders[0].field];
    p->is_tallied = q->is_tallied && p->is_exact && o.way == PLAN_COLUMNS &&
                    !f->is_building && steps_are_in_memory(f);
    if (o.order == ORDER_PACKED || p->is_tallied) {
        steps_add_order(q, p);
    }
    free(s.tops);
    return 0;
}

bool plan_make_wary(struct query *q, const struct plan_sizes *sizes,
                    const struct plan *old, struct plan *p) {
    char error[8];
    bool is_fit = old->order == ORDER_NONE || old->order == ORDER_WALK;
    if (q->is_wary || !old->is_tested || !is_fit) {
        return false;
    }
    q->is_wary = true;
    if (plan_make(q, sizes, p, error, sizeof error) < 0) {
        return false;
    }
    if (p->way == PLAN_COLUMNS && p->order == old->order) {
        return true;
    }
    plan_clear(p);
    return false;
}

bool plan_needs_sizes(const struct query *q, uint32_t segments) {
    struct planner s = {.q = q, .rows = 1};
    find_tops(&s);
    bool is_enough = is_path_enough(&s);
    free(s.tops);
    if (is_enough) {
        return false;
    }
    for (uint32_t i = 0; i < q->count; i++) {
        const struct field *f = &q->schema->fields[q->conditions[i].field];
        if (f->index != INDEX_PACKED && steps_are_ranged(f)) {
            return true;
        }
    }
    return segments != 1 || (s.has_path && q->count > 0); // 0: not known yet
}

void plan_correct(const struct query *q, const struct plan_sizes *sizes,
                  struct plan *p, uint64_t found) {
    if (p->order != ORDER_WALK || p->way != PLAN_COLUMNS || !sizes ||
        sizes->path == PLAN_UNKNOWN || (double)found > fetch_most) {
        return;
    }
    double n = (double)found, path = (double)sizes->path;
    double share = n > 0 ? wanted(q, n) / n : 1;
    double walk = path * share * cost_walked + n * share * cost_row;
    if (n * (cost_row + cost_sorted) < walk) {
        p->order = ORDER_FETCHED;
    }
}

void plan_clear(struct plan *p) {
    if (p->tail) {
        plan_clear(p->tail);
        free(p->tail);
    }
    free(p->steps);
    *p = (struct plan){0};
}
