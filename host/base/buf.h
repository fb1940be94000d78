// buf: a growing byte buffer, used for everything that leaves or is encoded.
//
//   struct buf b = {0};
//   buf_add(&b, "GET ", 4);
//   buf_printf(&b, "%d", n);
//   write(fd, b.data, b.len);
//   buf_clear(&b);
#ifndef NEAP_BASE_BUF_H
#define NEAP_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *data; // not NUL-terminated unless buf_cstr was the last call
    size_t len;
    size_t cap;
};

// buf_clear frees the bytes; the buffer is empty and usable afterwards.
void buf_clear(struct buf *b);

// buf_grow makes room for n more bytes and returns where they go; the
// caller adds what it wrote to len.
char *buf_grow(struct buf *b, size_t n);

// buf_reserve is buf_grow where there is room already.
static inline char *buf_reserve(struct buf *b, size_t n) {
    return b->cap - b->len >= n ? b->data + b->len : buf_grow(b, n);
}

// buf_add appends n bytes.
static inline void buf_add(struct buf *b, const void *bytes, size_t n) {
    if (n) {
        memcpy(buf_reserve(b, n), bytes, n);
        b->len += n;
    }
}

// buf_addc appends one byte.
static inline void buf_addc(struct buf *b, char c) {
    *buf_reserve(b, 1) = c;
    b->len++;
}

// buf_adds appends a C string.
static inline void buf_adds(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

// buf_addu appends v in decimal.
void buf_addu(struct buf *b, uint64_t v);

// buf_printf appends formatted text.
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);

// buf_cstr returns the bytes with a NUL behind them (not counted in len).
const char *buf_cstr(struct buf *b);

// buf_shift drops the first n bytes.
void buf_shift(struct buf *b, size_t n);

#endif
