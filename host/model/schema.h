// schema: what a model's rows consist of, and which structures index them.
// Pure data: it is filled by the binding, then checked by schema_finish.
#ifndef NEAP_MODEL_SCHEMA_H
#define NEAP_MODEL_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    SCHEMA_FIELDS = 64,     // at most; a row's fields fit a 64-bit mask
    SCHEMA_SEGMENT = 65536, // rows in a segment
    SCHEMA_VALUE_KEY = 64,  // longer values stand in keys by their hash
};

enum field_type {
    FIELD_STRING,
    FIELD_INTEGER, // whole, within 2^53
    FIELD_NUMBER,  // any finite double
    FIELD_BOOLEAN,
    FIELD_ENUM,
    FIELD_TIME, // seconds since 1970, with fractions
    FIELD_UUID,
    FIELD_JSON,
};

// How an index keeps a field: see "Storage" in host/README.md.
enum field_index {
    INDEX_NONE,
    INDEX_BITMAP, // one bitmap a value and segment
    INDEX_SET,    // a small set of offsets that becomes a bitmap
    INDEX_PACKED, // one fixed-width number a row
    INDEX_ZSET,   // ordinals by number
};

struct field {
    char *name;
    enum field_type type;
    bool is_required, is_indexed, is_sorted, is_unique;
    bool has_min, has_max;
    double min, max; // of the number, or of the length in characters
    char **choices;  // of an enum
    uint32_t choice_count;
    // what schema_finish derives
    enum field_index index;
    bool has_zset; // ordered: also when index is INDEX_PACKED
    int width;     // of a packed number, in bytes
};

struct schema {
    char *name;
    struct field fields[SCHEMA_FIELDS];
    uint32_t count;
    int primary;         // the primary key's field
    bool is_auto;        // its value is taken from a counter
    int id_width;        // of @ids: 16 (uuid), 8 (integer) or 0 (a hash)
    char generation[17]; // of the stored definition, hexadecimal
    struct buf text;     // the stored definition
};

// schema_finish checks the definition, derives the indexes, the text and the
// generation. Returns 0, or -1 with the reason in error.
int schema_finish(struct schema *s, char *error, size_t size);

// schema_clear frees what the schema holds.
void schema_clear(struct schema *s);

// schema_find returns the field of that name, or -1.
int schema_find(const struct schema *s, const char *name, size_t len);

// schema_type_name returns "string", "integer" and so on.
const char *schema_type_name(enum field_type type);

// schema_type_find returns the type of that name, or -1.
int schema_type_find(const char *name);

#endif
