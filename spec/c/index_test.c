// index_test: the commands that lead from one row to another.
#include <stdio.h>

#include "model_fixture.h"

#include "base/pack.h"
#include "model/index.h"

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

static void add_bytes(struct unpack *u, struct buf *out) {
    size_t len;
    const char *p = unpack_bytes(u, &len);
    for (size_t i = 0; i < len; i++) {
        if (p[i] > 32 && p[i] < 127) {
            buf_addc(out, p[i]);
        } else {
            buf_printf(out, "\\%d", (unsigned char)p[i]);
        }
    }
}

// add_key spells the key of that number, as index_keys lists it.
static void add_key(struct unpack *u, struct buf *out) {
    int64_t wanted = unpack_int(u);
    struct buf keys = {0};
    index_keys(&schema, &keys);
    struct unpack k = {(unsigned char *)keys.data,
                       (unsigned char *)keys.data + keys.len, false};
    assert_in_range(wanted, 1, unpack_array(&k));
    size_t len;
    while (--wanted > 0) {
        unpack_bytes(&k, &len);
    }
    add_bytes(&k, out);
    assert_false(k.is_bad);
    buf_clear(&keys);
}

// as_text spells the commands, one a line.
static void as_text(const struct buf *packed, struct buf *out) {
    static const char *const names[] = {"",       "set",  "clear", "add",
                                        "remove", "pack", "zadd",  "zrem",
                                        "unique", "free"};
    const unsigned char *p = (const unsigned char *)packed->data;
    struct unpack u = {p, p + packed->len, false};
    bool is_none = !unpack_is_array(&u);
    uint32_t items = is_none ? (uint32_t)unpack_int(&u) : unpack_array(&u);
    uint32_t seen = 0;
    while (seen < items && !u.is_bad) {
        int64_t op = unpack_int(&u);
        assert_in_range(op, 1, 9);
        buf_printf(out, "%s ", names[op]);
        add_key(&u, out);
        if (op == OP_PACK) {
            buf_printf(out, " %d", (int)unpack_int(&u));
        }
        if (op != OP_ZREM) {
            buf_addc(out, ' ');
            add_bytes(&u, out);
        }
        seen += op == OP_PACK ? 4 : op == OP_ZREM ? 2 : 3;
        buf_addc(out, '\n');
    }
    assert_false(u.is_bad);
    assert_int_equal(seen, items);
    assert_ptr_equal(u.p, u.end);
}

static void assert_diff(const char *const *old, const char *const *new,
                        const char *expected) {
    struct buf packed = {0}, text = {0};
    struct row *a = old ? make_row(F_COUNT, old) : NULL;
    struct row *b = new ? make_row(F_COUNT, new) : NULL;
    uint32_t n = index_diff(&schema, a, b, &packed);
    as_text(&packed, &text);
    assert_string_equal(buf_cstr(&text), expected);
    uint32_t lines = 0;
    for (const char *p = expected; *p; p++) {
        lines += *p == '\n';
    }
    assert_int_equal(n, lines);
    free(a);
    free(b);
    buf_clear(&packed);
    buf_clear(&text);
}

// id, age, at, email, gender, name, note, score
static const char *const ada[] = {"1", "36",  "5.5", "a@b",
                                  "f", "Ada", "n",   "300"};
static const char *const nobody[] = {"2",  NULL, NULL, NULL,
                                     NULL, NULL, NULL, NULL};

static void a_create_enters_every_index(void **state) {
    (void)state;
    assert_diff(NULL, ada,
                "pack {p}/age. 1 /\n"
                "zadd {p}/at 5.5\n"
                "unique {p}/email! a@b\n"
                "set {p}/gender. =f\n"
                "add {p}/name. Ada\n"
                "pack {p}/score. 4 \\0\\0\\1-\n"
                "zadd {p}/score 300\n");
}

static void a_create_of_nulls_enters_the_bitmaps_of_null(void **state) {
    (void)state;
    assert_diff(NULL, nobody, "set {p}/gender. ?\nset {p}/name. ?\n");
}

static void a_delete_leaves_every_index(void **state) {
    (void)state;
    assert_diff(ada, NULL,
                "pack {p}/age. 1 \\0\n"
                "zrem {p}/at\n"
                "free {p}/email! a@b\n"
                "clear {p}/gender. =f\n"
                "remove {p}/name. Ada\n"
                "pack {p}/score. 4 \\0\\0\\0\\0\n"
                "zrem {p}/score\n");
    assert_diff(nobody, NULL, "clear {p}/gender. ?\nclear {p}/name. ?\n");
}

