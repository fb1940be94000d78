// pack: MessagePack, as much of it as neap and Redis's cmsgpack say to each
// other: arrays, maps, byte strings, integers (https://msgpack.org, the
// format).
//
//   pack_array(&b, 2); pack_bytes(&b, "x", 1); pack_int(&b, 7);
//
//   struct unpack u = {p, p + len};
//   int64_t n = unpack_array(&u); ...
#ifndef NEAP_BASE_PACK_H
#define NEAP_BASE_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

// pack_array begins an array of `count` elements; the others append one value.
void pack_array(struct buf *b, uint32_t count);
void pack_map(struct buf *b, uint32_t pairs); // key, value, key, value
void pack_bytes(struct buf *b, const void *bytes, size_t len);
void pack_str(struct buf *b, const char *s);
void pack_int(struct buf *b, int64_t v);

// pack_array32 leaves room for a count that pack_set_array32 fills in later;
// it returns where.
size_t pack_array32(struct buf *b);
void pack_set_array32(struct buf *b, size_t at, uint32_t count);

// An unpack reads what a pack wrote; what does not fit makes it bad, and
// everything read from then on is 0 or empty.
struct unpack {
    const unsigned char *p, *end;
    bool is_bad;
};

// unpack_is_array says whether an array comes next.
bool unpack_is_array(const struct unpack *u);
uint32_t unpack_array(struct unpack *u);
uint32_t unpack_map(struct unpack *u);
int64_t unpack_int(struct unpack *u);
const char *unpack_bytes(struct unpack *u, size_t *len);

#endif
