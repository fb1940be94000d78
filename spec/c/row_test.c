// row_test: the packed values of a row.
#include "model_fixture.h"

static void values_come_back_null_and_empty_differ(void **state) {
    (void)state;
    struct value values[SCHEMA_FIELDS];
    for (uint32_t i = 0; i < SCHEMA_FIELDS; i++) {
        values[i] = i % 3 == 0   ? (struct value){NULL, 0}
                    : i % 3 == 1 ? (struct value){"", 0}
                                 : (struct value){"a\0b", 3};
    }
    for (uint32_t count = 0; count <= SCHEMA_FIELDS; count++) {
        struct row *r = row_new(values, count);
        struct row *copy = row_copy(r);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(value_equals(row_get(r, i), values[i]));
            assert_true(value_equals(row_get(copy, i), values[i]));
            assert_int_equal(row_get(r, i).p == NULL, i % 3 == 0);
        }
        assert_null(row_get(r, count).p);
        assert_int_equal(r->ordinal, ROW_NO_ORDINAL);
        free(r);
        free(copy);
    }
}

static void a_row_of_empty_values_has_them(void **state) {
    (void)state;
    struct row *r = make_row(2, (const char *[]){"", ""});
    assert_non_null(row_get(r, 0).p);
    assert_non_null(row_get(r, 1).p);
    free(r);
}

static void versions_count_up_and_keep_the_creation(void **state) {
    (void)state;
    struct row *r = make_row(1, (const char *[]){"x"});
    memcpy(r->version, "create\0\0\0\xfe", ROW_VERSION);
    static const char *const next[] = {"create\0\0\0\xff", "create\0\0\1\0",
                                       "create\0\0\1\1"};
    for (size_t i = 0; i < COUNT(next); i++) {
        char out[ROW_VERSION];
        row_next_version(r, out);
        assert_memory_equal(out, next[i], ROW_VERSION);
        memcpy(r->version, out, ROW_VERSION);
    }
    memcpy(r->version, "create\xff\xff\xff\xff", ROW_VERSION);
    row_next_version(r, r->version);
    assert_memory_equal(r->version, "create\0\0\0\0", ROW_VERSION);
    free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_null_and_empty_differ),
        cmocka_unit_test(a_row_of_empty_values_has_them),
        cmocka_unit_test(versions_count_up_and_keep_the_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
