// value_test: the text forms of model values.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/value.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { FORKED_UUIDS = 10000 };

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

// Texts are parsed from a block of their own size, where a sanitizer sees
// whoever reads on.
static int parse_date(const char *s, int32_t *days) {
    size_t len = strlen(s);
    char *copy = xmalloc(len + 1);
    char *text = memcpy(copy + 1, s, len);
    int status = value_parse_date(text, len, days);
    free(copy);
    return status;
}

static int parse_time(const char *s, double *seconds) {
    size_t len = strlen(s);
    char *copy = xmalloc(len + 1);
    char *text = memcpy(copy + 1, s, len);
    int status = value_parse_time(text, len, seconds);
    free(copy);
    return status;
}

// Dates

static void assert_date(const char *s, int32_t expected) {
    int32_t days = 7;
    char text[VALUE_DATE];
    assert_int_equal(parse_date(s, &days), 0);
    assert_int_equal(days, expected);
    assert_int_equal(value_format_date(text, days), VALUE_DATE);
    assert_memory_equal(text, s, VALUE_DATE);
}

static void dates_are_days_since_1970(void **state) {
    (void)state;
    assert_date("1970-01-01", 0);
    assert_date("1969-12-31", -1);
    assert_date("1970-03-01", 59);
    assert_date("2000-02-29", 11016);
    assert_date("2026-11-21", 20778);
    assert_date("1900-03-01", -25508);
    assert_date("0001-01-01", -719162);
    assert_date("9999-12-31", 2932896);
}

static void only_real_dates_are_read(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",           "2026-11-2",  "2026-11-211", "2026-11-21 ", " 2026-11-21",
        "2026-1-21",  "2026/11/21", "20261121",    "2026-11-31",  "2026-02-29",
        "1900-02-29", "2100-02-29", "0000-01-01",  "0000-02-29",  "2026-00-10",
        "2026-13-10", "2026-01-00", "2026-01-32",  "2026-04-31",  "-026-01-01",
        "+026-01-01", "2026--1-01", "2026-01--1",  "2026-01-+1",  "202a-01-01",
        "2026-0b-01", "2026-01-0c", "2026-01 01",  "10000-01-01", "2026-11-21T",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        int32_t days = 7;
        assert_int_equal(parse_date(bad[i], &days), -1);
        assert_int_equal(days, 7);
    }
    int32_t days;
    assert_int_equal(value_parse_date("2026-11\0-1", 10, &days), -1);
    assert_int_equal(value_parse_date("2026-11-21", 9, &days), -1);
    assert_int_equal(value_parse_date("2026-11-213", 10, &days), 0);
}

static void days_beyond_the_years_have_no_text(void **state) {
    (void)state;
    static const int32_t outside[] = {-719163, 2932897, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < COUNT(outside); i++) {
        char text[VALUE_DATE] = "untouched";
        assert_int_equal(value_format_date(text, outside[i]), 0);
        assert_string_equal(text, "untouched");
    }
}

static int days_in(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
    return days[month - 1] + (is_leap && month == 2);
}

// assert_day compares without cmocka, which would take most of the time.
static void assert_day(const char *expected, int32_t day) {
    int32_t days = day + 1;
    char text[VALUE_DATE];
    if (value_parse_date(expected, VALUE_DATE, &days) || days != day ||
        value_format_date(text, day) != VALUE_DATE ||
        memcmp(text, expected, VALUE_DATE) != 0) {
        fail_msg("%s is day %d, got %d, %.10s", expected, day, days, text);
    }
}

static void every_day_from_0001_to_9999_round_trips(void **state) {
    (void)state;
    int32_t day = -719162;
    for (int year = 1; year <= 9999; year++) {
        for (int month = 1; month <= 12; month++) {
            char text[32];
            snprintf(text, sizeof text, "%04d-%02d-00", year, month);
            for (int d = 1; d <= days_in(year, month); d++) {
                text[8] = (char)('0' + d / 10);
                text[9] = (char)('0' + d % 10);
                assert_day(text, day++);
            }
        }
    }
    assert_int_equal(day, 2932897);
}

// Times

