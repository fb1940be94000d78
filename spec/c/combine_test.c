// combine_test: the rows that steps find in the columns of one segment, against
// a look at each row.
#include "query_random.h"

#include "model/combine.h"
#include "model/index.h"
#include "model/packed.h"
#include "model/steps.h"

enum { ROWS = 250, FIRST_ROWS = 180 };

// The rows of a segment. Those that are not live (gone, but for their columns)
// have to be left out whatever the columns say.
static struct schema schema;
static struct random_row rows[ROWS];
static bool is_live[ROWS];

// Most rows stand close together, some far behind, one at the very end.
static uint32_t offset_of(uint32_t i) {
    return i < FIRST_ROWS ? i : BITS_ROWS - 1 - (ROWS - 1 - i) * 601;
}

static int set_up(void **state) {
    (void)state;
    random_schema(&schema);
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = random_row(&schema, offset_of(i));
        is_live[i] = chance(8) != 0;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        free(rows[i].row);
    }
    schema_clear(&schema);
    return 0;
}

// -- columns

// has_value says whether a row has the value; NULL: whether it has none.
static bool has_value(const struct random_row *r, uint32_t field,
                      const struct value *v) {
    const struct cell *c = &r->cells[field];
    for (uint32_t i = 0; v && !c->is_null && i < c->count; i++) {
        if (compare_bytes(sample_value(field, c->places[i]), *v) == 0) {
            return true;
        }
    }
    return !v && c->is_null;
}

// is_small says which values are kept in small sets.
static bool is_small(const struct value *v) {
    return v && v->len % 2 == 0;
}

// A Redis string is as long as its last byte that is not 0.
static void give_bits(struct combine *m, const struct bits *b) {
    char bytes[BITS_BYTES];
    size_t len = BITS_BYTES;
    bits_store(b, bytes);
    while (len && !bytes[len - 1]) {
        len--;
    }
    combine_column(m, len ? bytes : NULL, len);
}

static void give_rows(struct combine *m) {
    struct bits b;
    bits_zero(&b);
    for (uint32_t i = 0; i < ROWS; i++) {
        if (is_live[i]) {
            bits_set(&b, offset_of(i));
        }
    }
    give_bits(m, &b);
}

static void give_value(struct combine *m, uint32_t field,
                       const struct value *v) {
    struct bits b;
    bits_zero(&b);
    for (uint32_t i = 0; i < ROWS; i++) {
        if (has_value(&rows[i], field, v)) {
            bits_set(&b, offset_of(i));
        }
    }
    give_bits(m, &b);
}

static void give_members(struct combine *m, uint32_t field,
                         const struct value *v) {
    for (uint32_t i = 0; i < ROWS; i++) {
        if (is_small(v) && has_value(&rows[i], field, v)) {
            combine_member(m, offset_of(i));
        }
    }
}

static void give_packed(struct combine *m, uint32_t field) {
    const struct field *f = &schema.fields[field];
    size_t width = (size_t)f->width, len = 0;
    char *column = xcalloc(BITS_ROWS, width);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint64_t v = index_packed(f, row_get(rows[i].row, field));
        packed_put(column + offset_of(i) * width, f->width, v);
        len = v ? (offset_of(i) + 1) * width : len;
    }
    combine_column(m, column, len);
    free(column);
}

// read_whole returns the rows that an ordered index has in what a step reads.
static struct bits *read_whole(const struct query *q,
                               const struct plan_step *step,
                               const struct node *node) {
    const struct condition *c = &q->conditions[step->condition];
    const struct field *f = &schema.fields[c->field];
    assert_true(steps_are_ranged(f));
    struct bits *b = aligned_alloc(64, sizeof *b);
    assert_non_null(b);
    bits_zero(b);
    for (uint32_t i = 0; i < ROWS; i++) {
        const struct cell *cell = &rows[i].cells[c->field];
        bool is = !cell->is_null;
        if (!step->is_whole && is) {
            is = c->op == COND_IN
                     ? has_value(&rows[i], c->field, &c->values[step->value])
                     : has_found(f, node, cell->places[0]);
        }
        if (is) {
            bits_set(b, offset_of(i));
        }
    }
    return b;
}

// -- running

