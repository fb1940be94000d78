// key_test: how keys are spelled.
#include "model_fixture.h"

#include "model/key.h"

static void assert_key(struct buf *b, const char *expected) {
    assert_string_equal(buf_cstr(b), expected);
    b->len = 0;
}

static void keys_are_spelled_as_documented(void **state) {
    (void)state;
    struct schema s;
    struct buf b = {0};
    person_schema(&s);
    key_row(&b, &s, (struct value){"a:b", 3});
    assert_key(&b, "{p}:a:b");
    key_row_prefix(&b, &s);
    assert_key(&b, "{p}:");
    key_meta(&b, &s);
    assert_key(&b, "{p}/@meta");
    key_schema(&b, &s);
    assert_key(&b, "{p}/@schema");
    key_journal(&b, &s, "host");
    assert_key(&b, "{p}/@journal:host");
    key_rows_prefix(&b, &s);
    assert_key(&b, "{p}/@rows.");
    key_ids_prefix(&b, &s);
    assert_key(&b, "{p}/@ids.");
    key_column_prefix(&b, &s, F_GENDER);
    assert_key(&b, "{p}/gender.");
    key_zset(&b, &s, F_AT);
    assert_key(&b, "{p}/at");
    key_unique(&b, &s, F_EMAIL);
    assert_key(&b, "{p}/email!");
    key_match_rows(&b, &s);
    assert_key(&b, "{p}:*");
    key_match_rest(&b, &s);
    assert_key(&b, "{p}/*");
    buf_clear(&b);
    schema_clear(&s);
}

static void values_stand_as_they_are_up_to_64_bytes(void **state) {
    (void)state;
    char value[65];
    for (size_t i = 0; i < sizeof value; i++) {
        value[i] = (char)(i * 4);
    }
    for (size_t len = 0; len <= 64; len++) {
        struct buf b = {0};
        key_value(&b, (struct value){value, len});
        assert_int_equal(b.len, len);
        if (len) {
            assert_memory_equal(b.data, value, len);
        }
        buf_clear(&b);
    }
}

static void longer_values_stand_by_a_hash_that_no_value_equals(void **state) {
    (void)state;
    char value[3000];
    memset(value, 'x', sizeof value);
    struct buf a = {0}, b = {0};
    for (size_t len = 65; len < sizeof value; len += 97) {
        a.len = b.len = 0;
        key_value(&a, (struct value){value, len});
        assert_int_equal(a.len, 65);
        value[len - 1] = 'y';
        key_value(&b, (struct value){value, len});
        assert_memory_not_equal(a.data, b.data, 65);
        value[len - 1] = 'x';
        b.len = 0;
        key_value(&b, (struct value){value, len});
        assert_memory_equal(a.data, b.data, 65);
        // what looks like a hash is hashed itself
        b.len = 0;
        key_value(&b, (struct value){a.data, a.len});
        assert_memory_not_equal(a.data, b.data, 65);
    }
    buf_clear(&a);
    buf_clear(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_spelled_as_documented),
        cmocka_unit_test(values_stand_as_they_are_up_to_64_bytes),
        cmocka_unit_test(longer_values_stand_by_a_hash_that_no_value_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
