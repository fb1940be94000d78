// parse_test: the rules of the HTTP request parser, one table a rule.
//
// Every request is parsed whole, cut in two at every byte and byte by byte,
// each time from a block of exactly its size, so that a sanitizer sees any
// read past the end.
#include "http/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a)  (sizeof(a) / sizeof *(a))
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define HOST_LINE "Host: a.example\r\n"

// What stands before and after a sample: the fields, the request line, its
// target, the value of Host.
#define WHOLE  "", ""
#define FIELDS "GET / HTTP/1.1\r\n" HOST_LINE, "\r\n\r\n"
#define LINE   "", "\r\n" HOST_LINE "\r\n"
#define TARGET "GET ", " HTTP/1.1\r\n" HOST_LINE "\r\n"
#define HOST   "GET / HTTP/1.1\r\nHost: ", "\r\n\r\n"

static char *copy(const char *bytes, size_t len) {
    char *p = malloc(len > 0 ? len : 1);
    assert_non_null(p);
    memcpy(p, bytes, len);
    return p;
}

static int feed(struct http_head *h, const char *bytes, size_t len,
                size_t *scanned) {
    char *p = copy(bytes, len);
    int rc = http_parse_head(h, p, len, scanned);
    free(p);
    return rc;
}

static void assert_slice(struct slice s, const char *text) {
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.p, text, s.len);
}

static void assert_within(struct slice s, const char *p, size_t len) {
    assert_true(s.p >= p && s.p <= p + len);
    assert_true(s.len <= (size_t)(p + len - s.p));
}

// outcome parses a request in all the ways it can arrive and returns what
// every one of them came to.
static int outcome(const char *bytes, size_t len) {
    struct http_head h;
    size_t scanned = 0;
    int whole = feed(&h, bytes, len, &scanned);
    size_t size = h.size;
    for (size_t cut = 0; cut < len; cut++) {
        scanned = 0;
        int rc = feed(&h, bytes, cut, &scanned);
        if (rc == HTTP_MORE) {
            assert_int_equal(scanned, cut);
            rc = feed(&h, bytes, len, &scanned);
        }
        assert_int_equal(rc, whole);
        assert_int_equal(scanned, 0);
        if (rc == HTTP_OK) {
            assert_int_equal(h.size, size);
        }
    }
    scanned = 0;
    int rc = HTTP_MORE;
    size_t n = 0;
    while (rc == HTTP_MORE && n < len) {
        rc = feed(&h, bytes, ++n, &scanned);
    }
    assert_int_equal(rc, whole);
    if (rc == HTTP_OK) {
        assert_int_equal(n, size);
    }
    return whole;
}

// expect gives every sample its surroundings and compares what it comes to.
static void expect(int status, const char *before, const char *after,
                   const char *const *samples) {
    for (; *samples; samples++) {
        char text[400];
        int n = snprintf(text, sizeof text, "%s%s%s", before, *samples, after);
        int rc = outcome(text, (size_t)n);
        if (rc != status) {
            fail_msg("%d, not %d for:\n%s", rc, status, text);
        }
    }
}

// parse_ok parses a request that has to be good.
static struct http_head parse_ok(const char *text) {
    struct http_head h;
    size_t scanned = 0;
    assert_int_equal(outcome(text, strlen(text)), HTTP_OK);
    assert_int_equal(http_parse_head(&h, text, strlen(text), &scanned), 0);
    return h;
}

