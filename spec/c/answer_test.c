// answer_test: responses are read alike, wherever their bytes are parted.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http/answer.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define HEAD     "HTTP/1.1 200 OK\r\n"

static struct answer fresh(void) {
    return (struct answer){
        .is_decoding = true, .head_max = 4096, .body_max = 1000};
}

// feed gives each byte, or all at once, in memory of its own, so that a read
// past it is found. It stops at what is not ANSWER_MORE; *left counts the rest.
static enum answer_state feed(struct answer *a, const char *p, size_t len,
                              size_t piece, size_t *left) {
    enum answer_state state = ANSWER_MORE;
    while (len > 0 && state == ANSWER_MORE) {
        size_t n = len < piece ? len : piece;
        char *copy = xmalloc(n);
        memcpy(copy, p, n);
        state = answer_read(a, copy, n);
        free(copy);
        p += n;
        len -= n;
    }
    *left = len;
    return state;
}

static void assert_body(const struct answer *a, const char *text) {
    assert_int_equal(a->body.len, strlen(text));
    assert_true(a->body.len == 0 ||
                memcmp(a->body.data, text, a->body.len) == 0);
}

static void whole_ones_are_read_at_each_parting(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *body;
        int status;
        bool is_kept;
    } list[] = {
        {HEAD "Content-Length: 5\r\n\r\nhello", "hello", 200, true},
        {HEAD "Content-Length: 0\r\n\r\n", "", 200, true},
        {"HTTP/1.1 204 No\r\n\r\n", "", 204, true},
        {"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "", 304, true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", 200, false},
        {HEAD "Connection: close\r\nContent-Length: 1\r\n\r\nx", "x", 200,
         false},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n"
              "0123456789\r\n0\r\nT: 1\r\n\r\n",
         "abc0123456789", 200, true},
        {"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" HEAD
         "Content-Length: 2\r\n\r\nok",
         "ok", 200, true},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        size_t len = strlen(list[i].bytes), left;
        for (size_t piece = 1; piece <= len; piece++) {
            struct answer a = fresh();
            assert_false(answer_has_begun(&a));
            assert_int_equal(feed(&a, list[i].bytes, len, piece, &left),
                             ANSWER_WHOLE);
            assert_int_equal(left, 0);
            assert_int_equal(a.status, list[i].status);
            assert_int_equal(a.is_kept, list[i].is_kept);
            assert_body(&a, list[i].body);
            assert_true(answer_has_begun(&a));
            answer_clear(&a);
        }
    }
}

static void the_head_is_kept_without_its_empty_line(void **state) {
    (void)state;
    struct answer a = fresh();
    size_t left;
    static const char text[] = "HTTP/1.1 103 X\r\nA: 1\r\n\r\n" HEAD
                               "B: 2\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(feed(&a, text, strlen(text), 7, &left), ANSWER_WHOLE);
    assert_string_equal(buf_cstr(&a.head),
                        HEAD "B: 2\r\nContent-Length: 0\r\n");
    answer_clear(&a);
}

static void bytes_behind_spoil_the_connection(void **state) {
    (void)state;
    static const char *const list[] = {
        HEAD "Content-Length: 1\r\n\r\nxH",
        HEAD "Content-Length: 0\r\n\r\n\r",
        HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nH",
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct answer a = fresh();
        assert_int_equal(answer_read(&a, list[i], strlen(list[i])),
                         ANSWER_WHOLE);
        assert_false(a.is_kept);
        answer_clear(&a);
    }
}

static void
the_end_of_the_connection_ends_those_without_a_length(void **state) {
    (void)state;
    static const char text[] = HEAD "X: y\r\n\r\nabc";
    for (size_t len = 0; len <= strlen(text); len++) {
        struct answer a = fresh();
        assert_int_equal(answer_read(&a, text, len), ANSWER_MORE);
        bool is_whole = len >= strlen(text) - 3;
        assert_int_equal(answer_end(&a), is_whole ? ANSWER_WHOLE : ANSWER_MORE);
        assert_false(a.is_kept);
        answer_clear(&a);
    }
    struct answer a = fresh();
    static const char cut[] = HEAD "Content-Length: 5\r\n\r\nhell";
    assert_int_equal(answer_read(&a, cut, strlen(cut)), ANSWER_MORE);
    assert_int_equal(answer_end(&a), ANSWER_MORE);
    answer_clear(&a);
}

static void a_head_request_has_no_body(void **state) {
    (void)state;
    struct answer a = fresh();
    a.is_head = true;
    static const char text[] = HEAD "Content-Length: 99999\r\n\r\n";
    assert_int_equal(answer_read(&a, text, strlen(text)), ANSWER_WHOLE);
    assert_true(a.is_kept);
    answer_clear(&a);
}

