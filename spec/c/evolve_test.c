// evolve_test: what is taken over from a stored definition, what is built anew,
// and what is refused.
#include <stdio.h>

#include "model_fixture.h"

// adopt_text adopts a text in memory that ends with it.
static bool adopt_text(struct schema *s, const char *text, size_t len) {
    char *copy = xmalloc(len + !len);
    memcpy(copy, text, len);
    bool is = schema_adopt(s, copy, len);
    free(copy);
    return is;
}

// follow_text follows a text in memory that ends with it; what is dropped or
// wrong is in `said`.
static int follow_text(struct schema *s, const char *text, size_t len,
                       struct buf *said) {
    char *copy = xmalloc(len + !len), error[400] = "";
    memcpy(copy, text, len);
    said->len = 0;
    int n = schema_follow(s, copy, len, said, error, sizeof error);
    if (n < 0) {
        assert_int_equal(said->len, 0);
        buf_adds(said, error);
    }
    free(copy);
    return n;
}

// replaced is a definition's text with the first `from` replaced by `to`.
static char *replaced(const struct schema *s, const char *from,
                      const char *to) {
    struct buf text = {0}, out = {0};
    buf_add(&text, s->text.data, s->text.len);
    const char *all = buf_cstr(&text), *at = strstr(all, from);
    if (!at) {
        fail_msg("no '%s'", from);
    }
    buf_add(&out, all, (size_t)(at - all));
    buf_adds(&out, to);
    buf_adds(&out, at + strlen(from));
    char *result = xstrdup(buf_cstr(&out));
    buf_clear(&text);
    buf_clear(&out);
    return result;
}

// -- adopting

static void a_definition_adopts_its_own_text(void **state) {
    (void)state;
    struct schema s;
    void (*const schemas[])(struct schema *) = {person_schema, book_schema};
    for (size_t i = 0; i < COUNT(schemas); i++) {
        schemas[i](&s);
        char *text = xstrdup(buf_cstr(&s.text)), generation[17];
        memcpy(generation, s.generation, sizeof generation);
        assert_true(adopt_text(&s, text, strlen(text)));
        assert_string_equal(buf_cstr(&s.text), text);
        assert_string_equal(s.generation, generation);
        free(text);
        schema_clear(&s);
    }
}

static void builds_are_taken_over(void **state) {
    (void)state;
    static const char text[] = "model b 2\n"
                               "@builds 40\n"
                               "id integer primary\n"
                               "author integer set\n"
                               "born date packed -719162 4 zset #7 building\n"
                               "city string lex #40\n"
                               "marks set of integer set building\n"
                               "rank number zset\n"
                               "tags list of string set #3\n"
                               "author,city,rank compound #39 building\n"
                               "city,born compound #12\n";
    struct schema s;
    book_schema(&s);
    assert_true(adopt_text(&s, text, strlen(text)));
    assert_string_equal(buf_cstr(&s.text), text);
    assert_int_equal(s.builds, 40);
    assert_int_equal(s.fields[B_BORN].build, 7);
    assert_true(s.fields[B_BORN].is_building);
    assert_int_equal(s.fields[B_CITY].build, 40);
    assert_false(s.fields[B_CITY].is_building);
    assert_int_equal(s.fields[B_MARKS].build, 0);
    assert_true(s.fields[B_MARKS].is_building);
    assert_int_equal(s.compounds[0].build, 39);
    assert_true(s.compounds[0].is_building);
    assert_int_equal(s.compounds[1].build, 12);
    schema_clear(&s);
}

static void plain_fields_do_not_matter(void **state) {
    (void)state;
    static const char *const notes[] = {
        "",
        "note json\n",
        "note list of string\n",
        "note set of integer\nset string\n",
        "compound string\nprimary set of date\nlex json\nnote set\n",
        "note\n",
        "\n\n",
        "zset\n",
        "note string building\n",
        "note string #3\n",
    };
    for (size_t i = 0; i < COUNT(notes); i++) {
        struct schema s;
        person_schema(&s);
        char *text = replaced(&s, "note string\n", notes[i]);
        if (!adopt_text(&s, text, strlen(text))) {
            fail_msg("%s", notes[i]);
        }
        assert_int_equal(s.fields[F_NOTE].build, 0);
        assert_false(s.fields[F_NOTE].is_building);
        free(text);
        schema_clear(&s);
    }
}

