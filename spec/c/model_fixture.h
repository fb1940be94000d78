// model_fixture: schemas and rows for the tests of host/model.
#ifndef SPEC_MODEL_FIXTURE_H
#define SPEC_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/row.h"
#include "model/schema.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

// add_field appends a field without options.
static inline struct field *add_field(struct schema *s, const char *name,
                                      enum field_type type) {
    struct field *f = &s->fields[s->count++];
    f->name = xstrdup(name);
    f->type = type;
    return f;
}

// begin_schema names a model and gives it its primary key, "id".
static inline void begin_schema(struct schema *s, const char *name,
                                enum field_type primary) {
    *s = (struct schema){.primary = 0};
    s->name = xstrdup(name);
    add_field(s, "id", primary);
}

// add_choices gives an enum its two values.
static inline void add_choices(struct field *f, const char *a, const char *b) {
    f->choices = xcalloc(3, sizeof f->choices[0]);
    f->choices[0] = xstrdup(a);
    f->choices[1] = xstrdup(b);
    f->choice_count = 2;
}

// finish_schema fails the test if the definition is refused.
static inline void finish_schema(struct schema *s) {
    char error[200] = "";
    if (schema_finish(s, error, sizeof error) < 0) {
        fail_msg("%s", error);
    }
}

// The model that most tests use: a field for each kind of index.
enum { F_ID, F_AGE, F_AT, F_EMAIL, F_GENDER, F_NAME, F_NOTE, F_SCORE, F_COUNT };

// person_schema fills in the model whose fields are named above.
static inline void person_schema(struct schema *s) {
    begin_schema(s, "p", FIELD_STRING);
    struct field *age = add_field(s, "age", FIELD_INTEGER);
    age->has_min = age->has_max = age->is_indexed = true;
    age->min = -10;
    age->max = 150;
    struct field *at = add_field(s, "at", FIELD_TIME);
    at->is_sorted = at->is_required = true;
    add_field(s, "email", FIELD_STRING)->is_unique = true;
    struct field *gender = add_field(s, "gender", FIELD_ENUM);
    gender->is_indexed = true;
    add_choices(gender, "f", "m");
    add_field(s, "name", FIELD_STRING)->is_indexed = true;
    add_field(s, "note", FIELD_STRING);
    struct field *score = add_field(s, "score", FIELD_INTEGER);
    score->has_min = score->has_max = score->is_indexed = true;
    score->max = 70000;
    score->is_sorted = true;
    finish_schema(s);
}

// make_row takes a text a field, NULL for null.
static inline struct row *make_row(uint32_t count, const char *const *texts) {
    struct value values[SCHEMA_FIELDS];
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (struct value){texts[i], texts[i] ? strlen(texts[i]) : 0};
    }
    return row_new(values, count);
}

#endif
