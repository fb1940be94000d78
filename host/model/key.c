// key: the names of all keys that a model has in Redis.
#include "model/key.h"

#include "base/hash.h"

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

void key_column_prefix(struct buf *b, const struct schema *s, uint32_t field) {
    tag(b, s, "/");
    buf_adds(b, s->fields[field].name);
    buf_addc(b, '.');
}

void key_zset(struct buf *b, const struct schema *s, uint32_t field) {
    tag(b, s, "/");
    buf_adds(b, s->fields[field].name);
}

void key_unique(struct buf *b, const struct schema *s, uint32_t field) {
    key_zset(b, s, field);
    buf_addc(b, '!');
}

void key_match_rows(struct buf *b, const struct schema *s) {
    tag(b, s, ":*");
}

void key_match_rest(struct buf *b, const struct schema *s) {
    tag(b, s, "/*");
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
