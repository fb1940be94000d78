// index: from (old row, new row) to the commands that keep the indexes true.
#include "model/index.h"

#include "base/num.h"
#include "base/pack.h"
#include "model/key.h"
#include "model/packed.h"
#include "model/value.h"

double index_number(struct value v) {
    double d = 0;
    num_parse(v.p, v.len, &d);
    return d;
}

double index_order_number(const struct field *f, struct value v) {
    int32_t days;
    if (f->type != FIELD_DATE) {
        return index_number(v);
    }
    return value_parse_date(v.p, v.len, &days) == 0 ? days : 0;
}

void index_put_ordinal(unsigned char out[4], uint32_t ordinal) {
    for (int i = 0; i < 4; i++) {
        out[i] = (unsigned char)(ordinal >> (24 - 8 * i));
    }
}

void index_id_bytes(const struct schema *s, struct value id, char out[16]) {
    memset(out, 0, 16);
    if (s->id_width == 8) {
        packed_put(out, 8, (uint64_t)(int64_t)index_number(id));
    } else if (s->id_width == 16) {
        value_parse_uuid(id.p, id.len, (unsigned char *)out);
    }
}

uint32_t index_member_ordinal(const char *member, size_t len) {
    const unsigned char *u = (const unsigned char *)member + len - 4;
    return len < 4 ? ROW_NO_ORDINAL
                   : (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 |
                         (uint32_t)u[2] << 8 | u[3];
}

uint64_t index_packed(const struct field *f, struct value v) {
    if (!v.p) {
        return 0;
    }
    // as integers: the difference may be past what a double holds exactly
    return (uint64_t)((int64_t)index_order_number(f, v) - f->base) + 1;
}

uint32_t index_choice(const struct field *f, struct value v) {
    if (f->type == FIELD_BOOLEAN) {
        return v.p ? 1 + (v.len == 1 && v.p[0] == '1') : 0;
    }
    for (uint32_t i = 0; v.p && i < f->choice_count; i++) {
        if (strlen(f->choices[i]) == v.len &&
            memcmp(f->choices[i], v.p, v.len) == 0) {
            return i + 1;
        }
    }
    return 0;
}

uint64_t index_rank(const struct field *f, struct value v) {
    return f->index == INDEX_PACKED ? index_packed(f, v) : index_choice(f, v);
}

struct diff {
    const struct schema *s;
    struct buf *out;
    bool is_rest;   // without what bulk_pack packs
    uint32_t count; // of commands
    uint32_t items; // of packed elements
};

static void add_op(struct diff *d, enum index_op op, uint32_t items) {
    pack_int(d->out, op);
    d->count++;
    d->items += items + 1;
}

enum { KEY_COLUMN, KEY_ZSET, KEY_UNIQUE, KEY_LEX, KEYS_PER_FIELD };

int64_t index_place(uint32_t field, int kind) {
    return (int64_t)field * KEYS_PER_FIELD + kind + 1;
}

static void add_key(struct diff *d, uint32_t field, int kind) {
    pack_int(d->out, index_place(field, kind));
}

void index_pack_score(const struct field *f, struct value v, struct buf *out) {
    char text[NUM_TEXT];
    if (f->type == FIELD_DATE) {
        size_t len = num_format(text, index_order_number(f, v));
        pack_bytes(out, text, len);
    } else {
        pack_bytes(out, v.p, v.len);
    }
}

void index_suffix(struct value v, struct buf *out) {
    if (v.p) {
        buf_addc(out, KEY_BITMAP);
        key_value(out, v);
    } else {
        buf_adds(out, KEY_NULL);
    }
}

// add_bit: the bitmap of a value, or of null.
static void add_bit(struct diff *d, enum index_op op, uint32_t field,
                    struct value v) {
    struct buf suffix = {0};
    index_suffix(v, &suffix);
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
        index_pack_score(&d->s->fields[field], v, d->out);
    }
}