static void assert_time(const char *s, double expected) {
    double seconds = -7;
    if (parse_time(s, &seconds) ||
        memcmp(&seconds, &expected, sizeof seconds)) {
        fail_msg("%s is %.17g, got %.17g", s, expected, seconds);
    }
}

static void assert_time_text(double seconds, const char *expected) {
    char text[VALUE_TIME + 1];
    size_t len = value_format_time(text, seconds);
    assert_in_range(len, 20, VALUE_TIME);
    text[len] = 0;
    assert_string_equal(text, expected);
}

static void times_are_read_in_every_form(void **state) {
    (void)state;
    double noon = 1795262400;
    assert_time("2026-11-21T12:00:00Z", noon);
    assert_time("2026-11-21t12:00:00z", noon);
    assert_time("2026-11-21 12:00:00Z", noon);
    assert_time("2026-11-21T12:00Z", noon);
    assert_time("2026-11-21T12:00+00:00", noon);
    assert_time("2026-11-21T12:00-00:00", noon);
    assert_time("2026-11-21T12:00:00+01:30", noon - 5400);
    assert_time("2026-11-21T12:00:00-0130", noon + 5400);
    assert_time("2026-11-21T12:00:00+0130", noon - 5400);
    assert_time("2026-11-21T12:00-08", noon + 28800);
    assert_time("2026-11-21T12:00:00+23:59", noon - 86340);
    assert_time("2026-11-21T00:30:00+01:00", noon - 45000);
    assert_time("2026-11-21T23:59:59Z", noon + 43199);
    assert_time("2026-11-21T12:00:00.5Z", noon + 0.5);
    assert_time("2026-11-21T12:00:00,5-01", noon + 3600.5);
    assert_time("2026-11-21T12:00:00.000000000Z", noon);
    assert_time("2026-11-21T12:00:00.123456Z", 1795262400.123456);
    assert_time("2026-11-21T12:00:00.123456789Z", 1795262400.123456789);
    assert_time("2026-11-21", noon - 43200);
    assert_time("1970-01-01", 0);
}

static void times_before_1970_are_negative(void **state) {
    (void)state;
    assert_time("1970-01-01T00:00:00.0Z", 0);
    assert_time("1969-12-31T23:59:59.5Z", -0.5);
    assert_time("1969-12-31T23:59:59.999999999Z", -1e-9);
    assert_time("1969-12-31T23:59:59Z", -1);
    assert_time("1969-12-31T23:59:58.75Z", -1.25);
    assert_time("1969-12-31T23:59:58.000001Z", -1.999999);
    assert_time("1970-01-01T00:00:00.25+00:01", -59.75);
    assert_time("0001-01-01T00:00:00Z", -62135596800);
    assert_time("0001-01-01", -62135596800);
    assert_time_text(-0.5, "1969-12-31T23:59:59.5Z");
    assert_time_text(-1, "1969-12-31T23:59:59Z");
    assert_time_text(-1.25, "1969-12-31T23:59:58.75Z");
    assert_time_text(-1.999999, "1969-12-31T23:59:58.000001Z");
    assert_time_text(-86400, "1969-12-31T00:00:00Z");
    assert_time_text(-62135596800, "0001-01-01T00:00:00Z");
}

