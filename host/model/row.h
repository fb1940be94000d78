// row: the encoded values of one row in one block of memory: what an object
// remembers of the row as it was loaded, and what the indexes are computed
// from. A value that is absent (null) has no bytes.
#ifndef NEAP_MODEL_ROW_H
#define NEAP_MODEL_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/schema.h"

enum { ROW_VERSION = 10, ROW_CREATION = 6 };
#define ROW_NO_ORDINAL UINT32_MAX

struct value {
    const char *p; // NULL: absent
    size_t len;
};

struct row {
    uint32_t size;       // of the whole block, in bytes
    uint32_t ordinal;    // ROW_NO_ORDINAL until it is stored
    uint64_t present;    // mask of the fields that have a value
    uint64_t expires_ms; // since 1970, by the server's clock; 0: never
    // the first ROW_CREATION bytes name this life of the row, the rest count
    // its writes
    char version[ROW_VERSION];
    uint16_t count;
    uint32_t ends[]; // of the values, in the bytes behind
};

// row_new packs the values of a schema's fields; free it with free.
struct row *row_new(const struct value *values, uint32_t count);

// row_copy returns a copy in memory of its own.
struct row *row_copy(const struct row *r);

// row_get returns the value of a field.
struct value row_get(const struct row *r, uint32_t field);

// row_next_version writes the version that follows r's.
void row_next_version(const struct row *r, char out[ROW_VERSION]);

// value_equals says that both are absent, or hold the same bytes.
static inline bool value_equals(struct value a, struct value b) {
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len &&
           (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

#endif
