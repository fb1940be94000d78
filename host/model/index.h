// index: from a row as it was and a row as it shall be, the commands that
// keep the indexes true. Pure: rows in, packed commands out.
//
// Commands are packed as flat arrays for apply.lua, which knows the ordinal:
// it puts the segment's number behind a column's prefix. Keys are numbers in
// the map that index_keys packs once a batch.
#ifndef NEAP_MODEL_INDEX_H
#define NEAP_MODEL_INDEX_H

#include "base/buf.h"
#include "model/row.h"
#include "model/schema.h"

enum index_op {
    OP_BIT_SET = 1,     // column, suffix
    OP_BIT_CLEAR,       // column, suffix
    OP_SET_ADD,         // column, value: a small set, or the bitmap it became
    OP_SET_REMOVE,      // column, value
    OP_PACK,            // column, width, bytes
    OP_ZADD,            // key, score
    OP_ZREM,            // key
    OP_UNIQUE_SET,      // key, value
    OP_UNIQUE_CLEAR,    // key, value
    OP_COMPOUND_ADD,    // key, suffix, score
    OP_COMPOUND_REMOVE, // key, suffix
    OP_LEX_ADD,         // key, escaped value
    OP_LEX_REMOVE       // key, escaped value
};

// index_keys packs (one map) the keys that commands name by their places:
// field * 4 + 1 its column's prefix, + 2 its ordered index, + 3 its unique
// index, + 4 that ordered by bytes; then one a compound index. It leaves out
// those that there are not.
void index_keys(const struct schema *s, struct buf *out);

// index_diff packs (one array, or 0 for none) the commands that lead from old
// to new; NULL stands for no row. Returns how many.
uint32_t index_diff(const struct schema *s, const struct row *old,
                    const struct row *new, struct buf *out);

// index_rest is index_diff from no row, without what bulk_pack packs.
uint32_t index_rest(const struct schema *s, const struct row *new,
                    struct buf *out);

// index_build is index_diff from no row, of the indexes under construction
// only (or, with is_all, of all of them).
uint32_t index_build(const struct schema *s, const struct row *new, bool is_all,
                     struct buf *out);

// index_place returns the place of a field's key in the map: 0 its column, 1
// its ordered index, 2 its unique index, 3 that ordered by bytes.
int64_t index_place(uint32_t field, int kind);

// index_uniques packs (one array, or 0 for none: key, value, key, value) the
// unique values of new that old did not have; claimed gets the field of each.
// Returns how many.
uint32_t index_uniques(const struct schema *s, const struct row *old,
                       const struct row *new, struct buf *out,
                       uint8_t claimed[SCHEMA_FIELDS]);

// index_suffix appends what follows the segment in the key of a value's bitmap,
// or of that of null.
void index_suffix(struct value v, struct buf *out);

// index_pack_score packs a value as a score: Redis reads numbers as they are.
void index_pack_score(const struct field *f, struct value v, struct buf *out);

// index_number returns an encoded integer, number or time as a double;
// index_order_number of a field also a date, as days since 1970.
double index_number(struct value v);
double index_order_number(const struct field *f, struct value v);

// index_choice returns the place of an enum's or boolean's value, counted from
// 1; 0 for none. index_rank is by what rows are ordered in memory: that, or
// the packed number.
uint32_t index_choice(const struct field *f, struct value v);
uint64_t index_rank(const struct field *f, struct value v);

// index_put_ordinal writes an ordinal as it stands in ordered indexes: big-
// endian, so that ties are in the order of ordinals.
void index_put_ordinal(unsigned char out[4], uint32_t ordinal);

// index_id_bytes writes an id as @ids has it, in s->id_width bytes; zeros if it
// has none yet.
void index_id_bytes(const struct schema *s, struct value id, char out[16]);

// index_member_ordinal returns the ordinal at the end of a member of an ordered
// index, ROW_NO_ORDINAL if it has none.
uint32_t index_member_ordinal(const char *member, size_t len);

// index_packed returns what a packed column stores for a value of the field:
// value - min + 1, or 0 for null.
uint64_t index_packed(const struct field *f, struct value v);

#endif
