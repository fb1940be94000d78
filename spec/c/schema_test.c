// schema_test: what a definition becomes, and which are refused.
#include <math.h>
#include <stdio.h>

#include "model_fixture.h"

static void the_text_says_what_is_stored(void **state) {
    (void)state;
    struct schema s;
    person_schema(&s);
    assert_string_equal(buf_cstr(&s.text), "model p 2\n"
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

static void the_text_names_elements_orders_and_compounds(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    assert_string_equal(buf_cstr(&s.text), "model b 2\n"
                                           "id integer primary\n"
                                           "author integer set\n"
                                           "born date packed -719162 4 zset\n"
                                           "city string lex\n"
                                           "marks set of integer set\n"
                                           "rank number zset\n"
                                           "tags list of string set\n"
                                           "author,city,rank compound\n"
                                           "city,born compound\n");
    assert_int_equal(s.id_width, 8);
    schema_clear(&s);
}

static void the_text_names_the_ttl_the_counter_and_the_parts(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "m", FIELD_INTEGER);
    s.has_ttl = s.is_auto = true;
    finish_schema(&s);
    assert_string_equal(buf_cstr(&s.text), "model m 2\n@ttl\n"
                                           "id integer primary auto\n");
    schema_clear(&s);
    begin_schema(&s, "m", FIELD_STRING);
    add_field(&s, "at", FIELD_TIME)->is_required = true;
    add_field(&s, "_key", FIELD_KEY);
    s.primary = 2;
    s.parts[0] = 1;
    s.parts[1] = 0;
    s.part_count = 2;
    finish_schema(&s);
    assert_string_equal(buf_cstr(&s.text), "model m 2\nid string\nat time\n"
                                           "_key key primary at id\n");
    assert_int_equal(s.id_width, 0);
    schema_clear(&s);
}

static void builds_stand_behind_their_lines(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    s.builds = 12;
    s.fields[B_CITY].build = 3;
    s.fields[B_RANK].build = 12;
    s.fields[B_RANK].is_building = true;
    s.compounds[1].is_building = true;
    schema_describe(&s);
    const char *text = buf_cstr(&s.text);
    assert_ptr_equal(strstr(text, "model b 2\n@builds 12\nid "), text);
    assert_non_null(strstr(text, "\ncity string lex #3\n"));
    assert_non_null(strstr(text, "\nrank number zset #12 building\n"));
    assert_non_null(strstr(text, "\ncity,born compound building\n"));
    schema_clear(&s);
}

// -- the generation: a change of p's definition, and whether it is one of what
// is stored

enum change {
    // to none of the structures
    NO_CHANGE,
    MORE_PLAIN_FIELDS,
    OTHER_PLAIN_TYPE,
    PLAIN_REQUIRED,
    PLAIN_LIST,
    MAX_OF_THE_SAME_WIDTH,
    FEWER_CHOICES,
    UNIQUE_REQUIRED,
    SET_LIMITS,
    BUILDS,
    PLAIN_CHANGES, // from here on: to one
    OTHER_NAME,
    OTHER_PRIMARY_TYPE,
    OTHER_PRIMARY_NAME,
    COUNTER,
    TTL,
    MIN,
    WIDTH,
    NO_INDEX,
    NEW_INDEX,
    NO_MAX,
    SORTED_TOO,
    NOT_SORTED,
    NOT_REQUIRED,
    NOT_UNIQUE,
    NEW_UNIQUE,
    LEX,
    INDEXED_TYPE,
    LIST_INDEX,
    SET_INDEX,
    ELEMENT,
    COMPOUND,
    OTHER_COMPOUND,
    BUILD,
    BUILDING,
    CHANGES
};

static void change_plain(struct schema *s, enum change change) {
    struct field *note = &s->fields[F_NOTE];
    switch (change) {
    case MORE_PLAIN_FIELDS:
        add_field(s, "text", FIELD_TEXT);
        add_field(s, "set", FIELD_JSON);
        break;
    case OTHER_PLAIN_TYPE: note->type = FIELD_BYTES; break;
    case PLAIN_REQUIRED: note->is_required = true; break;
    case PLAIN_LIST:
        add_list(s, "zips", FIELD_LIST, FIELD_DATE)->is_indexed = false;
        break;
    case MAX_OF_THE_SAME_WIDTH: s->fields[F_AGE].max = 149; break;
    case FEWER_CHOICES: s->fields[F_GENDER].choice_count = 1; break;
    case UNIQUE_REQUIRED: s->fields[F_EMAIL].is_required = true; break;
    case SET_LIMITS:
        s->fields[F_NAME].has_max = true;
        s->fields[F_NAME].max = 9;
        break;
    case BUILDS: s->builds = 7; break;
    default: break;
    }
}

static void change_definition(struct schema *s, enum change change) {
    struct field *f = s->fields;
    switch (change) {
    case OTHER_NAME: s->name[0] = 'q'; break;
    case OTHER_PRIMARY_TYPE: f[F_ID].type = FIELD_BYTES; break;
    case OTHER_PRIMARY_NAME: f[F_ID].name[0] = 'x'; break;
    case COUNTER: s->is_auto = true; break;
    case TTL: s->has_ttl = true; break;
    case MIN: f[F_AGE].min = -9; break;
    case WIDTH: f[F_AGE].max = 1000; break;
    case NO_INDEX: f[F_AGE].is_indexed = false; break;
    case NEW_INDEX: f[F_NOTE].is_indexed = true; break;
    case NO_MAX: f[F_AGE].has_max = false; break;
    case SORTED_TOO: f[F_AGE].is_sorted = true; break;
    case NOT_SORTED: f[F_SCORE].is_sorted = false; break;
    case NOT_REQUIRED: f[F_AT].is_required = false; break;
    case NOT_UNIQUE: f[F_EMAIL].is_unique = false; break;
    case NEW_UNIQUE: f[F_NAME].is_unique = true; break;
    case LEX: f[F_NOTE].is_sorted = true; break;
    case INDEXED_TYPE: f[F_NAME].type = FIELD_BYTES; break;
    case LIST_INDEX: add_list(s, "zips", FIELD_LIST, FIELD_STRING); break;
    case SET_INDEX: add_list(s, "zips", FIELD_SET, FIELD_STRING); break;
    case ELEMENT: add_list(s, "zips", FIELD_LIST, FIELD_UUID); break;
    case COMPOUND: add_compound(s, "name,age"); break;
    case OTHER_COMPOUND: add_compound(s, "gender,age"); break;
    case BUILD: f[F_AGE].build = 1; break;
    case BUILDING: f[F_AGE].is_building = true; break;
    default: change_plain(s, change);
    }
}

static void the_generation_is_that_of_the_structures(void **state) {
    (void)state;
    char seen[CHANGES][17];
    for (int i = 0; i < CHANGES; i++) {
        struct schema s;
        person_schema(&s);
        change_definition(&s, (enum change)i);
        finish_schema(&s);
        memcpy(seen[i], s.generation, sizeof seen[i]);
        // so that all of them are freed
        s.fields[F_GENDER].choice_count = 2;
        schema_clear(&s);
    }
    for (int i = 1; i < CHANGES; i++) {
        for (int j = 0; j < i; j++) {
            bool is_same = strcmp(seen[i], seen[j]) == 0;
            if (is_same != (i <= PLAIN_CHANGES)) {
                fail_msg("changes %d and %d", j, i);
            }
        }
    }
}

static void compounds_may_be_given_in_any_order(void **state) {
    (void)state;
    static const char *const orders[][2] = {{"city,born", "author,rank"},
                                            {"author,rank", "city,born"}};
    struct schema s[2];
    for (int i = 0; i < 2; i++) {
        book_schema(&s[i]);
        for (int j = 0; j < 2; j++) {
            free(s[i].compounds[j].name);
            s[i].compounds[j].count = 0;
        }
        s[i].compound_count = 0;
        add_compound(&s[i], orders[i][0]);
        add_compound(&s[i], orders[i][1]);
        finish_schema(&s[i]);
        assert_string_equal(s[i].compounds[0].name, "author,rank");
        assert_int_equal(s[i].compounds[0].fields[1], B_RANK);
    }
    assert_string_equal(buf_cstr(&s[0].text), buf_cstr(&s[1].text));
    assert_string_equal(s[0].generation, s[1].generation);
    schema_clear(&s[0]);
    schema_clear(&s[1]);
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
    for (int i = 0; i <= FIELD_KEY; i++) {
        assert_int_equal(schema_type_find(schema_type_name((enum field_type)i)),
                         i);
    }
    assert_int_equal(schema_type_find("strin"), -1);
    assert_int_equal(schema_type_find("strings"), -1);
    assert_int_equal(schema_type_find(""), -1);
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

static void dates_are_packed_from_the_year_1_on(void **state) {
    (void)state;
    struct schema s;
    begin_schema(&s, "m", FIELD_UUID);
    struct field *f = add_field(&s, "v", FIELD_DATE);
    f->is_indexed = f->has_min = f->has_max = true;
    f->min = 0; // the values' limits, not the column's
    f->max = 10;
    finish_schema(&s);
    assert_int_equal(f->index, INDEX_PACKED);
    assert_int_equal(f->width, 4);
    assert_int_equal(f->base, -719162);
    assert_false(f->has_zset);
    schema_clear(&s);
}

// Each type, what options it has, and what becomes of it.
static void indexes_follow_type_and_options(void **state) {
    (void)state;
    enum { INDEX = 1, SORT = 2, REF = 4, RANGE = 8, UNIQUE = 16 };
    static const struct {
        enum field_type type;
        int options;
        enum field_index index;
        bool has_zset, has_lex;
    } list[] = {
        {FIELD_STRING, 0, INDEX_NONE, false, false},
        {FIELD_STRING, INDEX, INDEX_SET, false, false},
        {FIELD_STRING, SORT, INDEX_NONE, false, true},
        {FIELD_STRING, INDEX | SORT, INDEX_SET, false, true},
        {FIELD_STRING, INDEX | REF, INDEX_SET, false, false},
        {FIELD_STRING, UNIQUE, INDEX_NONE, false, false},
        {FIELD_STRING, UNIQUE | SORT, INDEX_NONE, false, true},
        {FIELD_INTEGER, INDEX, INDEX_ZSET, true, false},
        {FIELD_INTEGER, INDEX | RANGE, INDEX_PACKED, false, false},
        {FIELD_INTEGER, SORT, INDEX_ZSET, true, false},
        {FIELD_INTEGER, SORT | RANGE, INDEX_ZSET, true, false},
        {FIELD_INTEGER, INDEX | SORT | RANGE, INDEX_PACKED, true, false},
        {FIELD_INTEGER, RANGE, INDEX_NONE, false, false},
        {FIELD_INTEGER, INDEX | REF, INDEX_SET, false, false},
        {FIELD_INTEGER, INDEX | REF | RANGE, INDEX_SET, false, false},
        {FIELD_NUMBER, INDEX, INDEX_ZSET, true, false},
        {FIELD_NUMBER, INDEX | RANGE, INDEX_ZSET, true, false},
        {FIELD_NUMBER, SORT, INDEX_ZSET, true, false},
        {FIELD_TIME, INDEX, INDEX_ZSET, true, false},
        {FIELD_TIME, SORT, INDEX_ZSET, true, false},
        {FIELD_DATE, INDEX, INDEX_PACKED, false, false},
        {FIELD_DATE, SORT, INDEX_ZSET, true, false},
        {FIELD_DATE, INDEX | SORT, INDEX_PACKED, true, false},
        {FIELD_BOOLEAN, INDEX, INDEX_BITMAP, false, false},
        {FIELD_ENUM, INDEX, INDEX_BITMAP, false, false},
        {FIELD_UUID, INDEX, INDEX_SET, false, false},
        {FIELD_BYTES, INDEX, INDEX_SET, false, false},
        {FIELD_LIST, 0, INDEX_NONE, false, false},
        {FIELD_LIST, INDEX, INDEX_SET, false, false},
        {FIELD_SET, INDEX, INDEX_SET, false, false},
        {FIELD_JSON, 0, INDEX_NONE, false, false},
        {FIELD_TEXT, 0, INDEX_NONE, false, false},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct schema s;
        int options = list[i].options;
        begin_schema(&s, "m", FIELD_STRING);
        struct field *f =
            list[i].type == FIELD_LIST || list[i].type == FIELD_SET
                ? add_list(&s, "v", list[i].type, FIELD_STRING)
                : add_field(&s, "v", list[i].type);
        f->is_indexed = options & INDEX;
        f->is_sorted = options & SORT;
        f->is_ref = options & REF;
        f->is_unique = options & UNIQUE;
        f->has_min = f->has_max = options & RANGE;
        f->max = 9;
        if (f->type == FIELD_ENUM) {
            add_choices(f, "a", "b");
        }
        finish_schema(&s);
        if (f->index != list[i].index || f->has_zset != list[i].has_zset ||
            f->has_lex != list[i].has_lex) {
            fail_msg("case %zu", i);
        }
        assert_int_equal(schema_is_structure(&s, 1), (options & ~RANGE) != 0);
        assert_true(schema_is_structure(&s, 0));
        schema_clear(&s);
    }
}

#define NUMBERS "min and max are for strings, lists, numbers, dates and times"
#define WHOLE   "min and max of an integer are whole numbers, within 2^53"
#define SORTED  "sort is for strings, integers, numbers, dates and times"
#define PRIMARY "a primary key is a string, bytes, an integer or a uuid"
#define NAMES   "a name is [a-z][a-z0-9_]*"

// A field of which no type is said is an integer here.
static const struct flaw {
    struct field v;
    const char *wrong;
} flaws[] = {
    {{.name = "V"}, NAMES},
    {{.name = ""}, NAMES},
    {{.name = "_v"}, NAMES},
    {{.name = "1"}, NAMES},
    {{.name = "v-"}, NAMES},
    {{.name = "v,w"}, NAMES},
    {{.name = "v w"}, NAMES},
    {{.name = "vW"}, NAMES},
    {{.name = "v", .has_min = true, .has_max = true, .min = 1},
     "min is above max"},
    {{.name = "v", .has_max = true, .max = 0.5}, WHOLE},
    {{.name = "v", .has_min = true, .min = -0.5}, WHOLE},
    {{.name = "v", .has_max = true, .max = 1e300}, WHOLE},
    {{.name = "v", .has_min = true, .min = -INFINITY}, WHOLE},
    {{.name = "v", .has_max = true, .max = 9007199254740994.0}, WHOLE},
    {{.name = "v", .has_min = true, .min = NAN}, "not NaN"},
    {{.name = "v", .has_max = true, .max = NAN}, "not NaN"},
    {{.name = "v", .type = FIELD_NUMBER, .has_max = true, .max = NAN},
     "not NaN"},
    {{.name = "v", .type = FIELD_BOOLEAN, .has_min = true}, NUMBERS},
    {{.name = "v", .type = FIELD_UUID, .has_max = true}, NUMBERS},
    {{.name = "v", .type = FIELD_JSON, .has_max = true}, NUMBERS},
    {{.name = "v", .type = FIELD_ENUM}, "an enum needs its values"},
    {{.name = "v", .type = FIELD_BOOLEAN, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_UUID, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_BYTES, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_TEXT, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_JSON, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_LIST, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_SET, .is_sorted = true}, SORTED},
    {{.name = "v", .type = FIELD_JSON, .is_indexed = true},
     "a json field cannot be indexed"},
    {{.name = "v", .type = FIELD_JSON, .is_unique = true},
     "a json field cannot be indexed"},
    {{.name = "v", .type = FIELD_TEXT, .is_indexed = true},
     "a text field cannot be indexed"},
    {{.name = "v", .type = FIELD_TEXT, .is_unique = true},
     "a text field cannot be indexed"},
    {{.name = "v", .type = FIELD_LIST, .is_unique = true},
     "a list or set cannot be unique"},
    {{.name = "v", .type = FIELD_SET, .is_unique = true},
     "a list or set cannot be unique"},
};

static const struct flaw primary_flaws[] = {
    {{.name = "v", .type = FIELD_INTEGER, .is_unique = true},
     "a primary key is unique by itself"},
    {{.name = "v", .type = FIELD_INTEGER, .is_indexed = true},
     "a primary key needs no index"},
    {{.name = "v", .type = FIELD_STRING, .is_sorted = true},
     "a primary key needs no index"},
    {{.name = "v", .type = FIELD_TIME}, PRIMARY},
    {{.name = "v", .type = FIELD_NUMBER}, PRIMARY},
    {{.name = "v", .type = FIELD_BOOLEAN}, PRIMARY},
    {{.name = "v", .type = FIELD_DATE}, PRIMARY},
    {{.name = "v", .type = FIELD_JSON}, PRIMARY},
    {{.name = "v", .type = FIELD_LIST}, PRIMARY},
    {{.name = "V", .type = FIELD_STRING}, NAMES},
};

static void assert_refused(const struct flaw *flaw, bool is_primary) {
    struct schema s;
    char error[200] = "", start[40];
    begin_schema(&s, "m", FIELD_STRING);
    struct field *f = add_field(&s, flaw->v.name, flaw->v.type);
    char *name = f->name;
    *f = flaw->v;
    f->name = name;
    if (f->type == FIELD_STRING && !is_primary) {
        f->type = FIELD_INTEGER;
    }
    s.primary = is_primary;
    snprintf(start, sizeof start, "model m, field %s: ", name);
    assert_int_equal(schema_finish(&s, error, sizeof error), -1);
    assert_ptr_equal(strstr(error, start), error);
    if (!strstr(error, flaw->wrong)) {
        fail_msg("%s, expected: %s", error, flaw->wrong);
    }
    schema_clear(&s);
}

static void flaws_are_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(flaws); i++) {
        assert_refused(&flaws[i], false);
    }
    for (size_t i = 0; i < COUNT(primary_flaws); i++) {
        assert_refused(&primary_flaws[i], true);
    }
}