// The differences that keep one definition of another's writers apart: what is
// replaced in the text of a book, by what.
static const char *const differences[][2] = {
    {"model b 2", "model b 1"},
    {"model b 2", "model b 22"},
    {"model b 2", "model bb 2"},
    {"model b 2", "model c 2"},
    {"model b 2", "model b"},
    {"model b 2\n", ""},
    {"model b 2", " model b 2"},
    {"2\n", "2\n@ttl\n"},
    {"id integer", "id string"},
    {"id integer", "idx integer"},
    {"primary", "primary auto"},
    {" primary", ""},
    {"author integer set", "author integer"},
    {"author integer set", "author integer zset"},
    {"author integer set", "author integer unique set"},
    {"author integer set\n", ""},
    {"author integer", "autho integer"},
    {"author integer", "authors integer"},
    {"author", "author2"},
    {"-719162", "-719161"},
    {"-719162 4", "-719162 8"},
    {"-719162 4 zset", "-719162 4"},
    {"city string lex", "city string zset"},
    {"city string lex", "city string lex set"},
    {"city string lex", "city string"},
    {"city string lex", "city  string lex"},
    {"city string lex", "city string lex "},
    {"city string lex", "city bytes lex"},
    {"marks set of integer", "marks list of integer"},
    {"marks set of integer", "marks set of number"},
    {"marks set of integer", "marks set"},
    {"of integer set", "of integer"},
    {"rank number zset", "rank number required zset"},
    {"rank number zset\n", "rank number zset\nrank number zset\n"},
    {"rank number zset\n", "rank number\nrank number zset\n"},
    {"tags list of string set\n", "tags list of string set\nz set set\n"},
    {"tags list of string set\n", "tags list of string set\nz enum bitmap\n"},
    {"tags list of string set\n", "tags list of string set\nz uuid unique\n"},
    {"tags list of string set\n", "tags list of string set\nz string lex\n"},
    {"tags list of string set\n", "tags list of string set\nz date zset #1\n"},
    {"tags list of string set\n",
     "tags list of string set\nz integer packed 0 1 #1 building\n"},
    {"author,city,rank", "city,author,rank"},
    {"author,city,rank compound\n", ""},
    {"city,born compound", "city,born"},
    {"city,born compound", "city,born compounds"},
    {"city,born compound\n", "city,born compound\nx,y compound\n"},
    {"city,born", "city"},
    {"city string lex", "city string lex #"},
    {"city string lex", "city string lex #x"},
    {"city string lex", "city string lex #1x"},
    {"city string lex", "city string lex # 1"},
    {"city string lex", "city string lex #-1"},
    {"city string lex", "city string lex #4294967297"},
    {"city string lex", "city string lex #99999999999999999999"},
    {"city string lex", "city string lex#1"},
    {"city string lex", "city string lex #1 #2"},
    {"city string lex", "city string lex building #2"},
    {"city string lex", "city string lex building building"},
    {"city string lex", "city string lex buildin"},
};

static void each_difference_is_refused_and_nothing_taken(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(differences); i++) {
        struct schema s;
        book_schema(&s);
        char *own = xstrdup(buf_cstr(&s.text));
        s.fields[B_BORN].build = s.builds = 5;
        schema_describe(&s);
        char *text = replaced(&s, differences[i][0], differences[i][1]);
        s.fields[B_BORN].build = s.builds = 0;
        schema_describe(&s);
        if (adopt_text(&s, text, strlen(text))) {
            fail_msg("%s instead of %s", differences[i][1], differences[i][0]);
        }
        assert_string_equal(buf_cstr(&s.text), own);
        assert_int_equal(s.builds, 0);
        assert_int_equal(s.fields[B_BORN].build, 0);
        free(text);
        free(own);
        schema_clear(&s);
    }
}

