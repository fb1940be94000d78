// plan_refused_test: which queries are refused, which are asked about, and
// which are planned anew when the columns are here.
#include <stdio.h>

#include "plan_fixture.h"

// -- what is asked and corrected

static bool needs_sizes(const char *text, uint32_t segments) {
    struct asked a;
    read_query(&a, &person, text);
    bool needs = plan_needs_sizes(&a.query, segments);
    query_clear(&a.query);
    return needs;
}

static void sizes_are_asked_for_where_there_is_a_choice(void **state) {
    (void)state;
    // a few KiB are read in any case
    assert_false(needs_sizes("", 1));
    assert_false(needs_sizes("gender=f name=ann age=18", 1));
    // only the order can be walked
    assert_false(needs_sizes("by at", 1));
    // the walk has what is asked for, and nothing else, however much it is
    assert_false(needs_sizes("by at", 100));
    assert_false(needs_sizes("at:0..9 by at", 100));
    assert_false(needs_sizes("score!? by score", 100));
    // it may lack rows without a value
    assert_true(needs_sizes("by score", 100));
    // other conditions are tested on its rows, or read
    assert_true(needs_sizes("gender=f at:0..9 by at", 1));
    // an ordered index may have few entries, or many
    assert_true(needs_sizes("at:0..9", 1));
    // to be walked, or sorted in memory
    assert_true(needs_sizes("gender=f by at", 1));
    // reading all columns is no trifle
    assert_true(needs_sizes("gender=f", 2));
}

// corrected returns the order after `found` rows were left by the columns.
static enum plan_order corrected(const char *text, uint64_t found) {
    struct asked a;
    struct plan p;
    make(&a, &p, &person, text);
    plan_correct(&a.query, sizes_of(&a), &p, found);
    enum plan_order order = p.order;
    plan_clear(&p);
    query_clear(&a.query);
    return order;
}

static void fewer_rows_than_estimated_are_sorted(void **state) {
    (void)state;
    static const char walked[] =
        "gender=f~100000 by at limit 20 rows 10000000 path 10000000";
    assert_int_equal(corrected(walked, 100000), ORDER_WALK);
    // a page of 20 would take a walk of 2,000,000 entries
    assert_int_equal(corrected(walked, 100), ORDER_FETCHED);
    assert_int_equal(corrected(walked, 0), ORDER_FETCHED);
    // more than are sorted in memory
    assert_int_equal(corrected(walked, 5000), ORDER_WALK);
    // it is not known how long the walk is
    assert_int_equal(corrected("gender=f by at rows 1000000", 1), ORDER_WALK);
    // nothing is walked, or nothing else is read
    assert_int_equal(corrected("gender=f by age rows 1000", 1), ORDER_PACKED);
    assert_int_equal(corrected("by at limit 9 rows 90 path 90", 1), ORDER_WALK);
}

static void no_index_is_walked_for_rows_without_a_value(void **state) {
    (void)state;
    static const char *const list[] = {
        "rank? by rank limit 10 rows 1000000 path 900000",
        "rank? by -rank limit 10 rows 1000000 path 900000",
        "city=Ulm~200000 rank? by rank limit 10 rows 1000000 path 9000",
        "city=Ulm~200 born? by born limit 10 rows 1000000 path 100"};
    for (size_t i = 0; i < COUNT(list); i++) {
        struct asked a;
        struct plan p;
        make(&a, &p, &book, list[i]);
        assert_int_equal(p.way, PLAN_COLUMNS);
        assert_int_not_equal(p.order, ORDER_WALK);
        plan_clear(&p);
        query_clear(&a.query);
    }
}

static bool is_tallied(const char *text) {
    struct asked a;
    struct plan p;
    make(&a, &p, &person, text);
    bool is = p.is_tallied;
    // the field's column, or those of its choices, come last
    enum plan_read last = p.steps[p.step_count - 1].read;
    assert_int_equal(is, last == READ_ORDER || last == READ_ORDER_OF);
    plan_clear(&p);
    query_clear(&a.query);
    return is;
}

