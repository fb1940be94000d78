// batch: writes as apply.lua takes them.
#include "model/batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/pack.h"
#include "model/fresh.h"
#include "model/index.h"
#include "model/key.h"

enum { ROW_ITEMS = 10, INCREMENT_ITEMS = 9 }; // packed elements

static const double whole_max = 9007199254740992.0; // 2^53

static bool is_written(const struct schema *s, const struct write *w,
                       uint32_t i) {
    return w->new && (int)i != s->primary &&
           (w->kind != WRITE_SAVE || (w->dirty >> i & 1));
}

static bool is_set(const struct schema *s, const struct write *w, uint32_t i) {
    return is_written(s, w, i) && row_get(w->new, i).p;
}

// count_behind returns how many elements lie behind the ROW_ITEMS of a write.
static uint32_t count_behind(const struct schema *s, const struct write *w) {
    uint32_t set = 0;
    if (w->kind == WRITE_INCREMENT) {
        return w->increment_count * INCREMENT_ITEMS;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        set += is_set(s, w, i);
    }
    return set * 2;
}

static void pack_fields(const struct schema *s, const struct write *w,
                        struct buf *b) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (is_set(s, w, i)) {
            struct value v = row_get(w->new, i);
            pack_str(b, s->fields[i].name);
            pack_bytes(b, v.p, v.len);
        }
    }
}

// pack_removed packs the names of the fields that a save sets to null.
static void pack_removed(const struct schema *s, const struct write *w,
                         struct buf *b) {
    uint32_t removed = 0;
    for (uint32_t i = 0; w->kind == WRITE_SAVE && i < s->count; i++) {
        removed += is_written(s, w, i) && !row_get(w->new, i).p;
    }
    if (!removed) {
        pack_int(b, 0);
        return;
    }
    pack_array(b, removed);
    for (uint32_t i = 0; i < s->count; i++) {
        if (is_written(s, w, i) && !row_get(w->new, i).p) {
            pack_str(b, s->fields[i].name);
        }
    }
}

static void pack_number(double v, struct buf *b) {
    char text[NUM_TEXT];
    pack_bytes(b, text, num_format(text, v));
}

static void pack_limit(bool has, double v, struct buf *b) {
    if (has) {
        pack_number(v, b);
    } else {
        pack_str(b, "");
    }
}

static void pack_increments(const struct schema *s, const struct write *w,
                            struct buf *b) {
    for (uint32_t i = 0; i < w->increment_count; i++) {
        uint32_t at = w->increments[i].field;
        const struct field *f = &s->fields[at];
        bool is_packed = f->index == INDEX_PACKED;
        pack_str(b, f->name);
        pack_number(w->increments[i].by, b);
        pack_int(b, f->type == FIELD_INTEGER);
        pack_limit(f->has_min, f->min, b);
        pack_limit(f->has_max, f->max, b);
        pack_int(b, f->has_zset ? index_place(at, 1) : 0);
        pack_int(b, is_packed ? index_place(at, 0) : 0);
        pack_int(b, f->width);
        pack_number((double)f->base, b);
    }
}

// pack_id packs the id as the @ids column has it.
static void pack_id(const struct schema *s, const struct write *w,
                    struct buf *b) {
    char bytes[16];
    index_id_bytes(s, (struct value){w->id, w->id_len}, bytes);
    pack_bytes(b, bytes, (size_t)s->id_width);
}

static void pack_versions(struct write *w, struct buf *b) {
    size_t known = w->kind == WRITE_INCREMENT ? ROW_CREATION : ROW_VERSION;
    pack_bytes(b, w->old ? w->old->version : "", w->old ? known : 0);
    if (w->kind == WRITE_SAVE && w->old && w->new) {
        row_next_version(w->old, w->new->version);
    }
    pack_bytes(b, w->new ? w->new->version : "", w->new ? ROW_VERSION : 0);
}

