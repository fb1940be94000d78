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
    key_lex(&b, &s, F_NAME);
    assert_key(&b, "{p}/name<");
    key_expires(&b, &s);
    assert_key(&b, "{p}/@expires");
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

static void builds_stand_behind_the_names_of_indexes(void **state) {
    (void)state;
    struct schema s;
    struct buf b = {0};
    book_schema(&s);
    key_compound_prefix(&b, &s, 1);
    assert_key(&b, "{b}/city,born=");
    for (uint32_t i = 0; i < s.count; i++) {
        s.fields[i].build = 4000000000;
    }
    s.compounds[1].build = 20;
    key_column_prefix(&b, &s, B_TAGS);
    assert_key(&b, "{b}/tags#4000000000.");
    key_zset(&b, &s, B_RANK);
    assert_key(&b, "{b}/rank#4000000000");
    key_unique(&b, &s, B_CITY);
    assert_key(&b, "{b}/city#4000000000!");
    key_lex(&b, &s, B_CITY);
    assert_key(&b, "{b}/city#4000000000<");
    key_compound_prefix(&b, &s, 1);
    assert_key(&b, "{b}/city,born#20=");
    key_compound_prefix(&b, &s, 0);
    assert_key(&b, "{b}/author,city,rank=");
    key_match_build(&b, &s, "city");
    assert_key(&b, "{b}/city*");
    buf_clear(&b);
    schema_clear(&s);
}

static void keys_belong_to_one_build_of_one_index(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t build;
    } builds[] = {{"age", 0},      {"age", 2},      {"age", 20},
                  {"age2", 0},     {"ag", 0},       {"age_x", 2},
                  {"age,born", 0}, {"age,born", 2}, {"age,bor", 0},
                  {"e", 0}};
    // each key, and the place of the build that it is of
    static const struct {
        const char *key;
        int build;
    } keys[] = {
        {"{p}/age", 0},
        {"{p}/age.0", 0},
        {"{p}/age.12=f", 0},
        {"{p}/age.0?", 0},
        {"{p}/age.0~#2.1", 0},
        {"{p}/age!", 0},
        {"{p}/age<", 0},
        {"{p}/age#2", 1},
        {"{p}/age#2.0", 1},
        {"{p}/age#2!", 1},
        {"{p}/age#2<", 1},
        {"{p}/age#20", 2},
        {"{p}/age#20.0=age2", 2},
        {"{p}/age2.0", 3},
        {"{p}/age2", 3},
        {"{p}/ag.0", 4},
        {"{p}/age_x#2!", 5},
        {"{p}/age,born=", 6},
        {"{p}/age,born=age.0", 6},
        {"{p}/age,born#2=1:a", 7},
        {"{p}/age,bor=x", 8},
        {"{p}/e", 9},
        {"{p}/age#", -1},
        {"{p}/age#2#20", -1},
        {"{p}/age:0", -1},
        {"{p}/age,", -1},
        {"{p}/", -1},
        {"{p}", -1},
        {"", -1},
        {"{p}:age", -1},
        {"{q}/age", -1},
        {"{p}/@rows.0", -1},
        {"x{p}/age", -1},
    };
    struct schema s;
    person_schema(&s);
    for (size_t k = 0; k < COUNT(keys); k++) {
        for (size_t i = 0; i < COUNT(builds); i++) {
            // in memory that ends with the key
            size_t len = strlen(keys[k].key);
            char *key = xmalloc(len);
            memcpy(key, keys[k].key, len);
            bool is =
                key_is_of_build(&s, builds[i].name, builds[i].build, key, len);
            if (is != ((int)i == keys[k].build)) {
                fail_msg("%s: %s %u", keys[k].key, builds[i].name,
                         builds[i].build);
            }
            free(key);
        }
    }
    assert_false(key_is_of_build(&s, "age", 0, "{p}/age\0", 8));
    schema_clear(&s);
}

// all_keys appends each key of an index that a field or compound one may have.
static void all_keys(const struct schema *s, struct buf *keys) {
    for (uint32_t i = 0; i < s->count; i++) {
        void (*const list[])(struct buf *, const struct schema *, uint32_t) = {
            key_column_prefix, key_zset, key_unique, key_lex};
        for (size_t j = 0; j < COUNT(list); j++) {
            list[j](keys, s, i);
            buf_adds(keys, j ? "\n" : "7=x\n");
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        key_compound_prefix(keys, s, i);
        buf_adds(keys, "x\n");
    }
}

static void each_key_is_of_its_own_build_and_no_other(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    for (uint32_t build = 0; build < 3; build++) {
        for (uint32_t i = 0; i < s.count; i++) {
            s.fields[i].build = build;
        }
        s.compounds[0].build = s.compounds[1].build = build;
        struct buf keys = {0};
        all_keys(&s, &keys);
        char *at = (char *)(uintptr_t)buf_cstr(&keys);
        for (char *key = strtok(at, "\n"); key; key = strtok(NULL, "\n")) {
            uint32_t count = 0;
            for (uint32_t i = 0; i < s.count + 2; i++) {
                const char *name = i < s.count ? s.fields[i].name
                                               : s.compounds[i - s.count].name;
                for (uint32_t j = 0; j < 3; j++) {
                    bool is = key_is_of_build(&s, name, j, key, strlen(key));
                    assert_false(is && j != build);
                    count += is;
                }
            }
            assert_int_equal(count, 1);
        }
        buf_clear(&keys);
    }
    schema_clear(&s);
}

static void compounds_of_one_value_are_bare_others_are_parts(void **state) {
    (void)state;
    const struct value one[] = {{"a:b", 3}}, none[] = {{"", 0}};
    const struct value two[] = {{"a", 1}, {"", 0}};
    struct buf b = {0};
    key_compound_suffix(&b, one, 0);
    assert_int_equal(b.len, 0);
    key_compound_suffix(&b, one, 1);
    assert_key(&b, "a:b");
    key_compound_suffix(&b, none, 1);
    assert_int_equal(b.len, 0);
    key_compound_suffix(&b, two, 2);
    assert_key(&b, "1:a0:");
    buf_clear(&b);
}

static void long_values_of_compounds_stand_by_their_hash(void **state) {
    (void)state;
    char text[100];
    memset(text, 'x', sizeof text);
    const struct value values[] = {{text, sizeof text}, {"y", 1}};
    struct buf b = {0}, hash = {0};
    key_value(&hash, values[0]);
    key_compound_suffix(&b, values, 1);
    assert_int_equal(b.len, 65);
    assert_memory_equal(b.data, hash.data, 65);
    b.len = 0;
    key_compound_suffix(&b, values, 2);
    assert_int_equal(b.len, strlen("65:") + 65 + strlen("1:y"));
    assert_memory_equal(b.data + 3, hash.data, 65);
    buf_clear(&b);
    buf_clear(&hash);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_spelled_as_documented),
        cmocka_unit_test(values_stand_as_they_are_up_to_64_bytes),
        cmocka_unit_test(longer_values_stand_by_a_hash_that_no_value_equals),
        cmocka_unit_test(builds_stand_behind_the_names_of_indexes),
        cmocka_unit_test(keys_belong_to_one_build_of_one_index),
        cmocka_unit_test(each_key_is_of_its_own_build_and_no_other),
        cmocka_unit_test(compounds_of_one_value_are_bare_others_are_parts),
        cmocka_unit_test(long_values_of_compounds_stand_by_their_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
