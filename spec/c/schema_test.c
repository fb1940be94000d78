// schema_test: what a definition becomes, and which are refused.
#include <math.h>

#include "model_fixture.h"

static void the_text_says_what_is_stored(void **state) {
    (void)state;
    struct schema s;
    person_schema(&s);
    assert_string_equal(buf_cstr(&s.text), "model p 1\n"
                                           "id string primary\n"
                                           "age integer packed -10 1\n"
                                           "at time required zset\n"
                                           "email string unique\n"
                                           "gender enum bitmap\n"
                                           "name string set\n"
                                           "note string\n"
                                           "score integer packed 0 4 zset\n");
    assert_int_equal(strlen(s.generation), 16);
    assert_int_equal(s.id_width, 0);
    schema_clear(&s);
}

static void the_generation_is_of_the_text(void **state) {
    (void)state;
    struct schema a, b;
    person_schema(&a);
    person_schema(&b);
    assert_string_equal(a.generation, b.generation);
    b.fields[F_AGE].max = 149; // the same width: the same columns
    finish_schema(&b);
    assert_string_equal(a.generation, b.generation);
    b.fields[F_AGE].min = -9;
    finish_schema(&b);
    assert_string_not_equal(a.generation, b.generation);
    schema_clear(&a);
    schema_clear(&b);
}

static void fields_are_found_by_their_whole_name(void **state) {
    (void)state;
    struct schema s;
    person_schema(&s);
    assert_int_equal(schema_find(&s, "email", 5), F_EMAIL);
    assert_int_equal(schema_find(&s, "emai", 4), -1);
    assert_int_equal(schema_find(&s, "emailx", 6), -1);
    assert_int_equal(schema_find(&s, "", 0), -1);
    assert_int_equal(schema_find(&s, "email\0", 6), -1);
    for (int i = 0; i <= FIELD_JSON; i++) {
        assert_int_equal(schema_type_find(schema_type_name((enum field_type)i)),
                         i);
    }
    assert_int_equal(schema_type_find("text"), -1);
    schema_clear(&s);
}

static void widths_follow_the_range(void **state) {
    (void)state;
    static const struct {
        double min, max;
        int width;
    } list[] = {
        {0, 254, 1},
        {0, 255, 2},
        {-128, 126, 1},
        {0, 65534, 2},
        {0, 65535, 4},
        {5, 5, 1},
        {0, 4294967294, 4},
        {0, 4294967295, 8},
        {-9007199254740992.0, 9007199254740992.0, 8},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct schema s;
        begin_schema(&s, "m", FIELD_INTEGER);
        struct field *f = add_field(&s, "v", FIELD_INTEGER);
        f->has_min = f->has_max = f->is_indexed = true;
        f->min = list[i].min;
        f->max = list[i].max;
        finish_schema(&s);
        assert_int_equal(f->width, list[i].width);
        assert_int_equal(f->index, INDEX_PACKED);
        assert_false(f->has_zset);
        assert_int_equal(s.id_width, 8);
        schema_clear(&s);
    }
}

static void an_integer_of_one_end_goes_into_an_ordered_index(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "m", FIELD_UUID);
    struct field *f = add_field(&s, "v", FIELD_INTEGER);
    f->has_min = f->is_indexed = true;
    finish_schema(&s);
    assert_int_equal(f->index, INDEX_ZSET);
    assert_true(f->has_zset);
    assert_int_equal(s.id_width, 16);
    schema_clear(&s);
}

enum flaw {
    NAME,
    MODEL_NAME,
    NO_PRIMARY,
    RANGE,
    FRACTION,
    HUGE_MAX,
    NOT_A_NUMBER,
    NO_CHOICES,
    SORTED_TEXT,
    JSON_INDEX,
    BOOLEAN_MIN,
    PRIMARY_KIND,
    PRIMARY_INDEX,
    PRIMARY_UNIQUE,
    FLAWS
};

static void spoil(struct schema *s, enum flaw flaw) {
    struct field *f = &s->fields[1];
    switch (flaw) {
    case NAME: f->name[0] = 'V'; break;
    case MODEL_NAME: s->name[0] = '-'; break;
    case NO_PRIMARY: s->primary = -1; break;
    case RANGE:
        f->has_min = f->has_max = true;
        f->min = 1;
        break;
    case FRACTION:
        f->has_max = true;
        f->max = 0.5;
        break;
    case HUGE_MAX:
        f->has_max = true;
        f->max = 1e300;
        break;
    case NOT_A_NUMBER:
        f->has_min = true;
        f->min = NAN;
        break;
    case NO_CHOICES: f->type = FIELD_ENUM; break;
    case SORTED_TEXT:
        f->type = FIELD_STRING;
        f->is_sorted = true;
        break;
    case JSON_INDEX:
        f->type = FIELD_JSON;
        f->is_indexed = true;
        break;
    case BOOLEAN_MIN:
        f->type = FIELD_BOOLEAN;
        f->has_min = true;
        break;
    case PRIMARY_KIND: s->fields[0].type = FIELD_TIME; break;
    case PRIMARY_INDEX: s->fields[0].is_indexed = true; break;
    case PRIMARY_UNIQUE: s->fields[0].is_unique = true; break;
    case FLAWS: break;
    }
}

static void flaws_are_refused_by_name(void **state) {
    (void)state;
    for (int flaw = 0; flaw <= FLAWS; flaw++) {
        struct schema s;
        char error[200] = "";
        begin_schema(&s, "m", FIELD_STRING);
        add_field(&s, "v", FIELD_INTEGER);
        spoil(&s, (enum flaw)flaw);
        int result = schema_finish(&s, error, sizeof error);
        assert_int_equal(result, flaw == FLAWS ? 0 : -1);
        if (flaw < FLAWS) {
            assert_non_null(strstr(error, "model "));
        }
        schema_clear(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_says_what_is_stored),
        cmocka_unit_test(the_generation_is_of_the_text),
        cmocka_unit_test(fields_are_found_by_their_whole_name),
        cmocka_unit_test(widths_follow_the_range),
        cmocka_unit_test(an_integer_of_one_end_goes_into_an_ordered_index),
        cmocka_unit_test(flaws_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
