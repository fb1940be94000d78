// entry: what a row has in the keys of its model besides itself, key by key:
// what verify compares. Pure.
#ifndef NEAP_MODEL_ENTRY_H
#define NEAP_MODEL_ENTRY_H

#include "base/buf.h"
#include "model/row.h"
#include "model/schema.h"

enum entry_kind {
    ENTRY_BIT,    // key, bit
    ENTRY_MEMBER, // key of the small set, of the bitmap that it became, bit
    ENTRY_BYTES,  // key, offset, bytes
    ENTRY_SCORE,  // key, member, score
    ENTRY_FIELD,  // key, field, value
};

// What a key holds, by its name.
enum key_kind {
    KEY_OTHER,   // no index: the definition, a journal
    KEY_UNKNOWN, // of no index that the definition has
    KEY_LIVE,    // @rows
    KEY_IDS,     // @ids, where it is a hash
    KEY_BITS,
    KEY_MEMBERS,
    KEY_PACKED,
    KEY_SCORES,  // ordinals
    KEY_ORDERED, // values and ordinals
    KEY_HOLDERS, // values, each with the primary key of its row
    KEY_STAMPS,  // @stamps
};

struct key_class {
    enum key_kind kind;
    uint32_t segment; // of @ids: the piece
    int width;        // of a packed column
};

// entry_pack packs { kind, a, b, c, ... } of all of a row's entries, @rows and
// @ids first: four elements each.
void entry_pack(const struct schema *s, const struct row *r, struct buf *out);

// entry_is says whether the row has the entry (key, member, value): a bit or a
// member of a set by its number, bytes by their offset, a member with its
// score, a field with its value.
bool entry_is(const struct schema *s, const struct row *r, struct value key,
              struct value member, struct value value);

// entry_classify says what a key of the model is.
struct key_class entry_classify(const struct schema *s, struct value key);

#endif