static void give_column(struct combine *m, const struct plan_step *step) {
    const struct query *q = m->query;
    const struct condition *c =
        step->condition < 0 ? NULL : &q->conditions[step->condition];
    uint32_t field = c ? c->field : q->orders[0].field;
    const struct value *v =
        c && c->op == COND_IN ? &c->values[step->value] : NULL;
    switch (step->read) {
    case READ_ROWS: give_rows(m); break;
    case READ_BITMAP:
        if (schema.fields[field].index == INDEX_SET && is_small(v)) {
            combine_column(m, NULL, 0);
        } else {
            give_value(m, field, v);
        }
        break;
    case READ_SET: give_members(m, field, v); break;
    case READ_NULL:
        assert_true(steps_have_values(&schema.fields[field]));
        give_value(m, field, NULL);
        break;
    case READ_ORDER_OF: {
        const struct sample *s = &domains[field].samples[step->value];
        give_value(m, field, &(struct value){s->p, s->len});
        break;
    }
    default:
        assert_int_equal(schema.fields[field].index, INDEX_PACKED);
        give_packed(m, field);
        break;
    }
}

static bool is_whole(const struct plan_step *step) {
    return step->read == READ_ZSET || step->read == READ_LEX;
}

static bool moves(const struct plan_step *step) {
    return step->read == BEGIN_ALL || step->read == BEGIN_NONE ||
           step->read == END_SET || is_whole(step);
}

static void run(const struct query *q, const struct plan *p,
                const struct node *const *of, struct bits *found,
                struct buf *order) {
    struct combine *m = malloc(sizeof *m);
    assert_non_null(m);
    memset(m, 0, sizeof *m);
    combine_init(m, q, p);
    m->whole = xcalloc(p->step_count, sizeof m->whole[0]);
    for (uint32_t i = 0; i < p->step_count; i++) {
        if (is_whole(&p->steps[i])) {
            m->whole[i] =
                read_whole(q, &p->steps[i], of[p->steps[i].condition]);
        }
    }
    combine_begin(m, order);
    for (uint32_t i = 0; i < p->step_count; i++) {
        if (!moves(&p->steps[i])) {
            combine_to(m, i, 0);
            give_column(m, &p->steps[i]);
        }
    }
    combine_end(m, 0, found);
    for (uint32_t i = 0; i < p->step_count; i++) {
        free(m->whole[i]);
    }
    free(m->whole);
    combine_clear(m);
    free(m);
}

// assert_found: of the rows where `allowed` says so, the bits are those that
// match; with is_exact no others, even.
static void
assert_found(const struct query *q, const struct bits *found, bool is_exact,
             bool (*allowed)(const struct query *, const struct plan *,
                             const struct row *),
             const struct plan *p, uint32_t round) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        bool is = bits_test(found, offset_of(i));
        bool matches = is_live[i] && query_matches(q, rows[i].row);
        bool may = !allowed || allowed(q, p, rows[i].row);
        total += is;
        if (may && (matches != is) && (matches || is_exact)) {
            fail_msg("round %u, row %u: %d, but matches: %d", round, i, is,
                     matches);
        }
    }
    assert_int_equal(bits_count(found), total);
}

// add_top adds a condition that holds for each row.
static void add_top(struct tree *t, struct node n) {
    n.end = t->count + 1;
    t->nodes[t->count++] = n;
    t->nodes[0].end = t->count;
}

static void add_equal(struct tree *t, uint32_t field, uint32_t place) {
    add_top(t, (struct node){.test = IS_ONE_OF,
                             .field = field,
                             .places = {place},
                             .count = 1});
}

static void add_least(struct tree *t, uint32_t field, uint32_t place) {
    add_top(t, (struct node){.test = IS_BETWEEN,
                             .field = field,
                             .places = {place},
                             .count = 2,
                             .has_low = true});
}

// add_equal_fields adds what a compound index is for.
static void add_equal_fields(struct tree *t) {
    uint32_t kind = chance(6);
    if (kind == 0) {
        add_equal(t, R_GENDER, chance(3));
    } else if (kind == 1) {
        add_equal(t, R_OPEN, chance(2));
        add_equal(t, R_NAME, chance(4));
    }
    if (kind < 2 && chance(2)) {
        add_least(t, kind == 0 ? R_BORN : R_RANK, chance(4));
    }
}

// ask makes a query of a random tree, and at times of what a compound index is
// for; the condition behind the others is for
// nulls in the order's field.
static void ask(struct query *q, const struct node **of) {
    static struct tree t;
    static struct node null;
    t.count = 0;
    random_tree(&schema, &t, 0);
    add_equal_fields(&t);
    begin_query(q, &schema);
    ask_node(q, &t, 0, false, of);
    null = (struct node){.test = IS_NULL};
    of[q->count] = &null;
}

static void random_trees_find_the_rows_that_match(void **state) {
    (void)state;
    uint32_t exact = 0;
    for (uint32_t i = 0; i < 2500; i++) {
        struct query q;
        struct plan p = {.way = PLAN_COLUMNS};
        const struct node *of[80];
        struct bits found;
        ask(&q, of);
        query_finish(&q);
        steps_begin(&p);
        steps_add(&q, NULL, &p, 0);
        run(&q, &p, of, &found, NULL);
        bool is_exact = steps_are_exact(&q, 0);
        assert_found(&q, &found, is_exact, NULL, &p, i);
        exact += is_exact;
        plan_clear(&p);
        query_clear(&q);
    }
    assert_in_range(exact, 1000, 2400); // neither none nor all of them
}

