// buf: a growing byte buffer.
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void buf_clear(struct buf *b) {
    free(b->data);
    *b = (struct buf){0};
}

char *buf_grow(struct buf *b, size_t n) {
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len < n) {
        cap *= 2;
    }
    b->data = xrealloc(b->data, cap);
    b->cap = cap;
    return b->data + b->len;
}

void buf_addu(struct buf *b, uint64_t v) {
    char digits[20];
    char *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    buf_add(b, p, (size_t)(digits + sizeof digits - p));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    size_t room = 128;
    int n = vsnprintf(buf_reserve(b, room), room, fmt, ap);
    if (n >= (int)room) {
        vsnprintf(buf_reserve(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
    }
    va_end(again);
    b->len += n > 0 ? (size_t)n : 0;
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

const char *buf_cstr(struct buf *b) {
    *buf_reserve(b, 1) = 0;
    return b->data;
}

void buf_shift(struct buf *b, size_t n) {
    if (n == 0) {
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}
