// bits_test: sets of rows against a plain bool a row, on seeded random data.
#include "bits_fixture.h"

// Fills the string and its model as SETBIT would.
static void fill_bitmap(struct string *s, bool *model, int density) {
    memset(s->data, 0, s->len);
    memset(model, 0, ROWS);
    for (size_t o = 0; o < s->len * 8; o++) {
        bool on = happens(density);
        if (on) {
            s->data[o / 8] |= (char)(1 << (7 - o % 8));
        }
        if (o < ROWS) {
            model[o] = on;
        }
    }
}

static void assert_same(const struct bits *b, const bool *model) {
    for (uint32_t o = 0; o < ROWS; o++) {
        if (bits_test(b, o) != model[o]) {
            fail_msg("row %u is %d", o, !model[o]);
        }
    }
}

static const size_t lengths[] = {
    0,  1,  2,  3,  4,   5,    6,    7,    8,    9,    10,   11,   12,  13,
    14, 15, 16, 17, 127, 4096, 8183, 8184, 8185, 8191, 8192, 8193, 8200};

static void a_bitmap_is_read_in_the_order_of_setbit(void **state) {
    (void)state;
    struct bits b;
    bits_load(&b, "\x80\x01\x40", 3); // SETBIT 0, 15, 17
    uint16_t rows[4];
    assert_int_equal(bits_list(&b, rows, 4, 0), 3);
    assert_int_equal(rows[0], 0);
    assert_int_equal(rows[1], 15);
    assert_int_equal(rows[2], 17);
}

static void bitmaps_of_every_length_load_and_store(void **state) {
    (void)state;
    static bool model[ROWS];
    for (size_t i = 0; i < COUNT(lengths); i++) {
        for (size_t d = 0; d < COUNT(densities); d++) {
            struct string s = string_new(lengths[i]);
            fill_bitmap(&s, model, densities[d]);
            struct bits b;
            memset(&b, 0xa5, sizeof b);
            bits_load(&b, s.data, s.len);
            assert_same(&b, model);

            struct string stored = string_new(BITS_BYTES);
            memset(stored.data, 0xa5, stored.len);
            bits_store(&b, stored.data);
            size_t common = s.len < BITS_BYTES ? s.len : BITS_BYTES;
            assert_memory_equal(stored.data, s.data, common);
            for (size_t at = common; at < BITS_BYTES; at++) {
                assert_int_equal(stored.data[at], 0);
            }
            free(stored.room);
            free(s.room);
        }
    }
}

static void an_absent_bitmap_is_empty(void **state) {
    (void)state;
    static bool model[ROWS];
    struct bits b;
    random_set(&b, model, HALF);
    bits_or_bytes(&b, NULL, 0);
    bits_andnot_bytes(&b, NULL, 0);
    assert_same(&b, model);
    assert_int_equal(bits_and_count(&b, NULL, 0), 0);
    bits_and_bytes(&b, NULL, 0);
    assert_false(bits_any(&b));
    memset(&b, 0xff, sizeof b);
    bits_load(&b, NULL, 0);
    assert_false(bits_any(&b));
}

enum op { AND, OR, ANDNOT };

static bool combined(enum op op, bool x, bool y) {
    return op == AND ? x && y : op == OR ? x || y : x && !y;
}

static void combine(enum op op, struct bits *dst, const struct bits *src) {
    switch (op) {
    case AND: bits_and(dst, src); break;
    case OR: bits_or(dst, src); break;
    case ANDNOT: bits_andnot(dst, src); break;
    }
}

static void combine_bytes(enum op op, struct bits *dst, struct string s) {
    switch (op) {
    case AND: bits_and_bytes(dst, s.data, s.len); break;
    case OR: bits_or_bytes(dst, s.data, s.len); break;
    case ANDNOT: bits_andnot_bytes(dst, s.data, s.len); break;
    }
}

static void check_and_count(const struct bits *b, struct string s,
                            const bool *both) {
    uint32_t count = 0;
    for (uint32_t o = 0; o < ROWS; o++) {
        count += both[o];
    }
    assert_int_equal(bits_and_count(b, s.data, s.len), count);
}

static void check_combining(struct string s, int density) {
    static bool left[ROWS];
    static bool right[ROWS];
    static bool both[ROWS];
    fill_bitmap(&s, right, density);
    for (enum op op = AND; op <= ANDNOT; op++) {
        struct bits a;
        struct bits loaded;
        random_set(&a, left, HALF);
        for (uint32_t o = 0; o < ROWS; o++) {
            both[o] = combined(op, left[o], right[o]);
        }
        struct bits direct = a;
        if (op == AND) {
            check_and_count(&a, s, both);
        }
        bits_load(&loaded, s.data, s.len);
        combine(op, &a, &loaded);
        assert_same(&a, both);
        combine_bytes(op, &direct, s);
        assert_same(&direct, both);
    }
}

static void sets_combine_loaded_or_straight_from_the_string(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct string s = string_new(lengths[i]);
        check_combining(s, HALF);
        free(s.room);
    }
    for (size_t d = 0; d < COUNT(densities); d++) {
        struct string s = string_new(BITS_BYTES);
        check_combining(s, densities[d]);
        free(s.room);
    }
}

