// cursor: a position in the order of a query, as text.
#include "model/cursor.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/value.h"

enum { check_len = 8, ordinal_len = 4 };

// check_of returns what a cursor begins with.
static uint64_t check_of(const struct query *q, const char *p, size_t len) {
    struct buf b = {0};
    value_add_part(&b, q->schema->name, strlen(q->schema->name));
    for (uint32_t i = 0; i < q->order_count; i++) {
        const char *name = q->schema->fields[q->orders[i].field].name;
        value_add_part(&b, name, strlen(name));
        buf_addc(&b, q->orders[i].is_descending ? '-' : '+');
    }
    buf_add(&b, p, len);
    uint64_t check = hash128(b.data, b.len).low;
    buf_clear(&b);
    return check;
}

// encode_text appends bytes as RFC 4648 §5 has them, without padding.
static void encode_text(const struct buf *b, struct buf *out) {
    unsigned char *to = (unsigned char *)buf_reserve(out, b->len / 3 * 4 + 5);
    int n = EVP_EncodeBlock(to, (unsigned char *)b->data, (int)b->len);
    for (int i = 0; i < n; i++) {
        to[i] = to[i] == '+' ? '-' : to[i] == '/' ? '_' : to[i];
    }
    while (n > 0 && to[n - 1] == '=') {
        n--;
    }
    out->len += (size_t)n;
}

void cursor_encode(const struct query *q, const struct row *r,
                   struct buf *out) {
    struct buf b = {0};
    for (int i = 0; i < check_len; i++) {
        buf_addc(&b, 0); // its place
    }
    for (int i = 0; i < ordinal_len; i++) {
        buf_addc(&b, (char)(r->ordinal >> (24 - 8 * i)));
    }
    for (uint32_t i = 0; i < q->order_count; i++) {
        struct value v = row_get(r, q->orders[i].field);
        buf_addc(&b, v.p ? '=' : '?');
        value_add_part(&b, v.p, v.len);
    }
    uint64_t check = check_of(q, b.data + check_len, b.len - check_len);
    memcpy(b.data, &check, sizeof check);
    encode_text(&b, out);
    buf_clear(&b);
}

// decode_text undoes the text; false if it is none. OpenSSL passes over white
// space and the last character's unused bits: so the bytes have to lead back to
// the same text.
static bool decode_text(const char *text, size_t len, struct buf *out) {
    if (len % 4 == 1) {
        return false;
    }
    struct buf b = {0}, again = {0};
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        buf_addc(&b, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    size_t padding = (4 - len % 4) % 4;
    buf_add(&b, "===", padding);
    int n = EVP_DecodeBlock((unsigned char *)buf_reserve(out, b.len),
                            (unsigned char *)b.data, (int)b.len);
    out->len = n > (int)padding ? (size_t)n - padding : 0;
    encode_text(out, &again);
    bool is_same = again.len == len && (!len || !memcmp(again.data, text, len));
    buf_clear(&b);
    buf_clear(&again);
    return is_same;
}

// read_values reads the order's values into row; false if there is something
// else.
static bool read_values(const struct query *q, struct value rest,
                        struct value *values) {
    for (uint32_t i = 0; i < q->order_count; i++) {
        struct value part;
        if (rest.len == 0 || (*rest.p != '=' && *rest.p != '?')) {
            return false;
        }
        bool is_null = *rest.p == '?';
        rest.p++;
        rest.len--;
        if (!value_next_part(&rest, &part)) {
            return false;
        }
        values[q->orders[i].field] = is_null ? (struct value){NULL, 0} : part;
    }
    return rest.len == 0;
}

struct row *cursor_decode(const struct query *q, const char *text, size_t len) {
    struct buf b = {0};
    struct row *row = NULL;
    struct value values[SCHEMA_FIELDS] = {{0}};
    if (!decode_text(text, len, &b) || b.len < check_len + ordinal_len) {
        goto done;
    }
    uint64_t check = check_of(q, b.data + check_len, b.len - check_len);
    const unsigned char *at = (const unsigned char *)b.data + check_len;
    struct value rest = {b.data + check_len + ordinal_len,
                         b.len - check_len - ordinal_len};
    if (memcmp(b.data, &check, sizeof check) != 0 ||
        !read_values(q, rest, values)) {
        goto done;
    }
    row = row_new(values, q->schema->count);
    row->ordinal = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
                   (uint32_t)at[2] << 8 | at[3];
done:
    buf_clear(&b);
    return row;
}