static void fields_are_tallied_where_columns_say_which(void **state) {
    (void)state;
    assert_true(is_tallied("tally age gender=f rows 1000"));
    assert_true(is_tallied("tally gender rows 1000"));
    assert_true(is_tallied("tally score at:0..9~500 rows 1000 path 500"));
    // the rows have to be looked at
    assert_false(is_tallied("tally age note=x gender=f scan rows 1000"));
    // 5 rows are
    assert_false(is_tallied(
        "tally age at:0..9~5 gender=f~5000000 rows 10000000 path 5"));
    // no column has the field
    assert_false(is_tallied("tally at gender=f rows 1000"));
    assert_false(is_tallied("tally name rows 1000"));
}

static void expired_rows_are_no_part_of_an_exact_walk(void **state) {
    (void)state;
    static const char counted[] =
        "count author=7~900 city=Ulm~200 rank:1..2~900 rows 1000000 path 5";
    struct asked a;
    struct plan p;
    make(&a, &p, &book, counted);
    assert_int_equal(p.way, PLAN_WALK);
    assert_true(p.is_exact);
    plan_clear(&p);
    query_clear(&a.query);
    book.has_ttl = true;
    make(&a, &p, &book, counted);
    book.has_ttl = false;
    assert_true(p.way != PLAN_WALK || !p.is_exact);
    plan_clear(&p);
    query_clear(&a.query);
}

// -- refusals

// assert_refused: `expected` is the text behind the model's name.
static void assert_refused(const struct schema *s, const char *text,
                           const char *expected, bool is_building) {
    struct asked a;
    struct plan p;
    char error[400] = "", whole[400];
    read_query(&a, s, text);
    assert_int_equal(plan_make(&a.query, NULL, &p, error, sizeof error), -1);
    snprintf(whole, sizeof whole, "model %s: %s", s->name, expected);
    assert_string_equal(error, whole);
    assert_int_equal(p.is_building, is_building);
    query_clear(&a.query);
}

static void conditions_without_an_index_are_refused(void **state) {
    (void)state;
    static const char none[] = "field note has no index; add index = true (or "
                               "sort = true), or query with { "
                               "scan = true }";
    assert_refused(&person, "note=x", none, false);
    assert_refused(&person, "note?", none, false);
    assert_refused(&person, "gender=f note!=x", none, false);
    assert_refused(&person, "any( gender=f all( age=1 note=x ) )", none, false);
    static const char unsorted[] = "field name has no index for ranges and "
                                   "prefixes; add sort = true, or query "
                                   "with { scan = true }";
    assert_refused(&person, "name:a..b", unsorted, false);
    assert_refused(&person, "name^a", unsorted, false);
    assert_refused(&person, "name=ann name!^a", unsorted, false);
}

static void keys_are_refused_where_they_name_no_rows(void **state) {
    (void)state;
    static const char email[] =
        "field email is unique, which finds single values, and not among "
        "alternatives; for others add index = true, or query with { scan = "
        "true }";
    assert_refused(&person, "email?", email, false);
    assert_refused(&person, "email!=x", email, false);
    assert_refused(&person, "any( email=x gender=f )", email, false);
    static const char id[] =
        "field id is the primary key, which finds single values, and not among "
        "alternatives; for others query with { scan = true }";
    assert_refused(&person, "id!=x", id, false);
    assert_refused(&book, "id:1..5", id, false);
}

static void orders_without_an_index_are_refused(void **state) {
    (void)state;
    static const char note[] =
        "field note cannot be ordered by; add sort = true";
    assert_refused(&person, "by note", note, false);
    assert_refused(&person, "by at by note", note, false);
    assert_refused(&person, "id=1 by -note", note, false);
    assert_refused(&person, "by note scan", note, false);
    assert_refused(
        &person, "by id",
        "field id cannot be ordered by; without an order rows come as they "
        "were created",
        false);
    assert_refused(&person, "by name",
                   "field name cannot be ordered by; add sort = true", false);
}

