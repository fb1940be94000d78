// plan_test: how queries are answered, as text, and how rows are compared.
#include <math.h>

#include "model_fixture.h"

#include "model/plan.h"

static struct schema schema;

static int set_up(void **state) {
    (void)state;
    person_schema(&schema);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    schema_clear(&schema);
    return 0;
}

static struct value texts[] = {{"a", 1}, {"b", 1}, {"c", 1}};

// in, between and null make conditions.
static struct condition in(uint32_t field, uint32_t count) {
    return (struct condition){
        .field = field, .op = COND_IN, .values = texts, .count = count};
}

static struct condition between(uint32_t field, double low, double high) {
    return (struct condition){
        .field = field, .op = COND_RANGE, .low = low, .high = high};
}

static struct condition null(uint32_t field) {
    return (struct condition){.field = field, .op = COND_NULL};
}

#define NOTHING_ELSE                                                           \
    { .field = UINT32_MAX }

struct expected {
    struct condition conditions[3]; // ends with a field of UINT32_MAX
    int order;
    bool is_descending;
    uint64_t limit, offset;
    const char *text; // or what is wrong, after "!"
};

#define SEGMENTS "read, in one transaction, for each segment of 65,536 rows\n"
#define CHECK    "fetch the rows, checking each condition again\n"

static void assert_plan(const struct expected *e) {
    struct query q = {.schema = &schema,
                      .conditions =
                          (struct condition *)(uintptr_t)e->conditions,
                      .order = e->order,
                      .is_descending = e->is_descending,
                      .limit = e->limit,
                      .offset = e->offset};
    while (q.count < 3 && e->conditions[q.count].field != UINT32_MAX) {
        q.count++;
    }
    struct plan p;
    char error[200] = "";
    if (plan_make(&q, &p, error, sizeof error) < 0) {
        assert_int_equal(e->text[0], '!');
        assert_non_null(strstr(error, e->text + 1));
        return;
    }
    struct buf b = {0};
    plan_explain(&q, &p, &b);
    assert_string_equal(buf_cstr(&b), e->text);
    plan_clear(&p);
    buf_clear(&b);
}

