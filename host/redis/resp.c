// resp: commands as bytes, and the sink that drops replies.
#include "redis/resp.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

// put_head writes "<type><n>\r\n" and returns its end.
static inline char *put_head(char *p, char type, size_t n) {
    *p++ = type;
    if (n < 10) { // most arguments are short
        *p++ = (char)('0' + n);
    } else if (n < 100) {
        *p++ = (char)('0' + n / 10);
        *p++ = (char)('0' + n % 10);
    } else {
        char digits[20];
        char *d = digits + sizeof digits;
        do {
            *--d = (char)('0' + n % 10);
            n /= 10;
        } while (n);
        size_t len = (size_t)(digits + sizeof digits - d);
        memcpy(p, d, len);
        p += len;
    }
    memcpy(p, "\r\n", 2);
    return p + 2;
}

enum { head_max = 24 };

void resp_command(struct buf *b, size_t argc) {
    char *p = put_head(buf_reserve(b, head_max), '*', argc);
    b->len = (size_t)(p - b->data);
}

void resp_arg(struct buf *b, const void *bytes, size_t len) {
    char *p = put_head(buf_reserve(b, len + head_max + 2), '$', len);
    if (len) {
        memcpy(p, bytes, len);
    }
    memcpy(p + len, "\r\n", 2);
    b->len = (size_t)(p + len + 2 - b->data);
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

void resp_arg_score(struct buf *b, double v) {
    char text[NUM_TEXT];
    if (isinf(v)) {
        resp_arg_s(b, v < 0 ? "-inf" : "+inf");
    } else {
        resp_arg(b, text, num_format(text, v));
    }
}

// -- the sink that ignores

static char something; // the reader takes NULL for out of memory

void *sink_ignore_string(struct waiter *w, const redisReadTask *t,
                         const char *s, size_t len) {
    (void)w, (void)t, (void)s, (void)len;
    return &something;
}

void *sink_ignore_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)w, (void)t, (void)n;
    return &something;
}

void *sink_ignore_integer(struct waiter *w, const redisReadTask *t,
                          long long v) {
    (void)w, (void)t, (void)v;
    return &something;
}

void *sink_ignore_nil(struct waiter *w, const redisReadTask *t) {
    (void)w, (void)t;
    return &something;
}

void sink_ignore_done(struct waiter *w) {
    (void)w;
}

void sink_ignore_failed(struct waiter *w, const char *code, const char *text) {
    (void)w, (void)code, (void)text;
}

const struct sink sink_ignore = {sink_ignore_string,  sink_ignore_array,
                                 sink_ignore_integer, sink_ignore_nil,
                                 sink_ignore_done,    sink_ignore_failed};
