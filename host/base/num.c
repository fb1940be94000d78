// num: doubles to text and back, exactly.
#include "base/num.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define EXACT_MAX 9007199254740992.0 // 2^53: every integer below is a double

// All the powers of ten that are exact as doubles.
static const double pow10_exact[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#define POW10_MAX 22

static size_t put_integer(char *out, uint64_t v) {
    char digits[20];
    char *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    size_t len = (size_t)(digits + sizeof digits - p);
    memcpy(out, p, len);
    return len;
}

// put_decimal writes a positive v of at most six decimals, or returns 0 for
// any other. The quotient of two exact doubles is rounded correctly, so a
// decimal that divides back to v reads back as v too, and with 15 digits or
// fewer there is only one such.
static size_t put_decimal(char *out, double v) {
    if (!(v >= 1e-4 && v < 1e9)) {
        return 0;
    }
    for (int places = 1; places <= 6; places++) {
        double scale = pow10_exact[places];
        uint64_t units = (uint64_t)(v * scale + 0.5);
        if ((double)units / scale != v) {
            continue;
        }
        size_t len = put_integer(out, units / (uint64_t)scale);
        out[len] = '.';
        for (int i = places; i > 0; i--) {
            out[len + (size_t)i] = (char)('0' + units % 10);
            units /= 10;
        }
        return len + 1 + (size_t)places;
    }
    return 0;
}

// trim_exponent turns the "e+07" of printf into "e7" and returns the length.
static size_t trim_exponent(char *text, size_t len) {
    char *from = memchr(text, 'e', len);
    if (!from) {
        return len;
    }
    const char *end = text + len;
    char *to = ++from;
    if (*from == '-') {
        to++;
    }
    from++;
    while (from < end - 1 && *from == '0') {
        from++;
    }
    memmove(to, from, (size_t)(end - from));
    return (size_t)(to - text) + (size_t)(end - from);
}

size_t num_format(char out[NUM_TEXT], double v) {
    size_t sign = signbit(v) ? 1 : 0;
    double a = fabs(v);
    out[0] = '-';
    if (a <= EXACT_MAX && a == (double)(uint64_t)a) {
        return sign + put_integer(out + sign, (uint64_t)a);
    }
    size_t len = put_decimal(out + sign, a);
    if (len) {
        return sign + len;
    }
    // 15 digits always survive text to double to text, except that the
    // subnormals carry fewer.
    for (int digits = a < DBL_MIN ? 1 : 15;; digits++) {
        int n = snprintf(out, NUM_TEXT, "%.*g", digits, v);
        if (digits >= 17 || strtod(out, NULL) == v) {
            return trim_exponent(out, (size_t)n);
        }
    }
}

// A number as read: digits * 10^exponent.
struct decimal {
    uint64_t digits;
    int count; // digits counted from the first that is not 0, at most 20
    int64_t exponent;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static const char *scan_digits(const char *p, const char *end,
                               struct decimal *d) {
    for (; p < end && is_digit(*p); p++) {
        if (d->count < 19) {
            d->digits = d->digits * 10 + (uint64_t)(*p - '0');
            d->count += d->digits != 0;
        } else {
            d->count = 20;
        }
    }
    return p;
}

// scan_exponent reads what follows an 'e'; NULL when it has no digits.
static const char *scan_exponent(const char *p, const char *end,
                                 struct decimal *d) {
    bool is_negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) {
        p++;
    }
    const char *first = p;
    int64_t e = 0;
    for (; p < end && is_digit(*p); p++) {
        e = e < INT64_MAX / 100 ? e * 10 + (*p - '0') : e;
    }
    d->exponent += is_negative ? -e : e;
    return p == first ? NULL : p;
}

// scan_decimal checks the grammar of an unsigned number that ends at end.
static int scan_decimal(const char *p, const char *end, struct decimal *d) {
    const char *first = p;
    p = scan_digits(p, end, d);
    if (p == first || (*first == '0' && p - first > 1)) {
        return -1;
    }
    if (p < end && *p == '.') {
        first = ++p;
        p = scan_digits(p, end, d);
        if (p == first) {
            return -1;
        }
        d->exponent = first - p;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p = scan_exponent(p + 1, end, d);
    }
    return p == end ? 0 : -1;
}

static double parse_copy(const char *s, size_t len) {
    char small[64];
    char *text = len < sizeof small ? small : xmalloc(len + 1);
    memcpy(text, s, len);
    text[len] = 0;
    double v = strtod(text, NULL);
    if (text != small) {
        free(text);
    }
    return v;
}

int num_parse(const char *s, size_t len, double *out) {
    size_t sign = len > 0 && s[0] == '-' ? 1 : 0;
    struct decimal d = {0};
    if (scan_decimal(s + sign, s + len, &d)) {
        return -1;
    }
    double v;
    // Up to here both operands are exact, so one operation rounds right.
    if (d.count < 20 && d.digits <= (uint64_t)EXACT_MAX &&
        d.exponent >= -POW10_MAX && d.exponent <= POW10_MAX) {
        v = (double)d.digits;
        v = d.exponent < 0 ? v / pow10_exact[-d.exponent]
                           : v * pow10_exact[d.exponent];
        v = sign ? -v : v;
    } else {
        v = parse_copy(s, len);
    }
    if (!isfinite(v)) {
        return -1;
    }
    *out = v;
    return 0;
}
