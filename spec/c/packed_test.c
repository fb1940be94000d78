// packed_test: packed columns against a plain number a row, on seeded random
// data.
#include "bits_fixture.h"
#include "model/packed.h"

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
    packed_range(&out, col.data, col.len, width, lo, hi);
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
        packed_in(&out, col.data, col.len, width, values, n);
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

// A set of every kind: the densities, then one whose words are empty, full,
// random, or of a single row.
#define SETS (COUNT(densities) + 1)

static void choose_rows(struct bits *b, bool *chosen, size_t kind) {
    if (kind < COUNT(densities)) {
        random_set(b, chosen, densities[kind]);
        return;
    }
    for (size_t w = 0; w < BITS_WORDS; w++) {
        const uint64_t words[] = {0, UINT64_MAX, next_random(),
                                  UINT64_C(1) << (next_random() & 63)};
        b->word[w] = words[next_random() >> 62];
    }
    for (uint32_t o = 0; o < ROWS; o++) {
        chosen[o] = bits_test(b, o);
    }
}

static bool sort_descending;

// Orders positions as packed_top is to do.
static int compare(const void *a, const void *b) {
    const struct packed_position *x = a;
    const struct packed_position *y = b;
    if ((x->value == 0) != (y->value == 0)) {
        return x->value == 0 ? 1 : -1;
    }
    bool is_less = x->value != y->value ? x->value < y->value : x->row < y->row;
    bool is_same = x->value == y->value && x->row == y->row;
    return is_same ? 0 : is_less != sort_descending ? -1 : 1;
}

// What packed_top is asked, and all rows in order.
struct question {
    struct string col;
    int width;
    struct bits rows;
    struct packed_position sorted[ROWS];
    size_t n;
};

// Asks for k rows, which have to be those in order from place `first` on, and
// returns how many came.
static size_t check_one_top(const struct question *q,
                            const struct packed_position *after, size_t k,
                            size_t first) {
    size_t left = q->n - first;
    size_t room = k < q->n ? k : q->n;
    uint16_t *offsets = malloc(room ? room * sizeof *offsets : 1);
    uint64_t *values = malloc(room ? room * sizeof *values : 1);
    assert_non_null(offsets);
    assert_non_null(values);
    size_t n = packed_top(q->col.data, q->col.len, q->width, &q->rows,
                          sort_descending, after, k, offsets, values);
    assert_int_equal(n, k < left ? k : left);
    for (size_t i = 0; i < n; i++) {
        const struct packed_position *want = &q->sorted[first + i];
        if (offsets[i] != want->row || values[i] != want->value) {
            fail_msg("width %d, %zu of %zu from %zu: place %zu has row %u, "
                     "not %jd",
                     q->width, k, q->n, first, i, offsets[i],
                     (intmax_t)want->row);
        }
    }
    free(values);
    free(offsets);
    return n;
}

// Asks for what comes after a position that need not be one of a row.
static void check_after(const struct question *q, struct packed_position after,
                        size_t k) {
    size_t first = 0;
    size_t last = q->n;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (compare(&q->sorted[middle], &after) > 0) {
            last = middle;
        } else {
            first = middle + 1;
        }
    }
    check_one_top(q, &after, k, first);
}

static void check_positions(const struct question *q) {
    static const int64_t rows[] = {-1, 0, 63, 64, ROWS - 1, ROWS};
    uint64_t max = max_of(q->width);
    const uint64_t values[] = {0, 1, 7, max / 2, max - 2, max};
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t k = i % 2 ? 70 : 3000;
        for (size_t j = 0; j < COUNT(values); j++) {
            struct packed_position after = {values[j], rows[i]};
            check_after(q, after, k);
        }
        if (q->n) {
            struct packed_position after = q->sorted[next_random() % q->n];
            check_after(q, after, k);
            after.row = rows[i];
            check_after(q, after, k);
        }
    }
}

// Reads the whole order in parts, each after the last row of the one before.
static void check_chain(const struct question *q, size_t k) {
    const struct packed_position *after = NULL;
    size_t read = 0;
    for (size_t n; (n = check_one_top(q, after, k, read)) > 0;) {
        read += n;
        after = &q->sorted[read - 1];
    }
    assert_int_equal(read, q->n);
}

// Checks the order of the rows of one set, both ways.
static void check_order(struct question *q, const uint64_t *model,
                        const bool *chosen) {
    const size_t limits[] = {0,   1,    2,    10,   63,   511,         512,
                             513, 1024, 1025, 4000, ROWS, SIZE_MAX / 2};
    q->n = 0;
    for (uint32_t o = 0; o < ROWS; o++) {
        if (chosen[o]) {
            q->sorted[q->n++] = (struct packed_position){model[o], o};
        }
    }
    for (int descending = 0; descending <= 1; descending++) {
        sort_descending = descending;
        qsort(q->sorted, q->n, sizeof *q->sorted, compare);
        for (size_t l = 0; l < COUNT(limits); l++) {
            check_one_top(q, NULL, limits[l], 0);
        }
        check_positions(q);
        check_chain(q, q->n / 9 + 1 + next_random() % 64);
    }
}

static void check_top(struct string col, int width, const uint64_t *model) {
    static bool chosen[ROWS];
    static struct question q;
    q.col = col;
    q.width = width;
    for (size_t kind = 0; kind < SETS; kind++) {
        choose_rows(&q.rows, chosen, kind);
        check_order(&q, model, chosen);
    }
}

