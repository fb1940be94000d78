// explain: plans as text.
#include <math.h>
#include <string.h>

#include "model/plan.h"
#include "model/steps.h"
#include "model/value.h"

// -- conditions

static void add_number(const struct field *f, double v, struct buf *b) {
    char text[VALUE_TIME];
    size_t n = 0;
    if (f->type == FIELD_TIME) {
        n = value_format_time(text, v);
    } else if (f->type == FIELD_DATE && fabs(v) < 1e9) {
        n = value_format_date(text, (int32_t)v);
    }
    if (n) {
        buf_add(b, text, n);
    } else {
        buf_printf(b, "%.17g", v);
    }
}

// add_text: bytes that are printable, at most so many of them.
static void add_text(struct value v, struct buf *b) {
    enum { most = 40 };
    for (size_t i = 0; i < v.len && i < most; i++) {
        unsigned char c = (unsigned char)v.p[i];
        if (c < ' ' || c == 0x7f) {
            buf_printf(b, "\\x%02x", c);
        } else {
            buf_addc(b, (char)c);
        }
    }
    buf_adds(b, v.len > most ? "..." : "");
}

// bound_text gives what a bound of strings was made of. Returns 1 if the bound
// lies behind all rows of that value, 0 if before them, -1 if it is that of a
// prefix.
static int bound_text(struct value v, struct buf *text) {
    int n = value_unescape(v.p + 1, v.len - 1, text);
    if (n < 0) {
        buf_add(text, v.p + 1, v.len - 1);
        return -1;
    }
    return v.len - 1 > (size_t)n;
}

static void add_quoted(const char *before, const struct buf *text,
                       struct buf *b) {
    buf_printf(b, " %s '", before);
    add_text((struct value){text->data, text->len}, b);
    buf_addc(b, '\'');
}

// add_range: as it was asked for.
static void add_range(const struct field *f, const struct condition *c,
                      struct buf *b) {
    double low = c->is_above ? nextafter(c->low, -INFINITY) : c->low;
    double high = c->is_below ? nextafter(c->high, INFINITY) : c->high;
    bool has_low = !isinf(c->low), has_high = !isinf(c->high);
    bool is_between = has_low && has_high && !c->is_above && !c->is_below;
    if (has_low) {
        buf_adds(b, is_between    ? " between "
                    : c->is_above ? " above "
                                  : " from ");
        add_number(f, low, b);
    }
    if (has_high) {
        buf_adds(b, is_between ? " and " : c->is_below ? " below " : " up to ");
        add_number(f, high, b);
    }
    if (!has_low && !has_high) {
        buf_adds(b, " has a value");
    }
}

static void add_text_range(const struct condition *c, bool is_negated,
                           struct buf *b) {
    struct buf text = {0};
    bool is_prefix = false;
    if (c->least.p) {
        int at = bound_text(c->least, &text);
        is_prefix = at < 0;
        buf_adds(b, is_negated ? is_prefix ? " does not" : " is not" : "");
        add_quoted(is_prefix ? is_negated ? "begin with" : "begins with"
                   : at      ? "above"
                             : "from",
                   &text, b);
    }
    if (c->most.p && !is_prefix) {
        buf_adds(b, is_negated && !c->least.p ? " is not" : "");
        text.len = 0;
        int at = bound_text(c->most, &text);
        add_quoted(at ? "up to" : "below", &text, b);
    }
    buf_clear(&text);
}

// add_condition appends a condition; how its rows are joined may say already
// that it is negated.
static void add_condition(const struct query *q, uint32_t i,
                          enum plan_join join, struct buf *b) {
    const struct condition *c = &q->conditions[i];
    const struct field *f = &q->schema->fields[c->field];
    bool is_negated = c->is_negated && join != JOIN_WITHOUT;
    buf_adds(b, f->name);
    if (c->op == COND_NULL) {
        buf_adds(b, c->is_negated != (join == JOIN_WITHOUT) ? " has a value"
                                                            : " has no value");
        return;
    }
    bool is_text = c->least.p || c->most.p;
    buf_adds(b, is_negated && !is_text ? " is not" : "");
    if (c->op == COND_IN && c->count == 1) {
        buf_adds(b, is_negated ? " " : f->element ? " contains " : " = ");
        add_text(c->values[0], b);
    } else if (c->op == COND_IN) {
        buf_printf(b, " one of %u values", c->count);
    } else if (is_text) {
        add_text_range(c, is_negated, b);
    } else {
        add_range(f, c, b);
    }
}

// -- numbers

// add_count writes 1234567 as 1,234,567.
static void add_count(uint64_t n, struct buf *b) {
    if (n >= 1000) {
        add_count(n / 1000, b);
        buf_printf(b, ",%03u", (unsigned)(n % 1000));
    } else {
        buf_printf(b, "%u", (unsigned)n);
    }
}

