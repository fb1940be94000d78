// reader_test: replies in a stream of bytes, however it is cut into pieces.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redis/reader.h"

// -- a sink that writes down what it is given: A2 S3:abc I7

static struct buf seen;

static void *see_string(struct waiter *w, const redisReadTask *t, const char *s,
                        size_t len) {
    const char *type = t->type == REDIS_REPLY_ERROR    ? "E"
                       : t->type == REDIS_REPLY_STATUS ? "T"
                                                       : "S";
    buf_printf(&seen, "%s%zu:", type, len);
    buf_add(&seen, s, len);
    buf_addc(&seen, ' ');
    return w;
}

// An array's elements find what it returned.
static void *see_array(struct waiter *w, const redisReadTask *t, size_t count) {
    if (t->parent) {
        assert_ptr_equal(t->parent->obj, w);
    }
    buf_printf(&seen, "A%zu ", count);
    return w;
}

static void *see_integer(struct waiter *w, const redisReadTask *t,
                         long long v) {
    (void)t;
    buf_printf(&seen, "I%lld ", v);
    return w;
}

static void *see_nil(struct waiter *w, const redisReadTask *t) {
    (void)t;
    buf_adds(&seen, "N ");
    return w;
}

static const struct sink sink = {.string = see_string,
                                 .array = see_array,
                                 .integer = see_integer,
                                 .nil = see_nil};
static struct waiter waiter = {.sink = &sink};

struct waiter *conn_current_waiter(struct conn *conn) {
    (void)conn;
    return &waiter;
}

// -- feeding

// read_all takes what the reader has and writes "; " behind each reply, "! "
// before that of one too deep. Returns how the last one ended.
static enum reader_result read_all(struct reader *r) {
    for (;;) {
        uint64_t taken = reader_taken(r);
        enum reader_result got = reader_next(r);
        if (got == READER_ERROR) {
            return got;
        }
        assert_true(reader_taken(r) >= taken);
        assert_int_equal(reader_taken(r) + reader_left(r), r->fed);
        if (got == READER_MORE) {
            return got;
        }
        if (got == READER_TOO_DEEP) {
            buf_adds(&seen, "! ");
        }
        buf_adds(&seen, "; ");
    }
}

// strip drops, of each reply that was too deep, what came of it.
static void strip(struct buf *b) {
    size_t out = 0, reply = 0, at = 0;
    while (at < b->len) {
        char c = b->data[at];
        size_t len;
        if (c == 'S' || c == 'E' || c == 'T') {
            char *end;
            long n = strtol(b->data + at + 1, &end, 10);
            len = (size_t)(end - (b->data + at)) + 1 + (size_t)n + 1;
        } else {
            len = (size_t)((char *)memchr(b->data + at, ' ', b->len - at) -
                           (b->data + at)) +
                  1;
        }
        if (c == '!') {
            out = reply;
        }
        memmove(b->data + out, b->data + at, len);
        out += len;
        at += len;
        if (c == ';') {
            reply = out;
        }
    }
    b->len = out;
}

// assert_stream feeds the bytes in pieces that end where `ends` says (n of
// them, and the whole), and compares with what is expected.
static void assert_stream(const char *bytes, size_t len, const size_t *ends,
                          size_t n, const char *expected, size_t expected_len) {
    struct reader r;
    reader_init(&r, NULL);
    seen.len = 0;
    size_t at = 0;
    for (size_t i = 0; i <= n; i++) {
        size_t end = i < n ? ends[i] : len, before = at;
        char *piece = malloc(end > at ? end - at : 1); // overruns show
        memcpy(piece, bytes + at, end - at);
        reader_feed(&r, piece, end - at);
        at = end;
        assert_int_equal(r.fed, end);
        assert_int_equal(read_all(&r), READER_MORE);
        memset(piece, '!', at - before); // what is still needed was copied
        free(piece);
    }
    assert_int_equal(reader_taken(&r), len);
    assert_int_equal(reader_left(&r), 0);
    assert_false(r.is_deep);
    reader_clear(&r);
    strip(&seen);
    buf_cstr(&seen); // fails with both in sight
    if (seen.len != expected_len ||
        memcmp(seen.data, expected, expected_len) != 0) {
        fail_msg("saw %s\nexpected %s", seen.data, expected);
    }
}

