// index_test: the commands that lead from one row to another.
#include <stdio.h>

#include "model_fixture.h"

#include "model/index.h"

static struct schema schema, books;

static int set_up(void **state) {
    (void)state;
    person_schema(&schema);
    book_schema(&books);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    schema_clear(&schema);
    schema_clear(&books);
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

// add_key spells the key at that place, as index_keys lists it.
static void add_key(const struct schema *s, struct unpack *u, struct buf *out) {
    int64_t wanted = unpack_int(u);
    struct buf keys = {0};
    index_keys(s, &keys);
    struct unpack k = unpack_from(&keys);
    size_t len;
    for (uint32_t left = unpack_map(&k); unpack_int(&k) != wanted; left--) {
        assert_in_range(left, 2, UINT32_MAX);
        unpack_bytes(&k, &len);
    }
    add_bytes(&k, out);
    assert_false(k.is_bad);
    buf_clear(&keys);
}

// What follows the key of a command: a width (w), bytes (b).
static const struct {
    const char *name, *rest;
} ops[] = {{"", ""},        {"set", "b"},   {"clear", "b"},  {"add", "b"},
           {"remove", "b"}, {"pack", "wb"}, {"zadd", "b"},   {"zrem", ""},
           {"unique", "b"}, {"free", "b"},  {"enter", "bb"}, {"leave", "b"},
           {"lex", "b"},    {"unlex", "b"}};

// as_text spells the commands, one a line.
static void as_text(const struct schema *s, const struct buf *packed,
                    struct buf *out) {
    struct unpack u = unpack_from(packed);
    bool is_none = !unpack_is_array(&u);
    uint32_t items = is_none ? (uint32_t)unpack_int(&u) : unpack_array(&u);
    uint32_t seen = 0;
    while (seen < items && !u.is_bad) {
        int64_t op = unpack_int(&u);
        assert_in_range(op, 1, COUNT(ops) - 1);
        buf_printf(out, "%s ", ops[op].name);
        add_key(s, &u, out);
        for (const char *rest = ops[op].rest; *rest; rest++) {
            buf_addc(out, ' ');
            if (*rest == 'w') {
                buf_printf(out, "%d", (int)unpack_int(&u));
            } else {
                add_bytes(&u, out);
            }
        }
        seen += 2 + (uint32_t)strlen(ops[op].rest);
        buf_addc(out, '\n');
    }
    assert_false(u.is_bad);
    assert_int_equal(seen, items);
    assert_ptr_equal(u.p, u.end);
}

static uint32_t count_lines(const char *text) {
    uint32_t lines = 0;
    for (; *text; text++) {
        lines += *text == '\n';
    }
    return lines;
}

// assert_commands compares what index_diff or index_build packed, and frees it.
static void assert_commands(const struct schema *s, struct buf *packed,
                            uint32_t n, const char *expected) {
    struct buf text = {0};
    as_text(s, packed, &text);
    assert_string_equal(buf_cstr(&text), expected);
    assert_int_equal(n, count_lines(expected));
    buf_clear(packed);
    buf_clear(&text);
}

static void assert_diff(const char *const *old, const char *const *new,
                        const char *expected) {
    struct buf packed = {0};
    struct row *a = old ? make_row(F_COUNT, old) : NULL;
    struct row *b = new ? make_row(F_COUNT, new) : NULL;
    uint32_t n = index_diff(&schema, a, b, &packed);
    assert_commands(&schema, &packed, n, expected);
    free(a);
    free(b);
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
    struct field f = {.type = FIELD_INTEGER, .base = -9007199254740992};
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
        struct unpack u = unpack_from(&b);
        if (list[i].count) {
            struct buf key = {0};
            assert_int_equal(unpack_array(&u), 2);
            assert_int_equal(claimed[0], F_EMAIL);
            add_key(&schema, &u, &key);
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

// -- sets, orders by bytes and by day, compound indexes

// make_book is make_row of a book: its lists have commas between the elements.
static struct row *make_book(const char *const *texts) {
    struct value values[B_COUNT];
    struct buf lists[B_COUNT] = {{0}};
    for (uint32_t i = 0; i < B_COUNT; i++) {
        values[i] = (struct value){texts[i], texts[i] ? strlen(texts[i]) : 0};
        if (texts[i] && books.fields[i].element) {
            add_parts(&lists[i], texts[i]);
            values[i] = (struct value){buf_cstr(&lists[i]), lists[i].len};
        }
    }
    struct row *r = row_new(values, B_COUNT);
    for (uint32_t i = 0; i < B_COUNT; i++) {
        buf_clear(&lists[i]);
    }
    return r;
}

static void assert_book_diff(const char *const *old, const char *const *new,
                             const char *expected) {
    struct buf packed = {0};
    struct row *a = old ? make_book(old) : NULL;
    struct row *b = new ? make_book(new) : NULL;
    uint32_t n = index_diff(&books, a, b, &packed);
    assert_commands(&books, &packed, n, expected);
    free(a);
    free(b);
}

// id, author, born, city, marks, rank, tags
static const char *const book[] = {"1",   "7",   "1970-01-02", "Oslo",
                                   "1,2", "1.5", "x,y"};
static const char *const blank[] = {"2", NULL, NULL, NULL, NULL, NULL, NULL};

static void a_create_enters_sets_orders_and_compounds(void **state) {
    (void)state;
    assert_book_diff(NULL, book,
                     "add {b}/author. 7\n"
                     "pack {b}/born. 4 \\0\\10\\249<\n"
                     "zadd {b}/born 1\n"
                     "lex {b}/city< Oslo\\0\\0\n"
                     "add {b}/marks. 1\n"
                     "add {b}/marks. 2\n"
                     "zadd {b}/rank 1.5\n"
                     "add {b}/tags. x\n"
                     "add {b}/tags. y\n"
                     "enter {b}/author,city,rank= 1:74:Oslo 1.5\n"
                     "enter {b}/city,born= Oslo 1\n");
    assert_book_diff(NULL, blank,
                     "set {b}/author. ?\nset {b}/marks. ?\nset {b}/tags. ?\n");
}

static void a_delete_leaves_sets_orders_and_compounds(void **state) {
    (void)state;
    assert_book_diff(book, NULL,
                     "remove {b}/author. 7\n"
                     "pack {b}/born. 4 \\0\\0\\0\\0\n"
                     "zrem {b}/born\n"
                     "unlex {b}/city< Oslo\\0\\0\n"
                     "remove {b}/marks. 1\n"
                     "remove {b}/marks. 2\n"
                     "zrem {b}/rank\n"
                     "remove {b}/tags. x\n"
                     "remove {b}/tags. y\n"
                     "leave {b}/author,city,rank= 1:74:Oslo\n"
                     "leave {b}/city,born= Oslo\n");
    assert_book_diff(
        blank, NULL,
        "clear {b}/author. ?\nclear {b}/marks. ?\nclear {b}/tags. ?\n");
}

struct change {
    int field;
    const char *was, *is, *expected;
};

static void assert_changes(const struct change *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *old[B_COUNT], *new[B_COUNT];
        memcpy(old, book, sizeof old);
        memcpy(new, book, sizeof new);
        old[list[i].field] = list[i].was;
        new[list[i].field] = list[i].is;
        assert_book_diff(old, new, list[i].expected);
    }
}

static void lists_change_by_their_elements(void **state) {
    (void)state;
    static const struct change list[] = {
        {B_TAGS, "x,y", "x,y", ""},
        {B_TAGS, "x,y", "y,x", ""},
        {B_TAGS, "x,y", "x,y,x,y,y", ""},
        {B_TAGS, "x,y,x", "x,y", ""},
        {B_TAGS, "x,x", "x", ""},
        {B_TAGS, "x,x,y", "y", "remove {b}/tags. x\n"},
        {B_TAGS, "x,y", "x", "remove {b}/tags. y\n"},
        {B_TAGS, "x", "z,x,y,z", "add {b}/tags. y\nadd {b}/tags. z\n"},
        {B_TAGS, "x,y", "z,y", "remove {b}/tags. x\nadd {b}/tags. z\n"},
        {B_TAGS, "x", "xx", "remove {b}/tags. x\nadd {b}/tags. xx\n"},
        {B_TAGS, ",", "x", "remove {b}/tags. \nadd {b}/tags. x\n"},
        {B_TAGS, "x", ",x", "add {b}/tags. \n"},
        // a list without elements is not null, and stands nowhere
        {B_TAGS, "", "", ""},
        {B_TAGS, "x", "", "remove {b}/tags. x\n"},
        {B_TAGS, "", "x", "add {b}/tags. x\n"},
        {B_TAGS, "", NULL, "set {b}/tags. ?\n"},
        {B_TAGS, NULL, "", "clear {b}/tags. ?\n"},
        {B_TAGS, NULL, NULL, ""},
        {B_TAGS, NULL, "x", "clear {b}/tags. ?\nadd {b}/tags. x\n"},
        {B_TAGS, "x,x", NULL, "remove {b}/tags. x\nset {b}/tags. ?\n"},
        {B_MARKS, "1,2,3", "2,3,4", "remove {b}/marks. 1\nadd {b}/marks. 4\n"},
        {B_MARKS, NULL, "5", "clear {b}/marks. ?\nadd {b}/marks. 5\n"},
    };
    assert_changes(list, COUNT(list));
    const char *empty[B_COUNT];
    memcpy(empty, blank, sizeof empty);
    empty[B_TAGS] = "";
    assert_book_diff(NULL, empty, "set {b}/author. ?\nset {b}/marks. ?\n");
    assert_book_diff(empty, NULL, "clear {b}/author. ?\nclear {b}/marks. ?\n");
}

static void orders_and_compounds_change_with_their_values(void **state) {
    (void)state;
    static const struct change list[] = {
        {B_AUTHOR, "7", "8",
         "remove {b}/author. 7\nadd {b}/author. 8\n"
         "leave {b}/author,city,rank= 1:74:Oslo\n"
         "enter {b}/author,city,rank= 1:84:Oslo 1.5\n"},
        // another score: the member is there already
        {B_RANK, "1.5", "-2e30",
         "zadd {b}/rank -2e30\n"
         "enter {b}/author,city,rank= 1:74:Oslo -2e30\n"},
        {B_RANK, NULL, "0",
         "zadd {b}/rank 0\nenter {b}/author,city,rank= 1:74:Oslo 0\n"},
        {B_RANK, "1.5", NULL,
         "zrem {b}/rank\nleave {b}/author,city,rank= 1:74:Oslo\n"},
        {B_BORN, "1970-01-02", "0001-01-01",
         "pack {b}/born. 4 \\0\\0\\0\\1\nzadd {b}/born -719162\n"
         "enter {b}/city,born= Oslo -719162\n"},
        {B_BORN, "1970-01-02", "9999-12-31",
         "pack {b}/born. 4 \\07\\185\\219\nzadd {b}/born 2932896\n"
         "enter {b}/city,born= Oslo 2932896\n"},
        {B_BORN, "1970-01-02", NULL,
         "pack {b}/born. 4 \\0\\0\\0\\0\nzrem {b}/born\n"
         "leave {b}/city,born= Oslo\n"},
        // the field is in both: every part has to have a value
        {B_CITY, "Oslo", "",
         "unlex {b}/city< Oslo\\0\\0\nlex {b}/city< \\0\\0\n"
         "leave {b}/author,city,rank= 1:74:Oslo\n"
         "enter {b}/author,city,rank= 1:70: 1.5\n"
         "leave {b}/city,born= Oslo\nenter {b}/city,born=  1\n"},
        {B_CITY, "Oslo", NULL,
         "unlex {b}/city< Oslo\\0\\0\n"
         "leave {b}/author,city,rank= 1:74:Oslo\n"
         "leave {b}/city,born= Oslo\n"},
        {B_CITY, NULL, "Os",
         "lex {b}/city< Os\\0\\0\n"
         "enter {b}/author,city,rank= 1:72:Os 1.5\n"
         "enter {b}/city,born= Os 1\n"},
        {B_CITY, "Oslo", "Oslo", ""},
    };
    assert_changes(list, COUNT(list));
}

static void keys_have_places_by_field_and_kind(void **state) {
    (void)state;
    books.fields[B_CITY].build = 3;
    books.compounds[1].build = 4;
    struct buf keys = {0}, text = {0};
    index_keys(&books, &keys);
    struct unpack u = unpack_from(&keys);
    for (uint32_t n = unpack_map(&u); n > 0; n--) {
        size_t len;
        int place = (int)unpack_int(&u);
        const char *key = unpack_bytes(&u, &len);
        buf_printf(&text, "%d %.*s\n", place, (int)len, key);
    }
    assert_ptr_equal(u.p, u.end);
    assert_string_equal(buf_cstr(&text), "5 {b}/author.\n"
                                         "9 {b}/born.\n"
                                         "10 {b}/born\n"
                                         "16 {b}/city#3<\n"
                                         "17 {b}/marks.\n"
                                         "22 {b}/rank\n"
                                         "25 {b}/tags.\n"
                                         "29 {b}/author,city,rank=\n"
                                         "30 {b}/city,born#4=\n");
    for (uint32_t i = 0; i < 3; i++) {
        for (int kind = 0; kind < 4; kind++) {
            assert_int_equal(index_place(i, kind), i * 4 + 1 + (uint32_t)kind);
        }
    }
    books.fields[B_CITY].build = books.compounds[1].build = 0;
    buf_clear(&keys);
    buf_clear(&text);
}

static void what_is_under_construction_is_built_alone(void **state) {
    (void)state;
    struct row *r = make_book(book);
    struct buf built = {0}, all = {0}, created = {0};
    uint32_t n = index_build(&books, r, false, &built);
    assert_commands(&books, &built, n, "");
    books.fields[B_TAGS].is_building = books.compounds[1].is_building = true;
    n = index_build(&books, r, false, &built);
    assert_commands(&books, &built, n,
                    "add {b}/tags. x\nadd {b}/tags. y\n"
                    "enter {b}/city,born= Oslo 1\n");
    assert_int_equal(index_build(&books, r, true, &all),
                     index_diff(&books, NULL, r, &created));
    assert_int_equal(all.len, created.len);
    assert_memory_equal(all.data, created.data, all.len);
    books.fields[B_TAGS].is_building = books.compounds[1].is_building = false;
    buf_clear(&all);
    buf_clear(&created);
    free(r);
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
        cmocka_unit_test(a_create_enters_sets_orders_and_compounds),
        cmocka_unit_test(a_delete_leaves_sets_orders_and_compounds),
        cmocka_unit_test(lists_change_by_their_elements),
        cmocka_unit_test(orders_and_compounds_change_with_their_values),
        cmocka_unit_test(keys_have_places_by_field_and_kind),
        cmocka_unit_test(what_is_under_construction_is_built_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