static void no_change_is_no_command(void **state) {
    (void)state;
    assert_diff(ada, ada, "");
    assert_diff(nobody, nobody, "");
}

static void a_save_touches_what_changed(void **state) {
    (void)state;
    static const struct {
        int field;
        const char *value, *expected;
    } list[] = {
        {F_AGE, "-10", "pack {p}/age. 1 \\1\n"},
        {F_AGE, NULL, "pack {p}/age. 1 \\0\n"},
        {F_AT, "-1", "zadd {p}/at -1\n"},
        {F_AT, NULL, "zrem {p}/at\n"},
        {F_EMAIL, "x", "free {p}/email! a@b\nunique {p}/email! x\n"},
        {F_EMAIL, "", "free {p}/email! a@b\nunique {p}/email! \n"},
        {F_EMAIL, NULL, "free {p}/email! a@b\n"},
        {F_GENDER, "m", "clear {p}/gender. =f\nset {p}/gender. =m\n"},
        {F_GENDER, NULL, "clear {p}/gender. =f\nset {p}/gender. ?\n"},
        {F_NAME, "", "remove {p}/name. Ada\nadd {p}/name. \n"},
        {F_NAME, NULL, "remove {p}/name. Ada\nset {p}/name. ?\n"},
        {F_NOTE, "other", ""},
        {F_SCORE, "70000",
         "pack {p}/score. 4 \\0\\1\\17q\nzadd {p}/score 70000\n"},
        {F_SCORE, NULL, "pack {p}/score. 4 \\0\\0\\0\\0\nzrem {p}/score\n"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        const char *changed[F_COUNT];
        memcpy(changed, ada, sizeof changed);
        changed[list[i].field] = list[i].value;
        assert_diff(ada, changed, list[i].expected);
    }
    static const char *const named[] = {"2",  NULL, NULL, NULL,
                                        NULL, "x",  NULL, NULL};
    assert_diff(nobody, named, "clear {p}/name. ?\nadd {p}/name. x\n");
}

static void packed_numbers_are_exact_over_the_whole_range(void **state) {
    (void)state;
    struct field f = {.type = FIELD_INTEGER, .min = -9007199254740992.0};
    static const struct {
        const char *text;
        uint64_t packed;
    } list[] = {
        {"-9007199254740992", 1},
        {"-9007199254740991", 2},
        {"-1", 9007199254740992},
        {"0", 9007199254740993},
        {"1", 9007199254740994},
        {"2", 9007199254740995},
        {"9007199254740991", 18014398509481984},
        {"9007199254740992", 18014398509481985},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct value v = {list[i].text, strlen(list[i].text)};
        assert_true(index_packed(&f, v) == list[i].packed);
    }
    assert_true(index_packed(&f, (struct value){NULL, 0}) == 0);
}

static void uniques_are_those_that_are_new(void **state) {
    (void)state;
    static const char *const moved[] = {"1", "36",  "5.5", "new",
                                        "f", "Ada", "n",   "300"};
    static const struct {
        const char *const *old, *const *new;
        uint32_t count;
    } list[] = {
        {NULL, ada, 1},   {NULL, nobody, 0}, {ada, ada, 0},  {ada, moved, 1},
        {ada, nobody, 0}, {nobody, ada, 1},  {ada, NULL, 0},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct buf b = {0};
        uint8_t claimed[SCHEMA_FIELDS];
        struct row *x = list[i].old ? make_row(F_COUNT, list[i].old) : NULL;
        struct row *y = list[i].new ? make_row(F_COUNT, list[i].new) : NULL;
        assert_int_equal(index_uniques(&schema, x, y, &b, claimed),
                         list[i].count);
        struct unpack u = {(unsigned char *)b.data,
                           (unsigned char *)b.data + b.len, false};
        if (list[i].count) {
            struct buf key = {0};
            assert_int_equal(unpack_array(&u), 2);
            assert_int_equal(claimed[0], F_EMAIL);
            add_key(&u, &key);
            assert_string_equal(buf_cstr(&key), "{p}/email!");
            buf_clear(&key);
        } else {
            assert_int_equal(unpack_int(&u), 0);
        }
        free(x);
        free(y);
        buf_clear(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_create_enters_every_index),
        cmocka_unit_test(a_create_of_nulls_enters_the_bitmaps_of_null),
        cmocka_unit_test(a_delete_leaves_every_index),
        cmocka_unit_test(no_change_is_no_command),
        cmocka_unit_test(a_save_touches_what_changed),
        cmocka_unit_test(packed_numbers_are_exact_over_the_whole_range),
        cmocka_unit_test(uniques_are_those_that_are_new),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
