// cursor_test: positions as text, and what is refused as such.
#include "query_fixture.h"

#include "model/cursor.h"

// A model whose strings can be ordered by, too.
enum { C_ID, C_BORN, C_FLAG, C_GAP, C_NAME, C_RANK, C_COUNT };

static struct schema schema, other;

static void cursor_schema(struct schema *s, const char *name) {
    begin_schema(s, name, FIELD_STRING);
    add_field(s, "born", FIELD_DATE)->is_sorted = true;
    add_field(s, "flag", FIELD_BOOLEAN)->is_indexed = true;
    add_field(s, "gap", FIELD_INTEGER)->is_sorted = true;
    add_field(s, "name", FIELD_STRING)->is_sorted = true;
    add_field(s, "rank", FIELD_NUMBER)->is_sorted = true;
    finish_schema(s);
}

static int set_up(void **state) {
    (void)state;
    cursor_schema(&schema, "m");
    cursor_schema(&other, "n");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    schema_clear(&schema);
    schema_clear(&other);
    return 0;
}

// order returns a query ordered by the fields named: "name -rank".
static struct query order(const struct schema *s, const char *names) {
    struct query q = {.schema = s};
    while (*names) {
        size_t len = strcspn(names, " ");
        bool is_down = *names == '-';
        add_order(&q, field_named(s, names + is_down, len - is_down), is_down);
        names += len + (names[len] == ' ');
    }
    return q;
}

static struct row *row_of(const struct value values[C_COUNT],
                          uint32_t ordinal) {
    struct row *r = row_new(values, C_COUNT);
    r->ordinal = ordinal;
    return r;
}

// sample_row is a row with values of several lengths.
static struct row *sample_row(void) {
    const struct value values[C_COUNT] = {
        {"key", 3}, {"2024-02-29", 10},   {"1", 1},
        {"-7", 2},  {"a\0b:3:=?\377", 9}, {NULL, 0}};
    return row_of(values, 0x00fe0102);
}

// -- round trips

static void assert_round_trip(const char *names, const struct row *r) {
    struct query q = order(&schema, names);
    struct buf text = {0};
    cursor_encode(&q, r, &text);
    for (size_t i = 0; i < text.len; i++) { // RFC 3986 §2.3: as it is in an URL
        assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                               "qrstuvwxyz0123456789-_",
                               text.data[i]));
    }
    struct row *back = cursor_decode(&q, text.data, text.len);
    assert_non_null(back);
    assert_int_equal(back->ordinal, r->ordinal);
    assert_int_equal(back->count, schema.count);
    for (uint32_t i = 0; i < q.order_count; i++) {
        uint32_t field = q.orders[i].field;
        assert_true(value_equals(row_get(back, field), row_get(r, field)));
    }
    assert_int_equal(query_compare(&q, back, r), 0);
    free(back);
    buf_clear(&text);
}

static void positions_come_back_with_what_the_order_needs(void **state) {
    (void)state;
    static const struct value list[][C_COUNT] = {
        {{"k", 1}, {"0001-01-01", 10}, {"0", 1}, {"0", 1}, {"", 0}, {"0.1", 3}},
        {{"k", 1},
         {"9999-12-31", 10},
         {"1", 1},
         {"-9007199254740992", 17},
         {"\0", 1},
         {"-1e+300", 7}},
        {{"", 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}},
        {{"k", 1},
         {NULL, 0},
         {"1", 1},
         {NULL, 0},
         {"3:abc=1:x?0:", 12},
         {"-0.5", 4}},
        {{"k", 1}, {NULL, 0}, {"1", 1}, {"1", 1}, {"\377\376\0\n+/", 6}},
    };
    static const char *const orders[] = {"",
                                         "name",
                                         "-name",
                                         "born -rank",
                                         "-gap name",
                                         "id",
                                         "rank flag born gap name id",
                                         "name name"};
    static const uint32_t ordinals[] = {0, 1, 255, 256, 65536, 0xfffffffe};
    for (size_t i = 0; i < COUNT(list); i++) {
        for (size_t k = 0; k < COUNT(orders); k++) {
            for (size_t o = 0; o < COUNT(ordinals); o++) {
                struct row *r = row_of(list[i], ordinals[o]);
                assert_round_trip(orders[k], r);
                free(r);
            }
        }
    }
}

static void texts_of_any_length_come_back(void **state) {
    (void)state;
    static char text[2000000];
    memset(text, 0xfb, sizeof text);
    static const size_t lengths[] = {1,  2,    3,     4,      5,      63,
                                     64, 1000, 65535, 100000, 1999999};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct value values[C_COUNT] = {{"k", 1}};
        values[C_NAME] = (struct value){text, lengths[i]};
        struct row *r = row_of(values, 7);
        assert_round_trip("-name", r);
        free(r);
    }
}