static void top_orders_by_number_then_row_from_any_position(void **state) {
    (void)state;
    each_column(check_top);
}

static void top_orders_columns_that_rise_fall_or_stay(void **state) {
    (void)state;
    static uint64_t model[ROWS];
    for (size_t w = 0; w < COUNT(widths); w++) {
        struct string col = string_new(ROWS * (size_t)widths[w]);
        uint64_t step = max_of(widths[w]) / ROWS;
        for (int kind = 0; kind < 5; kind++) {
            for (uint32_t o = 0; o < ROWS; o++) {
                const uint64_t numbers[] = {step ? o * step : o >> 8,
                                            step ? (ROWS - o) * step
                                                 : (ROWS - 1 - o) >> 8,
                                            0, 1, max_of(widths[w])};
                model[o] = numbers[kind];
                packed_put(col.data + o * (size_t)widths[w], widths[w],
                           model[o]);
            }
            check_top(col, widths[w], model);
        }
        free(col.room);
    }
}

static void a_chain_of_single_rows_is_the_whole_order(void **state) {
    (void)state;
    static uint64_t model[ROWS];
    static struct question q;
    for (size_t w = 0; w < COUNT(widths); w++) {
        q.col = column_new(model, 700, widths[w], 0);
        q.width = widths[w];
        for (int descending = 0; descending <= 1; descending++) {
            sort_descending = descending;
            bits_zero(&q.rows);
            for (q.n = 0; q.n < 800; q.n++) { // 100 are missing: null
                uint16_t o = (uint16_t)q.n;
                bits_set(&q.rows, o);
                q.sorted[q.n] = (struct packed_position){model[o], o};
            }
            qsort(q.sorted, q.n, sizeof *q.sorted, compare);
            check_chain(&q, 1);
        }
        free(q.col.room);
    }
}

static void check_sum(struct string col, int width, const uint64_t *model,
                      const struct bits *b, const bool *chosen) {
    const int64_t bases[] = {
        1, 0, -1000, (INT64_C(1) << 53) * -1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < COUNT(bases); i++) {
        __int128 sum = 0;
        uint32_t expected = 0;
        for (uint32_t o = 0; o < ROWS; o++) {
            if (chosen[o] && model[o]) {
                sum += (__int128)bases[i] + model[o] - 1;
                expected++;
            }
        }
        uint32_t count = 77;
        assert_true(packed_sum(col.data, col.len, width, bases[i], b, &count) ==
                    sum);
        assert_int_equal(count, expected);
    }
}

static void check_extremes(struct string col, int width, const uint64_t *model,
                           const struct bits *b, const bool *chosen) {
    uint64_t least = 0;
    uint64_t greatest = 0;
    for (uint32_t o = 0; o < ROWS; o++) {
        if (chosen[o] && model[o]) {
            least = !least || model[o] < least ? model[o] : least;
            greatest = model[o] > greatest ? model[o] : greatest;
        }
    }
    assert_true(packed_min(col.data, col.len, width, b) == least);
    assert_true(packed_max(col.data, col.len, width, b) == greatest);
}

static void check_histogram(struct string col, int width, const uint64_t *model,
                            const struct bits *b, const bool *chosen) {
    size_t places = (size_t)max_of(width) + 1;
    uint64_t *counts = malloc(places * sizeof *counts);
    uint64_t *expected = malloc(places * sizeof *expected);
    assert_non_null(counts);
    assert_non_null(expected);
    for (size_t i = 0; i < places; i++) { // what is there is added to
        counts[i] = expected[i] = UINT64_C(5000000000) + i;
    }
    for (uint32_t o = 0; o < ROWS; o++) {
        expected[model[o]] += chosen[o];
    }
    packed_histogram(col.data, col.len, width, b, counts);
    assert_memory_equal(counts, expected, places * sizeof *counts);
    free(expected);
    free(counts);
}

static void check_aggregates(struct string col, int width,
                             const uint64_t *model) {
    static bool chosen[ROWS];
    struct bits b;
    for (size_t kind = 0; kind < SETS; kind++) {
        choose_rows(&b, chosen, kind);
        check_sum(col, width, model, &b, chosen);
        check_extremes(col, width, model, &b, chosen);
        if (width <= 2) {
            check_histogram(col, width, model, &b, chosen);
        }
    }
}

static void sums_extremes_and_histograms_leave_nulls_out(void **state) {
    (void)state;
    each_column(check_aggregates);
}

static void aggregates_of_nulls_are_zero(void **state) {
    (void)state;
    static uint64_t model[ROWS];
    for (size_t w = 0; w < COUNT(widths); w++) {
        struct string col = string_new(ROWS * (size_t)widths[w]);
        check_aggregates(col, widths[w], model);
        free(col.room);
    }
}

int main(void) {
#define SPEC(f) cmocka_unit_test_setup(f, reseed)
    const struct CMUnitTest tests[] = {
        SPEC(packed_numbers_are_big_endian),
        SPEC(packed_numbers_are_read_back_and_missing_ones_are_0),
        SPEC(a_range_finds_the_rows_from_lo_to_hi),
        SPEC(in_finds_the_rows_that_hold_one_of_many_values),
        SPEC(top_orders_by_number_then_row_from_any_position),
        SPEC(top_orders_columns_that_rise_fall_or_stay),
        SPEC(a_chain_of_single_rows_is_the_whole_order),
        SPEC(sums_extremes_and_histograms_leave_nulls_out),
        SPEC(aggregates_of_nulls_are_zero),
    };
    return cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