static void no_beginning_of_a_text_is_adopted(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    s.builds = 123;
    s.compounds[1].build = 123;
    s.compounds[1].is_building = true;
    schema_describe(&s);
    char *text = xstrdup(buf_cstr(&s.text));
    for (size_t len = 0; len < strlen(text); len++) {
        struct buf said = {0};
        assert_false(adopt_text(&s, text, len));
        if (len && text[len - 1] != '\n') {
            assert_int_equal(follow_text(&s, text, len, &said), -1);
        }
        buf_clear(&said);
    }
    assert_string_equal(buf_cstr(&s.text), text);
    free(text);
    schema_clear(&s);
}

// Any byte of a text may be another one: nothing is read beyond its end, and
// what is adopted describes itself as it was stored.
static void junk_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "\n",
                                        " ",
                                        "#",
                                        " #",
                                        " #1",
                                        " building",
                                        "model",
                                        "model b 2",
                                        "model b 2\n",
                                        "\n\n\n\n",
                                        "@builds",
                                        "model b 2\n@builds\n5\n",
                                        "model b 2\n@builds 1"};
    struct schema s;
    struct buf said = {0};
    book_schema(&s);
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_false(adopt_text(&s, texts[i], strlen(texts[i])));
        assert_int_equal(follow_text(&s, texts[i], strlen(texts[i]), &said),
                         -1);
    }
    unsigned seed = 7;
    for (int round = 0; round < 20000; round++) {
        char *text = xstrdup(buf_cstr(&s.text));
        size_t len = strlen(text);
        for (int n = rand_r(&seed) % 3; n >= 0; n--) {
            static const char bytes[] = "\0\n #09@ab,\xff";
            text[(size_t)rand_r(&seed) % len] =
                bytes[(size_t)rand_r(&seed) % (sizeof bytes - 1)];
        }
        struct schema other;
        book_schema(&other);
        if (adopt_text(&other, text, len)) {
            schema_adopt(&s, other.text.data, other.text.len);
            assert_string_equal(s.generation, other.generation);
        }
        follow_text(&other, text, len, &said);
        free(text);
        schema_clear(&other);
    }
    buf_clear(&said);
    schema_clear(&s);
}

// -- following

// A step is a definition (of fields and compound indexes), what becomes of it
// after the one before, and which indexes that made useless.
enum { SORT = 1, INDEX = 2, UNIQUE = 4 };
struct step {
    const char *about;
    int age, city; // options
    const char *compound;
    int building; // how many are to be built
    const char *text, *dropped;
};

static void define(struct schema *s, const struct step *step) {
    begin_schema(s, "m", FIELD_STRING);
    struct field *age = add_field(s, "age", FIELD_INTEGER);
    age->is_sorted = step->age & SORT;
    age->is_indexed = step->age & INDEX;
    age->is_unique = step->age & UNIQUE;
    struct field *city = add_field(s, "city", FIELD_STRING);
    city->is_sorted = step->city & SORT;
    city->is_indexed = step->city & INDEX;
    if (step->compound) {
        add_compound(s, step->compound);
    }
    finish_schema(s);
}

#define HEAD "model m 2\n"
#define ID   "id string primary\n"

static void follow_steps(const struct step *steps, size_t count) {
    struct buf stored = {0}, said = {0};
    for (size_t i = 0; i < count; i++) {
        struct schema s;
        define(&s, &steps[i]);
        if (i) {
            int n = follow_text(&s, stored.data, stored.len, &said);
            if (n != steps[i].building) {
                fail_msg("%s: %d", steps[i].about, n);
            }
        }
        assert_string_equal(buf_cstr(&s.text), steps[i].text);
        assert_string_equal(buf_cstr(&said), steps[i].dropped);
        stored.len = 0;
        buf_add(&stored, s.text.data, s.text.len);
        schema_clear(&s);
    }
    buf_clear(&stored);
    buf_clear(&said);
}

