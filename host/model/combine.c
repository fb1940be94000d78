// combine: runs a plan's steps over one segment, as its columns arrive.
#include "model/combine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/index.h"
#include "model/packed.h"

// is_same: two steps read the same column of a segment.
static bool is_same(const struct query *q, const struct plan_step *a,
                    const struct plan_step *b) {
    bool is_column = a->read == READ_BITMAP || a->read == READ_PACKED;
    if (!is_column || a->read != b->read) {
        return false;
    }
    const struct condition *x = &q->conditions[a->condition];
    const struct condition *y = &q->conditions[b->condition];
    return x->field == y->field &&
           (a->read == READ_PACKED ||
            value_equals(x->values[a->value], y->values[b->value]));
}

static void find_same(struct combine *m) {
    uint32_t n = m->plan->step_count;
    m->same = xmalloc((n + 1) * sizeof m->same[0]);
    m->kept = xcalloc(n + 1, sizeof m->kept[0]);
    uint32_t begin = 0; // of the steps of the condition in hand: all different
    for (uint32_t i = 0; i < n; i++) {
        const struct plan_step *steps = m->plan->steps;
        begin = i && steps[i].condition == steps[i - 1].condition ? begin : i;
        uint32_t first = 0;
        while (first < begin && !is_same(m->query, &steps[first], &steps[i])) {
            first++;
        }
        m->same[i] = first < begin ? first : i;
        if (first < begin) {
            buf_reserve(&m->kept[first], 1); // shows that it is to be kept
        }
    }
}

void combine_init(struct combine *m, const struct query *q,
                  const struct plan *p) {
    m->query = q;
    m->plan = p;
    m->sets = aligned_alloc(64, p->depth * sizeof m->sets[0]);
    if (!m->sets) {
        abort();
    }
    find_same(m);
}

void combine_clear(struct combine *m) {
    for (uint32_t i = 0; i < m->plan->step_count; i++) {
        buf_clear(&m->kept[i]);
    }
    free(m->kept);
    free(m->same);
    free(m->sets);
    m->sets = NULL;
}

// A set that was begun is the topmost one.
static struct bits *topmost(struct combine *m) {
    return &m->sets[m->depth - 1];
}

static void fill(struct bits *b) {
    memset(b->word, 0xff, sizeof b->word);
}

static void join(struct bits *to, enum plan_join how, const struct bits *b) {
    switch (how) {
    case JOIN_AND: bits_and(to, b); break;
    case JOIN_OR: bits_or(to, b); break;
    case JOIN_WITHOUT: bits_andnot(to, b); break;
    }
}

static void join_bytes(struct bits *to, enum plan_join how, const char *s,
                       size_t len) {
    switch (how) {
    case JOIN_AND: bits_and_bytes(to, s, len); break;
    case JOIN_OR: bits_or_bytes(to, s, len); break;
    case JOIN_WITHOUT: bits_andnot_bytes(to, s, len); break;
    }
}

// -- what the steps read

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
    packed_range(to, s, len, f->width, first, last);
}

// test_packed finds the rows whose number fulfils the condition, were it not
// negated.
static void test_packed(const struct field *f, const struct condition *cond,
                        struct bits *found, const char *s, size_t len) {
    if (cond->op == COND_NULL) {
        packed_range(found, s, len, f->width, 0, 0);
        return;
    }
    if (cond->op == COND_RANGE) {
        range_packed(found, f, cond->low, cond->high, s, len);
        return;
    }
    uint64_t *values = xmalloc((cond->count + 1) * sizeof values[0]);
    uint32_t n = 0;
    for (uint32_t i = 0; i < cond->count; i++) {
        uint64_t v = index_packed(f, cond->values[i]);
        if (index_order_number(f, cond->values[i]) >= (double)f->base) {
            values[n++] = v;
        }
    }
    packed_in(found, s, len, f->width, values, n);
    free(values);
}

