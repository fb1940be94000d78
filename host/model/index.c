// index: from (old row, new row) to the commands that keep the indexes true.
#include "model/index.h"

#include "base/num.h"
#include "base/pack.h"
#include "model/bits.h"
#include "model/key.h"

double index_number(struct value v) {
    double d = 0;
    num_parse(v.p, v.len, &d);
    return d;
}

uint64_t index_packed(const struct field *f, struct value v) {
    if (!v.p) {
        return 0;
    }
    // as integers: the difference may be past what a double holds exactly
    return (uint64_t)((int64_t)index_number(v) - (int64_t)f->min) + 1;
}

struct diff {
    const struct schema *s;
    struct buf *out;
    uint32_t count; // of commands
    uint32_t items; // of packed elements
};

static void add_op(struct diff *d, enum index_op op, uint32_t items) {
    pack_int(d->out, op);
    d->count++;
    d->items += items + 1;
}

enum { KEY_COLUMN = 1, KEY_ZSET, KEY_UNIQUE, KEYS_PER_FIELD = 3 };

static void add_key(struct diff *d, uint32_t field, int kind) {
    pack_int(d->out, (int64_t)field * KEYS_PER_FIELD + kind);
}

// add_bit: the bitmap of a value, or of null.
static void add_bit(struct diff *d, enum index_op op, uint32_t field,
                    struct value v) {
    struct buf suffix = {0};
    if (v.p) {
        buf_addc(&suffix, KEY_BITMAP);
        key_value(&suffix, v);
    } else {
        buf_adds(&suffix, KEY_NULL);
    }
    add_op(d, op, 2);
    add_key(d, field, KEY_COLUMN);
    pack_bytes(d->out, suffix.data, suffix.len);
    buf_clear(&suffix);
}

static void add_set(struct diff *d, enum index_op op, uint32_t field,
                    struct value v) {
    struct buf text = {0};
    key_value(&text, v);
    add_op(d, op, 2);
    add_key(d, field, KEY_COLUMN);
    pack_bytes(d->out, text.data, text.len);
    buf_clear(&text);
}

static void add_packed(struct diff *d, uint32_t field, struct value v) {
    const struct field *f = &d->s->fields[field];
    char bytes[8];
    packed_put(bytes, f->width, index_packed(f, v));
    add_op(d, OP_PACK, 3);
    add_key(d, field, KEY_COLUMN);
    pack_int(d->out, f->width);
    pack_bytes(d->out, bytes, (size_t)f->width);
}

static void add_zset(struct diff *d, uint32_t field, struct value v) {
    add_op(d, v.p ? OP_ZADD : OP_ZREM, v.p ? 2 : 1);
    add_key(d, field, KEY_ZSET);
    if (v.p) {
        pack_bytes(d->out, v.p, v.len);
    }
}

static void add_unique(struct diff *d, enum index_op op, uint32_t field,
                       struct value v) {
    add_op(d, op, 2);
    add_key(d, field, KEY_UNIQUE);
    pack_bytes(d->out, v.p, v.len);
}

// diff_bits: bitmaps and sets keep an entry for the value or for null.
static void diff_bits(struct diff *d, uint32_t i, bool had_row, bool has_row,
                      struct value old, struct value new) {
    bool is_set = d->s->fields[i].index == INDEX_SET;
    if (had_row) {
        if (old.p && is_set) {
            add_set(d, OP_SET_REMOVE, i, old);
        } else {
            add_bit(d, OP_BIT_CLEAR, i, old);
        }
    }
    if (has_row) {
        if (new.p && is_set) {
            add_set(d, OP_SET_ADD, i, new);
        } else {
            add_bit(d, OP_BIT_SET, i, new);
        }
    }
}

static void diff_field(struct diff *d, uint32_t i, const struct row *old,
                       const struct row *new) {
    const struct field *f = &d->s->fields[i];
    struct value was = {NULL, 0}, is = {NULL, 0};
    if (old) {
        was = row_get(old, i);
    }
    if (new) {
        is = row_get(new, i);
    }
    if (old && new &&value_equals(was, is)) {
        return;
    }
    if (f->index == INDEX_BITMAP || f->index == INDEX_SET) {
        diff_bits(d, i, old != NULL, new != NULL, was, is);
    }
    if (f->index == INDEX_PACKED && (was.p || is.p)) {
        add_packed(d, i, is);
    }
    if (f->has_zset && (was.p || is.p)) {
        add_zset(d, i, is);
    }
    if (f->is_unique && was.p) {
        add_unique(d, OP_UNIQUE_CLEAR, i, was);
    }
    if (f->is_unique && is.p) {
        add_unique(d, OP_UNIQUE_SET, i, is);
    }
}

// end_list turns an array without elements into 0, which costs less to unpack.
static void end_list(struct buf *out, size_t at, uint32_t items) {
    if (items) {
        pack_set_array32(out, at, items);
    } else {
        out->len = at - 1; // the array's tag
        pack_int(out, 0);
    }
}

uint32_t index_diff(const struct schema *s, const struct row *old,
                    const struct row *new, struct buf *out) {
    struct diff d = {.s = s, .out = out};
    size_t at = pack_array32(out);
    for (uint32_t i = 0; i < s->count; i++) {
        diff_field(&d, i, old, new);
    }
    end_list(out, at, d.items);
    return d.count;
}

uint32_t index_uniques(const struct schema *s, const struct row *old,
                       const struct row *new, struct buf *out,
                       uint8_t claimed[SCHEMA_FIELDS]) {
    struct diff d = {.s = s, .out = out};
    uint32_t n = 0;
    size_t at = pack_array32(out);
    for (uint32_t i = 0; new &&i < s->count; i++) {
        struct value v = row_get(new, i);
        if (!s->fields[i].is_unique || !v.p ||
            (old && value_equals(row_get(old, i), v))) {
            continue;
        }
        add_key(&d, i, KEY_UNIQUE);
        pack_bytes(out, v.p, v.len);
        claimed[n++] = (uint8_t)i;
    }
    end_list(out, at, n * 2);
    return n;
}

static void pack_key(const struct schema *s, uint32_t field, bool has,
                     void (*key)(struct buf *, const struct schema *, uint32_t),
                     struct buf *out) {
    struct buf b = {0};
    if (has) {
        key(&b, s, field);
    }
    pack_bytes(out, b.data, b.len);
    buf_clear(&b);
}

void index_keys(const struct schema *s, struct buf *out) {
    pack_array(out, s->count * KEYS_PER_FIELD);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        bool has_column = f->index == INDEX_BITMAP || f->index == INDEX_SET ||
                          f->index == INDEX_PACKED;
        pack_key(s, i, has_column, key_column_prefix, out);
        pack_key(s, i, f->has_zset, key_zset, out);
        pack_key(s, i, f->is_unique, key_unique, out);
    }
}
