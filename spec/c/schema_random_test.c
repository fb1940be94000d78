// schema_random_test: random definitions that follow and adopt each other.
#include <stdio.h>

#include "model_fixture.h"

// define_random makes a definition of the fields a to h, some of them left out,
// and of compound indexes of them. The same seed makes the same one.
static void define_random(struct schema *s, unsigned seed) {
    static const enum field_type types[] = {FIELD_STRING, FIELD_INTEGER,
                                            FIELD_NUMBER, FIELD_DATE,
                                            FIELD_UUID,   FIELD_TEXT};
    begin_schema(s, "m", FIELD_STRING);
    for (char name = 'a'; name <= 'h'; name++) {
        int kind = rand_r(&seed) % 8, options = rand_r(&seed);
        if (kind == 0) {
            continue;
        }
        if (kind == 1) {
            add_list(s, (char[]){name, 0}, options & 1 ? FIELD_LIST : FIELD_SET,
                     FIELD_STRING)
                ->is_indexed = options & 2;
            continue;
        }
        struct field *f = add_field(s, (char[]){name, 0}, types[kind - 2]);
        bool is_numeric = schema_is_numeric(f);
        f->is_required = options & 1;
        f->is_indexed = f->type != FIELD_TEXT && (options & 2);
        f->is_unique = f->type != FIELD_TEXT && (options & 4);
        f->is_sorted = (is_numeric || f->type == FIELD_STRING) && (options & 8);
        f->has_min = f->has_max = f->type == FIELD_INTEGER && (options & 16);
        f->max = options & 32 ? 100 : 1000;
        if (is_numeric && schema_find(s, "a", 1) == 1 && f > &s->fields[1] &&
            (s->fields[1].type == FIELD_STRING ||
             s->fields[1].type == FIELD_INTEGER) &&
            (options & 64)) {
            add_compound(s, (char[]){'a', ',', name, 0});
        }
    }
    finish_schema(s);
}

// assert_in_use: the build of an index that is in use is not one to be removed.
static void assert_in_use(const char *name, uint32_t build,
                          const struct buf *dropped) {
    struct buf line = {0}, lines = {0};
    buf_printf(&line, "\n%s %u\n", name, build);
    buf_printf(&lines, "\n%.*s", (int)dropped->len,
               dropped->len ? dropped->data : "");
    if (strstr(buf_cstr(&lines), buf_cstr(&line))) {
        fail_msg("build %u of %s is dropped", build, name);
    }
    buf_clear(&line);
    buf_clear(&lines);
}

// assert_successor checks a definition that followed one of so many builds.
static void assert_successor(const struct schema *s, uint32_t builds,
                             const struct buf *dropped, int building) {
    int count = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        count += f->is_building;
        assert_in_range(f->build, 0, s->builds);
        if (schema_is_structure(s, i)) {
            assert_in_use(f->name, f->build, dropped);
        } else {
            assert_false(f->is_building);
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        const struct compound *c = &s->compounds[i];
        count += c->is_building;
        assert_in_range(c->build, 0, s->builds);
        assert_in_use(c->name, c->build, dropped);
    }
    assert_int_equal(count, building);
    assert_true(s->builds >= builds);
}

// follow makes s the successor of another definition.
static int follow(struct schema *s, const struct schema *stored,
                  struct buf *dropped) {
    char error[400];
    dropped->len = 0;
    return schema_follow(s, stored->text.data, stored->text.len, dropped, error,
                         sizeof error);
}

static bool adopt(struct schema *s, const struct schema *stored) {
    return schema_adopt(s, stored->text.data, stored->text.len);
}

static void hosts_of_the_same_code_agree(void **state) {
    (void)state;
    for (unsigned seed = 1; seed < 2000; seed++) {
        struct schema was, is, other;
        struct buf dropped = {0};
        define_random(&was, seed);
        for (unsigned step = 1; step < 6; step++) {
            unsigned next = seed * 31 + step % 3; // also back and forth
            define_random(&is, next);
            define_random(&other, next);
            char own[17];
            memcpy(own, is.generation, sizeof own);
            int n = follow(&is, &was, &dropped);
            assert_true(n >= 0);
            assert_successor(&is, was.builds, &dropped, n);
            assert_true(adopt(&other, &is));
            assert_string_equal(other.generation, is.generation);
            assert_string_equal(buf_cstr(&other.text), buf_cstr(&is.text));
            // adopted or followed, the definition is followed by itself
            assert_int_equal(follow(&other, &is, &dropped), n);
            assert_int_equal(dropped.len, 0);
            assert_string_equal(other.generation, is.generation);
            if (step % 2) {
                schema_complete(&is);
                assert_true(adopt(&other, &is));
                assert_string_equal(other.generation, is.generation);
            }
            schema_clear(&was);
            schema_clear(&other);
            was = is;
        }
        schema_clear(&was);
        buf_clear(&dropped);
    }
}

// change_random changes one option of one field, or leaves it as it was.
static void change_random(struct schema *s, unsigned seed) {
    struct field *f = &s->fields[(unsigned)rand_r(&seed) % s->count];
    bool can_sort = schema_is_numeric(f) || f->type == FIELD_STRING;
    if (f == &s->fields[0] || f->type == FIELD_TEXT) {
        f->is_required = !f->is_required;
        return;
    }
    switch (rand_r(&seed) % 5) {
    case 0: f->is_indexed = !f->is_indexed; break;
    case 1: f->is_required = !f->is_required; break;
    case 2: f->is_unique = !f->element && !f->is_unique; break;
    case 3: f->is_sorted = can_sort && !f->is_sorted; break;
    default: f->max += 1;
    }
}

static void what_is_adopted_has_the_same_generation(void **state) {
    (void)state;
    uint32_t same = 0, count = 5000;
    for (unsigned seed = 0; seed < count; seed++) {
        struct schema a, b;
        define_random(&a, seed / 50);
        define_random(&b, seed / 50);
        change_random(&b, seed);
        finish_schema(&b);
        bool is_same = strcmp(a.generation, b.generation) == 0;
        assert_int_equal(adopt(&a, &b), is_same);
        same += is_same;
        schema_clear(&a);
        schema_clear(&b);
    }
    assert_in_range(same, count / 10, count - count / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_of_the_same_code_agree),
        cmocka_unit_test(what_is_adopted_has_the_same_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