static void single_rows_are_set_cleared_and_listed(void **state) {
    (void)state;
    static bool model[ROWS];
    static uint16_t rows[5000];
    struct bits b;
    random_set(&b, model, SPARSE);
    for (size_t i = 0; i < COUNT(rows); i++) {
        rows[i] = i == 0 ? 0 : i == 1 ? ROWS - 1 : (uint16_t)next_random();
        model[rows[i]] = true;
    }
    bits_set_list(&b, rows, COUNT(rows));
    assert_same(&b, model);
    for (size_t i = 0; i < COUNT(rows); i += 2) {
        bits_clear(&b, rows[i]);
        model[rows[i]] = false;
    }
    assert_same(&b, model);
    bits_zero(&b);
    memset(model, 0, sizeof model);
    assert_same(&b, model);
}

static void check_count(const struct bits *b, const bool *model) {
    uint32_t count = 0;
    for (uint32_t o = 0; o < ROWS; o++) {
        count += model[o];
    }
    assert_int_equal(bits_count(b), count);
    assert_int_equal(bits_any(b), count > 0);
}

static void rows_are_counted(void **state) {
    (void)state;
    static bool model[ROWS];
    struct bits b;
    for (size_t d = 0; d < COUNT(densities); d++) {
        random_set(&b, model, densities[d]);
        check_count(&b, model);
    }
    for (uint32_t o = 0; o < ROWS; o += 63) {
        bits_zero(&b);
        bits_set(&b, o);
        assert_int_equal(bits_count(&b), 1);
        assert_true(bits_any(&b));
    }
}

static void check_walks(const struct bits *b, const bool *model) {
    uint32_t next = ROWS;
    for (uint32_t o = ROWS; o-- > 0;) {
        next = model[o] ? o : next;
        if (bits_next(b, o) != next) {
            fail_msg("next of %u is %u", o, bits_next(b, o));
        }
    }
    int32_t prev = -1;
    for (int32_t o = 0; o < (int32_t)ROWS; o++) {
        prev = model[o] ? o : prev;
        if (bits_prev(b, o) != prev) {
            fail_msg("prev of %d is %d", o, bits_prev(b, o));
        }
    }
    assert_int_equal(bits_last(b), prev);
    assert_int_equal(bits_prev(b, ROWS), prev);
    assert_int_equal(bits_prev(b, INT32_MAX), prev);
    assert_int_equal(bits_prev(b, -1), -1);
    assert_int_equal(bits_next(b, ROWS), ROWS);
    assert_int_equal(bits_next(b, UINT32_MAX), ROWS);
}

static void rows_are_walked_both_ways(void **state) {
    (void)state;
    static bool model[ROWS];
    struct bits b;
    for (size_t d = 0; d < COUNT(densities); d++) {
        random_set(&b, model, densities[d]);
        check_walks(&b, model);
    }
    const uint32_t lone[] = {0, 1, 63, 64, 127, 32768, 65471, 65472, 65535};
    for (size_t i = 0; i < COUNT(lone); i++) {
        random_set(&b, model, EMPTY);
        bits_set(&b, lone[i]);
        model[lone[i]] = true;
        check_walks(&b, model);
    }
}

static void check_list(const struct bits *b, const bool *model, size_t max,
                       uint32_t from) {
    uint16_t *out = malloc(max ? max * sizeof *out : 1);
    assert_non_null(out);
    size_t n = bits_list(b, out, max, from);
    size_t expected = 0;
    for (uint32_t o = from; o < ROWS && expected < max; o++) {
        if (model[o]) {
            assert_true(expected < n);
            assert_int_equal(out[expected], o);
            expected++;
        }
    }
    assert_int_equal(n, expected);
    free(out);
}

static void rows_are_listed_from_anywhere_up_to_a_limit(void **state) {
    (void)state;
    static bool model[ROWS];
    const uint32_t froms[] = {0,     1,     63,    64,    65,   100,
                              30000, 65471, 65472, 65535, ROWS, ROWS + 70};
    const size_t limits[] = {0, 1, 2, 63, 64, 65, 1000, ROWS};
    struct bits b;
    for (size_t d = 0; d < COUNT(densities); d++) {
        random_set(&b, model, densities[d]);
        for (size_t f = 0; f < COUNT(froms); f++) {
            for (size_t l = 0; l < COUNT(limits); l++) {
                check_list(&b, model, limits[l], froms[f]);
            }
        }
    }
}

int main(void) {
#define SPEC(f) cmocka_unit_test_setup(f, reseed)
    const struct CMUnitTest tests[] = {
        SPEC(a_bitmap_is_read_in_the_order_of_setbit),
        SPEC(bitmaps_of_every_length_load_and_store),
        SPEC(an_absent_bitmap_is_empty),
        SPEC(sets_combine_loaded_or_straight_from_the_string),
        SPEC(single_rows_are_set_cleared_and_listed),
        SPEC(rows_are_counted),
        SPEC(rows_are_walked_both_ways),
        SPEC(rows_are_listed_from_anywhere_up_to_a_limit),
    };
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