// -- plans

static const uint32_t sortable[] = {R_AT,   R_BORN, R_BYTES, R_CITY, R_GENDER,
                                    R_OPEN, R_RANK, R_SCORE, R_WORDS};

static void make_sizes(const struct query *q, struct plan_sizes *sizes,
                       uint64_t *matches) {
    uint64_t most = chance(2) ? ROWS : 10000000;
    *sizes =
        (struct plan_sizes){.rows = most,
                            .segments = (uint32_t)(most / 65536 + 1),
                            .matches = matches,
                            .path = chance(3) ? chance(100) : PLAN_UNKNOWN};
    for (uint32_t i = 0; i < q->count; i++) {
        matches[i] = chance(2) ? chance((uint32_t)most) : PLAN_UNKNOWN;
    }
}

// is_on_path says whether a walk of the plan meets the row.
static bool is_on_path(const struct query *q, const struct plan *p,
                       const struct row *r) {
    const struct compound *c =
        p->path.compound < 0 ? NULL : &schema.compounds[p->path.compound];
    struct value last = row_get(r, p->path.field);
    for (uint32_t i = 0; c && i + 1 < c->count; i++) {
        int equal = query_find_equal(q, c->fields[i]);
        struct value v = row_get(r, c->fields[i]);
        if (!v.p || !value_equals(v, q->conditions[equal].values[0])) {
            return false;
        }
    }
    if (!last.p || p->path.bounds < 0) {
        return last.p;
    }
    struct condition bounds = q->conditions[p->path.bounds];
    struct clause one = {CLAUSE_CONDITION, 1, 0};
    struct query only = {.schema = &schema,
                         .conditions = &bounds,
                         .clauses = &one,
                         .clause_count = 1};
    return query_matches(&only, r);
}

static bool has_none(const struct query *q, const struct plan *p,
                     const struct row *r) {
    (void)p;
    return !row_get(r, q->orders[0].field).p;
}

// assert_order: each row that was found has the rank by which it is sorted.
static void assert_order(const struct query *q, const struct bits *found,
                         const struct buf *order) {
    uint32_t field = q->orders[0].field;
    const struct field *f = &schema.fields[field];
    int width = f->index == INDEX_PACKED ? f->width : 1;
    for (uint32_t i = 0; i < ROWS; i++) {
        if (bits_test(found, offset_of(i))) {
            uint64_t rank = index_rank(f, row_get(rows[i].row, field));
            assert_true(packed_get(order->data, order->len, width,
                                   offset_of(i)) == rank);
        }
    }
}

static void check_plan(const struct query *q, const struct plan *p,
                       const struct node *const *of, uint32_t round) {
    struct bits found;
    struct buf order = {0};
    if (p->way == PLAN_COLUMNS) {
        bool is_left_to_walk = p->order == ORDER_WALK && !p->has_tail;
        run(q, p, of, &found, &order);
        assert_found(q, &found, p->is_exact,
                     is_left_to_walk ? is_on_path : NULL, p, round);
        if (p->order == ORDER_PACKED) {
            assert_order(q, &found, &order);
        }
    }
    bool is_walked = p->way == PLAN_WALK || p->order == ORDER_WALK;
    for (uint32_t i = 0; i < ROWS && is_walked; i++) {
        bool matches = is_live[i] && query_matches(q, rows[i].row);
        if (matches && !is_on_path(q, p, rows[i].row)) {
            assert_true(p->has_tail);
            assert_null(row_get(rows[i].row, q->orders[0].field).p);
        }
    }
    if (p->tail) {
        run(q, p->tail, of, &found, &order);
        assert_found(q, &found, false, has_none, p, round);
        // where no column has the field, the walk takes out what it has met
        bool is_known = steps_can_read_condition(q, &q->conditions[q->count]);
        for (uint32_t i = 0; i < ROWS && is_known; i++) {
            assert_true(has_none(q, p, rows[i].row) ||
                        !bits_test(&found, offset_of(i)));
        }
    }
    buf_clear(&order);
}

static void random_orders(struct query *q) {
    uint32_t n = chance(3);
    if (n && query_find_equal(q, R_GENDER) >= 0 && chance(2)) {
        add_order(q, R_FREE, chance(2));
        n--;
    }
    for (; n > 0; n--) {
        add_order(q, sortable[chance(COUNT(sortable))], chance(2));
    }
}