static void a_head_is_taken_apart(void **state) {
    (void)state;
    const char *text = "POST /a/b%20c?x=1&y=2 HTTP/1.1\r\n"
                       "Host: a.example:8080\r\n"
                       "X-Empty:\r\n"
                       "X-Wide: \t two  words\t \r\n"
                       "x-wide: again\r\n"
                       "X-Bytes: caf\xc3\xa9\ttab, and a long tail\r\n"
                       "content-LENGTH: 12\r\n"
                       "\r\nGET / HTTP/1.1\r\n";
    struct http_head h = parse_ok(text);
    assert_slice(h.method, "POST");
    assert_slice(h.target, "/a/b%20c?x=1&y=2");
    assert_slice(h.path, "/a/b%20c");
    assert_slice(h.query, "x=1&y=2");
    assert_slice(h.host, "a.example:8080");
    assert_int_equal(h.minor_version, 1);
    assert_int_equal(h.header_count, 6);
    assert_slice(h.headers[1].name, "X-Empty");
    assert_slice(h.headers[1].value, "");
    assert_slice(*http_header(&h, "x-wide"), "two  words");
    assert_slice(*http_header(&h, "x-bytes"),
                 "caf\xc3\xa9\ttab, and a long tail");
    assert_null(http_header(&h, "x-wid"));
    assert_null(http_header(&h, "x-wider"));
    assert_true(h.has_length && h.content_length == 12 && !h.chunked);
    assert_true(h.keep_alive && !h.expect_continue && !h.upgrade);
    assert_int_equal(h.size, strstr(text, "\r\n\r\n") + 4 - text);
}

static void lines_end_in_crlf_and_nothing_else(void **state) {
    (void)state;
    expect(400, WHOLE,
           LIST("GET / HTTP/1.1\n" HOST_LINE "\r\n",
                "GET / HTTP/1.1\r\nHost: a\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\n\n",
                "GET / HTTP/1.1\r" HOST_LINE "\r\n",
                "GET / HTTP/1.1\r\r\n" HOST_LINE "\r\n"));
    expect(400, FIELDS, LIST("A: b\rC: d", "A: b\r", "\rA: b", "A"));
    expect(HTTP_OK, FIELDS, LIST("A:", "A:b", "A: \t"));
    // One empty line may come first, whole.
    expect(HTTP_OK, LINE, LIST("\r\nGET / HTTP/1.1"));
    expect(400, LINE,
           LIST("\r\n\r\nGET / HTTP/1.1", "\nGET / HTTP/1.1",
                "\rGET / HTTP/1.1", " GET / HTTP/1.1"));
}