static void what_is_no_time_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "2026-11-21T",
        "2026-11-21Z",
        "2026-11-21 ",
        "2026-11-21T12Z",
        "2026-11-21T12:00",
        "2026-11-21T12:00:00",
        "2026-11-21T12:00:00.5",
        "2026-11-21T12:00.5Z",
        "2026-11-21T12:00:Z",
        "2026-11-21T12:00:00.Z",
        "2026-11-21T12:00:00.1234567890Z",
        "2026-11-21T12:00:00.-1Z",
        "2026-11-21T12:00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2026-11-21T1:00:00Z",
        "2026-11-21T120000Z",
        "2026-11-21T-1:00:00Z",
        "2026-11-21T12:00:00Zz",
        "2026-11-21T12:00:00Z ",
        "2026-11-21T12:00:00 Z",
        "2026-11-21  12:00:00Z",
        "2026-11-21_12:00:00Z",
        "2026-11-21T12:00:00+",
        "2026-11-21T12:00:00+1",
        "2026-11-21T12:00:00+01:",
        "2026-11-21T12:00:00+01:0",
        "2026-11-21T12:00:00+01:000",
        "2026-11-21T12:00:00+010",
        "2026-11-21T12:00:00+01000",
        "2026-11-21T12:00:00+24:00",
        "2026-11-21T12:00:00+01:60",
        "2026-11-21T12:00:00+-1:00",
        "2026-11-21T12:00:00+01-00",
        "2026-11-21T12:00:00+01Z",
        "2026-11-21T12:00:00CET",
        "2026-02-29T12:00:00Z",
        "2026-325T12:00:00Z",
        "1795262400",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        double seconds = 7;
        if (parse_time(bad[i], &seconds) != -1 || seconds != 7) {
            fail_msg("%s was read as %.17g", bad[i], seconds);
        }
    }
    double seconds;
    assert_int_equal(value_parse_time("2026-11-21\0", 11, &seconds), -1);
    assert_int_equal(value_parse_time("2026-11-21\0T00:00Z", 17, &seconds), -1);
}

static void no_beginning_of_a_time_but_its_date_is_a_time(void **state) {
    (void)state;
    const char *whole = "2026-11-21T12:34:56.789012345+01:30";
    for (size_t len = 0; len <= strlen(whole); len++) {
        char text[64];
        double seconds;
        snprintf(text, sizeof text, "%.*s", (int)len, whole);
        bool is_time = len == 10 || len == 32 || len == 35;
        assert_int_equal(parse_time(text, &seconds), is_time ? 0 : -1);
    }
}

static void times_are_written_to_the_microsecond(void **state) {
    (void)state;
    assert_time_text(0, "1970-01-01T00:00:00Z");
    assert_time_text(-0.0, "1970-01-01T00:00:00Z");
    assert_time_text(1795262400, "2026-11-21T12:00:00Z");
    assert_time_text(1795262400.5, "2026-11-21T12:00:00.5Z");
    assert_time_text(1795262400.1, "2026-11-21T12:00:00.1Z");
    assert_time_text(1795262400.000001, "2026-11-21T12:00:00.000001Z");
    assert_time_text(1795262400.10001, "2026-11-21T12:00:00.10001Z");
    assert_time_text(1795262400.999999, "2026-11-21T12:00:00.999999Z");
    assert_time_text(0.0000004, "1970-01-01T00:00:00Z");
    assert_time_text(0.0000006, "1970-01-01T00:00:00.000001Z");
    assert_time_text(-0.0000004, "1970-01-01T00:00:00Z");
    assert_time_text(-5e-324, "1970-01-01T00:00:00Z");
    assert_time_text(-0.0000006, "1969-12-31T23:59:59.999999Z");
    assert_time_text(59.9999996, "1970-01-01T00:01:00Z");
    assert_time_text(86399.9999996, "1970-01-02T00:00:00Z");
    assert_time_text(951782400, "2000-02-29T00:00:00Z");
    assert_time_text(253402300799, "9999-12-31T23:59:59Z");
}

static void times_beyond_the_years_have_no_text(void **state) {
    (void)state;
    const double outside[] = {
        NAN,    INFINITY,     -INFINITY,    1e300,
        -1e300, 253402300800, -62135596801, nextafter(-62135596800, -INFINITY)};
    for (size_t i = 0; i < COUNT(outside); i++) {
        char text[VALUE_TIME];
        assert_int_equal(value_format_time(text, outside[i]), 0);
    }
}

static void the_end_of_9999_stays_in_9999(void **state) {
    (void)state;
    double last = nextafter(253402300800, 0);
    assert_time("9999-12-31T23:59:59Z", 253402300799);
    assert_time("9999-12-31T23:59:59.999999Z", last);
    assert_time("9999-12-31T23:59:59.999999999Z", last);
    assert_time_text(last, "9999-12-31T23:59:59.999969Z");
    assert_time("9999-12-31T23:59:59.999969Z", last);
}

