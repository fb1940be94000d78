// query: which rows are wanted, and in which order.
#include "model/query.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/index.h"
#include "model/value.h"

// -- life

static void mark_top(struct query *q, uint32_t from, uint32_t end) {
    for (uint32_t i = from; i < end; i = q->clauses[i].end) {
        const struct clause *c = &q->clauses[i];
        if (c->kind == CLAUSE_CONDITION) {
            q->conditions[c->condition].is_top = true;
        } else if (c->kind == CLAUSE_ALL || c->end == i + 2) {
            mark_top(q, i + 1, c->end); // one alternative is none
        }
    }
}

// is_bounded: the values are all the whole numbers, or days, from one to
// another, in an index that has ranges.
static bool is_bounded(const struct field *f, const struct condition *c,
                       double *low, double *high) {
    bool is_whole = f->type == FIELD_INTEGER || f->type == FIELD_DATE;
    if (c->op != COND_IN || c->count < 2 || !is_whole || f->is_unique ||
        (f->index != INDEX_PACKED && !f->has_zset)) {
        return false;
    }
    *low = *high = index_order_number(f, c->values[0]);
    for (uint32_t i = 1; i < c->count; i++) { // they are sorted as bytes
        double v = index_order_number(f, c->values[i]);
        *low = v < *low ? v : *low;
        *high = v > *high ? v : *high;
    }
    return *high - *low + 1 == c->count;
}

// drop_orders: rows without a value are all equal in it. How ties go must stay.
static void drop_orders(struct query *q) {
    while (q->order_count && query_is_null(q, q->orders[0].field)) {
        bool is_descending = q->orders[0].is_descending;
        if (q->order_count > 1 ? q->orders[1].is_descending != is_descending
                               : is_descending) {
            return;
        }
        memmove(q->orders, q->orders + 1,
                --q->order_count * sizeof q->orders[0]);
    }
}

static void free_values(struct condition *c) {
    for (uint32_t j = 0; j < c->count; j++) {
        free((char *)(uintptr_t)c->values[j].p);
    }
    free(c->values);
    c->values = NULL;
    c->count = 0;
}

void query_finish(struct query *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        struct condition *c = &q->conditions[i];
        double low, high;
        if (is_bounded(&q->schema->fields[c->field], c, &low, &high)) {
            free_values(c);
            c->op = COND_RANGE;
            c->low = low;
            c->high = high;
        }
    }
    mark_top(q, 0, q->clause_count);
    drop_orders(q);
    q->conditions[q->count] =
        (struct condition){.op = COND_NULL, .field = q->orders[0].field};
}

void query_clear(struct query *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        free_values(&q->conditions[i]);
        free((char *)(uintptr_t)q->conditions[i].least.p);
        free((char *)(uintptr_t)q->conditions[i].most.p);
    }
    free(q->conditions);
    free(q->clauses);
    free(q->after);
    *q = (struct query){0};
}

// -- ranges of strings

// bound_of makes a bound of ZRANGEBYLEX: before all rows of a value, or behind
// them.
static struct value bound_of(struct value v, bool is_behind, char mark) {
    struct buf b = {0};
    if (v.p) {
        buf_addc(&b, mark);
        value_escape(&b, v.p, v.len);
    }
    if (v.p && is_behind) {
        buf_add(&b, "\xff\xff\xff\xff", 4);
    }
    return (struct value){b.data, b.len};
}

void query_text_range(struct condition *c, struct value low, struct value high,
                      bool is_above, bool is_below) {
    c->least = bound_of(low, is_above, '[');
    c->most = bound_of(high, !is_below, is_below ? '(' : '[');
}

// From what begins so, up to the first that begins otherwise.
void query_prefix(struct condition *c, struct value prefix) {
    c->least = bound_of(prefix, false, '[');
    c->least.len -= 2; // without the end
    size_t len = c->least.len;
    while (len > 1 && (unsigned char)c->least.p[len - 1] == 0xff) {
        len--;
    }
    if (len > 1) {
        char *most = xstrndup(c->least.p, len);
        most[0] = '(';
        most[len - 1]++;
        c->most = (struct value){most, len};
    }
}

// -- looking for conditions

int query_find_equal(const struct query *q, uint32_t field) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->field == field && c->op == COND_IN && c->count == 1 &&
            c->is_top && !c->is_negated && !q->schema->fields[field].element) {
            return (int)i;
        }
    }
    return -1;
}