// assert_split: whole, cut at each place, and byte by byte.
static void assert_split(const char *bytes, size_t len, const char *expected,
                         size_t expected_len) {
    assert_stream(bytes, len, NULL, 0, expected, expected_len);
    size_t *all = malloc((len + 1) * sizeof all[0]);
    for (size_t i = 0; i < len; i++) {
        all[i] = i;
        if (len < 400) {
            assert_stream(bytes, len, &i, 1, expected, expected_len);
        }
    }
    assert_stream(bytes, len, all, len, expected, expected_len);
    free(all);
}

static void assert_replies(const char *bytes, const char *expected) {
    assert_split(bytes, strlen(bytes), expected, strlen(expected));
}

// nest appends so many arrays in each other, of `count` values each, the
// first of them the next array, the others `:1`; and what is expected.
static void nest(struct buf *b, struct buf *e, int depth, int count) {
    for (int i = 0; i < depth; i++) {
        buf_printf(b, "*%d\r\n", count);
        if (e) {
            buf_printf(e, "A%d ", count);
        }
    }
    buf_adds(b, "$5\r\n*1\r\n\n\r\n"); // looks like an array, is a string
    if (e) {
        buf_adds(e, "S5:*1\r\n\n ");
    }
    for (int i = 0; i < depth * (count - 1); i++) {
        buf_adds(b, ":1\r\n");
        if (e) {
            buf_adds(e, "I1 ");
        }
    }
    if (e) {
        buf_adds(e, "; ");
    }
}

// -- tests

static void every_type_is_read(void **state) {
    (void)state;
    assert_replies("+OK\r\n", "T2:OK ; ");
    assert_replies("+\r\n", "T0: ; ");
    assert_replies("-ERR no\r\n", "E6:ERR no ; ");
    assert_replies(":-9223372036854775808\r\n:9223372036854775807\r\n:0\r\n",
                   "I-9223372036854775808 ; I9223372036854775807 ; I0 ; ");
    assert_replies("$0\r\n\r\n$3\r\na\r\n\r\n$-1\r\n", "S0: ; S3:a\r\n ; N ; ");
    assert_replies("*0\r\n*-1\r\n*2\r\n*0\r\n$-1\r\n", "A0 ; N ; A2 A0 N ; ");
    assert_replies("*3\r\n*1\r\n+x\r\n*-1\r\n*1\r\n*1\r\n-E\r\n",
                   "A3 A1 T1:x N A1 A1 E1:E ; ");
    assert_split("$4\r\n\0\r\n\377\r\n", 10, "S4:\0\r\n\377 ; ", 10);
}

static void replies_nest_to_eight_levels(void **state) {
    (void)state;
    for (int depth = 1; depth <= READER_DEPTH; depth++) {
        for (int count = 1; count <= 3; count++) {
            struct buf b = {0}, e = {0};
            nest(&b, &e, depth, count);
            nest(&b, &e, depth, count);
            assert_split(b.data, b.len, buf_cstr(&e), e.len);
            buf_clear(&b);
            buf_clear(&e);
        }
    }
}