// expected_text writes the time of whole units since 1970, places decimals.
static void expected_text(char *out, size_t size, int64_t units, int places) {
    int64_t scale = 1;
    for (int i = 0; i < places; i++) {
        scale *= 10;
    }
    time_t whole = (time_t)(units / scale - (units % scale < 0));
    int64_t rest = units - (int64_t)whole * scale;
    struct tm tm;
    gmtime_r(&whole, &tm);
    size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest) {
        len += (size_t)snprintf(out + len, size - len, ".%0*lld", places,
                                (long long)rest);
        while (out[len - 1] == '0') {
            len--;
        }
    }
    memcpy(out + len, "Z", 2);
}

static void whole_microseconds_round_trip(void **state) {
    (void)state;
    int64_t from = -2208988800 * INT64_C(1000000); // 1900
    int64_t to = 7258118400 * INT64_C(1000000);    // 2200
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 300000; i++) {
        int64_t span = i % 3 ? to - from : 4000000; // also close to 1970
        int64_t us = (int64_t)(next_random(&seed) % (uint64_t)span) +
                     (i % 3 ? from : -2000000);
        double t = (double)us / 1e6, back = t + 1;
        char text[VALUE_TIME + 1], expected[64];
        text[value_format_time(text, t)] = 0;
        expected_text(expected, sizeof expected, us, 6);
        if (strcmp(text, expected) != 0 ||
            value_parse_time(text, strlen(text), &back) || back != t) {
            fail_msg("%.17g is %s: %s, %.17g", t, expected, text, back);
        }
    }
}

static void coarser_doubles_round_trip_too(void **state) {
    (void)state;
    uint64_t seed = 362436069;
    for (int i = 0; i < 100000; i++) {
        double share = (double)(next_random(&seed) >> 11) / 9007199254740992.0;
        double t = i % 2 ? -8589934592 - share * 53545662207
                         : 8589934592 + share * 244812366207;
        double back = 0;
        char text[VALUE_TIME];
        size_t len = value_format_time(text, t);
        assert_int_equal(value_parse_time(text, len, &back), 0);
        assert_true(back == t);
    }
}

static void fractions_are_rounded_once(void **state) {
    (void)state;
    uint64_t seed = 521288629;
    for (int i = 0; i < 200000; i++) {
        int64_t ns = (int64_t)next_random(&seed) >> (i % 40);
        char text[64], decimal[64];
        double t = 0;
        expected_text(text, sizeof text, ns, 9);
        uint64_t magnitude = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
        snprintf(decimal, sizeof decimal, "%s%llu.%09llu", ns < 0 ? "-" : "",
                 (unsigned long long)(magnitude / 1000000000),
                 (unsigned long long)(magnitude % 1000000000));
        if (value_parse_time(text, strlen(text), &t) ||
            t != strtod(decimal, NULL)) {
            fail_msg("%s is %s, got %.17g", text, decimal, t);
        }
    }
}

// Parts

static void add_part(struct buf *b, const char *s) {
    value_add_part(b, s, strlen(s));
}

static void assert_part(struct value *rest, const char *p, size_t len) {
    struct value part;
    assert_true(value_next_part(rest, &part));
    assert_int_equal(part.len, len);
    assert_non_null(part.p);
    if (len) {
        assert_memory_equal(part.p, p, len);
    }
}

static void parts_come_back_one_by_one(void **state) {
    (void)state;
    struct buf b = {0};
    add_part(&b, "hello");
    add_part(&b, "");
    add_part(&b, "1:x");
    value_add_part(&b, "\0:\xff", 3);
    value_add_part(&b, NULL, 0);
    add_part(&b, "twelve bytes");
    assert_string_equal(buf_cstr(&b) + b.len - 15, "12:twelve bytes");
    assert_memory_equal(b.data, "5:hello0:3:1:x3:\0:\3770:12:", 24);
    struct value rest = {b.data, b.len}, part = {NULL, 9};
    assert_part(&rest, "hello", 5);
    assert_part(&rest, "", 0);
    assert_part(&rest, "1:x", 3);
    assert_part(&rest, "\0:\xff", 3);
    assert_part(&rest, "", 0);
    assert_part(&rest, "twelve bytes", 12);
    assert_int_equal(rest.len, 0);
    assert_false(value_next_part(&rest, &part));
    assert_int_equal(part.len, 9);
    buf_clear(&b);
}

