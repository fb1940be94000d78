// value: the text forms of model values.
#include "model/value.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "base/num.h"

enum {
    DAY_SECONDS = 86400,
    FIRST_DAY = -719162, // 0001-01-01
    LAST_DAY = 2932896,  // 9999-12-31
    CLOCK_PLACES = 9,    // of a second's fraction, in decimal
};

#define FIRST_SECOND ((int64_t)FIRST_DAY * DAY_SECONDS)
#define LAST_SECOND  ((int64_t)LAST_DAY * DAY_SECONDS + DAY_SECONDS - 1)

struct cursor {
    const char *p, *end;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// take_number reads exactly that many digits; -1 when they are not there.
static int take_number(struct cursor *c, int count) {
    if (c->end - c->p < count) {
        return -1;
    }
    int v = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(c->p[i])) {
            return -1;
        }
        v = v * 10 + (c->p[i] - '0');
    }
    c->p += count;
    return v;
}

// take_any reads one character of a set, if there is one.
static bool take_any(struct cursor *c, const char *set) {
    if (c->p == c->end || !memchr(set, *c->p, strlen(set))) {
        return false;
    }
    c->p++;
    return true;
}

static char *put_number(char *out, int64_t v, int count) {
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + v % 10);
        v /= 10;
    }
    return out + count;
}

static int month_days(int year, int month) {
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap);
}

// Both directions count in eras of 400 years that begin on a first of March, so
// that the leap day comes last: days_from_civil and civil_from_days of
// https://howardhinnant.github.io/date_algorithms.html. For the years in
// question nothing in them is negative.
enum { ERA_DAYS = 146097, ERA_OFFSET = 719468 }; // 0000-03-01 to 1970-01-01

static int32_t days_from_civil(int year, int month, int day) {
    year -= month <= 2;
    int year_of_era = year % 400;
    int day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
                     day_of_year - 1;
    return year / 400 * ERA_DAYS + day_of_era - ERA_OFFSET;
}

static char *put_date(char *out, int32_t days) {
    days += ERA_OFFSET;
    int day_of_era = days % ERA_DAYS;
    int year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
                       day_of_era / (ERA_DAYS - 1)) /
                      365;
    int day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int shifted = (5 * day_of_year + 2) / 153; // month, March is 0
    int month = shifted < 10 ? shifted + 3 : shifted - 9;
    int year = days / ERA_DAYS * 400 + year_of_era + (month <= 2);
    out = put_number(out, year, 4);
    *out++ = '-';
    out = put_number(out, month, 2);
    *out++ = '-';
    return put_number(out, day_of_year - (153 * shifted + 2) / 5 + 1, 2);
}

static int take_date(struct cursor *c, int32_t *days) {
    int year = take_number(c, 4);
    if (year < 1 || !take_any(c, "-")) {
        return -1;
    }
    int month = take_number(c, 2);
    if (month < 1 || month > 12 || !take_any(c, "-")) {
        return -1;
    }
    int day = take_number(c, 2);
    if (day < 1 || day > month_days(year, month)) {
        return -1;
    }
    *days = days_from_civil(year, month, day);
    return 0;
}

int value_parse_date(const char *s, size_t len, int32_t *days) {
    if (len != VALUE_DATE) {
        return -1;
    }
    return take_date(&(struct cursor){s, s + len}, days);
}

size_t value_format_date(char out[VALUE_DATE], int32_t days) {
    if (days < FIRST_DAY || days > LAST_DAY) {
        return 0;
    }
    return (size_t)(put_date(out, days) - out);
}

// A time of day.
struct clock {
    int seconds;
    int nanoseconds;
};

// take_fraction reads what follows the point.
static int take_fraction(struct cursor *c, int *nanoseconds) {
    int places = 0, v = 0;
    for (; places < CLOCK_PLACES && c->p < c->end && is_digit(*c->p); c->p++) {
        v = v * 10 + (*c->p - '0');
        places++;
    }
    if (places == 0) {
        return -1;
    }
    for (; places < CLOCK_PLACES; places++) {
        v *= 10;
    }
    *nanoseconds = v;
    return 0;
}

static int take_clock(struct cursor *c, struct clock *clock) {
    int hour = take_number(c, 2);
    if (hour < 0 || hour > 23 || !take_any(c, ":")) {
        return -1;
    }
    int minute = take_number(c, 2);
    if (minute < 0 || minute > 59) {
        return -1;
    }
    *clock = (struct clock){.seconds = hour * 3600 + minute * 60};
    if (!take_any(c, ":")) {
        return 0;
    }
    int second = take_number(c, 2);
    if (second < 0 || second > 59) {
        return -1;
    }
    clock->seconds += second;
    return take_any(c, ".,") ? take_fraction(c, &clock->nanoseconds) : 0;
}