static void a_position_is_appended(void **state) {
    (void)state;
    struct query q = order(&schema, "name");
    struct row *r = sample_row();
    struct buf text = {0};
    buf_adds(&text, "after=");
    cursor_encode(&q, r, &text);
    assert_memory_equal(text.data, "after=", 6);
    struct row *back = cursor_decode(&q, text.data + 6, text.len - 6);
    assert_non_null(back);
    free(back);
    free(r);
    buf_clear(&text);
}

// -- refusals

static void assert_refused(const struct query *q, const char *text,
                           size_t len) {
    // at the end of its memory, so that a sanitizer sees a read past it
    char *copy = xmalloc(len + 1);
    memcpy(copy + 1, text, len);
    struct row *r = cursor_decode(q, copy + 1, len);
    if (r) {
        fail_msg("%.*s was taken for a cursor", (int)len, text);
    }
    free(copy);
}

static struct buf sample_text(const struct query *q) {
    struct buf text = {0};
    struct row *r = sample_row();
    cursor_encode(q, r, &text);
    free(r);
    return text;
}

static const char *const sample_orders[] = {"", "name", "-born name", "gap",
                                            "gap flag"};

static void damaged_bytes_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(sample_orders); i++) {
        struct query q = order(&schema, sample_orders[i]);
        struct buf text = sample_text(&q);
        for (size_t at = 0; at < text.len; at++) {
            char was = text.data[at];
            for (int c = 0; c < 256; c++) {
                if ((char)c != was) {
                    text.data[at] = (char)c;
                    assert_refused(&q, text.data, text.len);
                }
            }
            text.data[at] = was;
        }
        buf_clear(&text);
    }
}

static void cut_and_lengthened_ones_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(sample_orders); i++) {
        struct query q = order(&schema, sample_orders[i]);
        struct buf text = sample_text(&q);
        size_t len = text.len;
        for (size_t n = 0; n < len; n++) {
            assert_refused(&q, text.data, n);
            assert_refused(&q, text.data + n + 1, len - n - 1);
        }
        static const char *const tails[] = {
            "A",  "AA", "AAA",  "AAAA",     "=",    "==",      "\n",
            "\r", "\t", "    ", "\r\r\r\r", "----", "\t\t\t\t"};
        for (size_t k = 0; k < COUNT(tails); k++) {
            struct buf more = {0};
            buf_add(&more, text.data, len);
            buf_adds(&more, tails[k]);
            assert_refused(&q, more.data, more.len);
            more.len = 0;
            buf_adds(&more, tails[k]);
            buf_add(&more, text.data, len);
            assert_refused(&q, more.data, more.len);
            buf_clear(&more);
        }
        buf_clear(&text);
    }
}

static void those_of_other_orders_and_models_are_refused(void **state) {
    (void)state;
    static const char *const orders[] = {
        "",          "name",      "-name", "name name", "name -name", "rank",
        "name rank", "rank name", "id",    "-id",       "gap",        "born"};
    for (size_t i = 0; i < COUNT(orders); i++) {
        struct query q = order(&schema, orders[i]);
        struct buf text = sample_text(&q);
        for (size_t k = 0; k < COUNT(orders); k++) {
            struct query another = order(&schema, orders[k]);
            if (i != k) {
                assert_refused(&another, text.data, text.len);
            }
        }
        struct query elsewhere = order(&other, orders[i]);
        assert_refused(&elsewhere, text.data, text.len);
        buf_clear(&text);
    }
}

static void garbage_is_refused(void **state) {
    (void)state;
    uint64_t seed = 7;
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct query q = order(&schema, "name -rank");
    for (int i = 0; i < 20000; i++) {
        char text[80];
        size_t len = (size_t)i % sizeof text;
        for (size_t k = 0; k < len; k++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[k] = i % 2 ? (char)(seed >> 56) : letters[seed >> 58];
        }
        assert_refused(&q, text, len);
    }
    static const char *const list[] = {"",  "A",    "AA", "AAA", "AAAA", "null",
                                       "0", "====", "-",  "%00", "é"};
    for (size_t i = 0; i < COUNT(list); i++) {
        assert_refused(&q, list[i], strlen(list[i]));
    }
}

static void a_huge_text_is_refused(void **state) {
    (void)state;
    size_t len = (size_t)4 << 20;
    struct query q = order(&schema, "name");
    char *text = xmalloc(len);
    memset(text, 'A', len);
    assert_refused(&q, text, len);
    assert_refused(&q, text, ((size_t)1 << 20) + 4);
    assert_refused(&q, text, (size_t)1 << 20);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_come_back_with_what_the_order_needs),
        cmocka_unit_test(texts_of_any_length_come_back),
        cmocka_unit_test(a_position_is_appended),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test(cut_and_lengthened_ones_are_refused),
        cmocka_unit_test(those_of_other_orders_and_models_are_refused),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_huge_text_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