int query_find_range(const struct query *q, uint32_t field) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->field == field && c->op == COND_RANGE && c->is_top &&
            !c->is_negated) {
            return (int)i;
        }
    }
    return -1;
}

bool query_is_null(const struct query *q, uint32_t field) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->field == field && c->is_top && c->op == COND_NULL &&
            !c->is_negated) {
            return true;
        }
    }
    return false;
}

// -- rows

static int compare_values(struct value a, struct value b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    return r ? r : (a.len > b.len) - (a.len < b.len);
}

static bool is_among(const struct condition *c, struct value v) {
    uint32_t low = 0, high = c->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int r = compare_values(c->values[mid], v);
        if (r == 0) {
            return true;
        }
        if (r < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return false;
}

// is_between compares an entry of the value with the bounds; which row's it is
// does not matter.
static bool is_between(const struct condition *c, struct value v) {
    struct buf entry = {0};
    value_escape(&entry, v.p, v.len);
    buf_add(&entry, "\0\0\0\0", 4);
    struct value e = {entry.data, entry.len};
    bool is = true;
    if (c->least.p) {
        struct value bound = {c->least.p + 1, c->least.len - 1};
        is = compare_values(e, bound) >= 0;
    }
    if (c->most.p && is) {
        struct value bound = {c->most.p + 1, c->most.len - 1};
        is = compare_values(e, bound) <= 0;
    }
    buf_clear(&entry);
    return is;
}

static bool has_part_among(const struct condition *c, struct value list) {
    struct value part;
    while (value_next_part(&list, &part)) {
        if (is_among(c, part)) {
            return true;
        }
    }
    return false;
}

// holds: v is present, and the condition is none of COND_NULL.
static bool holds(const struct field *f, const struct condition *c,
                  struct value v) {
    if (c->op == COND_IN) {
        return f->element ? has_part_among(c, v) : is_among(c, v);
    }
    if (!schema_is_numeric(f)) {
        return is_between(c, v);
    }
    double d = index_order_number(f, v);
    return d >= c->low && d <= c->high;
}

static bool condition_holds(const struct query *q, const struct condition *c,
                            const struct row *r) {
    struct value v = row_get(r, c->field);
    if (c->op == COND_NULL) {
        return (v.p == NULL) != c->is_negated;
    }
    return v.p && holds(&q->schema->fields[c->field], c, v) != c->is_negated;
}

static bool clause_holds(const struct query *q, uint32_t i,
                         const struct row *r) {
    const struct clause *c = &q->clauses[i];
    if (c->kind == CLAUSE_CONDITION) {
        return condition_holds(q, &q->conditions[c->condition], r);
    }
    bool is_any = c->kind == CLAUSE_ANY;
    for (uint32_t k = i + 1; k < c->end; k = q->clauses[k].end) {
        if (clause_holds(q, k, r) == is_any) {
            return is_any;
        }
    }
    return !is_any;
}

bool query_matches(const struct query *q, const struct row *r) {
    return clause_holds(q, 0, r) &&
           (!q->after || query_compare(q, r, q->after) > 0);
}

static int compare_field(const struct field *f, struct value x,
                         struct value y) {
    if (f->type == FIELD_ENUM) { // as its choices are declared
        uint32_t cx = index_choice(f, x), cy = index_choice(f, y);
        return (cx > cy) - (cx < cy);
    }
    if (!schema_is_numeric(f)) {
        return compare_values(x, y);
    }
    double dx = index_order_number(f, x), dy = index_order_number(f, y);
    return (dx > dy) - (dx < dy);
}

int query_compare(const struct query *q, const struct row *a,
                  const struct row *b) {
    int r = 0;
    for (uint32_t i = 0; i < q->order_count && r == 0; i++) {
        const struct order_key *key = &q->orders[i];
        struct value x = row_get(a, key->field), y = row_get(b, key->field);
        if (!x.p || !y.p) {
            r = (x.p == NULL) - (y.p == NULL); // null comes last either way
        } else {
            r = compare_field(&q->schema->fields[key->field], x, y);
            r = key->is_descending ? -r : r;
        }
    }
    if (r == 0) {
        r = (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
        r = q->order_count && q->orders[0].is_descending ? -r : r;
    }
    return r;
}