// pack_index packs the unique values and the index commands.
static void pack_index(const struct schema *s, struct write *w, struct buf *b) {
    if (w->kind == WRITE_INCREMENT) { // the script knows its indexes
        pack_int(b, 0);
        pack_int(b, 0);
    } else if (w->kind == WRITE_INDEX) {
        index_uniques(s, NULL, w->old, b, w->claimed);
        index_build(s, w->old, w->is_whole, b);
    } else {
        index_uniques(s, w->old, w->new, b, w->claimed);
        index_diff(s, w->old, w->new, b);
    }
}

// pack_write packs one row. Returns how many elements it has.
static uint32_t pack_write(const struct schema *s, struct write *w,
                           struct buf *b) {
    uint32_t behind = count_behind(s, w);
    pack_int(b, w->kind);
    pack_bytes(b, w->id, w->id_len);
    pack_versions(w, b);
    pack_int(b, behind);
    pack_removed(s, w, b);
    pack_index(s, w, b);
    pack_id(s, w, b);
    pack_int(b, w->life);
    if (w->kind == WRITE_INCREMENT) {
        pack_increments(s, w, b);
    } else {
        pack_fields(s, w, b);
    }
    return ROW_ITEMS + behind;
}

static void pack_key(struct buf *b, const struct schema *s,
                     void (*key)(struct buf *, const struct schema *)) {
    struct buf k = {0};
    key(&k, s);
    pack_bytes(b, k.data, k.len);
    buf_clear(&k);
}

void batch_pack_head(const struct schema *s, uint64_t number, bool is_refresh,
                     struct buf *b) {
    pack_str(b, s->generation);
    pack_int(b, (int64_t)number);
    pack_int(b, is_refresh);
    pack_key(b, s, key_row_prefix);
    pack_key(b, s, key_rows_prefix);
    pack_key(b, s, key_ids_prefix);
    pack_int(b, s->id_width);
    pack_int(b, s->ids_piece);
    pack_key(b, s, key_stamps);
    index_keys(s, b);
}

// is_new says whether the write makes a row that is not there yet.
static bool is_new(const struct write *w) {
    return w->kind == WRITE_CREATE || w->kind == WRITE_UPSERT;
}

// name_lives gives new rows their versions.
static void name_lives(struct write *w, uint32_t most,
                       const char creation[ROW_CREATION]) {
    for (uint32_t i = 0; w && i < most; i++, w = w->next) {
        if (is_new(w)) {
            memset(w->new->version, 0, ROW_VERSION);
            memcpy(w->new->version, creation, ROW_CREATION);
        }
    }
}

// count_alike returns how many of the writes, if they are nothing but new rows
// that have ids (or have none), go into a batch; else 0.
static uint32_t count_alike(const struct write *first, uint32_t most,
                            size_t bytes) {
    size_t size = 0;
    uint32_t n = 0;
    for (const struct write *w = first; w && n < most && size < bytes;
         w = w->next) {
        if (!is_new(w) || w->kind != first->kind ||
            (w->id_len == 0) != (first->id_len == 0)) {
            return 0;
        }
        size += w->new->size;
        n++;
    }
    return n;
}

static uint32_t pack_rows(const struct schema *s, struct write *first,
                          uint32_t most, size_t bytes, struct buf *b) {
    uint32_t items = 0, n = 0;
    size_t at = pack_array32(b);
    for (struct write *w = first; w && n < most && (n == 0 || b->len < bytes);
         w = w->next) {
        items += pack_write(s, w, b);
        n++;
    }
    pack_set_array32(b, at, items);
    return n;
}

uint32_t batch_pack_rows(const struct schema *s, struct write *first,
                         uint32_t most, size_t bytes,
                         const char creation[ROW_CREATION], struct buf *b) {
    name_lives(first, most, creation);
    uint32_t alike = count_alike(first, most, bytes), n = alike;
    if (alike) {
        pack_array(b, 0);
    } else {
        n = pack_rows(s, first, most, bytes, b);
    }
    if (s->has_ttl) {
        pack_key(b, s, key_expires);
    } else {
        pack_str(b, "");
    }
    if (alike) {
        fresh_pack(s, first, alike, b);
    }
    return n;
}

