// fresh: a batch that makes new rows and does nothing else, by column:
// apply.lua pays for each value that it unpacks, names only once what rows have
// in common, and can enter most of it by key. Pure: writes in, packed bytes
// out.
//
//   kind, version, bytes of the ids in @ids, { key... }, { name... },
//   { value... }, are all there, uniques, commands, lives, bulk
//
// In the place of the keys stands the count of rows whose ids the counter
// gives. The values stand row after row, one for each name, 0 for none. The
// lists behind are { index_uniques of a row... }, { index_rest... } and
// { milliseconds... }, or 0 if there is nothing for any row; bulk is what
// bulk_pack packs.
#ifndef NEAP_MODEL_FRESH_H
#define NEAP_MODEL_FRESH_H

#include "base/buf.h"
#include "model/write.h"

// fresh_pack packs `count` creates or upserts, one kind only, that all have
// ids or none. It notes which unique fields each claims.
void fresh_pack(const struct schema *s, struct write *first, uint32_t count,
                struct buf *out);

#endif
