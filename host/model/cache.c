// cache: columns as they were read, by segment and stamp.
#include "model/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

static void drop(struct cache *c, struct cached *column) {
    for (uint32_t i = 0; i < column->count; i++) {
        c->bytes -= column->pieces[i].cap;
        free(column->pieces[i].data);
    }
    c->bytes -= column->count * sizeof column->pieces[0];
    free(column->pieces);
    free(column->key);
    *column = (struct cached){0};
}

// place returns the column's place in its set: where it is, or else an empty
// one, or that of the one not used for longest.
static struct cached *place(struct cached *set, const char *key, size_t len) {
    struct cached *oldest = set;
    for (uint32_t i = 0; i < CACHE_WAYS; i++) {
        struct cached *column = &set[i];
        if (column->key && column->key_len == len &&
            memcmp(column->key, key, len) == 0) {
            return column;
        }
        oldest = column->used < oldest->used ? column : oldest;
    }
    return oldest;
}

struct cached_ref cache_open(struct cache *c, const char *key, size_t len) {
    if (!c->columns) {
        c->columns = xcalloc(CACHE_SETS * CACHE_WAYS, sizeof c->columns[0]);
    }
    uint64_t set = hash128(key, len).low % CACHE_SETS;
    struct cached *column = place(&c->columns[set * CACHE_WAYS], key, len);
    c->opened++;
    if (!column->key || column->key_len != len ||
        memcmp(column->key, key, len) != 0) {
        drop(c, column);
        column->key = xmalloc(len + 1);
        memcpy(column->key, key, len);
        column->key_len = len;
        column->id = c->opened;
    }
    column->used = c->opened;
    return (struct cached_ref){column, column->id};
}

const struct piece *cache_find(struct cached_ref ref, uint32_t segment) {
    const struct cached *column = ref.column;
    bool is = column->id == ref.id && segment < column->count &&
              column->pieces[segment].stamp;
    return is ? &column->pieces[segment] : NULL;
}

static struct piece *make_piece(struct cache *c, struct cached *column,
                                uint32_t segment) {
    if (segment >= column->count) {
        uint32_t count = segment + 1;
        column->pieces =
            xrealloc(column->pieces, count * sizeof column->pieces[0]);
        memset(column->pieces + column->count, 0,
               (count - column->count) * sizeof column->pieces[0]);
        c->bytes += (count - column->count) * sizeof column->pieces[0];
        column->count = count;
    }
    return &column->pieces[segment];
}

void cache_put(struct cache *c, struct cached_ref ref, uint32_t segment,
               uint64_t stamp, const char *data, size_t len) {
    if (ref.column->id != ref.id) {
        return;
    }
    struct piece *p = make_piece(c, ref.column, segment);
    if (len > p->cap || len < p->cap / 2) {
        c->bytes += len;
        c->bytes -= p->cap;
        free(p->data);
        p->data = len ? xmalloc(len) : NULL;
        p->cap = (uint32_t)len;
    }
    if (len) {
        memcpy(p->data, data, len);
    }
    p->len = (uint32_t)len;
    p->stamp = stamp;
}

void cache_see(struct cache *c, uint32_t segment, uint64_t stamp) {
    if (segment >= c->segment_count) {
        uint32_t count = segment + 1;
        c->segments = xrealloc(c->segments, count * sizeof c->segments[0]);
        memset(c->segments + c->segment_count, 0,
               (count - c->segment_count) * sizeof c->segments[0]);
        c->segment_count = count;
    }
    struct segment_state *s = &c->segments[segment];
    s->is_calm = stamp && s->stamp == stamp;
    s->stamp = stamp;
}

uint64_t cache_expect(const struct cache *c, uint32_t segment) {
    bool is = segment < c->segment_count && c->segments[segment].is_calm;
    return is ? c->segments[segment].stamp : 0;
}

void cache_trim(struct cache *c) {
    while (c->bytes > CACHE_BYTES) {
        struct cached *oldest = NULL;
        for (uint32_t i = 0; i < CACHE_SETS * CACHE_WAYS; i++) {
            struct cached *column = &c->columns[i];
            if (column->count && (!oldest || column->used < oldest->used)) {
                oldest = column;
            }
        }
        drop(c, oldest);
    }
}

void cache_clear(struct cache *c) {
    for (uint32_t i = 0; c->columns && i < CACHE_SETS * CACHE_WAYS; i++) {
        drop(c, &c->columns[i]);
    }
    free(c->columns);
    free(c->segments);
    *c = (struct cache){0};
}
