// num_test: doubles to text and back.
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void assert_text(double v, const char *expected) {
    char text[NUM_TEXT + 1];
    size_t len = num_format(text, v);
    assert_in_range(len, 1, NUM_TEXT);
    text[len] = 0;
    assert_string_equal(text, expected);
}

static void assert_same_bits(double a, double b) {
    assert_memory_equal(&a, &b, sizeof a);
}

static void assert_round_trip(double v) {
    char text[NUM_TEXT];
    double back = 1;
    size_t len = num_format(text, v);
    assert_int_equal(num_parse(text, len, &back), 0);
    assert_same_bits(back, v);
}

static void assert_parses(const char *s) {
    double v = 1;
    assert_int_equal(num_parse(s, strlen(s), &v), 0);
    assert_same_bits(v, strtod(s, NULL));
}

static void assert_refused(const char *s) {
    double v = 7;
    assert_int_equal(num_parse(s, strlen(s), &v), -1);
    assert_true(v == 7);
}

static void formats_integers_plainly(void **state) {
    (void)state;
    assert_text(0, "0");
    assert_text(-0.0, "-0");
    assert_text(7, "7");
    assert_text(-1234567890, "-1234567890");
    assert_text(1e15, "1000000000000000");
    assert_text(9007199254740991, "9007199254740991");
    assert_text(9007199254740992, "9007199254740992");
    assert_text(-9007199254740992, "-9007199254740992");
    assert_text(9007199254740994, "9007199254740994");
    assert_text(1e21, "1e21");
}

static void formats_the_shortest_fraction(void **state) {
    (void)state;
    assert_text(0.1, "0.1");
    assert_text(-0.1, "-0.1");
    assert_text(0.1 + 0.2, "0.30000000000000004");
    assert_text(19.99, "19.99");
    assert_text(0.000001, "1e-6");
    assert_text(0.0001, "0.0001");
    assert_text(0.00012, "0.00012");
    assert_text(1.05, "1.05");
    assert_text(123456789.123, "123456789.123");
    assert_text(999999999.999999, "999999999.999999");
    assert_text(1.0 / 3, "0.3333333333333333");
    assert_text(2.0 / 3, "0.6666666666666666");
}

static void formats_the_ends_of_the_range(void **state) {
    (void)state;
    assert_text(5e-324, "5e-324");
    assert_text(-1e-320, "-1e-320");
    assert_text(DBL_MIN, "2.2250738585072014e-308");
    assert_text(-DBL_MAX, "-1.7976931348623157e308");
}

static void fits_whatever_it_is_given(void **state) {
    (void)state;
    char text[NUM_TEXT];
    assert_in_range(num_format(text, NAN), 1, NUM_TEXT);
    assert_in_range(num_format(text, -INFINITY), 1, NUM_TEXT);
    assert_in_range(num_format(text, -2.2250738585072011e-308), 1, NUM_TEXT);
}

static void parses_what_strtod_does(void **state) {
    (void)state;
    static const char *const good[] = {
        "0",
        "-0",
        "-0.0",
        "0e5",
        "0E-999999999999999999999",
        "1",
        "-12",
        "123456789012345",
        "9007199254740993",
        "12345678901234567890",
        "0.1",
        "1.5e3",
        "1E+2",
        "1e-2",
        "1e22",
        "1e23",
        "-1.25e-22",
        "9007199254740992e22",
        "9007199254740993e-22",
        "1e-400",
        "1e308",
        "179769313486231570e291",
        "0.000000000000000000000000000001",
        "0.1000000000000000055511151231257827021181583404541015625",
        "2.22507385850720113605740979670913197593481954635164565e-308",
        "100000000000000000000000000000000000000000000000000000000000000e-50",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_parses(good[i]);
    }
}

static void weighs_long_fractions_against_exponents(void **state) {
    (void)state;
    size_t zeros = 200000;
    char *text = malloc(zeros + 32);
    assert_non_null(text);
    memcpy(text, "0.", 2);
    memset(text + 2, '0', zeros);
    strcpy(text + 2 + zeros, "1e200001");
    assert_parses(text);
    strcpy(text + 2 + zeros, "1e9999999");
    assert_refused(text);
    free(text);
}

static void refuses_what_is_not_json(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",    "-",    "+1",       "01",    "-01",    "00",  ".5",
        "1.",  "1.e5", "1e",       "1e+",   "1e+-1",  "e5",  "-e5",
        " 1",  "1 ",   "1x",       "0x10",  "1,5",    "--1", "nan",
        "inf", "-inf", "Infinity", "1e999", "-1e309", "1_0", "1.2.3",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_refused(bad[i]);
    }
    double v;
    assert_int_equal(num_parse("1\0", 2, &v), -1);
}

static void reads_no_further_than_len(void **state) {
    (void)state;
    double v = 0;
    assert_int_equal(num_parse("12345", 2, &v), 0);
    assert_true(v == 12);
    assert_int_equal(num_parse("1.23456789012345678e99", 19, &v), 0);
    assert_same_bits(v, 1.23456789012345678);
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void round_trips_random_doubles(void **state) {
    (void)state;
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = next_random(&seed);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v)) {
            assert_round_trip(v);
        }
    }
}

static void round_trips_random_decimals(void **state) {
    (void)state;
    static const double scales[] = {1,   1e1, 1e2, 1e3, 1e4,
                                    1e5, 1e6, 1e7, 1e9, 1e12};
    uint64_t seed = 362436069;
    for (int i = 0; i < 200000; i++) {
        int64_t units = (int64_t)next_random(&seed) >> (11 + i % 50);
        double v = (double)units / scales[(size_t)i % COUNT(scales)];
        char text[NUM_TEXT + 1];
        char expected[NUM_TEXT + 1];
        assert_round_trip(v);
        snprintf(expected, sizeof expected, "%.15g", v);
        text[num_format(text, v)] = 0;
        if (v != 0 && strtod(expected, NULL) == v && !strchr(expected, 'e')) {
            assert_string_equal(text, expected);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_integers_plainly),
        cmocka_unit_test(formats_the_shortest_fraction),
        cmocka_unit_test(formats_the_ends_of_the_range),
        cmocka_unit_test(fits_whatever_it_is_given),
        cmocka_unit_test(parses_what_strtod_does),
        cmocka_unit_test(weighs_long_fractions_against_exponents),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(reads_no_further_than_len),
        cmocka_unit_test(round_trips_random_doubles),
        cmocka_unit_test(round_trips_random_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