static void plans_read_what_they_need(void **state) {
    (void)state;
    const struct condition end = NOTHING_ELSE;
    const struct expected list[] = {
        {{end}, -1, 0, NO_LIMIT, 0, SEGMENTS "  live rows\n" CHECK},
        {{in(F_GENDER, 1), end},
         -1,
         0,
         10,
         5,
         SEGMENTS "  live rows\n  and bitmap: gender = a\n"
                  "skip 5\nstop after 10\n" CHECK},
        {{in(F_GENDER, 2), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and bitmap: gender in 2 values\n" CHECK},
        {{in(F_NAME, 3), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n"
                  "  and bitmap or small set: name in 3 values\n" CHECK},
        {{null(F_NAME), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and bitmap of null: name is null\n" CHECK},
        {{null(F_AGE), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and packed column: age is null\n" CHECK},
        {{between(F_AGE, 18, 22), in(F_GENDER, 1), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and packed column: age between 18 and 22\n"
                  "  and bitmap: gender = a\n" CHECK},
        {{between(F_AT, 1.5, INFINITY), end},
         -1,
         0,
         NO_LIMIT,
         0,
         SEGMENTS
         "  live rows\n  and ordered index: at between 1.5 and inf\n" CHECK},
        {{end},
         F_AT,
         1,
         20,
         0,
         "walk the ordered index: at descending\nstop after 20\n" CHECK},
        {{end},
         F_AGE,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and packed column of age, to order by\n"
                  "sort by the packed column: age ascending\n" CHECK},
        {{end},
         F_SCORE,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n"
                  "walk the ordered index: score ascending\n" CHECK},
        {{in(F_GENDER, 1), end},
         F_SCORE,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and bitmap: gender = a\n"
                  "  and packed column of score, to order by\n"
                  "sort by the packed column: score ascending\n" CHECK},
        {{in(F_GENDER, 1), end},
         F_AT,
         0,
         NO_LIMIT,
         0,
         SEGMENTS "  live rows\n  and bitmap: gender = a\n"
                  "walk the ordered index: at ascending\n" CHECK},
        {{in(F_ID, 2), end},
         -1,
         0,
         NO_LIMIT,
         0,
         "rows by primary key: id in 2 values\n" CHECK},
        {{in(F_EMAIL, 1), in(F_NOTE, 1), end},
         -1,
         0,
         NO_LIMIT,
         0,
         "rows by unique index: email = a\n" CHECK},
        {{in(F_EMAIL, 1), in(F_ID, 1), end},
         F_AGE,
         1,
         NO_LIMIT,
         0,
         "rows by primary key: id = a\nsort the rows: age descending\n" CHECK},
        {{in(F_GENDER, 0), end}, -1, 0, NO_LIMIT, 0, "nothing can match\n"},
        {{in(F_ID, 0), end}, -1, 0, NO_LIMIT, 0, "nothing can match\n"},
        {{end}, F_AT, 0, 0, 0, "nothing can match\n"},
        {{in(F_NOTE, 1), end}, -1, 0, NO_LIMIT, 0, "!field note has no index"},
        {{null(F_EMAIL), end}, -1, 0, NO_LIMIT, 0, "!field email has no index"},
        {{between(F_NAME, 1, 2), end},
         -1,
         0,
         NO_LIMIT,
         0,
         "!field name (string) has no ranges"},
        {{end}, F_NAME, 0, NO_LIMIT, 0, "!field name cannot be ordered by"},
        {{in(F_ID, 1), end},
         F_NOTE,
         0,
         NO_LIMIT,
         0,
         "!field note cannot be ordered by"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        assert_plan(&list[i]);
    }
}

static void rows_are_tested_on_each_condition(void **state) {
    (void)state;
    struct row *r = make_row(
        F_COUNT, (const char *[]){"b", "20", "5", "", NULL, "a", NULL, NULL});
    const struct {
        struct condition c;
        bool holds;
    } list[] = {
        {in(F_ID, 3), true},
        {in(F_ID, 1), false},
        {in(F_NAME, 1), true},
        {in(F_NAME, 0), false},
        {in(F_EMAIL, 3), false},
        {in(F_GENDER, 3), false},
        {null(F_GENDER), true},
        {null(F_EMAIL), false},
        {between(F_AGE, 20, 20), true},
        {between(F_AGE, 20.5, 21), false},
        {between(F_AGE, -INFINITY, INFINITY), true},
        {between(F_SCORE, -INFINITY, INFINITY), false},
        {between(F_AGE, 21, 19), false},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct condition both[] = {list[i].c, between(F_AT, 5, 5)};
        struct query q = {
            .schema = &schema, .conditions = both, .count = 2, .order = -1};
        assert_int_equal(query_matches(&q, r), list[i].holds);
    }
    free(r);
}

static void lists_match_by_any_element_dates_by_their_day(void **state) {
    (void)state;
    struct schema books;
    struct buf tags = {0};
    book_schema(&books);
    add_parts(&tags, "x,b");
    struct value values[B_COUNT] = {{"1", 1}};
    values[B_BORN] = (struct value){"1970-01-03", 10};
    values[B_MARKS] = (struct value){"", 0};
    values[B_TAGS] = (struct value){tags.data, tags.len};
    struct row *r = row_new(values, B_COUNT);
    const struct {
        struct condition c;
        bool holds;
    } list[] = {
        {in(B_TAGS, 3), true},
        {in(B_TAGS, 1), false},
        {null(B_TAGS), false},
        {in(B_MARKS, 3), false},
        {null(B_MARKS), false},
        {null(B_CITY), true},
        {between(B_BORN, 2, 2), true},
        {between(B_BORN, 3, 9), false},
        {between(B_BORN, -INFINITY, INFINITY), true},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct condition c = list[i].c;
        struct query q = {
            .schema = &books, .conditions = &c, .count = 1, .order = -1};
        assert_int_equal(query_matches(&q, r), list[i].holds);
    }
    free(r);
    buf_clear(&tags);
    schema_clear(&books);
}

static void indexes_under_construction_are_not_used(void **state) {
    (void)state;
    struct plan p;
    char error[200] = "";
    struct condition c = in(F_GENDER, 1);
    struct query q = {.schema = &schema,
                      .conditions = &c,
                      .count = 1,
                      .order = F_AT,
                      .limit = NO_LIMIT};
    static const uint32_t needed[] = {F_GENDER, F_AT};
    for (size_t i = 0; i < COUNT(needed); i++) {
        schema.fields[needed[i]].is_building = true;
        assert_int_equal(plan_make(&q, &p, error, sizeof error), -1);
        assert_true(p.is_building);
        assert_non_null(strstr(error, schema.fields[needed[i]].name));
        schema.fields[needed[i]].is_building = false;
    }
    schema.fields[F_NAME].is_building = true; // not needed
    assert_int_equal(plan_make(&q, &p, error, sizeof error), 0);
    assert_false(p.is_building);
    plan_clear(&p);
    schema.fields[F_NAME].is_building = false;
}

static void rows_are_compared_nulls_last_ties_by_ordinal(void **state) {
    (void)state;
    const char *texts_of[3][F_COUNT] = {{"a", "9"}, {"b", "10"}, {"c", NULL}};
    struct row *rows[4];
    for (uint32_t i = 0; i < 4; i++) {
        rows[i] = make_row(F_COUNT, texts_of[i % 3]);
        rows[i]->ordinal = 10 - i;
    }
    struct query q = {.schema = &schema, .order = F_AGE};
    for (int down = 0; down < 2; down++) {
        q.is_descending = down;
        int sign = down ? -1 : 1;
        assert_true(query_compare(&q, rows[0], rows[1]) * sign < 0);
        assert_true(query_compare(&q, rows[1], rows[0]) * sign > 0);
        assert_true(query_compare(&q, rows[2], rows[0]) > 0);
        assert_true(query_compare(&q, rows[1], rows[2]) < 0);
        assert_true(query_compare(&q, rows[0], rows[3]) > 0);
        assert_int_equal(query_compare(&q, rows[2], rows[2]), 0);
    }
    q.order = -1;
    assert_true(query_compare(&q, rows[1], rows[0]) < 0);
    for (uint32_t i = 0; i < 4; i++) {
        free(rows[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_read_what_they_need),
        cmocka_unit_test(rows_are_tested_on_each_condition),
        cmocka_unit_test(lists_match_by_any_element_dates_by_their_day),
        cmocka_unit_test(indexes_under_construction_are_not_used),
        cmocka_unit_test(rows_are_compared_nulls_last_ties_by_ordinal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
