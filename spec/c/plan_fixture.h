// plan_fixture: plans of queries that are read from text, for the tests of
// host/model/plan.
#ifndef SPEC_PLAN_FIXTURE_H
#define SPEC_PLAN_FIXTURE_H

#include "query_fixture.h"

static struct schema person, book;

static inline int set_up(void **state) {
    (void)state;
    person_schema(&person);
    book_schema(&book);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    schema_clear(&person);
    schema_clear(&book);
    return 0;
}

static inline const struct plan_sizes *sizes_of(const struct asked *a) {
    return a->has_sizes ? &a->sizes : NULL;
}

// make reads a query and plans it.
static inline void make(struct asked *a, struct plan *p, const struct schema *s,
                        const char *text) {
    char error[400] = "";
    read_query(a, s, text);
    if (plan_make(&a->query, sizes_of(a), p, error, sizeof error) < 0) {
        fail_msg("%s: %s", text, error);
    }
}

static inline void assert_plan(const struct schema *s, const char *text,
                               const char *expected) {
    struct asked a;
    struct plan p;
    struct buf b = {0};
    make(&a, &p, s, text);
    plan_explain(&a.query, sizes_of(&a), &p, &b);
    if (strcmp(buf_cstr(&b), expected) != 0) {
        fail_msg("%s\n%s\nin place of\n%s", text, buf_cstr(&b), expected);
    }
    buf_clear(&b);
    plan_clear(&p);
    query_clear(&a.query);
}

static inline void people(const char *text, const char *expected) {
    assert_plan(&person, text, expected);
}

static inline void books(const char *text, const char *expected) {
    assert_plan(&book, text, expected);
}

// What plans are made of.
#define READ_1 "read the columns of 1 segment\n  live rows\n"
#define READ_MORE(n, how)                                                      \
    "read the columns of " n " segments, " how "\n  live rows\n"
#define READ_2_IN_WINDOWS   READ_MORE("2", "a few at a time")
#define READ_16_IN_WINDOWS  READ_MORE("16", "a few at a time")
#define READ_153_IN_WINDOWS READ_MORE("153", "a few at a time")
#define READ_16_AT_ONCE     READ_MORE("16", "in one transaction")
#define READ_153_AT_ONCE    READ_MORE("153", "in one transaction")
#define LEAVES(n)                                                              \
    "leave about " n " rows, whose other conditions are tested on the rows\n"
#define TEST    "test the other conditions on the rows\n"
#define TAIL    "then those without a value\n"
#define FETCH   "fetch the rows, testing each condition again\n"
#define CREATED "sort the rows as they were created\n"
#define HOUR    "1970-01-01T00:00:00Z and 1970-01-01T01:00:00Z"

#endif