static void indexes_are_added_changed_and_removed(void **state) {
    (void)state;
    static const struct step steps[] = {
        {"at first", 0, INDEX, NULL, 0,
         HEAD ID "age integer\ncity string set\n", ""},
        {"one is added", SORT, INDEX, NULL, 1,
         HEAD "@builds 1\n" ID
              "age integer zset #1 building\ncity string set\n",
         ""},
        {"nothing changes: it is still to be built", SORT, INDEX, NULL, 1,
         HEAD "@builds 1\n" ID
              "age integer zset #1 building\ncity string set\n",
         ""},
        {"another changes meanwhile", SORT, INDEX | SORT, NULL, 2,
         HEAD "@builds 2\n" ID "age integer zset #1 building\n"
              "city string set lex #2 building\n",
         "city 0\n"},
        {"it goes back: to a build of its own", SORT, INDEX, NULL, 2,
         HEAD "@builds 3\n" ID "age integer zset #1 building\n"
              "city string set #3 building\n",
         "city 2\n"},
        {"both are removed", 0, 0, NULL, 0,
         HEAD "@builds 3\n" ID "age integer\ncity string\n", "age 1\ncity 3\n"},
        {"builds rise also across what was removed", SORT, SORT, NULL, 2,
         HEAD "@builds 5\n" ID "age integer zset #4 building\n"
              "city string lex #5 building\n",
         ""},
        {"a compound is added", SORT, SORT, "city,age", 3,
         HEAD "@builds 6\n" ID "age integer zset #4 building\n"
              "city string lex #5 building\ncity,age compound #6 building\n",
         ""},
    };
    follow_steps(steps, COUNT(steps));
}

static void compounds_and_uniques_come_and_go(void **state) {
    (void)state;
    static const struct step steps[] = {
        {"at first", UNIQUE, 0, "city,age", 0,
         HEAD ID "age integer unique\ncity string\ncity,age compound\n", ""},
        {"the compound goes", UNIQUE, 0, NULL, 0,
         HEAD ID "age integer unique\ncity string\n", "city,age 0\n"},
        {"it comes back", UNIQUE, 0, "city,age", 1,
         HEAD "@builds 1\n" ID "age integer unique\ncity string\n"
              "city,age compound #1 building\n",
         ""},
        {"a field of it changes: no matter", UNIQUE | SORT, 0, "city,age", 2,
         HEAD "@builds 2\n" ID
              "age integer unique zset #2 building\ncity string\n"
              "city,age compound #1 building\n",
         "age 0\n"},
        {"the field's index goes", 0, 0, "city,age", 1,
         HEAD "@builds 2\n" ID "age integer\ncity string\n"
              "city,age compound #1 building\n",
         "age 2\n"},
    };
    follow_steps(steps, COUNT(steps));
}

static void what_is_built_is_in_use(void **state) {
    (void)state;
    static const struct step was = {.age = SORT};
    static const struct step is = {
        .age = SORT | INDEX, .city = INDEX, .compound = "city,age"};
    struct schema a, b;
    struct buf said = {0};
    define(&a, &was);
    define(&b, &is);
    assert_int_equal(follow_text(&b, a.text.data, a.text.len, &said), 2);
    char building[17];
    memcpy(building, b.generation, sizeof building);
    schema_complete(&b);
    assert_string_equal(buf_cstr(&b.text),
                        HEAD "@builds 2\n" ID
                             "age integer zset\ncity string set #1\n"
                             "city,age compound #2\n");
    assert_string_not_equal(b.generation, building);
    // there is nothing left to build, and going back drops what was built
    assert_int_equal(follow_text(&b, b.text.data, b.text.len, &said), 0);
    assert_string_equal(buf_cstr(&said), "");
    assert_int_equal(follow_text(&a, b.text.data, b.text.len, &said), 0);
    assert_string_equal(buf_cstr(&said), "city 1\ncity,age 2\n");
    assert_int_equal(a.builds, 2);
    buf_clear(&said);
    schema_clear(&a);
    schema_clear(&b);
}

static void fields_that_are_gone_drop_their_indexes(void **state) {
    (void)state;
    struct schema s;
    struct buf said = {0};
    static const char text[] =
        HEAD "@builds 3\n" ID "a set of date set #3 building\n"
             "age integer\n"
             "b set\n"
             "set set of set\n"
             "c string unique #1\n"
             "ci string lex\n"
             "x,y,z compound #2\n";
    define(&s, &(struct step){.city = 0});
    assert_int_equal(follow_text(&s, text, strlen(text), &said), 0);
    assert_string_equal(buf_cstr(&said), "a 3\nset 0\nc 1\nci 0\nx,y,z 2\n");
    assert_string_equal(buf_cstr(&s.text),
                        HEAD "@builds 3\n" ID "age integer\ncity string\n");
    buf_clear(&said);
    schema_clear(&s);
}

