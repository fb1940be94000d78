// key: the names of all keys that a model has in Redis. No other file spells
// one. All of a model's keys share the hash tag {name}.
#ifndef NEAP_MODEL_KEY_H
#define NEAP_MODEL_KEY_H

#include "base/buf.h"
#include "model/row.h"
#include "model/schema.h"

// Each function appends the key (or the part of it before the segment's
// number) to b.
void key_row(struct buf *b, const struct schema *s, struct value id);
void key_row_prefix(struct buf *b, const struct schema *s);
void key_meta(struct buf *b, const struct schema *s);
void key_schema(struct buf *b, const struct schema *s);
void key_journal(struct buf *b, const struct schema *s, const char *host);
void key_rows_prefix(struct buf *b, const struct schema *s);
void key_ids_prefix(struct buf *b, const struct schema *s);
void key_column_prefix(struct buf *b, const struct schema *s, uint32_t field);
void key_zset(struct buf *b, const struct schema *s, uint32_t field);
void key_unique(struct buf *b, const struct schema *s, uint32_t field);

// key_match_all appends a SCAN pattern for every key of the model.
void key_match_rows(struct buf *b, const struct schema *s);
void key_match_rest(struct buf *b, const struct schema *s);

// What stands behind the segment's number.
#define KEY_NULL "?"
enum { KEY_BITMAP = '=', KEY_SMALL_SET = '~' };

// key_value appends how a value stands in a key: as it is, or a hash of it
// where it is longer than 64 bytes (then the row itself is what decides).
void key_value(struct buf *b, struct value v);

#endif