static void random_plans_lose_no_row(void **state) {
    (void)state;
    uint32_t ways[PLAN_WALK + 1] = {0}, orders[ORDER_FETCHED + 1] = {0};
    uint32_t tails = 0;
    for (uint32_t i = 0; i < 6000; i++) {
        struct query q;
        struct plan p;
        struct plan_sizes sizes;
        uint64_t matches[80];
        const struct node *of[80];
        char error[400] = "";
        ask(&q, of);
        q.limit = chance(2) ? chance(30) + 1 : NO_LIMIT;
        q.is_counted = chance(5) == 0;
        q.may_scan = true;
        query_finish(&q); // says what holds for each row
        random_orders(&q);
        query_finish(&q);
        make_sizes(&q, &sizes, matches);
        bool has_sizes = chance(4) != 0;
        q.after = chance(4) ? NULL : row_copy(rows[chance(ROWS)].row);
        if (plan_make(&q, has_sizes ? &sizes : NULL, &p, error, sizeof error) <
            0) {
            fail_msg("%s", error);
        }
        assert_true(!q.after || !p.has_tail || p.tail);
        free(q.after); // the rest is about the conditions
        q.after = NULL;
        ways[p.way]++;
        orders[p.order]++;
        tails += p.tail != NULL;
        if (p.way == PLAN_NOTHING) {
            for (uint32_t k = 0; k < ROWS; k++) {
                assert_false(query_matches(&q, rows[k].row));
            }
        } else if (p.way == PLAN_COLUMNS || p.way == PLAN_WALK) {
            check_plan(&q, &p, of, i);
        }
        plan_clear(&p);
        query_clear(&q);
    }
    // each of them came up
    for (uint32_t i = 0; i < COUNT(ways); i++) {
        assert_true(i == PLAN_UNIQUE || ways[i] > 20);
    }
    for (uint32_t i = 0; i < COUNT(orders); i++) {
        assert_in_range(orders[i], 20, 6000);
    }
    assert_in_range(tails, 20, 6000);
}

// -- machines

static void a_segment_without_columns_has_no_rows(void **state) {
    (void)state;
    struct asked a;
    struct plan p = {.way = PLAN_COLUMNS};
    struct bits found;
    read_query(&a, &schema, "any( gender!=f bytes? name=a )");
    steps_begin(&p);
    steps_add(&a.query, NULL, &p, 0);
    struct combine *m = malloc(sizeof *m);
    assert_non_null(m);
    memset(m, 0, sizeof *m);
    combine_init(m, &a.query, &p);
    combine_begin(m, NULL);
    for (uint32_t i = 0; i < p.step_count; i++) {
        if (!moves(&p.steps[i])) {
            combine_to(m, i, 0);
            combine_column(m, NULL, 0);
        }
    }
    combine_end(m, 0, &found);
    assert_false(bits_any(&found));
    combine_clear(m);
    free(m);
    plan_clear(&p);
    query_clear(&a.query);
}

static void sets_are_no_deeper_than_said(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        struct query q;
        struct plan p = {.way = PLAN_COLUMNS};
        const struct node *of[80];
        ask(&q, of);
        query_finish(&q);
        steps_begin(&p);
        steps_add(&q, NULL, &p, 0);
        uint32_t depth = 1, most = 1;
        for (uint32_t k = 0; k < p.step_count; k++) {
            depth +=
                p.steps[k].read == BEGIN_ALL || p.steps[k].read == BEGIN_NONE;
            depth -= p.steps[k].read == END_SET;
            most = depth > most ? depth : most;
            assert_true(depth > 0);
        }
        assert_int_equal(depth, 1);
        assert_int_equal(most, p.depth);
        plan_clear(&p);
        query_clear(&q);
    }
}

// Members that no writer of ours has put there are passed over.
static void members_past_the_segment_are_ignored(void **state) {
    (void)state;
    static struct plan_step step = {.read = READ_SET, .join = JOIN_OR};
    static struct bits set;
    struct plan p = {.steps = &step, .step_count = 1, .depth = 1};
    struct combine m = {.plan = &p, .sets = &set, .depth = 1};
    bits_zero(&set);
    combine_member(&m, 65535);
    combine_member(&m, 65536);
    combine_member(&m, 4294967295);
    combine_member(&m, 0);
    assert_int_equal(bits_count(&set), 2);
    assert_true(bits_test(&set, 0));
    assert_true(bits_test(&set, 65535));
    step.join = JOIN_WITHOUT;
    combine_member(&m, 0);
    assert_int_equal(bits_count(&set), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_trees_find_the_rows_that_match),
        cmocka_unit_test(random_plans_lose_no_row),
        cmocka_unit_test(a_segment_without_columns_has_no_rows),
        cmocka_unit_test(sets_are_no_deeper_than_said),
        cmocka_unit_test(members_past_the_segment_are_ignored),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