static void add_lex(struct diff *d, enum index_op op, uint32_t field,
                    struct value v) {
    struct buf text = {0};
    value_escape(&text, v.p, v.len);
    add_op(d, op, 2);
    add_key(d, field, KEY_LEX);
    pack_bytes(d->out, text.data, text.len);
    buf_clear(&text);
}

static void add_unique(struct diff *d, enum index_op op, uint32_t field,
                       struct value v) {
    add_op(d, op, 2);
    add_key(d, field, KEY_UNIQUE);
    pack_bytes(d->out, v.p, v.len);
}

// add_entry: the bitmap or the set of a value, or the bitmap of null.
static void add_entry(struct diff *d, uint32_t i, struct value v, bool is_new) {
    if (v.p && d->s->fields[i].index == INDEX_SET) {
        add_set(d, is_new ? OP_SET_ADD : OP_SET_REMOVE, i, v);
    } else if (!d->is_rest) {
        add_bit(d, is_new ? OP_BIT_SET : OP_BIT_CLEAR, i, v);
    }
}

// add_elements: an entry for each element of `list` that is not in `other`.
static void add_elements(struct diff *d, uint32_t i, struct value list,
                         struct value other, bool is_new) {
    struct buf mine = {0};
    struct value rest = list, part;
    while (value_next_part(&rest, &part)) {
        if (!value_has_part(other, part)) {
            value_add_part(&mine, part.p, part.len);
        }
    }
    value_sort_parts(&mine);
    rest = (struct value){mine.data, mine.len};
    while (value_next_part(&rest, &part)) {
        add_entry(d, i, part, is_new);
    }
    buf_clear(&mine);
}

static void diff_list(struct diff *d, uint32_t i, bool had_row, bool has_row,
                      struct value was, struct value is) {
    static const struct value null = {NULL, 0};
    if (had_row && !was.p && (!has_row || is.p)) {
        add_entry(d, i, null, false);
    }
    add_elements(d, i, was, is, false);
    add_elements(d, i, is, was, true);
    if (has_row && !is.p && (!had_row || was.p)) {
        add_entry(d, i, null, true);
    }
}

