// entry: what a row has in the keys of its model besides itself.
#include "model/entry.h"

#include <string.h>

#include "base/num.h"
#include "base/pack.h"
#include "model/index.h"
#include "model/key.h"
#include "model/packed.h"
#include "model/value.h"

// -- from index commands to entries

struct entry {
    enum entry_kind kind;
    struct buf key, key2; // key2: the bitmap of a small set
    struct buf member, value;
};

struct entries {
    const struct schema *s;
    const struct row *row;
    struct entry e; // in hand
    void (*take)(struct entries *list);
    void *ctx;
};

static void begin(struct entries *list, enum entry_kind kind) {
    struct entry *e = &list->e;
    e->kind = kind;
    e->key.len = e->key2.len = e->member.len = e->value.len = 0;
}

static uint32_t segment_of(const struct entries *list) {
    return list->row->ordinal / SCHEMA_SEGMENT;
}

static uint32_t offset_of(const struct entries *list) {
    return list->row->ordinal % SCHEMA_SEGMENT;
}

static void add_ordinal(struct buf *b, uint32_t n) {
    char bytes[4];
    packed_put(bytes, 4, n);
    buf_add(b, bytes, sizeof bytes);
}

// take_bit: the column's key is in e->key already.
static void take_bit(struct entries *list) {
    buf_addu(&list->e.member, offset_of(list));
    list->take(list);
}

static void take_bytes(struct entries *list, int width, const char *bytes,
                       size_t len) {
    buf_addu(&list->e.member, (uint64_t)offset_of(list) * (uint64_t)width);
    buf_add(&list->e.value, bytes, len);
    list->take(list);
}

// take_id is the row's entry in @ids.
static void take_id(struct entries *list) {
    const struct schema *s = list->s;
    struct value id = row_get(list->row, (uint32_t)s->primary);
    begin(list, s->id_width ? ENTRY_BYTES : ENTRY_FIELD);
    key_ids_prefix(&list->e.key, s);
    buf_addu(&list->e.key, list->row->ordinal / s->ids_piece);
    uint32_t at = list->row->ordinal % s->ids_piece;
    char bytes[16];
    index_id_bytes(s, id, bytes);
    if (s->id_width) {
        buf_addu(&list->e.member, (uint64_t)at * (uint64_t)s->id_width);
        buf_add(&list->e.value, bytes, (size_t)s->id_width);
    } else {
        buf_addu(&list->e.member, at);
        buf_add(&list->e.value, id.p, id.len);
    }
    list->take(list);
}

static void take_places(struct entries *list) {
    begin(list, ENTRY_BIT);
    key_rows_prefix(&list->e.key, list->s);
    buf_addu(&list->e.key, segment_of(list));
    take_bit(list);
    take_id(list);
    if (list->row->expires_ms) {
        begin(list, ENTRY_SCORE);
        key_expires(&list->e.key, list->s);
        add_ordinal(&list->e.member, list->row->ordinal);
        buf_addu(&list->e.value, list->row->expires_ms);
        list->take(list);
    }
}

// The keys that commands name by their places.
enum { keys_most = SCHEMA_FIELDS * 4 + SCHEMA_COMPOUNDS };

struct keys {
    struct value list[keys_most]; // by their places, from 1 on
};

static struct value next_bytes(struct unpack *u) {
    size_t len;
    const char *p = unpack_bytes(u, &len);
    return (struct value){p, len};
}

static struct value next_key(const struct keys *keys, struct unpack *u) {
    int64_t place = unpack_int(u);
    return place >= 1 && place <= keys_most ? keys->list[place - 1]
                                            : (struct value){"", 0};
}

static void add_value(struct buf *b, struct value v) {
    buf_add(b, v.p, v.len);
}

static void take_set(struct entries *list, struct value key, struct value v) {
    struct entry *e = &list->e;
    begin(list, ENTRY_MEMBER);
    add_value(&e->key, key);
    buf_addu(&e->key, segment_of(list));
    add_value(&e->key2, (struct value){e->key.data, e->key.len});
    buf_addc(&e->key, KEY_SMALL_SET);
    buf_addc(&e->key2, KEY_BITMAP);
    add_value(&e->key, v);
    add_value(&e->key2, v);
    take_bit(list);
}

static void take_score(struct entries *list, struct value key,
                       struct value suffix, struct value before,
                       struct value score) {
    struct entry *e = &list->e;
    begin(list, ENTRY_SCORE);
    add_value(&e->key, key);
    add_value(&e->key, suffix);
    add_value(&e->member, before);
    add_ordinal(&e->member, list->row->ordinal);
    add_value(&e->value, score);
    list->take(list);
}