static void add_estimate(const struct query *q, const struct plan_sizes *sizes,
                         uint32_t i, enum plan_join join, struct buf *b) {
    if (sizes && sizes->matches[i] != PLAN_UNKNOWN) {
        uint64_t n = sizes->matches[i];
        if (q->conditions[i].is_negated && join != JOIN_WITHOUT) {
            n = n < sizes->rows ? sizes->rows - n : 0;
        }
        buf_adds(b, " (about ");
        add_count(n, b);
        buf_addc(b, ')');
    }
}

// -- steps

static const char *kind_of(const struct query *q,
                           const struct plan_step *step) {
    switch (step->read) {
    case READ_ROWS: return "live rows";
    case READ_BITMAP: {
        uint32_t field = q->conditions[step->condition].field;
        return q->schema->fields[field].index == INDEX_SET
                   ? "small set or bitmap"
                   : "bitmap";
    }
    case READ_SET: return "small set or bitmap";
    case READ_PACKED: return "packed column";
    case READ_NULL: return "bitmap of rows without a value";
    case READ_ZSET:
    case READ_LEX: return "ordered index";
    case READ_ORDER: return "packed column";
    default: return "bitmaps of choices";
    }
}

static void add_indent(uint32_t depth, struct buf *b) {
    for (uint32_t i = 0; i < depth; i++) {
        buf_adds(b, "  ");
    }
}

// set_end returns where the set that begins at i ends.
static uint32_t set_end(const struct plan *p, uint32_t i) {
    uint32_t depth = 0;
    do {
        enum plan_read read = p->steps[i].read;
        depth += read == BEGIN_ALL || read == BEGIN_NONE;
        depth -= read == END_SET;
        i++;
    } while (depth > 0);
    return i - 1;
}

// condition_of_set: a set may serve one condition with several values, which
// needs no mention. Returns the condition, or -1.
static int condition_of_set(const struct plan *p, uint32_t i, uint32_t end) {
    int condition = p->steps[i + 1].condition;
    for (i++; i < end; i++) {
        if (p->steps[i].condition != condition) {
            return -1;
        }
    }
    return condition;
}

// has_null_step: further steps of the condition read the rows without a value.
static bool has_null_step(const struct plan *p, uint32_t i, int condition) {
    while (i < p->step_count && p->steps[i].condition == condition) {
        if (p->steps[i++].read == READ_NULL) {
            return true;
        }
    }
    return false;
}

// explain_step says what a step reads, and for what.
static void explain_step(const struct query *q, const struct plan_sizes *sizes,
                         const struct plan *p, const struct plan_step *step,
                         enum plan_join join, struct buf *b) {
    buf_adds(b, kind_of(q, step));
    if (step->condition >= 0) {
        uint32_t condition = (uint32_t)step->condition;
        buf_adds(b, ": ");
        add_condition(q, condition, join, b);
        if (condition < q->count) {
            add_estimate(q, sizes, condition, join, b);
        }
    } else if (step->read != READ_ROWS) {
        buf_printf(b, " of %s, to %s",
                   q->schema->fields[q->orders[0].field].name,
                   p->is_tallied ? "add up" : "order by");
    }
}

static void explain_steps(const struct query *q, const struct plan_sizes *sizes,
                          const struct plan *p, struct buf *b) {
    static const char *const joins[] = {"and ", "or ", "without "};
    uint32_t depth = 1;
    int last = -2;
    bool is_first = true; // of its set
    for (uint32_t i = 0; i < p->step_count; i++) {
        const struct plan_step *step = &p->steps[i];
        if (step->read == END_SET) {
            depth--;
            is_first = false;
            last = -2;
            continue;
        }
        bool begins = step->read == BEGIN_ALL || step->read == BEGIN_NONE;
        uint32_t end = begins ? set_end(p, i) : i;
        enum plan_join join = p->steps[end].join;
        bool is_empty = begins && end == i + 1;
        if (begins && !is_empty && condition_of_set(p, i, end) >= 0) {
            step++;
            i = end;
        } else if (begins) {
            add_indent(depth++, b);
            buf_adds(b, is_first ? "" : joins[join]);
            buf_adds(b, is_empty                  ? "nothing\n"
                        : step->read == BEGIN_ALL ? "all of\n"
                                                  : "any of\n");
            is_first = true;
            last = -2;
            continue;
        }
        if (step->condition == last) {
            continue; // further values of the same condition
        }
        last = i ? step->condition : -2;
        add_indent(depth, b);
        bool is_plain = is_first && join != JOIN_WITHOUT;
        buf_adds(b, is_plain ? "" : joins[join]);
        is_first = false;
        explain_step(q, sizes, p, step, join, b);
        bool is_null_too = step->condition >= 0 &&
                           p->steps[i].read != READ_NULL &&
                           has_null_step(p, i + 1, step->condition);
        buf_adds(b, is_null_too ? ", nor those without a value" : "");
        buf_addc(b, '\n');
    }
}

