// row: the encoded values of one row in one block of memory.
#include "model/row.h"

#include <string.h>

#include "base/mem.h"

static char *bytes_of(const struct row *r) {
    return (char *)(uintptr_t)(r->ends + r->count);
}

struct row *row_new(const struct value *values, uint32_t count) {
    size_t size = sizeof(struct row) + count * sizeof(uint32_t);
    for (uint32_t i = 0; i < count; i++) {
        size += values[i].len;
    }
    struct row *r = xmalloc(size);
    *r = (struct row){.size = (uint32_t)size,
                      .ordinal = ROW_NO_ORDINAL,
                      .count = (uint16_t)count};
    char *to = bytes_of(r);
    uint32_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (values[i].p) {
            r->present |= (uint64_t)1 << i;
            memcpy(to + end, values[i].p, values[i].len);
            end += (uint32_t)values[i].len;
        }
        r->ends[i] = end;
    }
    return r;
}

struct row *row_copy(const struct row *r) {
    struct row *copy = xmalloc(r->size);
    memcpy(copy, r, r->size);
    return copy;
}

struct value row_get(const struct row *r, uint32_t field) {
    if (field >= r->count || !(r->present >> field & 1)) {
        return (struct value){NULL, 0};
    }
    uint32_t start = field ? r->ends[field - 1] : 0;
    return (struct value){bytes_of(r) + start, r->ends[field] - start};
}

void row_next_version(const struct row *r, char out[ROW_VERSION]) {
    memcpy(out, r->version, ROW_VERSION);
    for (int i = ROW_VERSION - 1; i >= ROW_CREATION; i--) {
        if (++out[i] != 0) {
            break;
        }
    }
}