void combine_packed(const struct field *f, const struct condition *c,
                    struct bits *found, const char *s, size_t len) {
    struct bits without;
    bits_zero(found);
    test_packed(f, c, found, s, len);
    if (!c->is_negated) {
        return;
    }
    if (c->op != COND_NULL) { // those without a value are not found either
        packed_range(&without, s, len, f->width, 0, 0);
        bits_or(found, &without);
    }
    fill(&without);
    bits_andnot(&without, found);
    *found = without;
}

// take_choice notes which rows have a choice as if it were a packed column:
// they are known by now.
static void take_choice(struct combine *m, const struct plan_step *step,
                        const char *s, size_t len) {
    struct buf *order = m->order;
    struct bits rows = *topmost(m);
    if (order->len == 0) {
        memset(buf_reserve(order, BITS_ROWS), 0, BITS_ROWS);
        order->len = BITS_ROWS;
    }
    bits_and_bytes(&rows, s, len);
    for (uint32_t o = bits_next(&rows, 0); o < BITS_ROWS;
         o = bits_next(&rows, o + 1)) {
        order->data[o] = (char)(step->value + 1);
    }
}

static void take_packed(struct combine *m, const struct plan_step *step,
                        const char *s, size_t len) {
    const struct condition *c = &m->query->conditions[step->condition];
    struct bits found;
    combine_packed(&m->query->schema->fields[c->field], c, &found, s, len);
    join(topmost(m), step->join, &found);
}

static void take_column(struct combine *m, const char *s, size_t len) {
    const struct plan_step *step = &m->plan->steps[m->step];
    switch (step->read) {
    case READ_ROWS:
    case READ_BITMAP:
    case READ_NULL: join_bytes(topmost(m), step->join, s, len); break;
    case READ_PACKED: take_packed(m, step, s, len); break;
    case READ_ORDER: buf_add(m->order, s, len); break;
    case READ_ORDER_OF: take_choice(m, step, s, len); break;
    default: break;
    }
}

void combine_column(struct combine *m, const char *s, size_t len) {
    if (m->kept[m->step].cap) {
        m->kept[m->step].len = 0;
        buf_add(&m->kept[m->step], s, len);
    }
    take_column(m, s, len);
}

void combine_member(struct combine *m, uint32_t row) {
    if (row >= SCHEMA_SEGMENT) {
        return;
    }
    if (m->plan->steps[m->step].join == JOIN_OR) {
        bits_set(topmost(m), row);
    } else { // JOIN_WITHOUT: small sets are never intersected
        bits_clear(topmost(m), row);
    }
}

// -- running them

void combine_to(struct combine *m, uint32_t end, uint32_t segment) {
    for (; m->step < end; m->step++) {
        const struct plan_step *step = &m->plan->steps[m->step];
        if (m->same[m->step] != m->step) {
            const struct buf *kept = &m->kept[m->same[m->step]];
            take_column(m, kept->data, kept->len);
            continue;
        }
        switch (step->read) {
        case BEGIN_ALL: fill(&m->sets[m->depth++]); break;
        case BEGIN_NONE: bits_zero(&m->sets[m->depth++]); break;
        case END_SET:
            m->depth--;
            join(topmost(m), step->join, &m->sets[m->depth]);
            break;
        case READ_ZSET:
        case READ_LEX:
            if (m->step == 0 || m->whole[m->step] != m->whole[m->step - 1]) {
                join(topmost(m), step->join, &m->whole[m->step][segment]);
            }
            break;
        default: break; // joined as it came
        }
    }
}

void combine_begin(struct combine *m, struct buf *order) {
    m->step = 0;
    m->depth = 1;
    m->order = order;
    bits_zero(&m->sets[0]);
}

void combine_end(struct combine *m, uint32_t segment, struct bits *rows) {
    combine_to(m, m->plan->step_count, segment);
    *rows = m->sets[0];
}