// add_increment puts what a field is after an increment into the row's values;
// the text is the caller's. Returns false if it passes the field's limits.
static bool add_increment(const struct schema *s, const struct increment *up,
                          struct value *v, char text[NUM_TEXT]) {
    const struct field *f = &s->fields[up->field];
    double before = v->p ? index_number(*v) : 0, sum = before + up->by;
    *v = (struct value){text, 0};
    if (!isfinite(sum)) {
        v->len = (size_t)snprintf(text, NUM_TEXT, "%g", sum);
        return false;
    }
    v->len = num_format(text, sum == 0 ? 0 : sum);
    bool is_exact = fabs(sum) <= whole_max && sum - up->by == before;
    return !((f->type == FIELD_INTEGER && !is_exact) ||
             (f->has_min && sum < f->min) || (f->has_max && sum > f->max));
}

int batch_merge(const struct schema *s, struct write *w, struct row *now,
                char *error, size_t size) {
    struct value values[SCHEMA_FIELDS];
    char texts[SCHEMA_FIELDS][NUM_TEXT];
    uint32_t primary = (uint32_t)s->primary;
    int wrong = -1;
    for (uint32_t i = 0; i < s->count; i++) {
        bool is_ours = w->new && ((w->dirty >> i & 1) || i == primary);
        values[i] = row_get(is_ours ? w->new : now, i);
    }
    for (uint32_t i = 0; i < w->increment_count; i++) {
        uint32_t f = w->increments[i].field;
        values[f] = row_get(now, f);
        w->dirty |= (uint64_t)1 << f;
        if (!add_increment(s, &w->increments[i], &values[f], texts[f])) {
            snprintf(error, size, "%.*s", (int)values[f].len, values[f].p);
            wrong = (int)f;
        }
    }
    if (w->new || w->increment_count) {
        struct row *merged = row_new(values, s->count);
        merged->ordinal = now->ordinal;
        merged->expires_ms = now->expires_ms;
        free(w->new);
        w->new = merged;
    }
    free(w->old);
    w->old = now;
    w->is_merged = true;
    return wrong;
}

static bool is_text(const char *s, size_t len, const char *text) {
    return len == strlen(text) && memcmp(s, text, len) == 0;
}

// read_count reads a whole number below `end`; `none` if it is no such number.
static uint64_t read_count(const char *p, size_t len, double end,
                           uint64_t none) {
    double v;
    bool is = num_parse(p, len, &v) == 0 && v >= 0 && v < end;
    return is ? (uint64_t)v : none;
}

struct row *batch_read_row(const struct schema *s, struct value id,
                           struct unpack *u) {
    struct value values[SCHEMA_FIELDS] = {{NULL, 0}};
    char version[ROW_VERSION] = {0};
    uint32_t ordinal = ROW_NO_ORDINAL;
    uint64_t expires_ms = 0;
    for (uint32_t n = unpack_array(u); n >= 2 && !u->is_bad; n -= 2) {
        size_t name_len, len;
        const char *name = unpack_bytes(u, &name_len);
        const char *p = unpack_bytes(u, &len);
        int field = schema_find(s, name, name_len);
        if (field >= 0) {
            values[field] = (struct value){p, len};
        } else if (is_text(name, name_len, "_v") && len == ROW_VERSION) {
            memcpy(version, p, ROW_VERSION);
        } else if (is_text(name, name_len, "_n")) {
            ordinal =
                (uint32_t)read_count(p, len, ROW_NO_ORDINAL, ROW_NO_ORDINAL);
        } else if (is_text(name, name_len, "_e")) {
            expires_ms = read_count(p, len, whole_max, 0);
        }
    }
    values[s->primary] = id;
    struct row *r = row_new(values, s->count);
    memcpy(r->version, version, ROW_VERSION);
    r->ordinal = ordinal;
    r->expires_ms = expires_ms;
    return r;
}
