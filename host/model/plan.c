// plan: from a query to the way in which it is answered.
#include "model/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/index.h"
#include "model/value.h"

static void add_step(struct plan *p, enum plan_read read, int condition,
                     uint32_t value) {
    p->steps = xrealloc(p->steps, (p->step_count + 1) * sizeof p->steps[0]);
    p->steps[p->step_count++] = (struct plan_step){read, condition, value};
}

static int refuse(const struct query *q, uint32_t field, char *error,
                  size_t size) {
    const struct field *f = &q->schema->fields[field];
    snprintf(error, size, "model %s: field %s has no index; add index = true%s",
             q->schema->name, f->name,
             schema_is_numeric(f) ? " (or sort = true)" : "");
    return -1;
}

static int add_condition(const struct query *q, struct plan *p, int i,
                         char *error, size_t size) {
    const struct condition *c = &q->conditions[i];
    const struct field *f = &q->schema->fields[c->field];
    bool has_values = f->index == INDEX_BITMAP || f->index == INDEX_SET;
    if (c->op == COND_NULL && has_values) {
        add_step(p, READ_NULL, i, 0);
        return 0;
    }
    if (c->op == COND_NULL && f->index == INDEX_PACKED) {
        add_step(p, READ_PACKED, i, 0);
        return 0;
    }
    if (c->op == COND_RANGE && f->has_lex) {
        add_step(p, READ_LEX, i, 0);
        return 0;
    }
    if (c->op == COND_RANGE && (has_values || f->type == FIELD_STRING)) {
        snprintf(error, size,
                 "model %s: field %s (%s) has no ranges; they are for strings "
                 "with sort = true, integers, numbers, dates and times",
                 q->schema->name, f->name, schema_type_name(f->type));
        return -1;
    }
    if (f->index == INDEX_ZSET && c->op == COND_NULL) {
        snprintf(error, size,
                 "model %s: field %s: its ordered index does not hold the rows "
                 "without a value",
                 q->schema->name, f->name);
        return -1;
    }
    if (f->index == INDEX_NONE) {
        return refuse(q, c->field, error, size);
    }
    if (f->index == INDEX_PACKED) {
        add_step(p, READ_PACKED, i, 0);
        return 0;
    }
    uint32_t n = c->op == COND_RANGE ? 1 : c->count;
    for (uint32_t v = 0; v < n; v++) {
        if (f->index == INDEX_ZSET) {
            add_step(p, READ_ZSET, i, v);
        } else {
            add_step(p, READ_BITMAP, i, v);
        }
        if (f->index == INDEX_SET) {
            add_step(p, READ_SET, i, v);
        }
    }
    return 0;
}

static bool can_be_ordered(const struct field *f) {
    return f->has_zset || f->has_lex || f->index == INDEX_PACKED;
}

// find_driver looks for a condition that names few rows outright.
static int find_driver(const struct query *q, bool want_primary) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        bool is_primary = (int)c->field == q->schema->primary;
        if (c->op == COND_IN &&
            (want_primary ? is_primary
                          : q->schema->fields[c->field].is_unique)) {
            return (int)i;
        }
    }
    return -1;
}

int plan_find_equal(const struct query *q, uint32_t field) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->field == field && c->op == COND_IN && c->count == 1) {
            return (int)i;
        }
    }
    return -1;
}

// find_compound returns the compound index, in use or under construction, that
// orders the rows of the query, or -1.
static int find_compound(const struct query *q, bool is_building) {
    for (uint32_t i = 0; i < q->schema->compound_count; i++) {
        const struct compound *c = &q->schema->compounds[i];
        uint32_t last = c->count - 1, equal = 0;
        while (equal < last && plan_find_equal(q, c->fields[equal]) >= 0) {
            equal++;
        }
        if (equal == last && c->fields[last] == (uint32_t)q->order &&
            c->is_building == is_building) {
            return (int)i;
        }
    }
    return -1;
}

// find_bounds returns the range that the order's field has to be in, or -1.
static int find_bounds(const struct query *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        if (q->conditions[i].op == COND_RANGE &&
            q->conditions[i].field == (uint32_t)q->order) {
            return (int)i;
        }
    }
    return -1;
}

// is_covered says whether the walk meets only rows that fulfil condition i.
static bool is_covered(const struct query *q, const struct plan *p,
                       uint32_t i) {
    if ((int)i == p->bounds) {
        return true;
    }
    if (p->compound < 0) {
        return false;
    }
    const struct compound *c = &q->schema->compounds[p->compound];
    for (uint32_t j = 0; j + 1 < c->count; j++) {
        if (plan_find_equal(q, c->fields[j]) == (int)i) {
            return true;
        }
    }
    return false;
}