static void several_arrays_lie_at_the_limit(void **state) {
    (void)state;
    struct buf b = {0}, e = {0};
    for (int i = 0; i < READER_DEPTH - 1; i++) {
        buf_adds(&b, "*4\r\n");
        buf_adds(&e, "A4 ");
    }
    for (int i = 0; i < 4; i++) {
        buf_adds(&b, "*2\r\n$1\r\na\r\n:2\r\n");
        buf_adds(&e, "A2 S1:a I2 ");
    }
    for (int i = 0; i < 3 * (READER_DEPTH - 2); i++) {
        buf_adds(&b, "*0\r\n");
        buf_adds(&e, "A0 ");
    }
    buf_adds(&e, "; ");
    assert_split(b.data, b.len, buf_cstr(&e), e.len);
    // one of them holds a further array: the first, a middle one, the last
    for (int deep = 0; deep < 4; deep++) {
        b.len = e.len = 0;
        for (int i = 0; i < READER_DEPTH - 1; i++) {
            buf_adds(&b, "*4\r\n");
        }
        for (int i = 0; i < 4; i++) {
            buf_adds(&b, i == deep ? "*2\r\n$1\r\na\r\n*1\r\n:3\r\n"
                                   : "*2\r\n$1\r\na\r\n:2\r\n");
        }
        for (int i = 0; i < 3 * (READER_DEPTH - 2); i++) {
            buf_adds(&b, "$2\r\n\r\n\r\n");
        }
        buf_adds(&b, "+next\r\n");
        buf_adds(&e, "! ; T4:next ; ");
        assert_split(b.data, b.len, buf_cstr(&e), e.len);
    }
    buf_clear(&b);
    buf_clear(&e);
}

static void deeper_ones_are_passed_over(void **state) {
    (void)state;
    static const int depths[] = {9, 10, 12, 500};
    for (int i = 0; i < 4; i++) {
        for (int count = 1; count <= 3; count++) {
            struct buf b = {0}, e = {0};
            nest(&b, NULL, depths[i], count); // first
            buf_adds(&e, "! ; ");
            buf_adds(&b, "+a\r\n");
            buf_adds(&e, "T1:a ; ");
            nest(&b, &e, READER_DEPTH, 2);
            nest(&b, NULL, depths[i], count); // between, two in a row
            nest(&b, NULL, 9, 1);
            buf_adds(&e, "! ; ! ; ");
            buf_adds(&b, "*2\r\n:1\r\n$1\r\nb\r\n");
            buf_adds(&e, "A2 I1 S1:b ; ");
            nest(&b, NULL, depths[i], count); // last
            buf_adds(&e, "! ; ");
            assert_split(b.data, b.len, buf_cstr(&e), e.len);
            buf_clear(&b);
            buf_clear(&e);
        }
    }
}

static void what_is_passed_over_may_hold_anything(void **state) {
    (void)state;
    static const char *const inside[] = {
        "*0\r\n",
        "*-1\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "-E\r\n",
        "+\r\n",
        ":-9223372036854775808\r\n",
        "$8\r\n*9\r\n$9\r\n\r\n",
        "*2\r\n*0\r\n*3\r\n:1\r\n$-1\r\n*0\r\n"};
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        struct buf b = {0};
        for (int d = 0; d < READER_DEPTH + 1; d++) {
            buf_adds(&b, d == READER_DEPTH ? "*2\r\n" : "*1\r\n");
        }
        buf_adds(&b, inside[i]);
        buf_adds(&b, inside[i]);
        buf_adds(&b, ":5\r\n");
        assert_replies(buf_cstr(&b), "! ; I5 ; ");
        buf_clear(&b);
    }
}

