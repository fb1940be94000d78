// query_test: which rows match, and how they are ordered, against a plain
// look at random rows.
#include "query_random.h"

enum { ROWS = 150, TREES = 4000 };

static struct schema schema;
static struct random_row rows[ROWS];

static int set_up(void **state) {
    (void)state;
    random_schema(&schema);
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = random_row(&schema, (i * 37) % ROWS);
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

// -- conditions

static void random_trees_match_as_three_valued_logic_says(void **state) {
    (void)state;
    uint32_t found = 0;
    for (uint32_t i = 0; i < TREES; i++) {
        struct tree t = {.count = 0};
        const struct node *of[80];
        struct query q;
        random_tree(&schema, &t, 0);
        begin_query(&q, &schema);
        ask_node(&q, &t, 0, false, of);
        query_finish(&q);
        for (uint32_t k = 0; k < ROWS; k++) {
            bool is = tree_truth(&schema, &t, 0, &rows[k]) == YES;
            if (query_matches(&q, rows[k].row) != is) {
                fail_msg("tree %u, row %u: %d expected", i, k, is);
            }
            found += is;
        }
        query_clear(&q);
    }
    // neither all nor none of them
    assert_in_range(found, TREES * ROWS / 20, TREES * ROWS * 19 / 20);
}

// matches reads a query of the person model and a row of it.
static bool matches(const char *text, const char *const *texts) {
    struct schema person;
    struct asked a;
    person_schema(&person);
    struct row *r = make_row(F_COUNT, texts);
    read_query(&a, &person, text);
    bool is = query_matches(&a.query, r);
    query_clear(&a.query);
    free(r);
    schema_clear(&person);
    return is;
}

static void neither_a_condition_nor_its_negation_finds_null(void **state) {
    (void)state;
    const char *r[F_COUNT] = {"b", "20", "5", "", NULL, "ann", NULL, NULL};
    assert_true(matches("age=20", r));
    assert_false(matches("age!=20", r));
    assert_false(matches("age=2", r));
    assert_true(matches("age!=2", r));
    assert_false(matches("gender=f", r));
    assert_false(matches("gender!=f", r));
    assert_true(matches("gender?", r));
    assert_false(matches("gender!?", r));
    assert_true(matches("email!?", r)); // "" is a value
    assert_false(matches("score:-inf..inf", r));
    assert_false(matches("score!:1..2", r));
    assert_false(matches("age=", r));
    assert_true(matches("age!=", r)); // it has a value, but none of no values
    assert_false(matches("gender!=", r));
}

static void groups_may_be_empty_and_nested(void **state) {
    (void)state;
    const char *r[F_COUNT] = {"b", "20", "5", "", NULL, "ann", NULL, NULL};
    assert_true(matches("", r));
    assert_true(matches("all( )", r));
    assert_false(matches("any( )", r));
    assert_true(matches("any( all( ) )", r));
    assert_false(matches("all( any( ) )", r));
    assert_true(matches("any( age=1 all( age=20 name=ann ) )", r));
    assert_false(matches("any( age=1 all( age=20 name=bob ) )", r));
    assert_true(matches("any( any( any( name=bob ) name=ann ) ) age=20", r));
    assert_false(matches("any( any( any( name=bob ) name=ann ) ) age=21", r));
}

static void ranges_include_their_ends(void **state) {
    (void)state;
    const char *r[F_COUNT] = {"b", "20", "5.5", "", NULL, "ann", NULL, NULL};
    assert_true(matches("age:20..20", r));
    assert_false(matches("age:20.5..21", r));
    assert_false(matches("age:21..19", r));
    assert_true(matches("at:5.5..inf", r));
    assert_true(matches("name:ann..ann", r));
    assert_true(matches("name:ann..inf", r));
    assert_true(matches("name:-inf..ann", r));
    assert_false(matches("name:-inf..an", r));
    assert_false(matches("name:anna..inf", r));
    assert_true(matches("name^an", r));
    assert_true(matches("name^", r));
    assert_false(matches("name^anna", r));
    assert_false(matches("note^", r)); // it has no value
}

static void a_prefix_of_largest_bytes_is_open_above(void **state) {
    (void)state;
    struct condition c = {.op = COND_RANGE};
    query_prefix(&c, (struct value){"\377\377", 2});
    assert_memory_equal(c.least.p, "[\377\377", 3);
    assert_int_equal(c.least.len, 3);
    assert_null(c.most.p);
    free((char *)(uintptr_t)c.least.p);
    query_prefix(&c, (struct value){"a\377", 2});
    assert_int_equal(c.most.len, 2);
    assert_memory_equal(c.most.p, "(b", 2);
    free((char *)(uintptr_t)c.least.p);
    free((char *)(uintptr_t)c.most.p);
}

// -- what holds for each row

static int find(const char *text, uint32_t field, bool is_range) {
    struct schema book;
    struct asked a;
    book_schema(&book);
    read_query(&a, &book, text);
    int found = is_range ? query_find_range(&a.query, field)
                         : query_find_equal(&a.query, field);
    query_clear(&a.query);
    schema_clear(&book);
    return found;
}

static void conditions_that_hold_for_each_row_are_found(void **state) {
    (void)state;
    assert_int_equal(find("rank=1 city=Ulm", B_CITY, false), 1);
    assert_int_equal(find("all( rank=1 any( city=Ulm ) )", B_CITY, false), 1);
    assert_int_equal(find("city=Ulm,Bonn", B_CITY, false), -1);
    assert_int_equal(find("city!=Ulm", B_CITY, false), -1);
    assert_int_equal(find("any( city=Ulm rank=1 )", B_CITY, false), -1);
    assert_int_equal(find("tags=x", B_TAGS, false), -1); // and others
    assert_int_equal(find("city^U", B_CITY, false), -1);
    assert_int_equal(find("city=Ulm rank:1..2", B_RANK, true), 1);
    assert_int_equal(find("city^U", B_CITY, true), 0);
    assert_int_equal(find("rank!:1..2", B_RANK, true), -1);
    assert_int_equal(find("any( rank:1..2 city=Ulm )", B_RANK, true), -1);
    assert_int_equal(find("rank=1", B_RANK, true), -1);
}

// -- order

static const uint32_t sortable[] = {R_ID,   R_AT,   R_BORN,  R_BOTH,   R_BYTES,
                                    R_CITY, R_GAP,  R_FREE,  R_GENDER, R_LONGS,
                                    R_OPEN, R_RANK, R_SCORE, R_SHORTS, R_WORDS};

static int sign(double a, double b) {
    return (a > b) - (a < b);
}

static int compare_cells(uint32_t field, const struct cell *a,
                         const struct cell *b) {
    const struct field *f = &schema.fields[field];
    uint32_t x = a->places[0], y = b->places[0];
    const struct sample *samples = domains[field].samples;
    if (schema_is_numeric(f)) {
        return sign(samples[x].number, samples[y].number);
    }
    return f->type == FIELD_STRING
               ? compare_bytes(sample_value(field, x), sample_value(field, y))
               : sign(x, y); // as they are declared, false before true
}

static int compare_plainly(const struct query *q, const struct random_row *a,
                           const struct random_row *b) {
    for (uint32_t i = 0; i < q->order_count; i++) {
        uint32_t field = q->orders[i].field;
        const struct cell *x = &a->cells[field], *y = &b->cells[field];
        int r = 0;
        if (x->is_null || y->is_null) {
            r = x->is_null - y->is_null;
        } else {
            r = compare_cells(field, x, y);
            r = q->orders[i].is_descending ? -r : r;
        }
        if (r != 0) {
            return r;
        }
    }
    int r = sign(a->row->ordinal, b->row->ordinal);
    return q->order_count && q->orders[0].is_descending ? -r : r;
}

static void random_orders(struct query *q) {
    uint32_t n = chance(4);
    for (uint32_t i = 0; i < n; i++) {
        add_order(q, sortable[chance(COUNT(sortable))], chance(2));
    }
}

static void random_rows_are_compared_key_by_key(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        struct query q = {.schema = &schema};
        random_orders(&q);
        for (uint32_t k = 0; k < 200; k++) {
            const struct random_row *a = &rows[chance(ROWS)];
            const struct random_row *b = &rows[chance(ROWS)];
            int r = query_compare(&q, a->row, b->row);
            assert_int_equal(sign(r, 0), sign(compare_plainly(&q, a, b), 0));
            assert_int_equal(r == 0, a == b);
        }
    }
}