static void the_request_line_is_three_parts_and_two_spaces(void **state) {
    (void)state;
    expect(400, LINE,
           LIST("GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ",
                "GET\t/ HTTP/1.1", "GET / a HTTP/1.1", " / HTTP/1.1", "GET /",
                "GET HTTP/1.1", "GET / http/1.1", "GET / HTTP/1",
                "GET / HTTP/1.10", "GET / HTTP/1,1", "GET / HTTP/x.1",
                "GET / HTTP/1.x"));
    expect(505, LINE, LIST("GET / HTTP/1.2", "GET / HTTP/0.9"));
    expect(505, WHOLE, LIST("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    expect(501, LINE, LIST("CONNECT a:1 HTTP/1.1"));
}

static void targets_have_three_forms(void **state) {
    (void)state;
    expect(400, TARGET,
           LIST("/#top", "/a\tb", "a", "a:80", "?a", "*", "ftp://a/",
                "http:/a/", "http://", "http:///a", "http://user@a/",
                "http://a:b@c/", "http://a:80a/"));
    expect(400, LINE, LIST("OPTIONS ** HTTP/1.1", "options * HTTP/1.1"));
    static const struct {
        const char *text, *host, *path, *query;
    } good[] = {
        {"GET /?", "h", "/", ""},
        {"GET //x/..?a?b", "h", "//x/..", "a?b"},
        {"GET http://a:80/b?c", "a:80", "/b", "c"},
        {"GET HTTPS://A?b/c", "A", "/", "b/c"},
        {"GET http://[::1]", "[::1]", "/", ""},
        {"OPTIONS http://a", "a", "*", ""},
        {"OPTIONS http://a?b", "a", "/", "b"},
        {"OPTIONS *", "h", "*", ""},
        {"OPTIONS /x", "h", "/x", ""},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        char text[200];
        snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: h\r\n\r\n",
                 good[i].text);
        struct http_head h = parse_ok(text);
        assert_slice(h.host, good[i].host);
        assert_slice(h.path, good[i].path);
        assert_slice(h.query, good[i].query);
    }
}

static void fields_are_a_name_a_colon_and_a_value(void **state) {
    (void)state;
    expect(400, FIELDS,
           LIST("A : b", "A\t: b", " A: b", "A: b\r\n c", "A: b\r\n\tc", ": b",
                "A b"));
    expect(400, WHOLE, LIST("GET / HTTP/1.1\r\n " HOST_LINE "\r\n"));
}

// Every byte is tried in places of a head of which it is known what they
// take; 'X' marks them.
static void every_byte_is_judged_where_it_stands(void **state) {
    (void)state;
    static const char alnum[] = "0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const struct {
        const char *text;
        const char *punctuation; // NULL: any byte but controls
    } places[] = {
        {"gXt / HTTP/1.1\r\nHost: a\r\n\r\n", "!#$%&'*+-.^_`|~"},
        {"GET / HTTP/1.1\r\nHost: a\r\naXb: c\r\n\r\n", "!#$%&'*+-.^_`|~:"},
        {"GET /aXb HTTP/1.1\r\nHost: a\r\n\r\n",
         "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
        {"GET / HTTP/1.1\r\nHost: aXb\r\n\r\n", "!$&'()*+,-.;=_~"},
        {"GET http://aXb/ HTTP/1.1\r\nHost: a\r\n\r\n", "!$&'()*+,-.;=_~?/"},
        {"GET / HTTP/1.1\r\nHost: a\r\nA:X1234567\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nA:0123X56789\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nA:0123456X89\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nA:0123456789aX\r\n\r\n", NULL},
    };
    for (size_t i = 0; i < COUNT(places); i++) {
        size_t len = strlen(places[i].text);
        for (int c = 0; c < 256; c++) {
            char text[100];
            memcpy(text, places[i].text, len);
            *(char *)memchr(text, 'X', len) = (char)c;
            bool is_good = (c >= 0x20 && c != 0x7f) || c == '\t';
            if (places[i].punctuation) {
                is_good = c != 0 && (strchr(alnum, c) ||
                                     strchr(places[i].punctuation, c));
            }
            int rc = outcome(text, len);
            if (rc != (is_good ? HTTP_OK : 400)) {
                fail_msg("%d for byte %d in:\n%s", rc, c, places[i].text);
            }
        }
    }
}

static void there_is_one_good_host(void **state) {
    (void)state;
    expect(400, WHOLE,
           LIST("GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"));
    expect(HTTP_OK, WHOLE, LIST("GET / HTTP/1.0\r\n\r\n"));
    expect(400, FIELDS, LIST("Host: a.example", "hOST: b"));
    expect(400, HOST,
           LIST("", "a b", "u@a", "a%41", ":80", "a:8:0", "a:x", "[]", "[::1",
                "[::1]a", "[v1.x]"));
    expect(HTTP_OK, HOST, LIST("a:", "a_b-c.d~:80", "[::ffff:1.2.3.4]:80"));
}

static void framing_is_never_ambiguous(void **state) {
    (void)state;
    expect(400, FIELDS,
           LIST("Content-Length: 18446744073709551616",
                "Content-Length: 99999999999999999999",
                "Content-Length:", "Content-Length: +1", "Content-Length: -1",
                "Content-Length: 0x1", "Content-Length: 1 1",
                "Content-Length: 1, 1", "Content-Length: 1;",
                "Content-Length: 1\r\nContent-Length: 1",
                "Content-Length: 1\r\nContent-Length: 2",
                "Content-Length: 0\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 1",
                "Transfer-Encoding:", "Transfer-Encoding: \vchunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"));
    expect(501, FIELDS,
           LIST("Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: chunked;q=1", "Transfer-Encoding: chunke",
                "Transfer-Encoding: \"chunked\"",
                "Transfer-Encoding: xchunked"));
    expect(400, WHOLE,
           LIST("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"));
    expect(417, FIELDS, LIST("Expect: 200-ok"));
    expect(400, FIELDS, LIST("Connection: a b", "Connection: (a)"));
    struct http_head h = parse_ok("GET / HTTP/1.1\r\n" HOST_LINE
                                  "Content-Length: 18446744073709551615\r\n"
                                  "\r\n");
    assert_true(h.has_length && h.content_length == UINT64_MAX);
    h = parse_ok("GET / HTTP/1.1\r\n" HOST_LINE
                 "Transfer-Encoding: CHUNKED\r\n\r\n");
    assert_true(h.chunked && !h.has_length);
}

static void the_connection_is_decided_by_version_and_options(void **state) {
    (void)state;
    static const struct {
        int minor;
        const char *fields;
        bool keep_alive, upgrade, expect_continue;
    } cases[] = {
        {1, "", true, false, false},
        {1, "Connection: close\r\n", false, false, false},
        {1, "Connection: , foo ,\tCLOSE,\r\n", false, false, false},
        {1, "Connection: closed\r\n", true, false, false},
        {1, "Connection: keep-alive\r\nConnection: close\r\n", false, 0, 0},
        {0, "", false, false, false},
        {0, "Connection: Keep-Alive\r\n", true, false, false},
        {0, "Connection: keep-alive, close\r\n", false, false, false},
        {1, "Connection: keep-alive, Upgrade\r\nUpgrade: x\r\n", true, true, 0},
        {1, "Connection: upgrade\r\n", true, false, false},
        {1, "Upgrade: websocket\r\n", true, false, false},
        {1, "Connection: upgrade\r\nUpgrade:\r\n", true, false, false},
        {0, "Connection: upgrade\r\nUpgrade: x\r\n", false, false, false},
        {1, "Expect: 100-Continue\r\nContent-Length: 1\r\n", true, 0, true},
        {1, "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", 1, 0, 1},
        {1, "Expect: 100-continue\r\nContent-Length: 0\r\n", true, 0, false},
        {1, "Expect: 100-continue\r\n", true, false, false},
        {0, "Expect: 100-continue\r\nContent-Length: 1\r\n", 0, 0, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[200];
        snprintf(text, sizeof text, "GET / HTTP/1.%d\r\nHost: h\r\n%s\r\n",
                 cases[i].minor, cases[i].fields);
        struct http_head h = parse_ok(text);
        assert_int_equal(h.minor_version, cases[i].minor);
        assert_int_equal(h.keep_alive, cases[i].keep_alive);
        assert_int_equal(h.upgrade, cases[i].upgrade);
        assert_int_equal(h.expect_continue, cases[i].expect_continue);
    }
}

// padded builds a head of exactly size bytes from a start, filler and an end.
static char *padded(const char *start, const char *end, size_t size) {
    char *p = malloc(size);
    assert_non_null(p);
    memset(p, 'a', size);
    memcpy(p, start, strlen(start));
    memcpy(p + size - strlen(end), end, strlen(end));
    return p;
}

static void a_head_has_a_greatest_size(void **state) {
    (void)state;
    const size_t max = HTTP_HEAD_MAX;
    const struct {
        const char *start, *end;
        size_t size;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST_LINE "A: ", "\r\n\r\n", max, HTTP_OK},
        {"GET / HTTP/1.1\r\n" HOST_LINE "A: ", "\r\n\r\n", max + 1, 431},
        {"GET / HTTP/1.1\r\n" HOST_LINE "A: ", "", max - 1, HTTP_MORE},
        {"GET / HTTP/1.1\r\n" HOST_LINE "A: ", "", max, 431},
        {"GET / HTTP/1.1\r\n" HOST_LINE "A", "", max, 431},
        {"GET /", " HTTP/1.1\r\n" HOST_LINE "\r\n", max, HTTP_OK},
        {"GET /", " HTTP/1.1\r\n" HOST_LINE "\r\n", max + 1, 431},
        {"GET /", " HTTP/1.1\r\n", max, 431},
        {"GET /", " HTTP/1.1\r\n", max + 1, 414},
        {"GET /", "", max - 1, HTTP_MORE},
        {"GET /", "", 2 * max, 414},
        {"GET", "", max, 501},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t size = cases[i].size;
        char *p = padded(cases[i].start, cases[i].end, size);
        struct http_head h;
        size_t scanned = 0;
        assert_int_equal(feed(&h, p, size, &scanned), cases[i].status);
        scanned = 0;
        size_t n = 0;
        int rc = HTTP_MORE;
        while (rc == HTTP_MORE && n < size) {
            rc = feed(&h, p, ++n, &scanned);
        }
        assert_int_equal(rc, cases[i].status);
        assert_int_equal(n, size < max ? size : max);
        free(p);
    }
}

static void a_head_has_a_hundred_fields_at_most(void **state) {
    (void)state;
    for (int count = HTTP_HEADERS_MAX; count <= HTTP_HEADERS_MAX + 1; count++) {
        char text[1000] = "GET / HTTP/1.1\r\nHost: a\r\n";
        for (int i = 1; i < count; i++) {
            strcat(text, "A:\r\n");
        }
        strcat(text, "\r\n");
        assert_int_equal(outcome(text, strlen(text)),
                         count > HTTP_HEADERS_MAX ? 431 : HTTP_OK);
    }
}

// What was scanned is overwritten with line feeds, which would be refused if
// they were looked at: the search costs linear time.
static void scanned_bytes_are_not_looked_at_again(void **state) {
    (void)state;
    char text[] = "GET / HTTP/1.1\r\nHost: a\r\nA: bbbbbbbbbbbbbbbbbbbbb\r\n";
    struct http_head h;
    size_t scanned = 0;
    assert_int_equal(feed(&h, text, 30, &scanned), HTTP_MORE);
    assert_int_equal(scanned, 30);
    memset(text, '\n', 27);
    assert_int_equal(feed(&h, text, sizeof text - 1, &scanned), HTTP_MORE);
    assert_int_equal(scanned, sizeof text - 1);
}

// What a chunked body came to: its status, data and length on the wire.
struct body {
    int status;
    size_t len, used;
    char data[200];
};

// take feeds len bytes more to c, from a block of exactly that size.
static void take(struct http_chunked *c, struct body *b, const char *bytes,
                 size_t len) {
    char *p = copy(bytes, len);
    size_t at = 0;
    do {
        size_t used;
        struct slice data;
        b->status = http_chunked_feed(c, p + at, len - at, &used, &data);
        assert_true(used <= len - at);
        if (data.len > 0) {
            assert_within(data, p + at, used);
            assert_true(b->len + data.len <= sizeof b->data);
            memcpy(b->data + b->len, data.p, data.len);
            b->len += data.len;
        }
        assert_true(used > 0 || b->status != HTTP_MORE || len == at);
        at += used;
    } while (b->status == HTTP_MORE && at < len);
    b->used += at;
    free(p);
}

static void assert_same_body(const struct body *a, const struct body *b) {
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

// decode decodes a body whole, cut in two at every byte and byte by byte.
static struct body decode(const char *bytes, size_t len) {
    struct body whole = {0};
    take(&(struct http_chunked){0}, &whole, bytes, len);
    for (size_t cut = 0; cut <= len; cut++) {
        struct http_chunked c = {0};
        struct body b = {0};
        take(&c, &b, bytes, cut);
        if (b.status == HTTP_MORE) {
            take(&c, &b, bytes + cut, len - cut);
        }
        assert_same_body(&b, &whole);
    }
    struct http_chunked c = {0};
    struct body b = {.status = HTTP_MORE};
    for (size_t i = 0; i < len && b.status == HTTP_MORE; i++) {
        take(&c, &b, bytes + i, 1);
    }
    assert_same_body(&b, &whole);
    return whole;
}

static void chunks_become_their_data(void **state) {
    (void)state;
    static const struct {
        const char *text, *data, *rest;
    } cases[] = {
        {"0\r\n\r\n", "", ""},
        {"5\r\nhello\r\n0\r\n\r\nGET /", "hello", "GET /"},
        {"5\r\nhello\r\n6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", "hello\r\n0\r\n\r", ""},
        {"00c\r\nhello, world\r\n000\r\n\r\n", "hello, world", ""},
        {"C\r\nhello, world\r\n0\r\n\r\n\r\n", "hello, world", "\r\n"},
        {"1;a=b;c=\"d;e\"\r\nx\r\n0;z\r\n\r\n", "x", ""},
        {"1\r\nx\r\n0\r\nA: b\r\nHost:c\xff\t\r\nD:\r\n\r\nx", "x", "x"},
        {"0000000000000001\r\nx\r\n0\r\n\r\n", "x", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = strlen(cases[i].text);
        struct body b = decode(cases[i].text, len);
        assert_int_equal(b.status, HTTP_OK);
        assert_slice((struct slice){b.data, b.len}, cases[i].data);
        assert_int_equal(b.used, len - strlen(cases[i].rest));
        b = decode(cases[i].text, b.used - 1);
        assert_int_equal(b.status, HTTP_MORE);
    }
}

static void bad_chunks_are_refused(void **state) {
    (void)state;
    const char *const *bad = LIST(
        "\r\n", ";a\r\n", "g\r\n", "-1\r\n", "+1\r\n", " 1\r\n", "1 \r\nx",
        "1 ;a\r\nx", "0x1\r\nx", "1\nx", "1\r\r\nx", "1;a\nx", "1;a\rb\r\nx",
        "1;a\1\r\nx", "1;a\x7f\r\nx", "1\r\nxy", "1\r\nx\n", "1\r\nx\r1",
        "1\r\nx0\r\n\r\n", "0\r\n\n", "0\r\n\rx", "0\r\n a: b\r\n",
        "0\r\na : b\r\n", "0\r\n: b\r\n", "0\r\na\r\n", "0\r\na: b\n",
        "0\r\na: b\rc", "0\r\na: b\1\r\n", "0\r\na: b\r\n c\r\n",
        "10000000000000000\r\nx", "00000000000000001\r\nx");
    for (; *bad; bad++) {
        int rc = decode(*bad, strlen(*bad)).status;
        if (rc != 400) {
            fail_msg("%d, not 400 for: %s", rc, *bad);
        }
    }
    assert_int_equal(decode("ffffffffffffffff\r\nx", 19).status, HTTP_MORE);
    assert_int_equal(decode("1;a\0\r\nx", 7).status, 400);
    struct http_chunked c = {0};
    struct body b = {0};
    take(&c, &b, "x", 1);
    take(&c, &b, "0\r\n\r\n", 5);
    assert_int_equal(b.status, 400);
    assert_int_equal(b.used, 1);
}

static void extensions_and_trailers_have_a_greatest_size(void **state) {
    (void)state;
    const size_t max = HTTP_CHUNK_EXTRA_MAX;
    static const struct {
        const char *start, *end;
        size_t counted; // of the bytes in start and end
    } cases[] = {
        {"1;", "\r\nx\r\n0\r\n\r\n", 3},
        {"0\r\nA:", "\r\n\r\n", 6},
        {"1;abc\r\nx\r\n0;", "\r\nA:\r\n\r\n", 11},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t size = max - cases[i].counted + strlen(cases[i].start) +
                      strlen(cases[i].end);
        for (size_t more = 0; more < 2; more++) {
            struct body b = {0};
            char *p = padded(cases[i].start, cases[i].end, size + more);
            take(&(struct http_chunked){0}, &b, p, size + more);
            assert_int_equal(b.status, more ? 400 : HTTP_OK);
            free(p);
        }
    }
}

static void escapes_are_decoded(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
        bool plus_is_space;
    } cases[] = {
        {"", "", false},         {"a+b%2B", "a+b+", false},
        {"a+b%2b", "a b+", 1},   {"%41%7e%C3%a9", "A~\xc3\xa9", false},
        {"%25%32%35", "%25", 0}, {"%", NULL, false},
        {"a%4", NULL, false},    {"%4g", NULL, false},
        {"%g4", NULL, false},    {"%%41", NULL, false},
        {"%+1", NULL, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = strlen(cases[i].in);
        char *in = copy(cases[i].in, len);
        // In place, as the header says is allowed.
        int n = http_url_decode(in, (struct slice){in, len},
                                cases[i].plus_is_space);
        if (cases[i].out) {
            assert_true(n >= 0);
            assert_slice((struct slice){in, (size_t)n}, cases[i].out);
        } else {
            assert_int_equal(n, -1);
        }
        free(in);
    }
    char out[5];
    assert_int_equal(http_url_decode(out, (struct slice){"a%00b", 5}, false),
                     3);
    assert_memory_equal(out, "a\0b", 3);
}

static void parameters_come_one_by_one(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"&&", ""},
        {"a=1", "[a|1]"},
        {"&a=1&&b=2&", "[a|1][b|2]"},
        {"a&=b&=&c==d=&e=", "[a|][|b][|][c|=d=][e|]"},
        {"a=%26+&b", "[a|%26+][b|]"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char out[100] = "";
        size_t len = strlen(cases[i].in);
        char *in = copy(cases[i].in, len);
        struct slice rest = {in, len}, key, value;
        while (http_next_param(&rest, &key, &value)) {
            size_t n = strlen(out);
            snprintf(out + n, sizeof out - n, "[%.*s|%.*s]", (int)key.len,
                     key.p, (int)value.len, value.p);
        }
        assert_string_equal(out, cases[i].out);
        free(in);
    }
    struct slice none = {0}, key, value;
    assert_false(http_next_param(&none, &key, &value));
}

static void statuses_have_reasons(void **state) {
    (void)state;
    assert_string_equal(http_reason(100), "Continue");
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(431), "Request Header Fields Too Large");
    assert_string_equal(http_reason(505), "HTTP Version Not Supported");
    assert_string_equal(http_reason(299), "");
}

// A small generator, so that a failing round can be run again (xorshift64).
static uint64_t random_next(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

// mutate changes up to three places of the text in p, which has room for 512
// bytes, and returns its new length.
static size_t mutate(char *p, size_t len, uint64_t *seed) {
    static const char telling[] = "\r\n\r\n \t:;,/?*%#0179afHTTP\0\x7f\x80\xff";
    for (uint64_t n = random_next(seed) % 4; n > 0 && len > 4; n--) {
        size_t at = random_next(seed) % (len - 2);
        size_t run = 1 + random_next(seed) % 2;
        char c = telling[random_next(seed) % (sizeof telling - 1)];
        switch (random_next(seed) % 5) {
        case 0: p[at] ^= (char)(1 << random_next(seed) % 8); break;
        case 1: p[at] = c; break;
        case 2:
            memmove(p + at, p + at + run, len - at - run);
            len -= run;
            break;
        case 3:
            memmove(p + at + run, p + at, len - at);
            len += run;
            break;
        case 4:
            memmove(p + at + 1, p + at, len - at);
            p[at] = c;
            len++;
            break;
        }
    }
    return len;
}

static void assert_sound(const struct http_head *h, const char *p, size_t len) {
    assert_true(h->size > 0 && h->size <= len);
    assert_memory_equal(p + h->size - 4, "\r\n\r\n", 4);
    for (size_t i = 0; i < h->size; i++) {
        assert_true(p[i] != '\n' || (i > 0 && p[i - 1] == '\r'));
        assert_true(p[i] != '\r' || p[i + 1] == '\n');
        assert_true(p[i] != 0);
    }
    assert_within(h->method, p, h->size);
    assert_within(h->target, p, h->size);
    assert_within(h->query, p, h->size);
    if (h->host.p) {
        assert_within(h->host, p, h->size);
    }
    assert_true(h->path.len > 0 && (*h->path.p == '/' || *h->path.p == '*'));
    if (h->path.p < p || h->path.p > p + h->size) {
        assert_int_equal(h->path.len, 1);
    }
    assert_true(h->header_count >= 0 && h->header_count <= HTTP_HEADERS_MAX);
    for (int i = 0; i < h->header_count; i++) {
        struct slice name = h->headers[i].name;
        assert_within(name, p, h->size);
        assert_within(h->headers[i].value, p, h->size);
        assert_true(name.len > 0 && name.p[name.len] == ':');
    }
    assert_false(h->chunked && h->has_length);
    assert_true(h->minor_version == 0 ||
                (h->minor_version == 1 && h->host.len));
}

static void mutated_requests_keep_the_invariants(void **state) {
    (void)state;
    static const char *const texts[] = {
        "GET /hello?a=b HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\n\r\n",
        "\r\nPOST http://h/x?y HTTP/1.1\r\nHost: [::1]\r\nA: b\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nUpgrade: h",
    };
    uint64_t seed = 0x9e3779b97f4a7c15;
    int good = 0, short_of = 0, refused = 0;
    for (int round = 0; round < 200000; round++) {
        const char *text = texts[round % COUNT(texts)];
        char bytes[512];
        memcpy(bytes, text, strlen(text));
        size_t len = mutate(bytes, strlen(text), &seed);
        char *p = copy(bytes, len);
        struct http_head h;
        size_t scanned = 0;
        int rc = http_parse_head(&h, p, len, &scanned);
        if (rc == HTTP_OK) {
            assert_sound(&h, p, len);
        }
        *(rc == HTTP_OK ? &good : rc == HTTP_MORE ? &short_of : &refused) += 1;
        assert_true(rc == HTTP_OK || rc == HTTP_MORE || *http_reason(rc));
        // With an end behind it, the same comes of it in two pieces.
        bool is_ended = len >= 4 && !memcmp(p + len - 4, "\r\n\r\n", 4);
        scanned = 0;
        size_t cut = random_next(&seed) % len;
        int again = feed(&h, p, cut, &scanned);
        if (again == HTTP_MORE) {
            again = feed(&h, p, len, &scanned);
        }
        assert_true(again == rc || (!is_ended && again == HTTP_MORE));
        free(p);
    }
    assert_true(good > 1000 && short_of > 1000 && refused > 1000);
}

static void mutated_chunks_keep_the_invariants(void **state) {
    (void)state;
    static const char text[] = "5;a=b\r\nhello\r\n1F\r\n0123456789abcdef0123456"
                               "789abcde\r\n0\r\nTrailer: x\r\n\r\nGET /";
    uint64_t seed = 0x2545f4914f6cdd1d;
    int ended = 0, refused = 0;
    for (int round = 0; round < 5000; round++) {
        char bytes[512];
        memcpy(bytes, text, sizeof text);
        size_t len = mutate(bytes, sizeof text - 1, &seed);
        struct body b = decode(bytes, len);
        assert_true(b.used <= len && b.len <= b.used);
        ended += b.status == HTTP_OK;
        refused += b.status == 400;
        if (b.status == HTTP_OK) {
            assert_memory_equal(bytes + b.used - 4, "\r\n\r\n", 4);
        }
    }
    assert_true(ended > 100 && refused > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(lines_end_in_crlf_and_nothing_else),
        cmocka_unit_test(the_request_line_is_three_parts_and_two_spaces),
        cmocka_unit_test(targets_have_three_forms),
        cmocka_unit_test(fields_are_a_name_a_colon_and_a_value),
        cmocka_unit_test(every_byte_is_judged_where_it_stands),
        cmocka_unit_test(there_is_one_good_host),
        cmocka_unit_test(framing_is_never_ambiguous),
        cmocka_unit_test(the_connection_is_decided_by_version_and_options),
        cmocka_unit_test(a_head_has_a_greatest_size),
        cmocka_unit_test(a_head_has_a_hundred_fields_at_most),
        cmocka_unit_test(scanned_bytes_are_not_looked_at_again),
        cmocka_unit_test(chunks_become_their_data),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(extensions_and_trailers_have_a_greatest_size),
        cmocka_unit_test(escapes_are_decoded),
        cmocka_unit_test(parameters_come_one_by_one),
        cmocka_unit_test(statuses_have_reasons),
        cmocka_unit_test(mutated_requests_keep_the_invariants),
        cmocka_unit_test(mutated_chunks_keep_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