static void much_behind_an_array_at_the_limit(void **state) {
    (void)state;
    // more than is kept on suspicion, of strings above the limit and below
    static const char *const tails[] = {":1\r\n", "*1\r\n:1\r\n"};
    for (int tail = 0; tail < 2; tail++) {
        struct buf b = {0}, e = {0};
        enum { count = 30000, size = 100 };
        for (int i = 0; i < READER_DEPTH - 1; i++) {
            buf_printf(&b, "*%d\r\n", i == READER_DEPTH - 2 ? count : 1);
            buf_printf(&e, "A%d ", i == READER_DEPTH - 2 ? count : 1);
        }
        for (int i = 0; i < count; i++) {
            if (i % 3 == tail) {
                buf_printf(&b, "*1\r\n$%d\r\n%0*d\r\n", size, size, i);
                buf_printf(&e, "A1 S%d:%0*d ", size, size, i);
            } else {
                buf_printf(&b, "$%d\r\n%0*d\r\n", size, size, i);
                buf_printf(&e, "S%d:%0*d ", size, size, i);
            }
        }
        buf_adds(&e, "; ");
        assert_stream(b.data, b.len, NULL, 0, buf_cstr(&e), e.len);
        size_t ends[1000], n = 0;
        for (size_t at = 4000; at < b.len && n < 1000; at += 4099) {
            ends[n++] = at;
        }
        assert_stream(b.data, b.len, ends, n, buf_cstr(&e), e.len);
        // and its last element is too deep
        while (b.data[b.len - 1] != '*' && b.data[b.len - 1] != '$') {
            b.len--;
        }
        b.len--;
        buf_adds(&b, "*1\r\n");
        buf_adds(&b, "*1\r\n");
        buf_adds(&b, tails[tail]);
        buf_adds(&b, "+after\r\n");
        for (n = 0; n < 1000 && 4000 + n * 4099 < b.len;) {
            ends[n] = 4000 + n * 4099;
            n++;
        }
        const char *expected = "! ; T5:after ; ";
        assert_stream(b.data, b.len, NULL, 0, expected, strlen(expected));
        assert_stream(b.data, b.len, ends, n, expected, strlen(expected));
        buf_clear(&b);
        buf_clear(&e);
    }
}

// add_long appends a string of that length, whose bytes differ.
static void add_long(struct buf *b, struct buf *e, size_t len) {
    char *p = malloc(len + 1);
    for (size_t i = 0; i < len; i++) {
        p[i] = "\r\n$+5"[(i * i + i / 7) % 5];
    }
    buf_printf(b, "$%zu\r\n", len);
    buf_add(b, p, len);
    buf_adds(b, "\r\n");
    buf_printf(e, "S%zu:", len);
    buf_add(e, p, len);
    buf_adds(e, " ; ");
    free(p);
}

static void long_strings_come_in_pieces(void **state) {
    (void)state;
    static const size_t lengths[] = {300, 65536, 100, 65534, 3000000};
    struct buf b = {0}, e = {0};
    for (int i = 0; i < 5; i++) {
        add_long(&b, &e, lengths[i]);
        buf_adds(&b, i % 2 ? "+OK\r\n" : "*1\r\n:5\r\n");
        buf_adds(&e, i % 2 ? "T2:OK ; " : "A1 I5 ; ");
        if (i % 2) { // two in a row, too
            add_long(&b, &e, lengths[i]);
        }
    }
    static const size_t steps[] = {333, 4096, 16384, 65536, 65537, 262144};
    for (int i = 0; i < 6; i++) {
        size_t ends[15000], n = 0;
        for (size_t at = 1; at < b.len && n < 15000; at += steps[i]) {
            ends[n++] = at;
        }
        assert_stream(b.data, b.len, ends, n, buf_cstr(&e), e.len);
    }
    assert_stream(b.data, b.len, NULL, 0, buf_cstr(&e), e.len);
    buf_clear(&b);
    buf_clear(&e);
    add_long(&b, &e, 350); // cut at every place
    add_long(&b, &e, 5);
    assert_split(b.data, b.len, buf_cstr(&e), e.len);
    buf_clear(&b);
    buf_clear(&e);
}

static void a_length_is_only_a_claim(void **state) {
    (void)state;
    struct reader r;
    reader_init(&r, NULL);
    reader_feed(&r, "$536870912\r\nabc", 15);
    assert_int_equal(read_all(&r), READER_MORE);
    assert_true(r.bulk.cap <= 1 << 20);
    assert_int_equal(reader_left(&r), 15);
    assert_int_equal(reader_taken(&r), 0);
    reader_clear(&r);
    // what a long one took is given back
    struct buf b = {0}, e = {0};
    add_long(&b, &e, 5000000);
    reader_init(&r, NULL);
    seen.len = 0;
    reader_feed(&r, b.data, b.len - 1);
    assert_int_equal(read_all(&r), READER_MORE);
    reader_feed(&r, b.data + b.len - 1, 1);
    assert_int_equal(read_all(&r), READER_MORE);
    assert_int_equal(seen.len, e.len);
    assert_true(r.bulk.cap <= 256 * 1024);
    reader_clear(&r);
    buf_clear(&b);
    buf_clear(&e);
}

