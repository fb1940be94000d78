// steps: which columns answer a query's conditions, and how they are combined.
#include "model/steps.h"

#include <stdlib.h>

#include "base/mem.h"

bool steps_have_values(const struct field *f) {
    return f->index == INDEX_BITMAP || f->index == INDEX_SET;
}

bool steps_are_ranged(const struct field *f) {
    return f->has_zset || f->has_lex;
}

bool steps_can_read_condition(const struct query *q,
                              const struct condition *c) {
    const struct field *f = &q->schema->fields[c->field];
    if (c->op == COND_RANGE) {
        return f->index == INDEX_PACKED || steps_are_ranged(f);
    }
    return f->index != INDEX_NONE || steps_are_ranged(f);
}

bool steps_can_read(const struct query *q, uint32_t i) {
    const struct clause *c = &q->clauses[i];
    if (c->kind == CLAUSE_CONDITION) {
        return steps_can_read_condition(q, &q->conditions[c->condition]);
    }
    bool is_any = c->kind == CLAUSE_ANY;
    for (uint32_t k = i + 1; k < c->end; k = q->clauses[k].end) {
        if (steps_can_read(q, k) != is_any) {
            return !is_any;
        }
    }
    return is_any;
}

bool steps_are_exact(const struct query *q, uint32_t i) {
    const struct clause *c = &q->clauses[i];
    for (uint32_t k = i; k < c->end; k++) {
        if (q->clauses[k].kind == CLAUSE_CONDITION &&
            !steps_can_read_condition(
                q, &q->conditions[q->clauses[k].condition])) {
            return false;
        }
    }
    return true;
}

bool steps_are_in_memory(const struct field *f) {
    bool is_by_choice = f->index == INDEX_BITMAP && f->choice_count < 255;
    return f->index == INDEX_PACKED || is_by_choice;
}

bool steps_by_range(const struct query *q, const struct plan_sizes *sizes,
                    uint32_t condition) {
    const struct condition *c = &q->conditions[condition];
    const struct field *f = &q->schema->fields[c->field];
    if (!f->has_zset || c->op == COND_NULL || c->is_negated || !sizes ||
        condition >= q->count || sizes->matches[condition] == PLAN_UNKNOWN) {
        return f->index != INDEX_PACKED;
    }
    // an entry costs what some hundreds of bytes of a column do
    return f->index != INDEX_PACKED ||
           sizes->matches[condition] * 512 < sizes->rows * (uint64_t)f->width;
}

bool steps_are_whole(const struct plan_step *step) {
    return step->read == READ_ZSET || step->read == READ_LEX;
}

bool steps_are_windowed(const struct query *q, const struct plan *p) {
    for (uint32_t i = 0; i < p->step_count; i++) {
        if (steps_are_whole(&p->steps[i])) {
            return false;
        }
    }
    return p->order == ORDER_NONE && (p->is_tallied || !q->is_counted);
}

// -- writing them down

// What the helpers write to.
struct writer {
    const struct query *q;
    const struct plan_sizes *sizes;
    struct plan *p;
    uint32_t depth; // of sets that were begun
};

static void add_step(struct plan *p, enum plan_read read, enum plan_join join,
                     int condition, uint32_t value) {
    p->steps = xrealloc(p->steps, (p->step_count + 1) * sizeof p->steps[0]);
    p->steps[p->step_count++] =
        (struct plan_step){read, join, condition, value, false};
}

static void add_whole(struct plan *p, enum plan_join join, int condition,
                      enum plan_read read) {
    add_step(p, read, join, condition, 0);
    p->steps[p->step_count - 1].is_whole = true;
}

static void begin(struct writer *w, bool is_all) {
    struct plan *p = w->p;
    add_step(p, is_all ? BEGIN_ALL : BEGIN_NONE, JOIN_AND, -1, 0);
    w->depth++;
    p->depth = w->depth > p->depth ? w->depth : p->depth;
}

static void end(struct writer *w, enum plan_join join) {
    add_step(w->p, END_SET, join, -1, 0);
    w->depth--;
}

// add_values: the bitmaps of a condition's values, each joined alike.
static void add_values(struct writer *w, int i, enum plan_join join) {
    const struct condition *c = &w->q->conditions[i];
    for (uint32_t v = 0; v < c->count; v++) {
        if (w->q->schema->fields[c->field].index == INDEX_SET) {
            add_step(w->p, READ_SET, join, i, v);
        }
        add_step(w->p, READ_BITMAP, join, i, v);
    }
}

// add_negated: all rows but those, and those without a value.
static void add_negated(struct writer *w, int i) {
    const struct condition *c = &w->q->conditions[i];
    if (c->op == COND_IN) {
        add_values(w, i, JOIN_WITHOUT);
    }
    if (!w->q->schema->fields[c->field].is_required) {
        add_step(w->p, READ_NULL, JOIN_WITHOUT, i, 0);
    }
}