// choose_walk: along an ordered index. If that has all rows that are wanted and
// no others, no columns are read.
static void choose_walk(const struct query *q, struct plan *p) {
    const struct field *f = &q->schema->fields[q->order];
    p->order = ORDER_WALK;
    p->bounds = find_bounds(q);
    // the stored definition knows of "required" only where that is in its text
    bool has_all = f->is_required && (f->has_zset || f->has_lex);
    bool is_enough = (p->bounds >= 0 || has_all) && !q->schema->has_ttl;
    for (uint32_t i = 0; i < q->count; i++) {
        is_enough = is_enough && is_covered(q, p, i);
    }
    if (is_enough) {
        p->way = PLAN_WALK;
    }
}

static void choose_order(const struct query *q, struct plan *p) {
    const struct field *f = &q->schema->fields[q->order];
    if (p->way == PLAN_KEYS || p->way == PLAN_UNIQUE) {
        p->order = ORDER_FETCHED;
        return;
    }
    p->compound = find_compound(q, false);
    bool is_packed = f->index == INDEX_PACKED && (q->count > 0 || !f->has_zset);
    if (p->compound < 0 && is_packed) {
        p->order = ORDER_PACKED;
    } else {
        choose_walk(q, p);
    }
}

// find_building looks for an index under construction that the query needs.
static int find_building(const struct query *q) {
    if (q->order >= 0) {
        const struct field *f = &q->schema->fields[q->order];
        bool is_only_way = !can_be_ordered(f) && find_compound(q, false) < 0;
        if (f->is_building || (is_only_way && find_compound(q, true) >= 0)) {
            return q->order;
        }
    }
    for (uint32_t i = 0; i < q->count; i++) {
        if (q->schema->fields[q->conditions[i].field].is_building) {
            return (int)q->conditions[i].field;
        }
    }
    return -1;
}

int plan_make(const struct query *q, struct plan *p, char *error, size_t size) {
    *p = (struct plan){
        .way = PLAN_COLUMNS, .driver = -1, .compound = -1, .bounds = -1};
    int building = find_building(q);
    if (building >= 0) {
        snprintf(error, size,
                 "model %s: the index of field %s is under construction "
                 "(sync() builds it)",
                 q->schema->name, q->schema->fields[building].name);
        p->is_building = true;
        return -1;
    }
    if (q->order >= 0 && !can_be_ordered(&q->schema->fields[q->order]) &&
        find_compound(q, false) < 0) {
        snprintf(error, size,
                 "model %s: field %s cannot be ordered by; add sort = true",
                 q->schema->name, q->schema->fields[q->order].name);
        return -1;
    }
    int primary = find_driver(q, true), unique = find_driver(q, false);
    if (primary >= 0 || unique >= 0) {
        p->way = primary >= 0 ? PLAN_KEYS : PLAN_UNIQUE;
        p->driver = primary >= 0 ? primary : unique;
    }
    if (q->order >= 0) {
        choose_order(q, p);
    }
    add_step(p, READ_ROWS, -1, 0);
    for (uint32_t i = 0; i < q->count && p->way == PLAN_COLUMNS; i++) {
        if ((int)i != p->bounds &&
            add_condition(q, p, (int)i, error, size) < 0) {
            plan_clear(p);
            return -1;
        }
    }
    if (p->order == ORDER_PACKED) {
        add_step(p, READ_ORDER, -1, 0);
    }
    for (uint32_t i = 0; i < q->count; i++) {
        if (q->conditions[i].op == COND_IN && q->conditions[i].count == 0) {
            p->way = PLAN_NOTHING;
        }
    }
    if (q->limit == 0) {
        p->way = PLAN_NOTHING;
    }
    return 0;
}

void plan_clear(struct plan *p) {
    free(p->steps);
    *p = (struct plan){0};
}

// -- text

static void explain_condition(const struct query *q, int i, struct buf *b) {
    const struct condition *c = &q->conditions[i];
    buf_adds(b, q->schema->fields[c->field].name);
    if (c->least.p || c->most.p) {
        buf_adds(b, " in a range of strings");
    } else if (c->op == COND_RANGE) {
        buf_printf(b, " between %.17g and %.17g", c->low, c->high);
    } else if (c->op == COND_NULL) {
        buf_adds(b, " is null");
    } else if (c->count == 1) {
        buf_printf(b, " = %.*s", (int)c->values[0].len, c->values[0].p);
    } else {
        buf_printf(b, " in %u values", c->count);
    }
}