// is_refused says whether the bytes, cut at a place, are an error.
static bool is_refused(const char *bytes, size_t len, size_t cut) {
    struct reader r;
    reader_init(&r, NULL);
    seen.len = 0;
    char *head = malloc(cut + 1), *tail = malloc(len - cut + 1);
    memcpy(head, bytes, cut);
    memcpy(tail, bytes + cut, len - cut);
    reader_feed(&r, head, cut);
    enum reader_result got = read_all(&r);
    if (got == READER_MORE) {
        reader_feed(&r, tail, len - cut);
        got = read_all(&r);
    }
    free(head);
    free(tail);
    if (got == READER_ERROR) {
        assert_non_null(r.error);
        assert_true(strlen(r.error) > 0);
    }
    // it can be used again for another stream
    reader_reset(&r);
    assert_int_equal(reader_taken(&r), 0);
    assert_int_equal(reader_left(&r), 0);
    seen.len = 0;
    reader_feed(&r, "+new\r\n", 6);
    assert_int_equal(read_all(&r), READER_MORE);
    assert_string_equal(buf_cstr(&seen), "T3:new ; ");
    reader_clear(&r);
    return got == READER_ERROR;
}

static void garbage_is_an_error_at_any_depth(void **state) {
    (void)state;
    static const char *const garbage[] = {
        "HTTP/1.1 400\r\n", "\r\n",         "$abc\r\n",         "$\r\n",
        "$-7\r\n",          "*-5\r\n",      "*x\r\n",           "*\r\n",
        ":x\r\n",           ":\r\n",        ":-\r\n",           ": 1\r\n",
        "*1x\r\n",          "$ 1\r\nx\r\n", "*99999999999\r\n", "$1x\r\na\r\n"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        for (int depth = 0; depth <= 14; depth++) {
            struct buf b = {0};
            for (int d = 0; d < depth; d++) {
                buf_adds(&b, "*1\r\n");
            }
            buf_adds(&b, garbage[i]);
            for (size_t cut = 0; cut <= b.len; cut++) {
                if (!is_refused(b.data, b.len, cut)) {
                    fail_msg("%s at depth %d, cut at %zu", garbage[i], depth,
                             cut);
                }
            }
            buf_clear(&b);
        }
    }
}

static void a_stream_ends_within_what_is_too_deep(void **state) {
    (void)state;
    struct buf b = {0};
    nest(&b, NULL, 12, 2);
    for (size_t cut = 0; cut < b.len; cut++) {
        struct reader r;
        reader_init(&r, NULL);
        reader_feed(&r, b.data, cut);
        assert_int_equal(read_all(&r), READER_MORE);
        reader_reset(&r);
        seen.len = 0;
        reader_feed(&r, ":3\r\n", 4);
        assert_int_equal(read_all(&r), READER_MORE);
        assert_string_equal(buf_cstr(&seen), "I3 ; ");
        assert_int_equal(reader_taken(&r), 4);
        reader_feed(&r, b.data, cut);
        reader_clear(&r);
    }
    buf_clear(&b);
}

// -- at random, against an oracle

static unsigned long dice_state = 20240607;

static unsigned dice(unsigned n) {
    dice_state = dice_state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(dice_state >> 33) % n;
}

