// cache: columns as they were read, a piece for each segment, under the stamp
// that the segment had then. Each batch that changes a column of a segment
// gives the segment a new stamp, so a piece is good as long as the stamp is
// the same. Pure.
//
//   struct cached_ref ref = cache_open(&cache, key, len);
//   const struct piece *p = cache_find(ref, segment);
//   if (p && p->stamp == stamp) { ... p->data, p->len ... }
//   else cache_put(&cache, ref, segment, stamp, data, len);
//   cache_trim(&cache);               // once all of it was made use of
#ifndef NEAP_MODEL_CACHE_H
#define NEAP_MODEL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CACHE_SETS = 64,        // of columns that take each other's places,
    CACHE_WAYS = 8,         // so many in each
    CACHE_BYTES = 32 << 20, // of pieces, at most
};

struct piece {
    uint64_t stamp; // 0: there is no piece
    uint32_t len, cap;
    char *data;
};

struct cached {
    char *key; // NULL: no column
    size_t key_len;
    uint64_t id;   // another one when another column takes the place
    uint64_t used; // when it was opened last
    struct piece *pieces;
    uint32_t count;
};

// A column that was opened, as long as no other one takes its place.
struct cached_ref {
    struct cached *column;
    uint64_t id;
};

// What is known of a segment. It is calm if its stamp was the same both times
// it was last seen: then it is likely to be so again.
struct segment_state {
    uint64_t stamp;
    bool is_calm;
};

// All zero is an empty cache.
struct cache {
    struct cached *columns; // NULL until there is one
    struct segment_state *segments;
    uint32_t segment_count;
    uint64_t opened; // how often, so far
    uint64_t bytes;  // of pieces
};

// cache_open returns the column that is known by those bytes: a new one takes
// the place of the one of its set that was not opened for longest.
struct cached_ref cache_open(struct cache *c, const char *key, size_t len);

// cache_find returns the piece of a segment, perhaps an old one, or NULL.
const struct piece *cache_find(struct cached_ref ref, uint32_t segment);

// cache_put keeps a copy of the bytes, if the column has its place yet.
void cache_put(struct cache *c, struct cached_ref ref, uint32_t segment,
               uint64_t stamp, const char *data, size_t len);

// cache_see notes the stamp that a segment has now; 0 if it has none.
void cache_see(struct cache *c, uint32_t segment, uint64_t stamp);

// cache_expect returns the stamp that a segment is likely to have, or 0.
uint64_t cache_expect(const struct cache *c, uint32_t segment);

// cache_trim drops the columns that were not opened for longest until
// CACHE_BYTES are not exceeded.
void cache_trim(struct cache *c);

// cache_clear frees all of it.
void cache_clear(struct cache *c);

#endif
