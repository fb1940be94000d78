// index: from a row as it was and a row as it shall be, the commands that
// keep the indexes true. Pure: rows in, packed commands out.
//
// Commands are packed as flat arrays for apply.lua, which knows the ordinal:
// it puts the segment's number behind each prefix.
#ifndef NEAP_MODEL_INDEX_H
#define NEAP_MODEL_INDEX_H

#include "base/buf.h"
#include "model/row.h"
#include "model/schema.h"

enum index_op {
    OP_BIT_SET = 1, // prefix, suffix
    OP_BIT_CLEAR,   // prefix, suffix
    OP_SET_ADD,     // prefix, value: a small set, or the bitmap it became
    OP_SET_REMOVE,  // prefix, value
    OP_PACK,        // prefix, width, bytes
    OP_ZADD,        // key, score
    OP_ZREM,        // key
    OP_UNIQUE_SET,  // key, value
    OP_UNIQUE_CLEAR // key, value
};

// index_diff packs (one array) the commands that lead from old to new; NULL
// stands for no row. Returns how many.
uint32_t index_diff(const struct schema *s, const struct row *old,
                    const struct row *new, struct buf *out);

// index_uniques packs (one array: key, value, key, value) the unique values
// of new that old did not have; claimed gets the field of each. Returns how
// many.
uint32_t index_uniques(const struct schema *s, const struct row *old,
                       const struct row *new, struct buf *out,
                       uint8_t claimed[SCHEMA_FIELDS]);

// index_number returns an encoded integer, number or time as a double.
double index_number(struct value v);

// index_packed returns what a packed column stores for a value of the field:
// value - min + 1, or 0 for null.
uint64_t index_packed(const struct field *f, struct value v);

#endif