// take_zone gives how far the zone is ahead of UTC.
static int take_zone(struct cursor *c, int *offset_seconds) {
    *offset_seconds = 0;
    if (take_any(c, "Zz")) {
        return 0;
    }
    bool is_behind = take_any(c, "-");
    if (!is_behind && !take_any(c, "+")) {
        return -1;
    }
    int hour = take_number(c, 2);
    int minute = 0;
    if (take_any(c, ":") || c->p < c->end) {
        minute = take_number(c, 2);
    }
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59) {
        return -1;
    }
    *offset_seconds = (hour * 3600 + minute * 60) * (is_behind ? -1 : 1);
    return 0;
}

// exact_seconds rounds once, from the decimal: a sum of doubles would do it
// twice. The last doubles of the year 9999 are 1/32768 s apart; what would
// round up from there stays, so that it can be written.
static double exact_seconds(int64_t seconds, int nanoseconds) {
    if (nanoseconds == 0) {
        return (double)seconds;
    }
    const char *sign = "";
    if (seconds < 0) { // -1 and 0.75 are written -0.25
        sign = "-";
        seconds = -seconds - 1;
        nanoseconds = 1000000000 - nanoseconds;
    }
    char text[48];
    int len = snprintf(text, sizeof text, "%s%lld.%09d", sign,
                       (long long)seconds, nanoseconds);
    double v = 0;
    num_parse(text, (size_t)len, &v);
    return fmin(v, nextafter((double)LAST_SECOND + 1, 0));
}

int value_parse_time(const char *s, size_t len, double *seconds) {
    struct cursor c = {s, s + len};
    int32_t days;
    if (take_date(&c, &days)) {
        return -1;
    }
    struct clock clock = {0};
    int offset_seconds = 0;
    if (c.p < c.end && (!take_any(&c, "Tt ") || take_clock(&c, &clock) ||
                        take_zone(&c, &offset_seconds) || c.p < c.end)) {
        return -1;
    }
    int64_t whole =
        (int64_t)days * DAY_SECONDS + clock.seconds - offset_seconds;
    if (whole < FIRST_SECOND || whole > LAST_SECOND) {
        return -1;
    }
    *seconds = exact_seconds(whole, clock.nanoseconds);
    return 0;
}

size_t value_format_time(char out[VALUE_TIME], double seconds) {
    double whole = floor(seconds);
    if (!(whole >= (double)FIRST_SECOND && whole <= (double)LAST_SECOND)) {
        return 0;
    }
    // the last second has no carry: its doubles are coarser than that
    int64_t at = (int64_t)whole;
    int64_t microseconds = llround((seconds - whole) * 1e6);
    if (microseconds == 1000000) {
        microseconds = 0;
        at++;
    }
    int64_t since = at - FIRST_SECOND;
    int64_t clock = since % DAY_SECONDS;
    char *p = put_date(out, (int32_t)(since / DAY_SECONDS) + FIRST_DAY);
    *p++ = 'T';
    p = put_number(p, clock / 3600, 2);
    *p++ = ':';
    p = put_number(p, clock / 60 % 60, 2);
    *p++ = ':';
    p = put_number(p, clock % 60, 2);
    if (microseconds) {
        *p++ = '.';
        p = put_number(p, microseconds, 6);
        while (p[-1] == '0') {
            p--;
        }
    }
    *p++ = 'Z';
    return (size_t)(p - out);
}

void value_add_part(struct buf *b, const char *p, size_t len) {
    buf_addu(b, len);
    buf_addc(b, ':');
    buf_add(b, p, len);
}

bool value_next_part(struct value *rest, struct value *part) {
    size_t len = 0, digits = 0;
    while (digits < rest->len && is_digit(rest->p[digits])) {
        len = len * 10 + (size_t)(rest->p[digits++] - '0');
        if (len > rest->len) {
            return false;
        }
    }
    if (digits == 0 || (rest->p[0] == '0' && digits > 1) ||
        digits == rest->len || rest->p[digits] != ':' ||
        len > rest->len - digits - 1) {
        return false;
    }
    *part = (struct value){rest->p + digits + 1, len};
    rest->p = part->p + len;
    rest->len -= digits + 1 + len;
    return true;
}

// count_parts counts the parts before rest ends or becomes malformed, and
// leaves that rest.
static size_t count_parts(struct value *rest) {
    size_t count = 0;
    struct value part;
    while (value_next_part(rest, &part)) {
        count++;
    }
    return count;
}

bool value_is_parts(struct value v, uint32_t count) {
    size_t found = count_parts(&v);
    return v.len == 0 && (count == UINT32_MAX || found == count);
}

// compare_bytes orders by bytes, a prefix before what it begins.
static int compare_bytes(const void *a, const void *b) {
    const struct value *x = a, *y = b;
    size_t shorter = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->p, y->p, shorter);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

