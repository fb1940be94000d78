// reply_test: heads of responses are read as RFC 9112 has them, or refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/reply.h"

#define OK_LINE "HTTP/1.1 200 OK\r\n"

static int parse(struct http_reply *r, const char *text) {
    size_t scanned = 0;
    return http_parse_reply(r, text, strlen(text), &scanned);
}

static void a_head_is_read(void **state) {
    (void)state;
    struct http_reply r;
    static const char text[] = "HTTP/1.1 404 Not here\r\nContent-Length: 12\r\n"
                               "X: \t y \r\ncontent-encoding: GZip\r\n\r\nbody";
    assert_int_equal(parse(&r, text), HTTP_OK);
    assert_int_equal(r.status, 404);
    assert_int_equal(r.size, strlen(text) - 4);
    assert_int_equal(r.content_length, 12);
    assert_true(r.has_length && r.keep_alive && r.is_gzip);
    assert_false(r.chunked);
    assert_int_equal(parse(&r, "HTTP/1.1 200\r\n\r\n"), HTTP_OK);
    assert_int_equal(parse(&r, "HTTP/1.1 200 \r\n\r\n"), HTTP_OK);
    assert_false(r.has_length);
}

static void
connections_are_kept_as_the_version_and_the_field_say(void **state) {
    (void)state;
    static const struct {
        const char *head;
        bool keep;
    } list[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", true},
        {"HTTP/1.0 200 OK\r\n\r\n", false},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false},
        {"HTTP/1.1 200 OK\r\nConnection: foo , Close\r\n\r\n", false},
        {"HTTP/1.1 200 OK\r\nConnection: closed\r\n\r\n", true},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: "
         "close\r\n\r\n",
         false},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct http_reply r;
        assert_int_equal(parse(&r, list[i].head), HTTP_OK);
        assert_int_equal(r.keep_alive, list[i].keep);
    }
}

static void only_gzip_alone_is_unpacked(void **state) {
    (void)state;
    static const struct {
        const char *fields;
        bool is_gzip;
    } list[] = {
        {"Content-Encoding: gzip\r\n", true},
        {"Content-Encoding: x-gzip\r\n", true},
        {"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n", true},
        {"Content-Encoding: br\r\n", false},
        {"Content-Encoding: gzip\r\nContent-Encoding: br\r\n", false},
        {"Content-Encoding: gzip, br\r\n", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char text[200];
        struct http_reply r;
        snprintf(text, sizeof text, OK_LINE "%s\r\n", list[i].fields);
        assert_int_equal(parse(&r, text), HTTP_OK);
        assert_int_equal(r.is_gzip, list[i].is_gzip);
    }
}

static void what_is_no_head_is_refused(void **state) {
    (void)state;
    static const char *const list[] = {
        "hello\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.x 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        OK_LINE "no colon\r\n\r\n",
        OK_LINE ": no name\r\n\r\n",
        OK_LINE "A : b\r\n\r\n",
        OK_LINE " folded: x\r\n\r\n",
        OK_LINE "A: b\r\n folded\r\n\r\n",
        OK_LINE "A: b\x01\r\n\r\n",
        OK_LINE "A: b\nC: d\r\n\r\n",
        OK_LINE "A: b\rC\r\n\r\n",
        OK_LINE "Content-Length: \r\n\r\n",
        OK_LINE "Content-Length: -1\r\n\r\n",
        OK_LINE "Content-Length: +1\r\n\r\n",
        OK_LINE "Content-Length: 1, 1\r\n\r\n",
        OK_LINE "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK_LINE "Content-Length: 18446744073709551616\r\n\r\n",
        OK_LINE "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK_LINE "Transfer-Encoding: gzip\r\n\r\n",
        OK_LINE "Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK_LINE
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct http_reply r;
        if (parse(&r, list[i]) != 400) {
            fail_msg("taken for a head: %s", list[i]);
        }
    }
    struct http_reply r; // the same length twice says one thing
    assert_int_equal(parse(&r, OK_LINE "Content-Length: 3\r\nContent-Length: 3"
                                       "\r\n\r\n"),
                     HTTP_OK);
    static const char with_zero[] = OK_LINE "A: b\0c\r\n\r\n";
    size_t scanned = 0;
    assert_int_equal(
        http_parse_reply(&r, with_zero, sizeof with_zero - 1, &scanned), 400);
}

// Each prefix lies in memory of its own, so that a read past it is noticed.
static void a_head_in_pieces_is_the_same(void **state) {
    (void)state;
    static const char text[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\nrest";
    size_t head = strlen(text) - 4, scanned = 0;
    struct http_reply r;
    for (size_t n = 0; n <= strlen(text); n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, text, n);
        int rc = http_parse_reply(&r, copy, n, &scanned);
        assert_int_equal(rc, n < head ? HTTP_MORE : HTTP_OK);
        if (rc == HTTP_OK) {
            assert_int_equal(r.size, head);
            assert_true(r.chunked);
        }
        free(copy);
    }
}

static void garbage_is_refused_at_once(void **state) {
    (void)state;
    struct http_reply r;
    assert_int_equal(parse(&r, "HTTP"), HTTP_MORE);
    assert_int_equal(parse(&r, "HTTQ"), 400);
    assert_int_equal(parse(&r, "SSH-2.0"), 400);
}

static void random_bytes_do_no_harm(void **state) {
    (void)state;
    static const char base[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nA: b\r\n"
        "Connection: close\r\n\r\n";
    unsigned seed = 7;
    for (int i = 0; i < 200000; i++) {
        char text[sizeof base];
        struct http_reply r;
        size_t scanned = 0;
        memcpy(text, base, sizeof base);
        for (int k = 0; k < 3; k++) {
            seed = seed * 1103515245 + 12345;
            text[seed / 65536 % (sizeof base - 1)] = (char)(seed >> 8);
        }
        int rc = http_parse_reply(&r, text, sizeof base - 1, &scanned);
        assert_true(rc == HTTP_OK || rc == HTTP_MORE || rc == 400);
        assert_true(rc != HTTP_OK || (r.status >= 100 && r.status <= 999 &&
                                      r.size <= sizeof base - 1));
    }
}

static void some_responses_have_no_body(void **state) {
    (void)state;
    struct http_reply r = {.status = 200};
    assert_true(http_reply_has_body(&r, false));
    assert_false(http_reply_has_body(&r, true));
    static const int without[] = {100, 103, 204, 304};
    for (size_t i = 0; i < 4; i++) {
        r.status = without[i];
        assert_false(http_reply_has_body(&r, false));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_read),
        cmocka_unit_test(connections_are_kept_as_the_version_and_the_field_say),
        cmocka_unit_test(only_gzip_alone_is_unpacked),
        cmocka_unit_test(what_is_no_head_is_refused),
        cmocka_unit_test(a_head_in_pieces_is_the_same),
        cmocka_unit_test(garbage_is_refused_at_once),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(some_responses_have_no_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