static void models_need_a_name_and_a_primary_key(void **state) {
    (void)state;
    static const char *const names[] = {"", "-", "M", "a-b", "a:b", "1a", "a{"};
    for (size_t i = 0; i <= COUNT(names); i++) {
        struct schema s;
        char error[200] = "";
        bool has_name = i == COUNT(names);
        begin_schema(&s, has_name ? "m" : names[i], FIELD_STRING);
        s.primary = has_name ? -1 : 0;
        assert_int_equal(schema_finish(&s, error, sizeof error), -1);
        assert_non_null(
            strstr(error, has_name ? "one field needs primary_key" : NAMES));
        schema_clear(&s);
    }
}

static void long_reasons_are_cut(void **state) {
    (void)state;
    struct schema s;
    char error[10];
    begin_schema(&s, "m", FIELD_STRING);
    s.primary = -1;
    memset(error, 'x', sizeof error);
    assert_int_equal(schema_finish(&s, error, sizeof error), -1);
    assert_string_equal(error, "model m: ");
    schema_clear(&s);
}

// compound_result finishes a model with the compound index of those fields, one
// of each type, named after it.
static int compound_result(const char *names, char *error, size_t size) {
    struct schema s;
    begin_schema(&s, "m", FIELD_STRING);
    for (int i = 0; i < FIELD_KEY; i++) {
        enum field_type type = (enum field_type)i;
        struct field *f = add_field(&s, schema_type_name(type), type);
        if (type == FIELD_ENUM) {
            add_choices(f, "a", "b");
        }
    }
    add_compound(&s, names);
    int result = schema_finish(&s, error, size);
    schema_clear(&s);
    return result;
}

