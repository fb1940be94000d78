// bits_test: bits and packed columns against a plain bool a row, on seeded
// random data.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/bits.h"

#define ROWS BITS_ROWS

static uint64_t seed;

static uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int reseed(void **state) {
    (void)state;
    seed = UINT64_C(0x9e3779b97f4a7c15);
    return 0;
}

// A Redis string at an odd address that ends where its allocation does, so
// that a sanitizer sees any read past the end.
struct string {
    char *room;
    char *data;
    size_t len;
};

static struct string string_new(size_t len) {
    struct string s = {.room = malloc(len + 1), .len = len};
    assert_non_null(s.room);
    s.data = s.room + 1;
    memset(s.data, 0, len);
    return s;
}

// How full a random set is: one row in 2 to the density; 64 is none.
enum { FULL = 0, HALF = 1, SPARSE = 9, EMPTY = 64 };
static const int densities[] = {FULL, HALF, 3, SPARSE, EMPTY};

static bool happens(int density) {
    return density < 64 &&
           !(next_random() >> 7 & ((UINT64_C(1) << density) - 1));
}

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

static void random_set(struct bits *b, bool *model, int density) {
    bits_zero(b);
    memset(model, 0, ROWS);
    for (uint32_t o = 0; o < ROWS; o++) {
        if (happens(density)) {
            bits_set(b, o);
            model[o] = true;
        }
    }
}

static const size_t lengths[] = {
    0,  1,  2,  3,  4,   5,    6,    7,    8,    9,    10,   11,   12,  13,
    14, 15, 16, 17, 127, 4096, 8183, 8184, 8185, 8191, 8192, 8193, 8200};
#define COUNT(a) (sizeof(a) / sizeof *(a))

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

static const int widths[] = {1, 2, 4, 8};

static uint64_t max_of(int width) {
    return width == 1   ? UINT8_MAX
           : width == 2 ? UINT16_MAX
           : width == 4 ? UINT32_MAX
                        : UINT64_MAX;
}

// A column of rows random numbers and stray bytes of another, and what each
// row holds. The extremes, nulls and a few near numbers come up often.
static struct string column_new(uint64_t *model, size_t rows, int width,
                                size_t stray) {
    struct string s = string_new(rows * (size_t)width + stray);
    memset(s.data, 0xff, s.len);
    memset(model, 0, ROWS * sizeof *model);
    uint64_t max = max_of(width);
    for (size_t o = 0; o < rows; o++) {
        uint64_t r = next_random();
        uint64_t choice = r >> 60;
        uint64_t v = choice < 2    ? 0
                     : choice < 4  ? max - (r >> 20 & 3)
                     : choice < 10 ? r >> 20 & 15
                                   : r & max;
        packed_put(s.data + o * (size_t)width, width, v);
        if (o < ROWS) {
            model[o] = v;
        }
    }
    return s;
}

static void packed_numbers_are_big_endian(void **state) {
    (void)state;
    char out[9];
    memset(out, 'x', sizeof out);
    packed_put(out, 8, UINT64_C(0x0102030405060708));
    assert_memory_equal(out, "\1\2\3\4\5\6\7\10x", 9);
    packed_put(out, 4, 0xfffefdfc);
    assert_memory_equal(out, "\xff\xfe\xfd\xfc\5", 5);
    packed_put(out, 2, 0x8001);
    assert_memory_equal(out, "\x80\1\xfd", 3);
    packed_put(out, 1, 0xab);
    assert_memory_equal(out, "\xab\1", 2);
    assert_true(packed_get("\1\2\3\4\5\6\7\10", 8, 8, 0) ==
                UINT64_C(0x0102030405060708));
    assert_int_equal(packed_get("\1\2\3\4\5\6\7\10", 8, 4, 1), 0x05060708);
    assert_int_equal(packed_get("\1\2\3\4\5\6\7\10", 8, 2, 2), 0x0506);
    assert_int_equal(packed_get("\1\2\3\4\5\6\7\10", 8, 1, 6), 7);
}

// Calls check with columns of every width and of telling lengths, whole and
// with a number cut short at the end.
static void each_column(void (*check)(struct string, int, const uint64_t *)) {
    static uint64_t model[ROWS];
    static const size_t rows[] = {0,  1,   2,     17,    62,   63,        64,
                                  65, 128, 40000, 65535, ROWS, ROWS + 100};
    for (size_t w = 0; w < COUNT(widths); w++) {
        for (size_t i = 0; i < COUNT(rows); i++) {
            size_t stray = i % 2 ? (size_t)widths[w] - 1 : 0;
            struct string col = column_new(model, rows[i], widths[w], stray);
            check(col, widths[w], model);
            free(col.room);
        }
        check((struct string){0}, widths[w], memset(model, 0, sizeof model));
    }
}

static void check_get(struct string col, int width, const uint64_t *model) {
    for (uint32_t o = 0; o < ROWS; o++) {
        assert_true(packed_get(col.data, col.len, width, o) == model[o]);
    }
}

static void packed_numbers_are_read_back_and_missing_ones_are_0(void **state) {
    (void)state;
    each_column(check_get);
}

