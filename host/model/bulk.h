// bulk: what a batch of new rows enters into bitmaps, packed columns and
// ordered indexes, by key instead of by row: apply.lua pays for each command.
// Pure: rows in, packed commands out.
//
// A command is { op, key, argument, count, item... }, all in one array, keys
// being places in what index_keys packs, rows places in the batch from 0 on:
//
//   OP_BIT_SET, column, suffix, count, { rows / 32, their bits }...
//   OP_PACK, column, width, 1, the bytes of all rows
//   OP_ZADD, key, "", count, { row, score }...
//
// The bits of 32 rows are a number as text, the first row its highest bit; the
// last rows of a batch may be fewer than 32, and are as many bits.
#ifndef NEAP_MODEL_BULK_H
#define NEAP_MODEL_BULK_H

#include "base/buf.h"
#include "model/row.h"
#include "model/schema.h"

// bulk_pack packs (one array) what index_rest leaves out of
// `count` new rows.
void bulk_pack(const struct schema *s, const struct row *const *rows,
               uint32_t count, struct buf *out);

#endif