static void explain_steps(const struct query *q, const struct plan *p,
                          struct buf *b) {
    static const char *const kinds[] = {"live rows",           "bitmap",
                                        "bitmap or small set", "packed column",
                                        "ordered index",       "ordered index",
                                        "bitmap of null",      "packed column"};
    buf_adds(b, "read, in one transaction, for each segment of 65,536 rows\n");
    int last = -2;
    for (uint32_t i = 0; i < p->step_count; i++) {
        const struct plan_step *step = &p->steps[i];
        if (step->condition == last && step->condition >= 0) {
            continue; // further values of the same condition
        }
        last = step->condition;
        enum plan_read read = step->read;
        if (i + 1 < p->step_count && p->steps[i + 1].read == READ_SET &&
            p->steps[i + 1].condition == step->condition) {
            read = READ_SET;
        }
        buf_printf(b, "  %s%s", i ? "and " : "", kinds[read]);
        if (step->condition >= 0) {
            buf_adds(b, ": ");
            explain_condition(q, step->condition, b);
        } else if (step->read == READ_ORDER) {
            buf_printf(b, " of %s, to order by",
                       q->schema->fields[q->order].name);
        }
        buf_addc(b, '\n');
    }
}

void plan_explain(const struct query *q, const struct plan *p, struct buf *b) {
    switch (p->way) {
    case PLAN_NOTHING: buf_adds(b, "nothing can match\n"); return;
    case PLAN_WALK: break;
    case PLAN_COLUMNS: explain_steps(q, p, b); break;
    case PLAN_KEYS:
    case PLAN_UNIQUE:
        buf_adds(b, p->way == PLAN_KEYS ? "rows by primary key: "
                                        : "rows by unique index: ");
        explain_condition(q, p->driver, b);
        buf_addc(b, '\n');
    }
    if (q->order >= 0) {
        static const char *const ways[] = {"", "sort by the packed column",
                                           "walk the ordered index",
                                           "sort the rows"};
        buf_printf(b, "%s: ", ways[p->order]);
        if (p->compound >= 0) {
            buf_printf(b, "compound %s, ",
                       q->schema->compounds[p->compound].name);
        }
        if (p->bounds >= 0) {
            explain_condition(q, p->bounds, b);
            buf_adds(b, ", ");
        }
        buf_printf(b, "%s %s\n", q->schema->fields[q->order].name,
                   q->is_descending ? "descending" : "ascending");
    }
    if (q->offset) {
        buf_printf(b, "skip %llu\n", (unsigned long long)q->offset);
    }
    if (q->limit != NO_LIMIT) {
        buf_printf(b, "stop after %llu\n", (unsigned long long)q->limit);
    }
    buf_adds(b, "fetch the rows, checking each condition again\n");
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

void plan_text_range(struct condition *c, struct value low, struct value high,
                     bool is_above, bool is_below) {
    c->least = bound_of(low, is_above, '[');
    c->most = bound_of(high, !is_below, is_below ? '(' : '[');
}

// From what begins so, up to the first that begins otherwise.
void plan_prefix(struct condition *c, struct value prefix) {
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
        is = compare_values(e, bound) >= (c->least.p[0] == '(');
    }
    if (c->most.p && is) {
        struct value bound = {c->most.p + 1, c->most.len - 1};
        is = compare_values(e, bound) <= -(c->most.p[0] == '(');
    }
    buf_clear(&entry);
    return is;
}

static bool holds(const struct field *f, const struct condition *c,
                  struct value v) {
    if (c->op == COND_NULL || !v.p) {
        return c->op == COND_NULL && !v.p;
    }
    if (c->op == COND_RANGE && f->has_lex) {
        return is_between(c, v);
    }
    if (c->op == COND_RANGE) {
        double d = index_order_number(f, v);
        return d >= c->low && d <= c->high;
    }
    if (!f->element) {
        return is_among(c, v);
    }
    struct value part;
    while (value_next_part(&v, &part)) {
        if (is_among(c, part)) {
            return true;
        }
    }
    return false;
}

bool query_matches(const struct query *q, const struct row *r) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (!holds(&q->schema->fields[c->field], c, row_get(r, c->field))) {
            return false;
        }
    }
    return true;
}

static int compare_order(const struct field *f, struct value x,
                         struct value y) {
    if (!schema_is_numeric(f)) {
        return compare_values(x, y);
    }
    double dx = index_order_number(f, x), dy = index_order_number(f, y);
    return (dx > dy) - (dx < dy);
}

int query_compare(const struct query *q, const struct row *a,
                  const struct row *b) {
    int r = 0;
    if (q->order >= 0) {
        struct value x = row_get(a, (uint32_t)q->order);
        struct value y = row_get(b, (uint32_t)q->order);
        if (!x.p || !y.p) {
            r = (x.p == NULL) - (y.p == NULL); // null comes last either way
        } else {
            r = compare_order(&q->schema->fields[q->order], x, y);
            r = q->is_descending ? -r : r;
        }
    }
    return r ? r : (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
}
