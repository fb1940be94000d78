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
#include "base/pack.h"
#include "model/row.h"
#include "model/schema.h"
#include "model/value.h"

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

// add_list appends an indexed list or set of `element`.
static inline struct field *add_list(struct schema *s, const char *name,
                                     enum field_type type,
                                     enum field_type element) {
    struct field *f = add_field(s, name, type);
    f->is_indexed = true;
    f->element = xcalloc(1, sizeof *f->element);
    f->element->name = xstrdup("element");
    f->element->type = element;
    return f;
}

// add_compound appends a compound index of the fields named, with commas.
static inline void add_compound(struct schema *s, const char *names) {
    struct compound *c = &s->compounds[s->compound_count++];
    c->name = xstrdup(names);
    while (*names) {
        size_t len = strcspn(names, ",");
        int field = schema_find(s, names, len);
        assert_in_range(field, 0, s->count - 1);
        c->fields[c->count++] = (uint8_t)field;
        names += len + (names[len] == ',');
    }
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

// The model for what is kept in sets, by bytes, by day and together.
enum { B_ID, B_AUTHOR, B_BORN, B_CITY, B_MARKS, B_RANK, B_TAGS, B_COUNT };

// book_schema fills in the model whose fields are named above, with two
// compound indexes.
static inline void book_schema(struct schema *s) {
    begin_schema(s, "b", FIELD_INTEGER);
    struct field *author = add_field(s, "author", FIELD_INTEGER);
    author->is_ref = author->is_indexed = true;
    struct field *born = add_field(s, "born", FIELD_DATE);
    born->is_indexed = born->is_sorted = true;
    struct field *city = add_field(s, "city", FIELD_STRING);
    city->is_sorted = true;
    add_list(s, "marks", FIELD_SET, FIELD_INTEGER);
    struct field *rank = add_field(s, "rank", FIELD_NUMBER);
    rank->is_sorted = true;
    add_list(s, "tags", FIELD_LIST, FIELD_STRING);
    add_compound(s, "city,born");
    add_compound(s, "author,city,rank");
    finish_schema(s);
}

// add_parts spells a list: its elements with commas between them.
static inline void add_parts(struct buf *b, const char *elements) {
    while (*elements) {
        size_t len = strcspn(elements, ",");
        value_add_part(b, elements, len);
        elements += len + (elements[len] == ',');
    }
}

// make_row takes a text a field, NULL for null.
static inline struct row *make_row(uint32_t count, const char *const *texts) {
    struct value values[SCHEMA_FIELDS];
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (struct value){texts[i], texts[i] ? strlen(texts[i]) : 0};
    }
    return row_new(values, count);
}

// unpack_from reads what was packed.
static inline struct unpack unpack_from(const struct buf *b) {
    const unsigned char *p = (const unsigned char *)b->data;
    return (struct unpack){p, p + b->len, false};
}

#endif