static void explain_columns(const struct query *q,
                            const struct plan_sizes *sizes,
                            const struct plan *p, struct buf *b) {
    uint32_t n = sizes ? sizes->segments : 1;
    bool is_windowed = steps_are_windowed(q, p);
    buf_adds(b, "read the columns of ");
    add_count(n, b);
    buf_adds(b, n == 1 ? " segment" : " segments");
    buf_adds(b, n > 1 && is_windowed ? ", a few at a time\n"
                : n > 1              ? ", in one transaction\n"
                                     : "\n");
    explain_steps(q, sizes, p, b);
    if (p->is_tested && p->candidate == PLAN_UNKNOWN) {
        buf_adds(b, "test the other conditions on the rows\n");
    } else if (p->is_tested) {
        buf_adds(b, "leave about ");
        add_count(p->candidate, b);
        buf_adds(b, " rows, whose other conditions are tested on the rows\n");
    }
}

static void explain_path(const struct query *q, const struct plan_sizes *sizes,
                         const struct plan *p, struct buf *b) {
    const struct path *path = &p->path;
    buf_adds(b, path->compound >= 0 ? "walk the compound index "
                                    : "walk the ordered index of ");
    buf_adds(b, path->compound >= 0 ? q->schema->compounds[path->compound].name
                                    : q->schema->fields[path->field].name);
    for (uint32_t i = 0; i < q->clause_count; i++) {
        uint32_t condition = q->clauses[i].condition;
        if (path_covers(q, path, i) && q->conditions[condition].is_top) {
            buf_adds(b, ", ");
            add_condition(q, condition, JOIN_AND, b);
        }
    }
    bool is_down = q->order_count && q->orders[0].is_descending;
    buf_adds(b, is_down ? ", downwards" : ", upwards");
    if (sizes && sizes->path != PLAN_UNKNOWN) {
        buf_adds(b, " (");
        add_count(sizes->path, b);
        buf_adds(b, " entries)");
    }
    buf_adds(b, p->way == PLAN_COLUMNS ? ", testing bits\n" : "\n");
    if (p->way == PLAN_WALK && p->is_tested) {
        buf_adds(b, "test the other conditions on the rows\n");
    }
    if (p->has_tail) {
        buf_adds(b, "then those without a value\n");
    }
}

static void explain_sort(const struct query *q, const struct plan *p,
                         struct buf *b) {
    bool is_all = p->order == ORDER_FETCHED && q->order_count > 0;
    if (p->order == ORDER_FETCHED && q->order_count == 0 && !q->is_counted) {
        buf_adds(b, "sort the rows as they were created\n");
    }
    if (!is_all && q->order_count < 2) {
        return;
    }
    buf_adds(b, is_all ? "sort the rows by " : "sort those that are equal by ");
    for (uint32_t i = is_all ? 0 : 1; i < q->order_count; i++) {
        const struct order_key *key = &q->orders[i];
        buf_printf(b, "%s%s%s", i > (is_all ? 0u : 1u) ? ", " : "",
                   q->schema->fields[key->field].name,
                   key->is_descending ? " descending" : "");
    }
    buf_addc(b, '\n');
}

static void explain_end(const struct query *q, struct buf *b) {
    if (q->is_counted) {
        return;
    }
    if (q->offset) {
        buf_adds(b, "skip ");
        add_count(q->offset, b);
        buf_addc(b, '\n');
    }
    if (q->limit != NO_LIMIT) {
        buf_adds(b, "stop after ");
        add_count(q->limit, b);
        buf_addc(b, '\n');
    }
}

void plan_explain(const struct query *q, const struct plan_sizes *sizes,
                  const struct plan *p, struct buf *b) {
    switch (p->way) {
    case PLAN_NOTHING: buf_adds(b, "nothing can match\n"); return;
    case PLAN_KEYS:
    case PLAN_UNIQUE:
        buf_adds(b, p->way == PLAN_KEYS ? "rows by primary key: "
                                        : "rows by unique index: ");
        add_condition(q, (uint32_t)p->driver, JOIN_AND, b);
        buf_addc(b, '\n');
        break;
    case PLAN_COLUMNS: explain_columns(q, sizes, p, b); break;
    case PLAN_WALK: break;
    }
    if (p->order == ORDER_PACKED) {
        const struct order_key *key = &q->orders[0];
        buf_printf(b, "sort them by %s, %s\n",
                   q->schema->fields[key->field].name,
                   key->is_descending ? "descending" : "ascending");
    }
    if (p->way == PLAN_WALK || p->order == ORDER_WALK) {
        explain_path(q, sizes, p, b);
    }
    if (q->is_counted && p->is_exact) {
        buf_adds(b, "count them\n");
        return;
    }
    buf_adds(b, "fetch the rows, testing each condition again\n");
    explain_sort(q, p, b);
    explain_end(q, b);
}