static void compounds_end_with_what_is_ordered_by_number(void **state) {
    (void)state;
    static const struct {
        const char *names, *wrong;
    } list[] = {
        {"string,integer", NULL},
        {"string,number", NULL},
        {"string,date", NULL},
        {"string,time", NULL},
        {"enum,boolean,integer,uuid,bytes,date,time", NULL},
        {"string,string", "field string: the last field"},
        {"integer,boolean", "field boolean: the last field"},
        {"date,uuid", "field uuid: the last field"},
        {"date,enum", "field enum: the last field"},
        {"date,bytes", "field bytes: the last field"},
        {"integer,json", "field json: it cannot be"},
        {"integer,text", "field text: it cannot be"},
        {"integer,list", "field list: it cannot be"},
        {"integer,set", "field set: it cannot be"},
        {"integer,id", "field id: it cannot be"},
        {"id,integer", "field id: it cannot be"},
        {"number,integer", "field number: it cannot be"},
        {"json,integer", "field json: it cannot be"},
        {"string,text,integer", "field text: it cannot be"},
        {"list,integer", "field list: it cannot be"},
        {"set,integer", "field set: it cannot be"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        char error[200] = "";
        int result = compound_result(list[i].names, error, sizeof error);
        assert_int_equal(result, list[i].wrong ? -1 : 0);
        if (list[i].wrong && !strstr(error, list[i].wrong)) {
            fail_msg("%s: %s", list[i].names, error);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_says_what_is_stored),
        cmocka_unit_test(the_text_names_elements_orders_and_compounds),
        cmocka_unit_test(the_text_names_the_ttl_the_counter_and_the_parts),
        cmocka_unit_test(builds_stand_behind_their_lines),
        cmocka_unit_test(the_generation_is_that_of_the_structures),
        cmocka_unit_test(compounds_may_be_given_in_any_order),
        cmocka_unit_test(fields_are_found_by_their_whole_name),
        cmocka_unit_test(widths_follow_the_range),
        cmocka_unit_test(dates_are_packed_from_the_year_1_on),
        cmocka_unit_test(an_integer_of_one_end_goes_into_an_ordered_index),
        cmocka_unit_test(indexes_follow_type_and_options),
        cmocka_unit_test(flaws_are_refused_by_name),
        cmocka_unit_test(models_need_a_name_and_a_primary_key),
        cmocka_unit_test(long_reasons_are_cut),
        cmocka_unit_test(compounds_end_with_what_is_ordered_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
