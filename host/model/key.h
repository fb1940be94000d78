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
void key_stamps(struct buf *b, const struct schema *s);
void key_column_prefix(struct buf *b, const struct schema *s, uint32_t field);
void key_zset(struct buf *b, const struct schema *s, uint32_t field);
void key_unique(struct buf *b, const struct schema *s, uint32_t field);
void key_lex(struct buf *b, const struct schema *s, uint32_t field);
void key_expires(struct buf *b, const struct schema *s);

// key_reserved_prefix: what the keys begin with that are no field's.
void key_reserved_prefix(struct buf *b, const struct schema *s);

// key_compound_prefix: what follows it is key_compound_suffix.
void key_compound_prefix(struct buf *b, const struct schema *s, uint32_t i);

// key_compound_suffix appends the values of all fields but the last, which are
// `count` and present.
void key_compound_suffix(struct buf *b, const struct value *values,
                         uint32_t count);

// key_match_rows and key_match_rest append SCAN patterns: for the rows, and for
// every other key of the model. key_match_build: for the keys of one build of
// an index (of a field, or a compound one), and perhaps of other builds of it.
void key_match_rows(struct buf *b, const struct schema *s);
void key_match_rest(struct buf *b, const struct schema *s);
void key_match_build(struct buf *b, const struct schema *s, const char *name);

// key_is_of_build says whether a key is one of that build.
bool key_is_of_build(const struct schema *s, const char *name, uint32_t build,
                     const char *key, size_t len);

// What stands behind the segment's number.
#define KEY_NULL "?"
enum { KEY_BITMAP = '=', KEY_SMALL_SET = '~' };

// key_value appends how a value stands in a key: as it is, or a hash of it
// where it is longer than 64 bytes (then the row itself is what decides).
void key_value(struct buf *b, struct value v);

#endif