// add_ranged: a part of an ordered index, which has no row without a value.
static void add_ranged(struct writer *w, int i, enum plan_join join) {
    struct plan *p = w->p;
    const struct condition *c = &w->q->conditions[i];
    const struct field *f = &w->q->schema->fields[c->field];
    enum plan_read read = f->has_lex ? READ_LEX : READ_ZSET;
    if (c->op == COND_NULL && join == JOIN_AND) {
        add_whole(p, c->is_negated ? JOIN_AND : JOIN_WITHOUT, i, read);
        return;
    }
    bool is_simple = !c->is_negated && (c->op == COND_RANGE || c->count == 1);
    if (is_simple) {
        add_step(p, read, join, i, 0);
        return;
    }
    begin(w, c->op == COND_NULL && !c->is_negated);
    if (c->op == COND_NULL) {
        add_whole(p, c->is_negated ? JOIN_OR : JOIN_WITHOUT, i, read);
    } else if (c->is_negated) {
        add_whole(p, JOIN_OR, i, read);
    }
    uint32_t n = c->op == COND_RANGE ? 1 : c->op == COND_IN ? c->count : 0;
    for (uint32_t v = 0; v < n; v++) {
        add_step(p, read, c->is_negated ? JOIN_WITHOUT : JOIN_OR, i, v);
    }
    end(w, join);
}

static void add_condition(struct writer *w, int i, enum plan_join join) {
    const struct condition *c = &w->q->conditions[i];
    const struct field *f = &w->q->schema->fields[c->field];
    if (f->index == INDEX_PACKED &&
        !steps_by_range(w->q, w->sizes, (uint32_t)i)) {
        add_step(w->p, READ_PACKED, join, i, 0);
    } else if (!steps_have_values(f) || c->op == COND_RANGE) {
        add_ranged(w, i, join);
    } else if (c->op == COND_NULL && !c->is_negated) {
        add_step(w->p, READ_NULL, join, i, 0);
    } else if (c->is_negated && join == JOIN_AND) {
        add_negated(w, i);
    } else if (c->is_negated) {
        begin(w, true);
        add_negated(w, i);
        end(w, join);
    } else if (join == JOIN_OR || (c->count == 1 && f->index != INDEX_SET)) {
        add_values(w, i, join);
    } else {
        begin(w, false);
        add_values(w, i, JOIN_OR);
        end(w, join);
    }
}

static void add_clause(struct writer *w, uint32_t i, enum plan_join join) {
    const struct query *q = w->q;
    const struct clause *c = &q->clauses[i];
    if (!steps_can_read(q, i)) {
        return;
    }
    if (c->kind == CLAUSE_CONDITION) {
        add_condition(w, (int)c->condition, join);
        return;
    }
    uint32_t only = i + 1;
    while (only < c->end && !steps_can_read(q, only)) {
        only = q->clauses[only].end;
    }
    if (only < c->end && q->clauses[only].end == c->end) {
        add_clause(w, only, join);
        return;
    }
    enum plan_join inner = c->kind == CLAUSE_ALL ? JOIN_AND : JOIN_OR;
    if (inner != join) {
        begin(w, inner == JOIN_AND);
    }
    for (uint32_t k = i + 1; k < c->end; k = q->clauses[k].end) {
        add_clause(w, k, inner);
    }
    if (inner != join) {
        end(w, join);
    }
}

void steps_begin(struct plan *p) {
    p->depth = 1;
    add_step(p, READ_ROWS, JOIN_OR, -1, 0);
}

void steps_add(const struct query *q, const struct plan_sizes *sizes,
               struct plan *p, uint32_t clause) {
    struct writer w = {.q = q, .sizes = sizes, .p = p, .depth = 1};
    add_clause(&w, clause, JOIN_AND);
}

void steps_add_null(const struct query *q, const struct plan_sizes *sizes,
                    struct plan *p) {
    struct writer w = {.q = q, .sizes = sizes, .p = p, .depth = 1};
    if (steps_can_read_condition(q, &q->conditions[q->count])) {
        add_condition(&w, (int)q->count, JOIN_AND);
    }
}

void steps_add_order(const struct query *q, struct plan *p) {
    const struct field *f = &q->schema->fields[q->orders[0].field];
    uint32_t n = f->type == FIELD_BOOLEAN ? 2 : f->choice_count;
    if (f->index == INDEX_PACKED) {
        add_step(p, READ_ORDER, JOIN_AND, -1, 0);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        add_step(p, READ_ORDER_OF, JOIN_AND, -1, i);
    }
}