// take_command turns one index command, read up to its key, into an entry.
static void take_command(struct entries *list, enum index_op op,
                         struct value key, struct unpack *u) {
    static const struct value none = {"", 0};
    static const struct value zero = {"0", 1};
    struct entry *e = &list->e;
    struct value v = {"", 0};
    switch (op) {
    case OP_BIT_SET:
        begin(list, ENTRY_BIT);
        add_value(&e->key, key);
        buf_addu(&e->key, segment_of(list));
        add_value(&e->key, next_bytes(u));
        take_bit(list);
        break;
    case OP_SET_ADD: take_set(list, key, next_bytes(u)); break;
    case OP_PACK: {
        int width = (int)unpack_int(u);
        v = next_bytes(u);
        begin(list, ENTRY_BYTES);
        add_value(&e->key, key);
        buf_addu(&e->key, segment_of(list));
        take_bytes(list, width, v.p, v.len);
        break;
    }
    case OP_ZADD: take_score(list, key, none, none, next_bytes(u)); break;
    case OP_COMPOUND_ADD:
        v = next_bytes(u);
        take_score(list, key, v, none, next_bytes(u));
        break;
    case OP_LEX_ADD: take_score(list, key, none, next_bytes(u), zero); break;
    case OP_UNIQUE_SET:
        begin(list, ENTRY_FIELD);
        add_value(&e->key, key);
        add_value(&e->member, next_bytes(u));
        add_value(&e->value, row_get(list->row, (uint32_t)list->s->primary));
        list->take(list);
        break;
    default: break; // the others only take away
    }
}

static struct unpack unpack_of(const struct buf *b) {
    const unsigned char *p = (const unsigned char *)b->data;
    return (struct unpack){p, p + b->len, false};
}

static void clear_entry(struct entry *e) {
    buf_clear(&e->key);
    buf_clear(&e->key2);
    buf_clear(&e->member);
    buf_clear(&e->value);
}

// each calls take with each of the row's entries.
static void each(struct entries *list) {
    struct buf packed_keys = {0}, commands = {0};
    struct keys keys = {.list = {{NULL, 0}}};
    index_keys(list->s, &packed_keys);
    struct unpack u = unpack_of(&packed_keys);
    for (uint32_t n = unpack_map(&u); n > 0; n--) {
        int64_t place = unpack_int(&u);
        struct value key = next_bytes(&u);
        if (place >= 1 && place <= keys_most) {
            keys.list[place - 1] = key;
        }
    }
    take_places(list);
    index_build(list->s, list->row, true, &commands);
    u = unpack_of(&commands);
    if (unpack_is_array(&u)) {
        unpack_array(&u);
        while (u.p < u.end && !u.is_bad) {
            enum index_op op = (enum index_op)unpack_int(&u);
            struct value key = next_key(&keys, &u);
            take_command(list, op, key, &u);
        }
    }
    clear_entry(&list->e);
    buf_clear(&packed_keys);
    buf_clear(&commands);
}

// -- all of them

struct packing {
    struct buf *out;
    uint32_t count;
};

static void pack_entry(struct entries *list) {
    struct packing *p = list->ctx;
    const struct entry *e = &list->e;
    const struct buf *second = e->kind == ENTRY_MEMBER ? &e->key2 : &e->member;
    const struct buf *third = e->kind == ENTRY_MEMBER ? &e->member : &e->value;
    pack_int(p->out, e->kind);
    pack_bytes(p->out, e->key.data, e->key.len);
    pack_bytes(p->out, second->data, second->len);
    pack_bytes(p->out, third->data, third->len);
    p->count += 4;
}

void entry_pack(const struct schema *s, const struct row *r, struct buf *out) {
    struct packing p = {.out = out};
    struct entries list = {.s = s, .row = r, .take = pack_entry, .ctx = &p};
    size_t at = pack_array32(out);
    each(&list);
    pack_set_array32(out, at, p.count);
}

// -- one of them

struct search {
    struct value key, member, value;
    bool is_found;
};

static bool is_equal(const struct buf *b, struct value v) {
    return b->len == v.len && (v.len == 0 || memcmp(b->data, v.p, v.len) == 0);
}

static void compare_entry(struct entries *list) {
    struct search *f = list->ctx;
    struct entry *e = &list->e;
    bool is_key = is_equal(&e->key, f->key) ||
                  (e->kind == ENTRY_MEMBER && is_equal(&e->key2, f->key));
    if (!is_key || !is_equal(&e->member, f->member)) {
        return;
    }
    double a = 0, b = 0;
    switch (e->kind) {
    case ENTRY_SCORE:
        f->is_found = num_parse(e->value.data, e->value.len, &a) == 0 &&
                      num_parse(f->value.p, f->value.len, &b) == 0 && a == b;
        break;
    case ENTRY_BYTES:
    case ENTRY_FIELD: f->is_found = is_equal(&e->value, f->value); break;
    default: f->is_found = true;
    }
}

