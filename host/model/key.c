// key: the names of all keys that a model has in Redis.
#include "model/key.h"

#include <string.h>

#include "base/hash.h"
#include "model/value.h"

static void tag(struct buf *b, const struct schema *s, const char *rest) {
    buf_addc(b, '{');
    buf_adds(b, s->name);
    buf_addc(b, '}');
    buf_adds(b, rest);
}

void key_row_prefix(struct buf *b, const struct schema *s) {
    tag(b, s, ":");
}

void key_row(struct buf *b, const struct schema *s, struct value id) {
    key_row_prefix(b, s);
    buf_add(b, id.p, id.len);
}

void key_meta(struct buf *b, const struct schema *s) {
    tag(b, s, "/@meta");
}

void key_schema(struct buf *b, const struct schema *s) {
    tag(b, s, "/@schema");
}

void key_journal(struct buf *b, const struct schema *s, const char *host) {
    tag(b, s, "/@journal:");
    buf_adds(b, host);
}

void key_rows_prefix(struct buf *b, const struct schema *s) {
    tag(b, s, "/@rows.");
}

void key_ids_prefix(struct buf *b, const struct schema *s) {
    tag(b, s, "/@ids.");
}

void key_stamps(struct buf *b, const struct schema *s) {
    tag(b, s, "/@stamps");
}

void key_reserved_prefix(struct buf *b, const struct schema *s) {
    tag(b, s, "/@");
}

// index_name: indexes that were built anew have the number of the build behind
// their names.
static void index_name(struct buf *b, const struct schema *s, const char *name,
                       uint32_t build) {
    tag(b, s, "/");
    buf_adds(b, name);
    if (build) {
        buf_addc(b, '#');
        buf_addu(b, build);
    }
}

void key_column_prefix(struct buf *b, const struct schema *s, uint32_t field) {
    key_zset(b, s, field);
    buf_addc(b, '.');
}

void key_zset(struct buf *b, const struct schema *s, uint32_t field) {
    index_name(b, s, s->fields[field].name, s->fields[field].build);
}

void key_unique(struct buf *b, const struct schema *s, uint32_t field) {
    key_zset(b, s, field);
    buf_addc(b, '!');
}

void key_lex(struct buf *b, const struct schema *s, uint32_t field) {
    key_zset(b, s, field);
    buf_addc(b, '<');
}

void key_expires(struct buf *b, const struct schema *s) {
    tag(b, s, "/@expires");
}

void key_compound_prefix(struct buf *b, const struct schema *s, uint32_t i) {
    index_name(b, s, s->compounds[i].name, s->compounds[i].build);
    buf_addc(b, '=');
}

void key_compound_suffix(struct buf *b, const struct value *values,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct buf text = {0};
        key_value(&text, values[i]);
        if (count == 1) {
            buf_add(b, text.data, text.len);
        } else {
            value_add_part(b, text.data, text.len);
        }
        buf_clear(&text);
    }
}

void key_match_rows(struct buf *b, const struct schema *s) {
    tag(b, s, ":*");
}

void key_match_rest(struct buf *b, const struct schema *s) {
    tag(b, s, "/*");
}

void key_match_build(struct buf *b, const struct schema *s, const char *name) {
    tag(b, s, "/");
    buf_adds(b, name);
    buf_addc(b, '*');
}

bool key_is_of_build(const struct schema *s, const char *name, uint32_t build,
                     const char *key, size_t len) {
    struct buf b = {0};
    index_name(&b, s, name, build);
    bool is = len >= b.len && memcmp(key, b.data, b.len) == 0 &&
              (len == b.len || memchr(".!<=", key[b.len], 4));
    buf_clear(&b);
    return is;
}

void key_value(struct buf *b, struct value v) {
    if (v.len <= SCHEMA_VALUE_KEY) {
        buf_add(b, v.p, v.len);
        return;
    }
    struct hash128 h = hash128(v.p, v.len);
    // 65 bytes: no value that stands for itself is as long
    char filler[SCHEMA_VALUE_KEY + 1 - sizeof h];
    memset(filler, '#', sizeof filler);
    buf_add(b, &h, sizeof h);
    buf_add(b, filler, sizeof filler);
}