static void only_cures_that_work_are_named(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "c", FIELD_INTEGER);
    add_field(&s, "doc", FIELD_JSON);
    add_choices(add_field(&s, "kind", FIELD_ENUM), "f", "m");
    add_list(&s, "tags", FIELD_LIST, FIELD_STRING);
    add_field(&s, "uuid", FIELD_UUID);
    finish_schema(&s);
    assert_refused(&s, "doc=x",
                   "field doc has no index; query with { scan = true }", false);
    assert_refused(&s, "kind=f",
                   "field kind has no index; add index = true, or query with { "
                   "scan = true }",
                   false);
    assert_refused(&s, "by kind",
                   "field kind cannot be ordered by; add index = true", false);
    assert_refused(&s, "by tags", "field tags cannot be ordered by", false);
    assert_refused(&s, "by uuid", "field uuid cannot be ordered by", false);
    schema_clear(&s);
}

static void assert_building(const struct schema *s, const char *text,
                            const char *field) {
    char expected[200];
    snprintf(expected, sizeof expected,
             "the index of field %s is under construction (sync() builds it)",
             field);
    assert_refused(s, text, expected, true);
}

static void indexes_under_construction_are_not_used(void **state) {
    (void)state;
    static const struct {
        uint32_t field;
        const char *query;
    } list[] = {{F_GENDER, "gender=f"},
                {F_GENDER, "any( gender=f age=1 )"},
                {F_AT, "gender=f by at"},
                {F_AT, "at:0..9"},
                {F_AGE, "by at by age"}};
    for (size_t i = 0; i < COUNT(list); i++) {
        struct field *f = &person.fields[list[i].field];
        f->is_building = true;
        assert_building(&person, list[i].query, f->name);
        f->is_building = false;
    }
    person.fields[F_NAME].is_building = true; // not needed
    people("gender=f rows 1000", READ_1 "  and bitmap: gender = f\n" FETCH);
    person.fields[F_NAME].is_building = false;
}

static void compounds_under_construction_are_not_used(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "c", FIELD_INTEGER);
    add_field(&s, "city", FIELD_STRING)->is_indexed = true;
    add_field(&s, "rank", FIELD_NUMBER);
    add_compound(&s, "city,rank");
    finish_schema(&s);
    assert_plan(
        &s, "city=Ulm by rank limit 5",
        "walk the compound index city,rank, city = Ulm, upwards\n" TAIL FETCH
        "stop after 5\n");
    s.compounds[0].is_building = true;
    assert_building(&s, "city=Ulm by rank", "rank");
    assert_plan(&s, "city=Ulm rows 100",
                READ_1 "  and small set or bitmap: city = Ulm\n" FETCH);
    // its equal field is not given: it is of no use in any case
    assert_refused(&s, "by rank",
                   "field rank cannot be ordered by; add sort = true", false);
    schema_clear(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_asked_for_where_there_is_a_choice),
        cmocka_unit_test(fewer_rows_than_estimated_are_sorted),
        cmocka_unit_test(no_index_is_walked_for_rows_without_a_value),
        cmocka_unit_test(fields_are_tallied_where_columns_say_which),
        cmocka_unit_test(expired_rows_are_no_part_of_an_exact_walk),
        cmocka_unit_test(conditions_without_an_index_are_refused),
        cmocka_unit_test(keys_are_refused_where_they_name_no_rows),
        cmocka_unit_test(orders_without_an_index_are_refused),
        cmocka_unit_test(only_cures_that_work_are_named),
        cmocka_unit_test(indexes_under_construction_are_not_used),
        cmocka_unit_test(compounds_under_construction_are_not_used),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