static void faulty_ones_say_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *code, *text;
    } list[] = {
        {"SSH-2.0-x\r\n", "http.protocol", "no response"},
        {"HTTP/1.1 101 Other\r\n\r\n", "http.protocol", "no response"},
        {HEAD "A b: c\r\n\r\n", "http.protocol", "no response"},
        {HEAD "Content-Length: 1001\r\n\r\n", "http.too_large", "1000 bytes"},
        {HEAD "Transfer-Encoding: chunked\r\n\r\nx\r\n", "http.protocol",
         "chunks"},
        {HEAD "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
         "http.protocol", "not gzip"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        for (size_t piece = 1; piece <= 100; piece += 99) {
            struct answer a = fresh();
            size_t left;
            assert_int_equal(
                feed(&a, list[i].bytes, strlen(list[i].bytes), piece, &left),
                ANSWER_BAD);
            assert_string_equal(a.code, list[i].code);
            assert_non_null(strstr(a.error, list[i].text));
            answer_clear(&a);
        }
    }
}

static void limits_hold_for_heads_and_bodies(void **state) {
    (void)state;
    static const char line[] =
        "X: 0123456789012345678901234567890123456789\r\n";
    for (size_t piece = 1; piece <= 64; piece += 63) {
        struct buf text = {0};
        struct answer a = fresh();
        size_t left;
        buf_adds(&text, HEAD);
        while (text.len < 5000) {
            buf_adds(&text, line);
        }
        assert_int_equal(feed(&a, text.data, text.len, piece, &left),
                         ANSWER_BAD);
        assert_string_equal(a.code, "http.too_large");
        assert_true(text.len - left <= a.head_max + piece);
        answer_clear(&a);
        a = fresh();
        text.len = 0;
        buf_adds(&text, HEAD "\r\n");
        while (text.len < 2000) {
            buf_adds(&text, line);
        }
        assert_int_equal(feed(&a, text.data, text.len, piece, &left),
                         ANSWER_BAD);
        assert_string_equal(a.code, "http.too_large");
        assert_true(a.body.len <= a.body_max + piece);
        answer_clear(&a);
        buf_clear(&text);
    }
}

// zipped appends a member of gzip.
static void zipped(struct buf *out, const char *bytes, size_t len) {
    z_stream z = {0};
    assert_int_equal(
        deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY),
        Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    size_t room = deflateBound(&z, len);
    z.next_out = (Bytef *)buf_reserve(out, room);
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->len += z.total_out;
    deflateEnd(&z);
}

static void gzip_is_unpacked_member_by_member(void **state) {
    (void)state;
    struct buf body = {0}, text = {0};
    zipped(&body, "hello ", 6);
    zipped(&body, "world", 5);
    buf_printf(&text,
               HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
               body.len);
    buf_add(&text, body.data, body.len);
    for (size_t piece = 1; piece <= text.len; piece++) {
        struct answer a = fresh();
        size_t left;
        assert_int_equal(feed(&a, text.data, text.len, piece, &left),
                         ANSWER_WHOLE);
        assert_body(&a, "hello world");
        assert_true(a.is_kept);
        answer_clear(&a);
    }
    struct answer a = fresh(); // left as it came
    a.is_decoding = false;
    assert_int_equal(answer_read(&a, text.data, text.len), ANSWER_WHOLE);
    assert_int_equal(a.body.len, body.len);
    answer_clear(&a);
    buf_clear(&body);
    buf_clear(&text);
}

static void gzip_that_is_cut_short_or_swells_is_refused(void **state) {
    (void)state;
    static const char zeros[100000];
    struct buf body = {0}, text = {0};
    zipped(&body, zeros, sizeof zeros);
    for (int is_cut = 0; is_cut < 2; is_cut++) {
        size_t len = is_cut ? 20 : body.len;
        struct answer a = fresh();
        a.body_max = is_cut ? sizeof zeros : 1000;
        text.len = 0;
        buf_printf(&text,
                   HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                   len);
        buf_add(&text, body.data, len);
        assert_int_equal(answer_read(&a, text.data, text.len), ANSWER_BAD);
        assert_string_equal(a.code,
                            is_cut ? "http.protocol" : "http.too_large");
        assert_true(a.body.len < 20000);
        answer_clear(&a);
    }
    buf_clear(&body);
    buf_clear(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_ones_are_read_at_each_parting),
        cmocka_unit_test(the_head_is_kept_without_its_empty_line),
        cmocka_unit_test(bytes_behind_spoil_the_connection),
        cmocka_unit_test(the_end_of_the_connection_ends_those_without_a_length),
        cmocka_unit_test(a_head_request_has_no_body),
        cmocka_unit_test(faulty_ones_say_what_is_wrong),
        cmocka_unit_test(limits_hold_for_heads_and_bodies),
        cmocka_unit_test(gzip_is_unpacked_member_by_member),
        cmocka_unit_test(gzip_that_is_cut_short_or_swells_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
