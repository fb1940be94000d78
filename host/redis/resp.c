// resp: commands as bytes, and the sink that drops replies.
#include "redis/resp.h"

#include <string.h>

// head appends "<type><n>\r\n".
static void head(struct buf *b, char type, uint64_t n) {
    char *p = buf_reserve(b, 24);
    if (n < 10) { // most arguments are short
        p[0] = type;
        p[1] = (char)('0' + n);
        memcpy(p + 2, "\r\n", 2);
        b->len += 4;
        return;
    }
    if (n < 100) {
        p[0] = type;
        p[1] = (char)('0' + n / 10);
        p[2] = (char)('0' + n % 10);
        memcpy(p + 3, "\r\n", 2);
        b->len += 5;
        return;
    }
    buf_addc(b, type);
    buf_addu(b, n);
    buf_add(b, "\r\n", 2);
}

void resp_command(struct buf *b, size_t argc) {
    head(b, '*', argc);
}

void resp_arg(struct buf *b, const void *bytes, size_t len) {
    head(b, '$', len);
    char *p = buf_reserve(b, len + 2);
    if (len) {
        memcpy(p, bytes, len);
    }
    memcpy(p + len, "\r\n", 2);
    b->len += len + 2;
}

void resp_arg_s(struct buf *b, const char *s) {
    resp_arg(b, s, strlen(s));
}

void resp_arg_u(struct buf *b, uint64_t v) {
    char digits[20];
    char *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    resp_arg(b, p, (size_t)(digits + sizeof digits - p));
}

// -- the sink that ignores

static char something; // the reader takes NULL for out of memory

static void *ignore_string(struct waiter *w, const redisReadTask *t,
                           const char *s, size_t len) {
    (void)w, (void)t, (void)s, (void)len;
    return &something;
}

static void *ignore_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)w, (void)t, (void)n;
    return &something;
}

static void *ignore_integer(struct waiter *w, const redisReadTask *t,
                            long long v) {
    (void)w, (void)t, (void)v;
    return &something;
}

static void *ignore_nil(struct waiter *w, const redisReadTask *t) {
    (void)w, (void)t;
    return &something;
}

static void ignore_done(struct waiter *w) {
    (void)w;
}

static void ignore_failed(struct waiter *w, const char *code,
                          const char *text) {
    (void)w, (void)code, (void)text;
}

const struct sink sink_ignore = {ignore_string, ignore_array, ignore_integer,
                                 ignore_nil,    ignore_done,  ignore_failed};
