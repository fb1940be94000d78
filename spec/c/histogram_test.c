// histogram_test: counts, quantiles and their error.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/histogram.h"

static const uint64_t us = 1000, ms = 1000000, second = 1000000000;

static void test_empty(void **state) {
    (void)state;
    struct histogram h = {0};
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    assert_int_equal(h.count, 0);
}

static void test_one(void **state) {
    (void)state;
    const uint64_t lengths[] = {0, 1, 999, 5 * us, 17 * us, 3 * ms, 7 * second};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct histogram h = {0};
        histogram_add(&h, lengths[i]);
        assert_int_equal(histogram_quantile(&h, 0), lengths[i]);
        assert_int_equal(histogram_quantile(&h, 0.5), lengths[i]);
        assert_int_equal(histogram_quantile(&h, 1), lengths[i]);
        assert_int_equal(h.max, lengths[i]);
    }
}

// what a quantile says is never too small, and at most a sixteenth too large
static void test_error(void **state) {
    (void)state;
    for (uint64_t ns = 16 * us; ns < 1000 * second; ns += ns / 37 + 1) {
        struct histogram h = {0};
        histogram_add(&h, ns);
        histogram_add(&h, 2000 * second);
        uint64_t q = histogram_quantile(&h, 0.25);
        assert_true(q >= ns);
        assert_true(q <= ns + ns / 16 + us);
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles_of_random_lengths(void **state) {
    (void)state;
    enum { count = 10000 };
    static uint64_t list[count];
    struct histogram h = {0}, other = {0}, sum = {0};
    srandom(5);
    for (int i = 0; i < count; i++) {
        list[i] =
            (uint64_t)random() % (second / (1 + (uint64_t)random() % 999));
        histogram_add(i % 2 ? &h : &other, list[i]);
    }
    histogram_merge(&sum, &h);
    histogram_merge(&sum, &other);
    qsort(list, count, sizeof list[0], compare);
    assert_int_equal(sum.count, count);
    assert_int_equal(sum.max, list[count - 1]);
    for (int i = 1; i < 100; i++) {
        uint64_t exact = list[count * i / 100];
        uint64_t q = histogram_quantile(&sum, i / 100.0);
        assert_true(q >= exact);
        assert_true(q <= exact + exact / 16 + us);
    }
    assert_int_equal(histogram_quantile(&sum, 1), list[count - 1]);
}

static void test_what_is_too_long_is_counted_at_the_end(void **state) {
    (void)state;
    struct histogram h = {0};
    histogram_add(&h, UINT64_MAX);
    histogram_add(&h, 1 * us);
    assert_int_equal(h.max, UINT64_MAX);
    assert_true(histogram_quantile(&h, 1) > 3600 * second);
    assert_true(histogram_quantile(&h, 0.1) <= 2 * us);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_quantiles_of_random_lengths),
        cmocka_unit_test(test_what_is_too_long_is_counted_at_the_end),
    };
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