static void a_position_leaves_what_lies_behind_it(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 500; i++) {
        struct query q;
        begin_query(&q, &schema);
        close_group(&q, open_group(&q, CLAUSE_ALL));
        random_orders(&q);
        query_finish(&q);
        const struct random_row *last = &rows[chance(ROWS)];
        q.after = row_copy(last->row);
        for (uint32_t k = 0; k < ROWS; k++) {
            assert_int_equal(query_matches(&q, rows[k].row),
                             compare_plainly(&q, &rows[k], last) > 0);
        }
        query_clear(&q);
    }
}

static void ties_go_the_first_keys_way(void **state) {
    (void)state;
    struct schema person;
    person_schema(&person);
    struct row *a = make_row(F_COUNT, (const char *[F_COUNT]){"a", "9", "1"});
    struct row *b = make_row(F_COUNT, (const char *[F_COUNT]){"b", "9", "1"});
    a->ordinal = 1;
    b->ordinal = 2;
    struct query q = {.schema = &person};
    assert_true(query_compare(&q, a, b) < 0);
    add_order(&q, F_AGE, true);
    assert_true(query_compare(&q, a, b) > 0);
    add_order(&q, F_AT, false);
    assert_true(query_compare(&q, a, b) > 0);
    q.orders[0].is_descending = false;
    q.orders[1].is_descending = true;
    assert_true(query_compare(&q, a, b) < 0);
    q.orders[0].field = F_GENDER; // no value in either
    q.orders[0].is_descending = true;
    assert_true(query_compare(&q, a, b) > 0);
    free(a);
    free(b);
    schema_clear(&person);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_trees_match_as_three_valued_logic_says),
        cmocka_unit_test(neither_a_condition_nor_its_negation_finds_null),
        cmocka_unit_test(groups_may_be_empty_and_nested),
        cmocka_unit_test(ranges_include_their_ends),
        cmocka_unit_test(a_prefix_of_largest_bytes_is_open_above),
        cmocka_unit_test(conditions_that_hold_for_each_row_are_found),
        cmocka_unit_test(random_rows_are_compared_key_by_key),
        cmocka_unit_test(a_position_leaves_what_lies_behind_it),
        cmocka_unit_test(ties_go_the_first_keys_way),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