bool entry_is(const struct schema *s, const struct row *r, struct value key,
              struct value member, struct value value) {
    struct search f = {key, member, value, false};
    struct entries list = {.s = s, .row = r, .take = compare_entry, .ctx = &f};
    each(&list);
    return f.is_found;
}

// -- keys by their names

static bool has_prefix(struct value key, const struct buf *prefix) {
    return key.len >= prefix->len &&
           memcmp(key.p, prefix->data, prefix->len) == 0;
}

// after_prefix says whether a key begins as the function spells it; rest is
// what follows.
static bool after_prefix(const struct schema *s, struct value key,
                         void (*spell)(struct buf *, const struct schema *),
                         struct value *rest) {
    struct buf b = {0};
    spell(&b, s);
    bool is = has_prefix(key, &b);
    *rest = (struct value){key.p + b.len, is ? key.len - b.len : 0};
    buf_clear(&b);
    return is;
}

static bool after_field(const struct schema *s, uint32_t i, struct value key,
                        void (*spell)(struct buf *, const struct schema *,
                                      uint32_t),
                        struct value *rest) {
    struct buf b = {0};
    spell(&b, s, i);
    bool is = has_prefix(key, &b);
    *rest = (struct value){key.p + b.len, is ? key.len - b.len : 0};
    buf_clear(&b);
    return is;
}

// take_segment takes the segment's number off rest.
static bool take_segment(struct value *rest, uint32_t *segment) {
    size_t n = 0;
    *segment = 0;
    while (n < rest->len && n < 6 && rest->p[n] >= '0' && rest->p[n] <= '9') {
        *segment = *segment * 10 + (uint32_t)(rest->p[n++] - '0');
    }
    rest->p += n;
    rest->len -= n;
    return n > 0;
}

static bool classify_column(const struct field *f, struct value rest,
                            struct key_class *c) {
    if (!take_segment(&rest, &c->segment)) {
        return false;
    }
    bool has_values = f->index == INDEX_BITMAP || f->index == INDEX_SET;
    if (rest.len == 0 && f->index == INDEX_PACKED) {
        c->kind = KEY_PACKED;
        c->width = f->width;
    } else if (rest.len == 0 || !has_values) {
        return false;
    } else if (rest.p[0] == KEY_SMALL_SET && f->index == INDEX_SET) {
        c->kind = KEY_MEMBERS;
    } else if (rest.p[0] == KEY_BITMAP ||
               (rest.len == 1 && rest.p[0] == KEY_NULL[0])) {
        c->kind = KEY_BITS;
    } else {
        return false;
    }
    return true;
}

static bool classify_field(const struct schema *s, uint32_t i, struct value key,
                           struct key_class *c) {
    const struct field *f = &s->fields[i];
    struct value rest;
    if (f->is_unique && after_field(s, i, key, key_unique, &rest) &&
        rest.len == 0) {
        c->kind = KEY_HOLDERS;
        return true;
    }
    if (f->has_lex && after_field(s, i, key, key_lex, &rest) && rest.len == 0) {
        c->kind = KEY_ORDERED;
        return true;
    }
    if (f->has_zset && after_field(s, i, key, key_zset, &rest) &&
        rest.len == 0) {
        c->kind = KEY_SCORES;
        return true;
    }
    return after_field(s, i, key, key_column_prefix, &rest) &&
           classify_column(f, rest, c);
}

struct key_class entry_classify(const struct schema *s, struct value key) {
    struct key_class c = {.kind = KEY_UNKNOWN};
    struct value rest;
    if (after_prefix(s, key, key_rows_prefix, &rest)) {
        c.kind = take_segment(&rest, &c.segment) ? KEY_LIVE : KEY_UNKNOWN;
        return c;
    }
    if (after_prefix(s, key, key_ids_prefix, &rest)) {
        take_segment(&rest, &c.segment);
        c.kind = s->id_width ? KEY_OTHER : KEY_IDS;
        return c;
    }
    if (after_prefix(s, key, key_expires, &rest) && rest.len == 0) {
        c.kind = KEY_SCORES;
        return c;
    }
    if (after_prefix(s, key, key_stamps, &rest) && rest.len == 0) {
        c.kind = KEY_STAMPS;
        return c;
    }
    if (after_prefix(s, key, key_reserved_prefix, &rest)) {
        c.kind = KEY_OTHER;
        return c;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (classify_field(s, i, key, &c)) {
            return c;
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        if (after_field(s, i, key, key_compound_prefix, &rest)) {
            c.kind = KEY_SCORES;
            return c;
        }
    }
    return c;
}