static void builds_pass_every_number_that_stands_in_the_text(void **state) {
    (void)state;
    static const struct {
        const char *builds, *age;
        uint32_t next;
    } list[] = {
        {"", "", 1},
        {"@builds 3\n", "", 4},
        {"@builds 3\n", " #9", 10},
        {"", " #9", 10},
        {"@builds\n", " #9", 10},
        {"@builds x\n", " #9 building", 10},
        {"@builds 12 \n", " #9", 10},
        {"@builds 99999999999\n", " #9", 10},
        {"@builds -5\n", "", 1},
        {"@builds 999999998\n", "", 999999999},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct schema s;
        struct buf said = {0}, text = {0};
        define(&s, &(struct step){.city = SORT});
        buf_printf(&text, HEAD "%s" ID "age integer zset%s\ncity string\n",
                   list[i].builds, list[i].age);
        assert_int_equal(follow_text(&s, text.data, text.len, &said), 1);
        assert_int_equal(s.fields[2].build, list[i].next);
        assert_int_equal(s.builds, list[i].next);
        buf_clear(&text);
        buf_clear(&said);
        schema_clear(&s);
    }
}

static void rows_cannot_change_their_key_or_lose_their_ttl(void **state) {
    (void)state;
    static const char *const list[][2] = {
        {ID, "id integer primary\n"},
        {ID, "id string primary auto\n"},
        {ID, "id string primary id\n"},
        {ID, "id string\n"},
        {ID, ""},
        {ID, "idx string primary\n"},
        {ID, "id string primary zset\n"},
        {HEAD, HEAD "@ttl\n"},
        {HEAD, "model m 1\n"},
        {HEAD, "model mm 2\n"},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        struct schema s;
        struct buf said = {0};
        define(&s, &(struct step){.age = SORT, .city = INDEX});
        char *own = xstrdup(buf_cstr(&s.text));
        char *text = replaced(&s, list[i][0], list[i][1]);
        assert_int_equal(follow_text(&s, text, strlen(text), &said), -1);
        assert_non_null(strstr(buf_cstr(&said), "model m: its rows are"));
        assert_string_equal(buf_cstr(&s.text), own);
        free(own);
        free(text);
        buf_clear(&said);
        schema_clear(&s);
    }
}

static void a_ttl_is_gained_but_not_lost(void **state) {
    (void)state;
    struct schema with, without;
    struct buf said = {0};
    define(&without, &(struct step){.age = 0});
    define(&with, &(struct step){.age = 0});
    with.has_ttl = true;
    finish_schema(&with);
    const struct buf *a = &with.text, *b = &without.text;
    assert_int_equal(follow_text(&with, a->data, a->len, &said), 0);
    assert_int_equal(follow_text(&with, b->data, b->len, &said), 0);
    assert_int_equal(follow_text(&without, a->data, a->len, &said), -1);
    assert_false(adopt_text(&without, a->data, a->len));
    assert_false(adopt_text(&with, b->data, b->len));
    assert_true(adopt_text(&with, a->data, a->len));
    buf_clear(&said);
    schema_clear(&with);
    schema_clear(&without);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_adopts_its_own_text),
        cmocka_unit_test(builds_are_taken_over),
        cmocka_unit_test(plain_fields_do_not_matter),
        cmocka_unit_test(each_difference_is_refused_and_nothing_taken),
        cmocka_unit_test(no_beginning_of_a_text_is_adopted),
        cmocka_unit_test(junk_is_refused),
        cmocka_unit_test(indexes_are_added_changed_and_removed),
        cmocka_unit_test(compounds_and_uniques_come_and_go),
        cmocka_unit_test(what_is_built_is_in_use),
        cmocka_unit_test(fields_that_are_gone_drop_their_indexes),
        cmocka_unit_test(builds_pass_every_number_that_stands_in_the_text),
        cmocka_unit_test(rows_cannot_change_their_key_or_lose_their_ttl),
        cmocka_unit_test(a_ttl_is_gained_but_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
