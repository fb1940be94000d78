// schema: what a model's rows consist of, and which structures index them.
#include "model/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static const char *const type_names[] = {
    "string", "integer", "number", "boolean", "enum", "time", "uuid", "json"};

const char *schema_type_name(enum field_type type) {
    return type_names[type];
}

int schema_type_find(const char *name) {
    for (int i = 0; i <= FIELD_JSON; i++) {
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

static bool is_numeric(const struct field *f) {
    return f->type == FIELD_INTEGER || f->type == FIELD_NUMBER ||
           f->type == FIELD_TIME;
}

// packed_width returns the bytes that value - min + 1 takes, 0 if it cannot
// be packed.
static int packed_width(const struct field *f) {
    if (f->type != FIELD_INTEGER || !f->has_min || !f->has_max) {
        return 0;
    }
    int64_t most = (int64_t)f->max - (int64_t)f->min + 1;
    return most <= 255 ? 1 : most <= 65535 ? 2 : most <= 4294967295 ? 4 : 8;
}

static int check_field(const struct schema *s, struct field *f, char *error,
                       size_t size) {
    const char *wrong = NULL;
    bool is_primary = f == &s->fields[s->primary];
    if (!is_name(f->name)) {
        wrong = "a name is [a-z][a-z0-9_]*";
    } else if ((f->has_min || f->has_max) && f->type != FIELD_STRING &&
               !is_numeric(f)) {
        wrong = "min and max are for strings, integers, numbers and times";
    } else if ((f->has_min && isnan(f->min)) || (f->has_max && isnan(f->max))) {
        wrong = "min and max are numbers, not NaN";
    } else if (f->has_min && f->has_max && f->min > f->max) {
        wrong = "min is above max";
    } else if (f->type == FIELD_INTEGER &&
               ((f->has_min && !is_whole(f->min)) ||
                (f->has_max && !is_whole(f->max)))) {
        wrong = "min and max of an integer are whole numbers, within 2^53";
    } else if (f->type == FIELD_ENUM && f->choice_count == 0) {
        wrong = "an enum needs its values";
    } else if (f->is_sorted && !is_numeric(f)) {
        wrong = "sort is for integers, numbers and times";
    } else if (f->type == FIELD_JSON && (f->is_indexed || f->is_unique)) {
        wrong = "a json field cannot be indexed";
    } else if (f->is_unique && is_primary) {
        wrong = "a primary key is unique by itself";
    } else if (is_primary && f->type != FIELD_STRING &&
               f->type != FIELD_INTEGER && f->type != FIELD_UUID) {
        wrong = "a primary key is a string, an integer or a uuid";
    } else if (is_primary && (f->is_indexed || f->is_sorted)) {
        wrong = "a primary key needs no index";
    }
    if (wrong) {
        snprintf(error, size, "model %s, field %s: %s", s->name, f->name,
                 wrong);
        return -1;
    }
    return 0;
}

static void derive(struct field *f) {
    f->width = packed_width(f);
    f->has_zset = f->is_sorted;
    if (!f->is_indexed) {
        f->index = f->is_sorted ? INDEX_ZSET : INDEX_NONE;
    } else if (f->type == FIELD_ENUM || f->type == FIELD_BOOLEAN) {
        f->index = INDEX_BITMAP;
    } else if (f->type == FIELD_STRING || f->type == FIELD_UUID) {
        f->index = INDEX_SET;
    } else if (f->width) {
        f->index = INDEX_PACKED;
    } else {
        f->index = INDEX_ZSET;
        f->has_zset = true;
    }
}

// describe writes the definition as text, one field a line. What does not
// concern the stored structures (match, default) stays out.
static void describe(struct schema *s) {
    struct buf *b = &s->text;
    b->len = 0;
    buf_printf(b, "model %s 1\n", s->name);
    for (uint32_t i = 0; i < s->count; i++) {
        struct field *f = &s->fields[i];
        buf_printf(b, "%s %s", f->name, type_names[f->type]);
        if ((int)i == s->primary) {
            buf_adds(b, s->is_auto ? " primary auto" : " primary");
        }
        if (f->is_required) {
            buf_adds(b, " required");
        }
        if (f->is_unique) {
            buf_adds(b, " unique");
        }
        static const char *const kinds[] = {"", " bitmap", " set", " packed",
                                            ""};
        buf_adds(b, kinds[f->index]);
        if (f->index == INDEX_PACKED) {
            buf_printf(b, " %.17g %d", f->min, f->width);
        }
        if (f->has_zset) {
            buf_adds(b, " zset");
        }
        buf_addc(b, '\n');
    }
    struct hash128 h = hash128(b->data, b->len);
    snprintf(s->generation, sizeof s->generation, "%016llx",
             (unsigned long long)h.low);
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
    enum field_type type = s->fields[s->primary].type;
    s->id_width = type == FIELD_UUID ? 16 : type == FIELD_INTEGER ? 8 : 0;
    describe(s);
    return 0;
}

void schema_clear(struct schema *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        struct field *f = &s->fields[i];
        for (uint32_t j = 0; j < f->choice_count; j++) {
            free(f->choices[j]);
        }
        free(f->choices);
        free(f->name);
    }
    free(s->name);
    buf_clear(&s->text);
    *s = (struct schema){0};
}
