// fresh: new rows by column, as apply.lua takes them.
#include "model/fresh.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/pack.h"
#include "model/bulk.h"
#include "model/index.h"
#include "model/key.h"

struct columns {
    const struct schema *s;
    struct write *first;
    uint32_t count;
    struct buf *out;
};

// used_fields returns the mask of the fields that any of the rows has.
static uint64_t used_fields(const struct columns *c) {
    uint64_t used = 0;
    const struct write *w = c->first;
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        used |= w->new->present;
    }
    return used & ~((uint64_t)1 << c->s->primary);
}

// pack_keys packs the rows' keys, or how many there are if the counter gives
// their ids.
static void pack_keys(const struct columns *c) {
    const struct write *w = c->first;
    struct buf key = {0};
    if (!w->id_len) {
        pack_int(c->out, c->count);
        return;
    }
    pack_array(c->out, c->count);
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        key.len = 0;
        key_row(&key, c->s, (struct value){w->id, w->id_len});
        pack_bytes(c->out, key.data, key.len);
    }
    buf_clear(&key);
}

static void pack_values(const struct columns *c) {
    uint64_t used = used_fields(c);
    uint32_t fields = (uint32_t)__builtin_popcountll(used);
    pack_array(c->out, fields);
    for (uint32_t f = 0; f < c->s->count; f++) {
        if (used >> f & 1) {
            pack_str(c->out, c->s->fields[f].name);
        }
    }
    bool is_full = true;
    const struct write *w = c->first;
    pack_array(c->out, c->count * fields);
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        for (uint32_t f = 0; f < c->s->count; f++) {
            struct value v = row_get(w->new, f);
            if (v.p && used >> f & 1) {
                pack_bytes(c->out, v.p, v.len);
            } else if (used >> f & 1) {
                pack_int(c->out, 0);
                is_full = false;
            }
        }
    }
    pack_int(c->out, is_full);
}

static void pack_ids(const struct columns *c) {
    struct buf bytes = {0};
    const struct write *w = c->first;
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        struct value id = {w->id, w->id_len};
        index_id_bytes(c->s, id, buf_reserve(&bytes, 16));
        bytes.len += (size_t)c->s->id_width;
    }
    pack_bytes(c->out, bytes.data, bytes.len);
    buf_clear(&bytes);
}

// pack_each packs a list of what `pack` packs of each row, 0 if that is nothing
// for all of them; `pack` returns how much that is.
static void pack_each(const struct columns *c,
                      int64_t (*pack)(const struct schema *s, struct write *w,
                                      struct buf *b)) {
    size_t from = c->out->len;
    bool is_any = false;
    struct write *w = c->first;
    pack_array(c->out, c->count);
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        is_any = pack(c->s, w, c->out) != 0 || is_any;
    }
    if (!is_any) {
        c->out->len = from;
        pack_int(c->out, 0);
    }
}

static int64_t pack_uniques(const struct schema *s, struct write *w,
                            struct buf *b) {
    return index_uniques(s, NULL, w->new, b, w->claimed);
}

static int64_t pack_rest(const struct schema *s, struct write *w,
                         struct buf *b) {
    return index_rest(s, w->new, b);
}

static int64_t pack_life(const struct schema *s, struct write *w,
                         struct buf *b) {
    (void)s;
    pack_int(b, w->life);
    return w->life;
}

static void pack_columns(const struct columns *c) {
    pack_int(c->out, c->first->kind);
    pack_bytes(c->out, c->first->new->version, ROW_VERSION);
    pack_ids(c);
    pack_keys(c);
    pack_values(c);
    pack_each(c, pack_uniques);
    pack_each(c, pack_rest);
    pack_each(c, pack_life);
}

// pack_bulk packs what they enter by key.
static void pack_bulk(const struct columns *c) {
    const struct row **rows = xmalloc((c->count + 1) * sizeof rows[0]);
    const struct write *w = c->first;
    for (uint32_t i = 0; i < c->count; i++, w = w->next) {
        rows[i] = w->new;
    }
    bulk_pack(c->s, rows, c->count, c->out);
    free(rows);
}

void fresh_pack(const struct schema *s, struct write *first, uint32_t count,
                struct buf *out) {
    struct columns c = {s, first, count, out};
    pack_columns(&c);
    pack_bulk(&c);
}