// diff_bits: bitmaps and sets keep an entry for the value or for null.
static void diff_bits(struct diff *d, uint32_t i, bool had_row, bool has_row,
                      struct value was, struct value is) {
    if (d->s->fields[i].element) {
        diff_list(d, i, had_row, has_row, was, is);
        return;
    }
    if (had_row) {
        add_entry(d, i, was, false);
    }
    if (has_row) {
        add_entry(d, i, is, true);
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
    if (f->index == INDEX_PACKED && (was.p || is.p) && !d->is_rest) {
        add_packed(d, i, is);
    }
    if (f->has_zset && (was.p || is.p) && !d->is_rest) {
        add_zset(d, i, is);
    }
    if (f->has_lex && was.p) {
        add_lex(d, OP_LEX_REMOVE, i, was);
    }
    if (f->has_lex && is.p) {
        add_lex(d, OP_LEX_ADD, i, is);
    }
    if (f->is_unique && was.p) {
        add_unique(d, OP_UNIQUE_CLEAR, i, was);
    }
    if (f->is_unique && is.p) {
        add_unique(d, OP_UNIQUE_SET, i, is);
    }
}

// compound_suffix appends what stands in the key for the row; false if it has
// no entry, as one of the values is null.
static bool compound_suffix(const struct compound *c, const struct row *r,
                            struct buf *suffix) {
    struct value values[SCHEMA_PARTS];
    for (uint32_t i = 0; i < c->count; i++) {
        values[i] = r ? row_get(r, c->fields[i]) : (struct value){NULL, 0};
        if (!values[i].p) {
            return false;
        }
    }
    key_compound_suffix(suffix, values, c->count - 1);
    return true;
}

static void diff_compound(struct diff *d, uint32_t i, const struct row *old,
                          const struct row *new) {
    const struct compound *c = &d->s->compounds[i];
    uint32_t last = c->fields[c->count - 1];
    int64_t key = (int64_t)d->s->count * KEYS_PER_FIELD + i + 1;
    struct buf was = {0}, is = {0};
    bool had = compound_suffix(c, old, &was),
         has = compound_suffix(c, new, &is);
    bool is_same_key = had && has && was.len == is.len &&
                       (is.len == 0 || memcmp(was.data, is.data, is.len) == 0);
    if (had && !is_same_key) {
        add_op(d, OP_COMPOUND_REMOVE, 2);
        pack_int(d->out, key);
        pack_bytes(d->out, was.data, was.len);
    }
    if (has && !(is_same_key &&
                 value_equals(row_get(old, last), row_get(new, last)))) {
        add_op(d, OP_COMPOUND_ADD, 3);
        pack_int(d->out, key);
        pack_bytes(d->out, is.data, is.len);
        index_pack_score(&d->s->fields[last], row_get(new, last), d->out);
    }
    buf_clear(&was);
    buf_clear(&is);
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

static uint32_t diff_rows(struct diff *d, const struct row *old,
                          const struct row *new) {
    size_t at = pack_array32(d->out);
    for (uint32_t i = 0; i < d->s->count; i++) {
        diff_field(d, i, old, new);
    }
    for (uint32_t i = 0; i < d->s->compound_count; i++) {
        diff_compound(d, i, old, new);
    }
    end_list(d->out, at, d->items);
    return d->count;
}

uint32_t index_diff(const struct schema *s, const struct row *old,
                    const struct row *new, struct buf *out) {
    struct diff d = {.s = s, .out = out};
    return diff_rows(&d, old, new);
}

uint32_t index_rest(const struct schema *s, const struct row *new,
                    struct buf *out) {
    struct diff d = {.s = s, .out = out, .is_rest = true};
    return diff_rows(&d, NULL, new);
}

uint32_t index_build(const struct schema *s, const struct row *new, bool is_all,
                     struct buf *out) {
    struct diff d = {.s = s, .out = out};
    size_t at = pack_array32(out);
    for (uint32_t i = 0; i < s->count; i++) {
        if (is_all || s->fields[i].is_building) {
            diff_field(&d, i, NULL, new);
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        if (is_all || s->compounds[i].is_building) {
            diff_compound(&d, i, NULL, new);
        }
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

struct key_list {
    const struct schema *s;
    struct buf packed;
    uint32_t count;
};

static void list_key(struct key_list *list, uint32_t i, int64_t place,
                     void (*key)(struct buf *, const struct schema *,
                                 uint32_t)) {
    struct buf b = {0};
    key(&b, list->s, i);
    pack_int(&list->packed, place);
    pack_bytes(&list->packed, b.data, b.len);
    list->count++;
    buf_clear(&b);
}

static void list_keys_of(struct key_list *list, uint32_t i) {
    const struct field *f = &list->s->fields[i];
    if (f->index == INDEX_BITMAP || f->index == INDEX_SET ||
        f->index == INDEX_PACKED) {
        list_key(list, i, index_place(i, KEY_COLUMN), key_column_prefix);
    }
    if (f->has_zset) {
        list_key(list, i, index_place(i, KEY_ZSET), key_zset);
    }
    if (f->is_unique) {
        list_key(list, i, index_place(i, KEY_UNIQUE), key_unique);
    }
    if (f->has_lex) {
        list_key(list, i, index_place(i, KEY_LEX), key_lex);
    }
}

void index_keys(const struct schema *s, struct buf *out) {
    struct key_list list = {.s = s};
    for (uint32_t i = 0; i < s->count; i++) {
        list_keys_of(&list, i);
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        list_key(&list, i, index_place(s->count, 0) + i, key_compound_prefix);
    }
    pack_map(out, list.count);
    buf_add(out, list.packed.data, list.packed.len);
    buf_clear(&list.packed);
}