void value_sort_parts(struct buf *b) {
    struct value rest = {b->data, b->len};
    size_t count = count_parts(&rest);
    if (count < 2 || rest.len) {
        return;
    }
    struct value *parts = xcalloc(count, sizeof *parts);
    rest = (struct value){b->data, b->len};
    for (size_t i = 0; i < count; i++) {
        value_next_part(&rest, &parts[i]);
    }
    qsort(parts, count, sizeof *parts, compare_bytes);
    struct buf sorted = {0};
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !value_equals(parts[i], parts[i - 1])) {
            value_add_part(&sorted, parts[i].p, parts[i].len);
        }
    }
    free(parts);
    buf_clear(b);
    *b = sorted;
}

// The kernel is asked for many random bytes at once: a call costs more than the
// rest of a uuid. A child forgets them after a fork, else it would give the
// same.
static _Thread_local struct {
    unsigned char bytes[256]; // getrandom(2) gives up to 256 whole
    size_t left;
    bool is_forgotten_by_children;
} random_pool;

static void forget_random(void) {
    random_pool.left = 0;
}

static void refill_random(void) {
    size_t size = sizeof random_pool.bytes;
    while (getrandom(random_pool.bytes, size, 0) != (ssize_t)size) {
        if (errno != EINTR) {
            perror("neap: getrandom");
            abort();
        }
    }
    if (!random_pool.is_forgotten_by_children) {
        pthread_atfork(NULL, NULL, forget_random);
        random_pool.is_forgotten_by_children = true;
    }
    random_pool.left = size;
}

// take_random takes a few bytes; each thread has its own.
static void take_random(void *bytes, size_t len) {
    if (random_pool.left < len) {
        refill_random();
    }
    random_pool.left -= len;
    memcpy(bytes, random_pool.bytes + random_pool.left, len);
}

void value_uuid7(char out[VALUE_UUID]) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t part_of_ms = ((uint64_t)now.tv_nsec % 1000000 << 12) / 1000000;
    unsigned char bytes[VALUE_UUID_BYTES];
    for (int i = 0; i < 6; i++) {
        bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
    }
    bytes[6] = (unsigned char)(0x70 | part_of_ms >> 8); // version 7
    bytes[7] = (unsigned char)part_of_ms;
    take_random(bytes + 8, 8);
    bytes[8] = 0x80 | (bytes[8] & 0x3f); // variant of the RFC, §4.1
    value_format_uuid(out, bytes);
}

// Where the bytes of a uuid stand in its text.
static const unsigned char uuid_places[VALUE_UUID_BYTES] = {
    0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

// A lower-case digit's value + 1, 0 for what is none.
static const unsigned char hex_digits[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
    ['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
    ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16};

int value_parse_uuid(const char *s, size_t len,
                     unsigned char out[VALUE_UUID_BYTES]) {
    if (len != VALUE_UUID || s[8] != '-' || s[13] != '-' || s[18] != '-' ||
        s[23] != '-') {
        return -1;
    }
    unsigned wrong = 0;
    for (int i = 0; i < VALUE_UUID_BYTES; i++) {
        const unsigned char *p = (const unsigned char *)s + uuid_places[i];
        unsigned high = hex_digits[p[0]], low = hex_digits[p[1]];
        wrong |= (unsigned)!high | (unsigned)!low; // no branch for each digit
        out[i] = (unsigned char)((high - 1) << 4 | ((low - 1) & 15));
    }
    return wrong ? -1 : 0;
}

void value_format_uuid(char out[VALUE_UUID],
                       const unsigned char bytes[VALUE_UUID_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    out[8] = out[13] = out[18] = out[23] = '-';
    for (int i = 0; i < VALUE_UUID_BYTES; i++) {
        out[uuid_places[i]] = digits[bytes[i] >> 4];
        out[uuid_places[i] + 1] = digits[bytes[i] & 15];
    }
}

void value_escape(struct buf *b, const char *p, size_t len) {
    for (size_t i = 0; i < len; i++) {
        buf_addc(b, p[i]);
        if (p[i] == 0) {
            buf_addc(b, '\xff');
        }
    }
    buf_add(b, "\0\0", 2);
}

int value_unescape(const char *p, size_t len, struct buf *out) {
    size_t before = out->len;
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0) {
            buf_addc(out, p[i]);
        } else if (++i < len && p[i] == '\xff') {
            buf_addc(out, 0);
        } else if (i < len && p[i] == 0) {
            return (int)(i + 1);
        } else {
            break;
        }
    }
    out->len = before;
    return -1;
}

bool value_has_part(struct value parts, struct value one) {
    struct value part;
    while (value_next_part(&parts, &part)) {
        if (value_equals(part, one)) {
            return true;
        }
    }
    return false;
}
