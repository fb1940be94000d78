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
    // Strings grow by doubling, small hashes are packed: so the pieces of @ids
    // are smaller than a segment.
    SCHEMA_IDS_STRING = 1023, // of 16 bytes, which with a header fill 16 KiB
    SCHEMA_IDS_HASH = 128,
    SCHEMA_VALUE_KEY = 64, // longer values stand in keys by their hash
    SCHEMA_COMPOUNDS = 16, // compound indexes at most,
    SCHEMA_PARTS = 8,      // of so many fields each
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
    FIELD_TEXT, // a string without an index
    FIELD_BYTES,
    FIELD_DATE, // "YYYY-MM-DD"
    FIELD_LIST, // of a scalar
    FIELD_SET,  // the same, sorted and without doubles
    FIELD_KEY,  // a composite primary key: the parts of value.h
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
    bool is_ref; // the primary key of another model's row
    bool has_min, has_max;
    double min, max; // of the number (a date: days since 1970), or of the
                     // length in characters, bytes, elements
    char **choices;  // of an enum
    uint32_t choice_count;
    struct field *element; // of a list or set
    // what schema_finish derives
    enum field_index index;
    bool has_zset;  // ordered by number: also when index is INDEX_PACKED
    bool has_lex;   // ordered by bytes
    int width;      // of a packed number, in bytes
    int64_t base;   // what a packed column stores as 1
    uint32_t build; // which build of its index is the one in use
    bool is_building;
};

// A compound index orders the rows that are equal in all its fields but the
// last by that.
struct compound {
    char *name; // the fields' names, with commas
    uint8_t fields[SCHEMA_PARTS];
    uint32_t count;
    uint32_t build;
    bool is_building;
};

struct schema {
    char *name;
    struct field fields[SCHEMA_FIELDS];
    uint32_t count;
    int primary;                 // the primary key's field
    bool is_auto;                // its value is taken from a counter
    uint8_t parts[SCHEMA_PARTS]; // FIELD_KEY: the fields that it consists of
    uint32_t part_count;
    bool has_ttl;       // rows may expire
    int id_width;       // of @ids: 16 (uuid), 8 (integer) or 0 (a hash)
    uint32_t ids_piece; // how many ordinals each key of @ids serves
    struct compound compounds[SCHEMA_COMPOUNDS];
    uint32_t compound_count;
    uint32_t builds;     // the number of the last build of an index
    char generation[17]; // of the stored structures, hexadecimal
    struct buf text;     // the stored definition
};

// schema_finish checks the definition, sorts the compound indexes by name,
// derives the indexes, the text and the generation. Returns 0, or -1 with the
// reason in error.
int schema_finish(struct schema *s, char *error, size_t size);

// schema_describe derives the text and the generation; schema_describe_field
// and schema_describe_compound append the line of one, without its build.
void schema_describe(struct schema *s);
void schema_describe_field(const struct schema *s, uint32_t field,
                           struct buf *b);
void schema_describe_compound(const struct schema *s, uint32_t i,
                              struct buf *b);

// schema_is_structure says whether writers have to agree on the field.
bool schema_is_structure(const struct schema *s, uint32_t field);

// schema_adopt takes over which builds of its indexes a stored definition has.
// Returns false, and takes nothing, if its structures are others.
bool schema_adopt(struct schema *s, const char *stored, size_t len);

// schema_follow makes s the successor of a stored definition: an index that
// differs gets a new build, which is under construction. `dropped` gets a line
// (name and build) of each index that is of no use any more. Returns how many
// indexes are to be built, or -1 with the reason in error if rows cannot be
// kept.
int schema_follow(struct schema *s, const char *stored, size_t len,
                  struct buf *dropped, char *error, size_t size);

// schema_complete: what was under construction is in use.
void schema_complete(struct schema *s);

// schema_is_numeric says whether an index of the field orders it by number.
bool schema_is_numeric(const struct field *f);

// schema_clear frees what the schema holds.
void schema_clear(struct schema *s);

// schema_find returns the field of that name, or -1.
int schema_find(const struct schema *s, const char *name, size_t len);

// schema_type_name returns "string", "integer" and so on.
const char *schema_type_name(enum field_type type);

// schema_type_find returns the type of that name, or -1.
int schema_type_find(const char *name);

#endif