static void parts_are_counted(void **state) {
    (void)state;
    struct buf b = {0};
    for (uint32_t count = 0; count < 5; count++) {
        struct value v = {b.data, b.len};
        for (uint32_t asked = 0; asked < 6; asked++) {
            assert_int_equal(value_is_parts(v, asked), asked == count);
        }
        assert_true(value_is_parts(v, UINT32_MAX));
        add_part(&b, "0:");
    }
    buf_clear(&b);
}

static void malformed_parts_stay_in_the_rest(void **state) {
    (void)state;
    static const char *const bad[] = {
        ":",
        ":a",
        "1",
        "1:",
        "12",
        "2:a",
        "00:",
        "01:a",
        "-1:a",
        "+1:a",
        " 1:a",
        "1 :a",
        "1;a",
        "a",
        "0x1:a",
        "3:ab",
        "10:abcdefghi",
        "4294967297:a",
        "18446744073709551616:",
        "18446744073709551617:a",
        "184467440737095516170:a",
        "99999999999999999999999999999999999999999999:a",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t len = strlen(bad[i]);
        char *text = xmalloc(len);
        memcpy(text, bad[i], len);
        struct value rest = {text, len}, part;
        assert_false(value_next_part(&rest, &part));
        assert_ptr_equal(rest.p, text);
        assert_int_equal(rest.len, len);
        assert_false(value_is_parts(rest, UINT32_MAX));
        struct buf b = {0};
        add_part(&b, "b");
        add_part(&b, "a");
        buf_add(&b, text, len);
        assert_false(value_is_parts((struct value){b.data, b.len}, 3));
        assert_false(value_is_parts((struct value){b.data, b.len}, UINT32_MAX));
        rest = (struct value){b.data, b.len};
        value_next_part(&rest, &part);
        value_next_part(&rest, &part);
        assert_false(value_next_part(&rest, &part));
        assert_int_equal(rest.len, len);
        value_sort_parts(&b);
        assert_memory_equal(b.data, "1:b1:a", 6);
        assert_int_equal(b.len, 6 + len);
        buf_clear(&b);
        free(text);
    }
}

static void every_cut_through_parts_is_noticed(void **state) {
    (void)state;
    struct buf b = {0};
    add_part(&b, "some");
    add_part(&b, "");
    add_part(&b, "fourteen bytes");
    size_t ends[] = {0, 6, 8, b.len};
    uint32_t next = 0;
    for (size_t len = 0; len <= b.len; len++) {
        char *cut = xmalloc(len + 1);
        memcpy(cut + 1, b.data, len);
        struct value v = {cut + 1, len};
        bool is_whole = len == ends[next];
        assert_int_equal(value_is_parts(v, UINT32_MAX), is_whole);
        assert_int_equal(value_is_parts(v, next), is_whole);
        next += is_whole;
        free(cut);
    }
    buf_clear(&b);
}

static void parts_are_sorted_by_bytes_without_doubles(void **state) {
    (void)state;
    struct buf b = {0};
    value_sort_parts(&b);
    assert_int_equal(b.len, 0);
    add_part(&b, "b");
    value_sort_parts(&b);
    assert_string_equal(buf_cstr(&b), "1:b");
    static const char *const more[] = {"ab", "",  "a", "b",  "\xc3\xa9",
                                       "B",  "a", "",  "abc"};
    for (size_t i = 0; i < COUNT(more); i++) {
        add_part(&b, more[i]);
    }
    const char *sorted = "0:1:B1:a2:ab3:abc1:b2:\xc3\xa9";
    value_sort_parts(&b);
    assert_string_equal(buf_cstr(&b), sorted);
    value_sort_parts(&b);
    assert_string_equal(buf_cstr(&b), sorted);
    b.len = 0;
    value_add_part(&b, "a\0", 2);
    add_part(&b, "a");
    value_sort_parts(&b);
    assert_memory_equal(b.data, "1:a2:a\0", 7);
    buf_clear(&b);
}