// random_value appends a value that lies below so many arrays; returns how
// deep it goes.
static int random_value(struct buf *b, struct buf *e, int depth, int max) {
    unsigned type = dice(depth < max ? 8 : 5);
    if (type >= 5) {
        unsigned count = dice(4);
        buf_printf(b, "*%u\r\n", count);
        buf_printf(e, "A%u ", count);
        int deepest = depth + 1;
        for (unsigned i = 0; i < count; i++) {
            int d = random_value(b, e, depth + 1, max);
            deepest = d > deepest ? d : deepest;
        }
        return deepest;
    }
    char text[40];
    unsigned len = dice(sizeof text);
    for (unsigned i = 0; i < len; i++) {
        text[i] = type == 0 ? "\r\n*$+-:12a"[dice(10)] : (char)('a' + dice(26));
    }
    switch (type) {
    case 0:
        buf_printf(b, "$%u\r\n", len);
        buf_add(b, text, len);
        buf_adds(b, "\r\n");
        break;
    case 1: buf_printf(b, "+%.*s\r\n", (int)len, text); break;
    case 2: buf_printf(b, "-%.*s\r\n", (int)len, text); break;
    case 3:
        buf_printf(b, ":%d\r\n", (int)len - 20);
        buf_printf(e, "I%d ", (int)len - 20);
        return depth;
    default:
        buf_adds(b, "$-1\r\n");
        buf_adds(e, "N ");
        return depth;
    }
    buf_printf(e, "%c%u:", "STE"[type], len);
    buf_add(e, text, len);
    buf_addc(e, ' ');
    return depth;
}

// deep_value appends arrays down to a random level, then a random value.
static int deep_value(struct buf *b, struct buf *e, int max) {
    int down = (int)dice((unsigned)max);
    struct buf behind = {0}, behind_e = {0};
    int deepest = down;
    for (int i = 0; i < down; i++) {
        bool has_more = dice(3) == 0;
        buf_printf(b, "*%d\r\n", 1 + has_more);
        buf_printf(e, "A%d ", 1 + has_more);
        if (has_more) { // what lies behind comes innermost first
            struct buf v = {0}, ve = {0};
            int d = random_value(&v, &ve, i + 1, i + 2);
            deepest = d > deepest ? d : deepest;
            buf_add(&v, behind.data, behind.len);
            buf_add(&ve, behind_e.data, behind_e.len);
            buf_clear(&behind);
            buf_clear(&behind_e);
            behind = v;
            behind_e = ve;
        }
    }
    int d = random_value(b, e, down, down + 3);
    buf_add(b, behind.data, behind.len);
    buf_add(e, behind_e.data, behind_e.len);
    buf_clear(&behind);
    buf_clear(&behind_e);
    return d > deepest ? d : deepest;
}

static void random_replies_split_at_random(void **state) {
    (void)state;
    int too_deep = 0, well = 0;
    for (int round = 0; round < 4000; round++) {
        struct buf b = {0}, e = {0};
        unsigned count = 1 + dice(6);
        for (unsigned i = 0; i < count; i++) {
            size_t before = e.len;
            if (deep_value(&b, &e, 12) > READER_DEPTH) {
                e.len = before;
                buf_adds(&e, "! ");
                too_deep++;
            } else {
                well++;
            }
            buf_adds(&e, "; ");
        }
        size_t ends[20], n = dice(20), at = 0;
        for (size_t i = 0; i < n; i++) {
            at += dice((unsigned)(b.len - at + 1) / 2 + 1);
            ends[i] = at;
        }
        assert_stream(b.data, b.len, ends, n, buf_cstr(&e), e.len);
        buf_clear(&b);
        buf_clear(&e);
    }
    assert_true(too_deep > 1000 && well > 1000);
}

static int clear_seen(void **state) {
    (void)state;
    buf_clear(&seen);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(replies_nest_to_eight_levels),
        cmocka_unit_test(several_arrays_lie_at_the_limit),
        cmocka_unit_test(deeper_ones_are_passed_over),
        cmocka_unit_test(what_is_passed_over_may_hold_anything),
        cmocka_unit_test(much_behind_an_array_at_the_limit),
        cmocka_unit_test(long_strings_come_in_pieces),
        cmocka_unit_test(a_length_is_only_a_claim),
        cmocka_unit_test(garbage_is_an_error_at_any_depth),
        cmocka_unit_test(a_stream_ends_within_what_is_too_deep),
        cmocka_unit_test(random_replies_split_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, clear_seen);
}