static void check_one_range(struct string col, int width, const uint64_t *model,
                            uint64_t lo, uint64_t hi) {
    struct bits out;
    memset(&out, 0xa5, sizeof out);
    bits_range(&out, col.data, col.len, width, lo, hi);
    for (uint32_t o = 0; o < ROWS; o++) {
        if (bits_test(&out, o) != (lo <= model[o] && model[o] <= hi)) {
            fail_msg("width %d, row %u of %zu bytes: %ju in %ju..%ju", width, o,
                     col.len, (uintmax_t)model[o], (uintmax_t)lo,
                     (uintmax_t)hi);
        }
    }
}

static void check_range(struct string col, int width, const uint64_t *model) {
    uint64_t max = max_of(width);
    const uint64_t ends[] = {0,           1,       2,   7,         max / 2,
                             max / 2 + 1, max - 1, max, UINT64_MAX};
    for (size_t i = 0; i < COUNT(ends); i++) {
        for (size_t j = 0; j < COUNT(ends); j++) {
            check_one_range(col, width, model, ends[i], ends[j]);
        }
    }
    if (width < 8) {
        check_one_range(col, width, model, max + 1, max + 9);
        check_one_range(col, width, model, 1, max + 1);
    }
    for (int i = 0; i < 4; i++) {
        check_one_range(col, width, model, next_random() & max,
                        next_random() & max);
    }
}

static void a_range_finds_the_rows_from_lo_to_hi(void **state) {
    (void)state;
    each_column(check_range);
}

static void check_in(struct string col, int width, const uint64_t *model) {
    static const size_t counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 16, 31, 200};
    uint64_t max = max_of(width);
    for (size_t c = 0; c < COUNT(counts); c++) {
        size_t n = counts[c];
        uint64_t *values = malloc(n ? n * sizeof *values : 1);
        assert_non_null(values);
        for (size_t i = 0; i < n; i++) {
            uint64_t r = next_random();
            values[i] = r >> 62 == 0   ? r & 15
                        : r >> 62 == 1 ? model[r % ROWS]
                        : r >> 62 == 2 ? max - (r & 3)
                                       : r; // mostly wider than the column
        }
        struct bits out;
        memset(&out, 0xa5, sizeof out);
        bits_in(&out, col.data, col.len, width, values, n);
        for (uint32_t o = 0; o < ROWS; o++) {
            bool found = false;
            for (size_t i = 0; i < n && !found; i++) {
                found = values[i] == model[o];
            }
            if (bits_test(&out, o) != found) {
                fail_msg("width %d, %zu values, row %u holds %ju", width, n, o,
                         (uintmax_t)model[o]);
            }
        }
        free(values);
    }
}

static void in_finds_the_rows_that_hold_one_of_many_values(void **state) {
    (void)state;
    each_column(check_in);
}

struct row {
    uint64_t value;
    uint16_t offset;
};

static bool sort_descending;

static int compare_rows(const void *a, const void *b) {
    const struct row *x = a;
    const struct row *y = b;
    if ((x->value == 0) != (y->value == 0)) {
        return x->value == 0 ? 1 : -1;
    }
    if (x->value != y->value) {
        return (x->value < y->value) != sort_descending ? -1 : 1;
    }
    return x->offset - y->offset;
}

static void check_one_top(struct string col, int width, const struct bits *b,
                          const struct row *sorted, size_t n, size_t k) {
    size_t room = k < n ? k : n;
    uint16_t *offsets = malloc(room ? room * sizeof *offsets : 1);
    uint64_t *values = malloc(room ? room * sizeof *values : 1);
    assert_non_null(offsets);
    assert_non_null(values);
    assert_int_equal(packed_top(col.data, col.len, width, b, sort_descending, k,
                                offsets, values),
                     room);
    for (size_t i = 0; i < room; i++) {
        if (offsets[i] != sorted[i].offset || values[i] != sorted[i].value) {
            fail_msg("width %d, %zu of %zu: place %zu has row %u, not %u",
                     width, k, n, i, offsets[i], sorted[i].offset);
        }
    }
    free(values);
    free(offsets);
}

static void check_top(struct string col, int width, const uint64_t *model) {
    static bool chosen[ROWS];
    static struct row sorted[ROWS];
    const size_t limits[] = {0,   1,   2,    10,   63,          511,
                             512, 513, 4000, ROWS, SIZE_MAX / 2};
    for (size_t d = 0; d < COUNT(densities); d++) {
        struct bits b;
        random_set(&b, chosen, densities[d]);
        size_t n = 0;
        for (uint32_t o = 0; o < ROWS; o++) {
            if (chosen[o]) {
                sorted[n++] = (struct row){model[o], (uint16_t)o};
            }
        }
        for (int descending = 0; descending <= 1; descending++) {
            sort_descending = descending;
            qsort(sorted, n, sizeof *sorted, compare_rows);
            for (size_t l = 0; l < COUNT(limits); l++) {
                check_one_top(col, width, &b, sorted, n, limits[l]);
            }
        }
    }
}

static void top_orders_by_number_then_row_with_nulls_last(void **state) {
    (void)state;
    each_column(check_top);
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
        SPEC(packed_numbers_are_big_endian),
        SPEC(packed_numbers_are_read_back_and_missing_ones_are_0),
        SPEC(a_range_finds_the_rows_from_lo_to_hi),
        SPEC(in_finds_the_rows_that_hold_one_of_many_values),
        SPEC(top_orders_by_number_then_row_with_nulls_last),
    };
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