static void many_parts_are_sorted(void **state) {
    (void)state;
    struct buf b = {0};
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        uint64_t bytes = next_random(&seed);
        value_add_part(&b, (const char *)&bytes, bytes >> 40 & 3);
    }
    value_sort_parts(&b);
    struct value rest = {b.data, b.len}, last, part;
    assert_true(value_next_part(&rest, &last));
    while (value_next_part(&rest, &part)) {
        size_t shorter = last.len < part.len ? last.len : part.len;
        int order = memcmp(last.p, part.p, shorter);
        assert_true(order < 0 || (order == 0 && last.len < part.len));
        last = part;
    }
    assert_int_equal(rest.len, 0);
    buf_clear(&b);
}

// Uuids

static void uuids_are_read_in_their_canonical_form(void **state) {
    (void)state;
    static const unsigned char expected[VALUE_UUID_BYTES] = {
        0x01, 0x7f, 0x22, 0xe2, 0x79, 0xb0, 0x7c, 0xc3,
        0x98, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f};
    const char *text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"; // RFC 9562 A.6
    unsigned char bytes[VALUE_UUID_BYTES];
    char back[VALUE_UUID];
    assert_int_equal(value_parse_uuid(text, VALUE_UUID, bytes), 0);
    assert_memory_equal(bytes, expected, sizeof bytes);
    value_format_uuid(back, bytes);
    assert_memory_equal(back, text, VALUE_UUID);
    text = "00000000-0000-0000-0000-000000000000";
    assert_int_equal(value_parse_uuid(text, VALUE_UUID, bytes), 0);
    text = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    assert_int_equal(value_parse_uuid(text, VALUE_UUID, bytes), 0);
}

static void other_forms_of_uuids_are_refused(void **state) {
    (void)state;
    const char *text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    unsigned char bytes[VALUE_UUID_BYTES];
    for (size_t len = 0; len < VALUE_UUID; len++) {
        assert_int_equal(value_parse_uuid(text, len, bytes), -1);
    }
    assert_int_equal(value_parse_uuid(text, VALUE_UUID + 1, bytes), -1);
    for (size_t i = 0; i < VALUE_UUID; i++) {
        for (int c = 0; c < 256; c++) {
            char changed[VALUE_UUID];
            memcpy(changed, text, VALUE_UUID);
            changed[i] = (char)c;
            bool is_hyphen = i == 8 || i == 13 || i == 18 || i == 23;
            bool is_good =
                is_hyphen ? c == '-'
                          : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            assert_int_equal(value_parse_uuid(changed, VALUE_UUID, bytes),
                             is_good ? 0 : -1);
        }
    }
}

static uint64_t uuid_ms(const char *text) {
    unsigned char bytes[VALUE_UUID_BYTES];
    assert_int_equal(value_parse_uuid(text, VALUE_UUID, bytes), 0);
    assert_int_equal(bytes[6] >> 4, 7);
    assert_int_equal(bytes[8] >> 6, 2);
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | bytes[i];
    }
    return ms;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void new_uuids_begin_with_the_time(void **state) {
    (void)state;
    char texts[1000][VALUE_UUID];
    uint64_t before = now_ms();
    for (size_t i = 0; i < COUNT(texts); i++) {
        value_uuid7(texts[i]);
    }
    uint64_t after = now_ms();
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_in_range(uuid_ms(texts[i]), before, after);
        // 18 characters: the milliseconds, the version, their fraction
        assert_true(i == 0 || memcmp(texts[i - 1], texts[i], 18) <= 0);
    }
    assert_true(before == after || memcmp(texts[0], texts[999], 18) < 0);
}

