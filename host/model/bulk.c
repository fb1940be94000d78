// bulk: what a batch of new rows enters, by key.
#include "model/bulk.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/pack.h"
#include "model/index.h"
#include "model/packed.h"
#include "model/value.h"

enum { WORD_ROWS = 32 };

struct bulk {
    const struct schema *s;
    const struct row *const *rows;
    uint32_t count; // of rows
    struct buf *out;
    uint32_t items; // of packed elements
};

static void begin_command(struct bulk *b, enum index_op op, uint32_t field,
                          int kind) {
    pack_int(b->out, op);
    pack_int(b->out, index_place(field, kind));
}

static void pack_count(struct bulk *b, uint32_t count) {
    pack_int(b->out, count);
    b->items += count + 4;
}

// -- bitmaps

// The bitmap of a value, or of null: a word for each 32 rows. There are few, as
// only enums and booleans have bitmaps of their values.
struct bitmap {
    struct value v;
    uint32_t *words;
};

struct bitmaps {
    struct bitmap *list;
    uint32_t count, size;
    uint32_t rows;
};

static uint32_t count_words(uint32_t rows) {
    return (rows + WORD_ROWS - 1) / WORD_ROWS;
}

static uint32_t *words_of(struct bitmaps *all, struct value v) {
    for (uint32_t i = 0; i < all->count; i++) {
        if (value_equals(all->list[i].v, v)) {
            return all->list[i].words;
        }
    }
    if (all->count == all->size) {
        all->size = all->size * 2 + 16;
        all->list = xrealloc(all->list, all->size * sizeof all->list[0]);
    }
    uint32_t *words = xcalloc(count_words(all->rows), sizeof words[0]);
    all->list[all->count++] = (struct bitmap){v, words};
    return words;
}

static void set_bit(struct bitmaps *all, struct value v, uint32_t row) {
    uint32_t rest = all->rows - row / WORD_ROWS * WORD_ROWS;
    uint32_t len = rest < WORD_ROWS ? rest : WORD_ROWS;
    words_of(all, v)[row / WORD_ROWS] |= (uint32_t)1
                                         << (len - 1 - row % WORD_ROWS);
}

static void set_bits(struct bitmaps *all, const struct field *f, struct value v,
                     uint32_t row) {
    if (v.p && f->index == INDEX_SET) {
        return; // index_rest has it
    }
    if (!v.p || !f->element) {
        set_bit(all, v, row);
        return;
    }
    struct value part;
    while (value_next_part(&v, &part)) {
        set_bit(all, part, row);
    }
}

static void pack_bitmap(struct bulk *b, uint32_t field,
                        const struct bitmap *bitmap) {
    uint32_t words = count_words(b->count), used = 0;
    for (uint32_t i = 0; i < words; i++) {
        used += bitmap->words[i] != 0;
    }
    struct buf text = {0};
    index_suffix(bitmap->v, &text);
    begin_command(b, OP_BIT_SET, field, 0);
    pack_bytes(b->out, text.data, text.len);
    pack_count(b, used * 2);
    for (uint32_t i = 0; i < words; i++) {
        if (bitmap->words[i]) {
            text.len = 0;
            buf_addu(&text, bitmap->words[i]);
            pack_int(b->out, i);
            pack_bytes(b->out, text.data, text.len);
        }
    }
    buf_clear(&text);
}

static void pack_bitmaps(struct bulk *b, uint32_t field) {
    struct bitmaps all = {.rows = b->count};
    for (uint32_t i = 0; i < b->count; i++) {
        set_bits(&all, &b->s->fields[field], row_get(b->rows[i], field), i);
    }
    for (uint32_t i = 0; i < all.count; i++) {
        pack_bitmap(b, field, &all.list[i]);
        free(all.list[i].words);
    }
    free(all.list);
}

// -- numbers

static uint32_t count_values(const struct bulk *b, uint32_t field) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        n += row_get(b->rows[i], field).p != NULL;
    }
    return n;
}

static void pack_column(struct bulk *b, uint32_t field) {
    const struct field *f = &b->s->fields[field];
    struct buf bytes = {0};
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t packed = index_packed(f, row_get(b->rows[i], field));
        packed_put(buf_reserve(&bytes, 8), f->width, packed);
        bytes.len += (size_t)f->width;
    }
    begin_command(b, OP_PACK, field, 0);
    pack_int(b->out, f->width);
    pack_count(b, 1);
    pack_bytes(b->out, bytes.data, bytes.len);
    buf_clear(&bytes);
}

static void pack_scores(struct bulk *b, uint32_t field, uint32_t values) {
    begin_command(b, OP_ZADD, field, 1);
    pack_str(b->out, "");
    pack_count(b, values * 2);
    for (uint32_t i = 0; i < b->count; i++) {
        struct value v = row_get(b->rows[i], field);
        if (v.p) {
            pack_int(b->out, i);
            index_pack_score(&b->s->fields[field], v, b->out);
        }
    }
}

void bulk_pack(const struct schema *s, const struct row *const *rows,
               uint32_t count, struct buf *out) {
    struct bulk b = {.s = s, .rows = rows, .count = count, .out = out};
    size_t at = pack_array32(out);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        uint32_t values = count_values(&b, i);
        if (f->index == INDEX_BITMAP || f->index == INDEX_SET) {
            pack_bitmaps(&b, i);
        }
        if (f->index == INDEX_PACKED && values) {
            pack_column(&b, i);
        }
        if (f->has_zset && values) {
            pack_scores(&b, i, values);
        }
    }
    pack_set_array32(out, at, b.items);
}
