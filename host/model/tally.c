// tally: sums, extremes and counts by value of a field.
#include "model/tally.h"

#include <stdlib.h>

#include "base/mem.h"
#include "model/packed.h"

static int width_of(const struct field *f) {
    return f->index == INDEX_PACKED ? f->width : 1;
}

static int64_t base_of(const struct field *f) {
    return f->index == INDEX_PACKED ? f->base : 1;
}

void tally_init(struct tally *t, const struct field *f) {
    *t = (struct tally){.field = f};
    if (width_of(f) <= 2) {
        t->values = width_of(f) == 1 ? 256 : 65536;
        t->by_value = xcalloc(t->values, sizeof t->by_value[0]);
    }
}

void tally_clear(struct tally *t) {
    free(t->by_value);
    *t = (struct tally){0};
}

void tally_add(struct tally *t, const struct bits *rows, const char *column,
               size_t len) {
    int width = width_of(t->field);
    uint32_t count;
    t->sum += packed_sum(column, len, width, base_of(t->field), rows, &count);
    t->count += count;
    t->nulls += bits_count(rows) - count;
    if (count == 0) {
        return;
    }
    uint64_t least = packed_min(column, len, width, rows);
    uint64_t most = packed_max(column, len, width, rows);
    t->least = t->least == 0 || least < t->least ? least : t->least;
    t->most = most > t->most ? most : t->most;
    if (t->by_value) {
        packed_histogram(column, len, width, rows, t->by_value);
    }
}

double tally_number(const struct tally *t, uint64_t v) {
    return (double)(base_of(t->field) + (int64_t)v - 1);
}