static void new_uuids_use_all_their_random_bits(void **state) {
    (void)state;
    unsigned char any[VALUE_UUID_BYTES] = {0}, all[VALUE_UUID_BYTES];
    memset(all, 0xff, sizeof all);
    for (int i = 0; i < 1000; i++) {
        char text[VALUE_UUID];
        unsigned char bytes[VALUE_UUID_BYTES];
        value_uuid7(text);
        assert_int_equal(value_parse_uuid(text, VALUE_UUID, bytes), 0);
        for (int k = 8; k < VALUE_UUID_BYTES; k++) {
            any[k] |= bytes[k];
            all[k] &= bytes[k];
        }
    }
    assert_memory_equal(any + 8, "\xbf\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_memory_equal(all + 8, "\x80\0\0\0\0\0\0\0", 8);
}

static int compare_uuids(const void *a, const void *b) {
    return memcmp(a, b, VALUE_UUID);
}

static void make_uuids(char (*texts)[VALUE_UUID]) {
    for (int i = 0; i < FORKED_UUIDS; i++) {
        value_uuid7(texts[i]);
    }
}

// write_uuids is the child: it must not return into the tests.
static void write_uuids(int fd, char (*texts)[VALUE_UUID]) {
    make_uuids(texts);
    const char *p = (const char *)texts;
    const char *end = p + FORKED_UUIDS * VALUE_UUID;
    while (p < end) {
        ssize_t n = write(fd, p, (size_t)(end - p));
        if (n < 0) {
            _exit(1);
        }
        p += n;
    }
    _exit(0);
}

static void a_fork_makes_other_uuids(void **state) {
    (void)state;
    char(*texts)[VALUE_UUID] = xcalloc(2 * FORKED_UUIDS, VALUE_UUID);
    char(*theirs)[VALUE_UUID] = texts + FORKED_UUIDS;
    int fds[2];
    value_uuid7(texts[0]); // what is kept, if anything, is there to copy
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(fds[0]); // or it would wait for itself, were the parent gone
        write_uuids(fds[1], texts);
    }
    close(fds[1]);
    make_uuids(texts);
    size_t have = 0;
    ssize_t n;
    while ((n = read(fds[0], (char *)theirs + have,
                     FORKED_UUIDS * VALUE_UUID - have)) > 0) {
        have += (size_t)n;
    }
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(have, FORKED_UUIDS * VALUE_UUID);
    for (int i = 1; i < FORKED_UUIDS; i++) {
        assert_true(memcmp(texts[i - 1], texts[i], 18) <= 0);
        assert_true(memcmp(theirs[i - 1], theirs[i], 18) <= 0);
    }
    // the random halves alone: the clock may well differ
    for (int i = 0; i < 2 * FORKED_UUIDS; i++) {
        memset(texts[i], 0, 19);
    }
    qsort(texts, 2 * FORKED_UUIDS, VALUE_UUID, compare_uuids);
    for (int i = 1; i < 2 * FORKED_UUIDS; i++) {
        assert_memory_not_equal(texts[i - 1], texts[i], VALUE_UUID);
    }
    free(texts);
}

// Escapes

static void assert_escaped(const char *p, size_t len, const char *expected,
                           size_t size) {
    struct buf b = {0}, back = {0};
    value_escape(&b, p, len);
    assert_int_equal(b.len, size);
    assert_memory_equal(b.data, expected, size);
    buf_add(&b, "\xff\0rest", 6);
    buf_addc(&back, '!');
    assert_int_equal(value_unescape(b.data, b.len, &back), size);
    assert_int_equal(back.len, len + 1);
    assert_int_equal(back.data[0], '!');
    if (len) {
        assert_memory_equal(back.data + 1, p, len);
    }
    buf_clear(&b);
    buf_clear(&back);
}

static void zeros_are_escaped_and_two_end_the_string(void **state) {
    (void)state;
    assert_escaped("", 0, "\0\0", 2);
    assert_escaped(NULL, 0, "\0\0", 2);
    assert_escaped("abc", 3, "abc\0\0", 5);
    assert_escaped("\0", 1, "\0\xff\0\0", 4);
    assert_escaped("a\0\0b", 4, "a\0\377\0\377b\0\0", 8);
    assert_escaped("\xff\0\xff", 3, "\xff\0\xff\xff\0\0", 6);
}

