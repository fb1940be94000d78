// schema: what a model's rows consist of, and which structures index them.
#include "model/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static const char *const type_names[] = {
    "string", "integer", "number", "boolean", "enum", "time", "uuid",
    "json",   "text",    "bytes",  "date",    "list", "set",  "key"};

const char *schema_type_name(enum field_type type) {
    return type_names[type];
}

int schema_type_find(const char *name) {
    for (int i = 0; i <= FIELD_KEY; i++) {
        if (strcmp(name, type_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int schema_find(const struct schema *s, const char *name, size_t len) {
    for (uint32_t i = 0; i < s->count; i++) {
        const char *have = s->fields[i].name;
        if (strlen(have) == len && memcmp(have, name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static bool is_name(const char *s) {
    if (s[0] < 'a' || s[0] > 'z') {
        return false;
    }
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

static const double whole_max = 9007199254740992.0; // 2^53

static bool is_whole(double v) {
    return v == floor(v) && fabs(v) <= whole_max;
}

bool schema_is_numeric(const struct field *f) {
    return f->type == FIELD_INTEGER || f->type == FIELD_NUMBER ||
           f->type == FIELD_TIME || f->type == FIELD_DATE;
}

static bool has_length(const struct field *f) {
    return f->type == FIELD_STRING || f->type == FIELD_TEXT ||
           f->type == FIELD_BYTES || f->type == FIELD_LIST ||
           f->type == FIELD_SET;
}

// Days since 1970 of 0001-01-01 and 9999-12-31.
static const int64_t date_min = -719162, date_max = 2932896;

// derive_packed finds how a packed column stores the field: value - base + 1.
static void derive_packed(struct field *f) {
    int64_t max;
    f->width = 0;
    if (f->type == FIELD_DATE) {
        f->base = date_min;
        max = date_max;
    } else if (f->type == FIELD_INTEGER && f->has_min && f->has_max) {
        f->base = (int64_t)f->min;
        max = (int64_t)f->max;
    } else {
        return;
    }
    int64_t most = max - f->base + 1;
    f->width = most <= 255 ? 1 : most <= 65535 ? 2 : most <= 4294967295 ? 4 : 8;
}

static int refuse(const struct schema *s, const char *name, const char *wrong,
                  char *error, size_t size) {
    snprintf(error, size, "model %s, field %s: %s", s->name, name, wrong);
    return -1;
}

static const char *wrong_limits(const struct field *f) {
    if ((f->has_min || f->has_max) && !has_length(f) && !schema_is_numeric(f)) {
        return "min and max are for strings, lists, numbers, dates and times";
    }
    if ((f->has_min && isnan(f->min)) || (f->has_max && isnan(f->max))) {
        return "min and max are numbers, not NaN";
    }
    if (f->has_min && f->has_max && f->min > f->max) {
        return "min is above max";
    }
    if (f->type == FIELD_INTEGER && ((f->has_min && !is_whole(f->min)) ||
                                     (f->has_max && !is_whole(f->max)))) {
        return "min and max of an integer are whole numbers, within 2^53";
    }
    return NULL;
}

static const char *wrong_index(const struct field *f) {
    bool is_many = f->type == FIELD_LIST || f->type == FIELD_SET;
    bool is_plain = f->type == FIELD_JSON || f->type == FIELD_TEXT;
    if (f->is_sorted && !schema_is_numeric(f) && f->type != FIELD_STRING) {
        return "sort is for strings, integers, numbers, dates and times";
    }
    if (is_plain && (f->is_indexed || f->is_unique)) {
        return f->type == FIELD_JSON ? "a json field cannot be indexed"
                                     : "a text field cannot be indexed";
    }
    if (is_many && f->is_unique) {
        return "a list or set cannot be unique";
    }
    return NULL;
}

static const char *wrong_primary(const struct field *f) {
    if (f->is_unique) {
        return "a primary key is unique by itself";
    }
    if (f->type != FIELD_STRING && f->type != FIELD_INTEGER &&
        f->type != FIELD_UUID && f->type != FIELD_BYTES &&
        f->type != FIELD_KEY) {
        return "a primary key is a string, bytes, an integer or a uuid";
    }
    if (f->is_indexed || f->is_sorted) {
        return "a primary key needs no index";
    }
    return NULL;
}

static int check_field(const struct schema *s, const struct field *f,
                       char *error, size_t size) {
    const char *wrong = NULL;
    bool is_primary = f == &s->fields[s->primary];
    bool is_key = is_primary && f->type == FIELD_KEY; // its name is the host's
    if (!is_key && !is_name(f->name)) {
        wrong = "a name is [a-z][a-z0-9_]*";
    }
    wrong = wrong ? wrong : wrong_limits(f);
    if (!wrong && f->type == FIELD_ENUM && f->choice_count == 0) {
        wrong = "an enum needs its values";
    }
    wrong = wrong ? wrong : wrong_index(f);
    wrong = !wrong && is_primary ? wrong_primary(f) : wrong;
    return wrong ? refuse(s, f->name, wrong, error, size) : 0;
}

static int check_compound(const struct schema *s, const struct compound *c,
                          char *error, size_t size) {
    const struct field *last = &s->fields[c->fields[c->count - 1]];
    for (uint32_t i = 0; i < c->count; i++) {
        const struct field *f = &s->fields[c->fields[i]];
        if (c->fields[i] == s->primary || f->type == FIELD_LIST ||
            f->type == FIELD_SET || f->type == FIELD_JSON ||
            f->type == FIELD_TEXT || f->type == FIELD_NUMBER) {
            if (f != last || f->type != FIELD_NUMBER) {
                return refuse(s, f->name, "it cannot be in a compound index",
                              error, size);
            }
        }
    }
    if (!schema_is_numeric(last)) {
        return refuse(s, last->name,
                      "the last field of a compound index is an integer, a "
                      "number, a date or a time",
                      error, size);
    }
    return 0;
}

static int compare_compounds(const void *a, const void *b) {
    const struct compound *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void derive(struct field *f) {
    derive_packed(f);
    f->has_lex = f->is_sorted && f->type == FIELD_STRING;
    f->has_zset = f->is_sorted && !f->has_lex;
    bool is_bitmap = f->type == FIELD_ENUM || f->type == FIELD_BOOLEAN;
    if (!f->is_indexed) {
        f->index = f->has_zset ? INDEX_ZSET : INDEX_NONE;
    } else if (is_bitmap && !f->is_ref) {
        f->index = INDEX_BITMAP;
    } else if (f->is_ref || !schema_is_numeric(f)) {
        f->index = INDEX_SET;
    } else if (f->width) {
        f->index = INDEX_PACKED;
    } else {
        f->index = INDEX_ZSET;
        f->has_zset = true;
    }
}

// -- the stored definition
//
// One line a field: name, type, and what its index is kept in; then the
// compound indexes. Lines of structures (what writers must agree on) have
// " #n" behind them if the index was built anew, and " building" while it is.
// What does not concern the structures (match, default, plain fields) is no
// part of the generation.

bool schema_is_structure(const struct schema *s, uint32_t i) {
    const struct field *f = &s->fields[i];
    return (int)i == s->primary || f->index != INDEX_NONE || f->has_lex ||
           f->is_unique;
}

// describe_field writes a field's line without its build.
void schema_describe_field(const struct schema *s, uint32_t i, struct buf *b) {
    static const char *const kinds[] = {"", " bitmap", " set", " packed", ""};
    const struct field *f = &s->fields[i];
    buf_printf(b, "%s %s", f->name, type_names[f->type]);
    if (f->element) {
        buf_printf(b, " of %s", type_names[f->element->type]);
    }
    if ((int)i == s->primary) {
        buf_adds(b, s->is_auto ? " primary auto" : " primary");
        for (uint32_t j = 0; j < s->part_count; j++) {
            buf_printf(b, " %s", s->fields[s->parts[j]].name);
        }
    }
    if (f->is_required &&
        (f->has_zset || f->has_lex)) { // a walk along it meets every row
        buf_adds(b, " required");
    }
    if (f->is_unique) {
        buf_adds(b, " unique");
    }
    buf_adds(b, kinds[f->index]);
    if (f->index == INDEX_PACKED) {
        buf_printf(b, " %lld %d", (long long)f->base, f->width);
    }
    if (f->has_zset) {
        buf_adds(b, " zset");
    }
    if (f->has_lex) {
        buf_adds(b, " lex");
    }
}

void schema_describe_compound(const struct schema *s, uint32_t i,
                              struct buf *b) {
    buf_printf(b, "%s compound", s->compounds[i].name);
}

static void describe_build(uint32_t build, bool is_building, struct buf *b) {
    if (build) {
        buf_printf(b, " #%u", build);
    }
    if (is_building) {
        buf_adds(b, " building");
    }
    buf_addc(b, '\n');
}

// describe derives the text, and the generation from its structures.
void schema_describe(struct schema *s) {
    struct buf *b = &s->text, structures = {0};
    b->len = 0;
    buf_printf(b, "model %s 2\n", s->name);
    if (s->has_ttl) {
        buf_adds(b, "@ttl\n");
    }
    buf_add(&structures, b->data, b->len);
    if (s->builds) {
        buf_printf(b, "@builds %u\n", s->builds);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        size_t from = b->len;
        schema_describe_field(s, i, b);
        describe_build(s->fields[i].build, s->fields[i].is_building, b);
        if (schema_is_structure(s, i)) {
            buf_add(&structures, b->data + from, b->len - from);
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        size_t from = b->len;
        schema_describe_compound(s, i, b);
        describe_build(s->compounds[i].build, s->compounds[i].is_building, b);
        buf_add(&structures, b->data + from, b->len - from);
    }
    struct hash128 h = hash128(structures.data, structures.len);
    snprintf(s->generation, sizeof s->generation, "%016llx",
             (unsigned long long)h.low);
    buf_clear(&structures);
}

int schema_finish(struct schema *s, char *error, size_t size) {
    if (!is_name(s->name)) {
        snprintf(error, size, "model '%s': a name is [a-z][a-z0-9_]*", s->name);
        return -1;
    }
    if (s->primary < 0) {
        snprintf(error, size, "model %s: one field needs primary_key = true",
                 s->name);
        return -1;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (check_field(s, &s->fields[i], error, size) < 0) {
            return -1;
        }
        derive(&s->fields[i]);
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        if (check_compound(s, &s->compounds[i], error, size) < 0) {
            return -1;
        }
    }
    // in whichever order they were given, the definition is the same
    qsort(s->compounds, s->compound_count, sizeof s->compounds[0],
          compare_compounds);
    enum field_type type = s->fields[s->primary].type;
    s->id_width = type == FIELD_UUID ? 16 : type == FIELD_INTEGER ? 8 : 0;
    s->ids_piece = s->id_width ? SCHEMA_IDS_STRING : SCHEMA_IDS_HASH;
    schema_describe(s);
    return 0;
}

static void clear_field(struct field *f) {
    for (uint32_t j = 0; j < f->choice_count; j++) {
        free(f->choices[j]);
    }
    free(f->choices);
    free(f->name);
    if (f->element) {
        clear_field(f->element);
        free(f->element);
    }
}

void schema_clear(struct schema *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        clear_field(&s->fields[i]);
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        free(s->compounds[i].name);
    }
    free(s->name);
    buf_clear(&s->text);
    *s = (struct schema){0};
}