static void what_has_no_end_is_not_unescaped(void **state) {
    (void)state;
    struct buf whole = {0}, out = {0};
    value_escape(&whole, "ab\0c\0", 5);
    buf_adds(&out, "kept");
    for (size_t len = 0; len < whole.len; len++) {
        char *cut = xmalloc(len + 1);
        memcpy(cut + 1, whole.data, len);
        assert_int_equal(value_unescape(cut + 1, len, &out), -1);
        assert_string_equal(buf_cstr(&out), "kept");
        free(cut);
    }
    for (int c = 1; c < 255; c++) {
        char text[] = {'a', 0, (char)c, 0, 0};
        assert_int_equal(value_unescape(text, sizeof text, &out), -1);
        assert_int_equal(out.len, 4);
    }
    buf_clear(&whole);
    buf_clear(&out);
}

// random_string takes few different bytes, so that many strings share a
// beginning.
static size_t random_string(uint64_t *seed, char out[6]) {
    size_t len = next_random(seed) % 7;
    for (size_t i = 0; i < len; i++) {
        out[i] = "\0\1a\xfe\xff"[next_random(seed) % 5];
    }
    return len;
}

static int sign_of_order(const char *a, size_t a_len, const char *b,
                         size_t b_len) {
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order == 0) {
        order = (a_len > b_len) - (a_len < b_len);
    }
    return (order > 0) - (order < 0);
}

static void escaped_strings_keep_their_order(void **state) {
    (void)state;
    uint64_t seed = 88172645463325252u;
    struct buf x = {0}, y = {0};
    for (int i = 0; i < 200000; i++) {
        char a[6], b[6], after_a[6], after_b[6];
        size_t a_len = random_string(&seed, a);
        size_t b_len = random_string(&seed, b);
        int expected = sign_of_order(a, a_len, b, b_len);
        x.len = y.len = 0;
        value_escape(&x, a, a_len);
        value_escape(&y, b, b_len);
        assert_int_equal(sign_of_order(x.data, x.len, y.data, y.len), expected);
        // what follows decides only between equal strings
        size_t after_a_len = random_string(&seed, after_a);
        size_t after_b_len = random_string(&seed, after_b);
        buf_add(&x, after_a, after_a_len);
        buf_add(&y, after_b, after_b_len);
        if (expected == 0) {
            expected =
                sign_of_order(after_a, after_a_len, after_b, after_b_len);
        }
        assert_int_equal(sign_of_order(x.data, x.len, y.data, y.len), expected);
    }
    buf_clear(&x);
    buf_clear(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_are_days_since_1970),
        cmocka_unit_test(only_real_dates_are_read),
        cmocka_unit_test(days_beyond_the_years_have_no_text),
        cmocka_unit_test(every_day_from_0001_to_9999_round_trips),
        cmocka_unit_test(times_are_read_in_every_form),
        cmocka_unit_test(times_before_1970_are_negative),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(no_beginning_of_a_time_but_its_date_is_a_time),
        cmocka_unit_test(times_are_written_to_the_microsecond),
        cmocka_unit_test(times_beyond_the_years_have_no_text),
        cmocka_unit_test(the_end_of_9999_stays_in_9999),
        cmocka_unit_test(whole_microseconds_round_trip),
        cmocka_unit_test(coarser_doubles_round_trip_too),
        cmocka_unit_test(fractions_are_rounded_once),
        cmocka_unit_test(parts_come_back_one_by_one),
        cmocka_unit_test(parts_are_counted),
        cmocka_unit_test(malformed_parts_stay_in_the_rest),
        cmocka_unit_test(every_cut_through_parts_is_noticed),
        cmocka_unit_test(parts_are_sorted_by_bytes_without_doubles),
        cmocka_unit_test(many_parts_are_sorted),
        cmocka_unit_test(uuids_are_read_in_their_canonical_form),
        cmocka_unit_test(other_forms_of_uuids_are_refused),
        cmocka_unit_test(new_uuids_begin_with_the_time),
        cmocka_unit_test(new_uuids_use_all_their_random_bits),
        cmocka_unit_test(a_fork_makes_other_uuids),
        cmocka_unit_test(zeros_are_escaped_and_two_end_the_string),
        cmocka_unit_test(what_has_no_end_is_not_unescaped),
        cmocka_unit_test(escaped_strings_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
