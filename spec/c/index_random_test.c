// index_random_test: whatever a row goes through, its indexes end up as if it
// had been created as it is.
#include <stdio.h>

#include "model_fixture.h"

#include "model/index.h"

// What Redis holds of one row: a value a key and member.
struct entry {
    enum index_op op; // that put it there
    int64_t place;    // of the key
    struct buf member, value;
};

struct store {
    struct entry entries[200];
    size_t count;
    uint32_t uniques; // set by the last commands
};

static bool is_equal(const struct buf *a, const struct buf *b) {
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static struct entry *find(struct store *s, enum index_op op, int64_t place,
                          const struct buf *member) {
    for (size_t i = 0; i < s->count; i++) {
        struct entry *e = &s->entries[i];
        if (e->op == op && e->place == place && is_equal(&e->member, member)) {
            return e;
        }
    }
    return NULL;
}

static void clear_entry(struct entry *e) {
    buf_clear(&e->member);
    buf_clear(&e->value);
}

static void clear_store(struct store *s) {
    for (size_t i = 0; i < s->count; i++) {
        clear_entry(&s->entries[i]);
    }
    s->count = 0;
}

// put takes the member and the value over.
static void put(struct store *s, enum index_op op, int64_t place,
                struct buf member, struct buf value) {
    struct entry *e = find(s, op, place, &member);
    if (!e) {
        assert_in_range(s->count, 0, COUNT(s->entries) - 1);
        e = &s->entries[s->count++];
    } else if (op != OP_PACK && op != OP_ZADD && op != OP_COMPOUND_ADD) {
        fail_msg("command %d enters what is there", (int)op);
    } else {
        clear_entry(e);
    }
    *e = (struct entry){op, place, member, value};
}

// take removes what `op` put there.
static void take(struct store *s, enum index_op op, int64_t place,
                 struct buf *member) {
    struct entry *e = find(s, op, place, member);
    if (!e) {
        fail_msg("what command %d enters is not there", (int)op);
    }
    clear_entry(e);
    *e = s->entries[--s->count];
    buf_clear(member);
}

static struct buf read_bytes(struct unpack *u) {
    struct buf b = {0};
    size_t len;
    const char *p = unpack_bytes(u, &len);
    buf_add(&b, p, len);
    return b;
}

// put_packed: a column of zeros is as good as none.
static void put_packed(struct store *s, int64_t place, struct unpack *u) {
    static const char zeros[8];
    struct buf none = {0};
    int64_t width = unpack_int(u);
    struct buf bytes = read_bytes(u);
    assert_int_equal(bytes.len, width);
    if (memcmp(bytes.data, zeros, bytes.len) != 0) {
        put(s, OP_PACK, place, none, bytes);
        return;
    }
    buf_clear(&bytes);
    take(s, OP_PACK, place, &none);
}

static void apply_one(struct store *s, struct unpack *u) {
    enum index_op op = (enum index_op)unpack_int(u);
    int64_t place = unpack_int(u);
    struct buf none = {0}, member = {0};
    if (op == OP_PACK) {
        put_packed(s, place, u);
        return;
    }
    if (op == OP_ZADD) {
        put(s, op, place, none, read_bytes(u));
        return;
    }
    if (op != OP_ZREM) {
        member = read_bytes(u);
    }
    switch (op) {
    case OP_UNIQUE_SET: s->uniques++; // fall through
    case OP_BIT_SET:
    case OP_SET_ADD:
    case OP_LEX_ADD: put(s, op, place, member, none); break;
    case OP_COMPOUND_ADD: put(s, op, place, member, read_bytes(u)); break;
    case OP_BIT_CLEAR: take(s, OP_BIT_SET, place, &member); break;
    case OP_SET_REMOVE: take(s, OP_SET_ADD, place, &member); break;
    case OP_ZREM: take(s, OP_ZADD, place, &member); break;
    case OP_UNIQUE_CLEAR: take(s, OP_UNIQUE_SET, place, &member); break;
    case OP_LEX_REMOVE: take(s, OP_LEX_ADD, place, &member); break;
    case OP_COMPOUND_REMOVE: take(s, OP_COMPOUND_ADD, place, &member); break;
    default: fail_msg("no command: %d", (int)op);
    }
}

static void apply(struct store *s, const struct buf *packed, uint32_t n) {
    struct unpack u = unpack_from(packed);
    s->uniques = 0;
    if (n == 0) {
        assert_int_equal(unpack_int(&u), 0);
    } else {
        unpack_array(&u);
    }
    for (; n > 0; n--) {
        apply_one(s, &u);
    }
    assert_false(u.is_bad);
    assert_ptr_equal(u.p, u.end);
}

static void assert_same(struct store *a, struct store *b) {
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        struct entry *e = &a->entries[i];
        struct entry *other = find(b, e->op, e->place, &e->member);
        assert_non_null(other);
        assert_true(is_equal(&e->value, &other->value));
    }
}

// add_scalar appends a random value of a type.
static void add_scalar(struct buf *b, enum field_type type, unsigned *seed) {
    static const char *const dates[] = {"0001-01-01", "1970-01-01",
                                        "2024-02-29", "9999-12-31"};
    static const char *const numbers[] = {"0", "-1.5", "1e300", "0.1"};
    static const char *const strings[] = {
        "",
        "a",
        "ab",
        "1:a",
        "longer than the sixty-four bytes that may stand in a key by "
        "themselves",
        "longer than the sixty-four bytes that may stand in a key by "
        "themselve"};
    unsigned random = (unsigned)rand_r(seed);
    switch (type) {
    case FIELD_DATE: buf_adds(b, dates[random % COUNT(dates)]); break;
    case FIELD_NUMBER:
    case FIELD_TIME: buf_adds(b, numbers[random % COUNT(numbers)]); break;
    case FIELD_INTEGER: buf_addu(b, random % 5); break;
    case FIELD_ENUM: buf_adds(b, random % 2 ? "f" : "m"); break;
    default: buf_adds(b, strings[random % COUNT(strings)]);
    }
}

// add_value appends a random value of a field; false for null.
static bool add_value(struct buf *b, const struct field *f, unsigned *seed) {
    if (rand_r(seed) % 4 == 0) {
        return false;
    }
    if (!f->element) {
        add_scalar(b, f->type, seed);
        return true;
    }
    for (int n = rand_r(seed) % 5; n > 0; n--) {
        struct buf one = {0};
        add_scalar(&one, f->element->type, seed);
        value_add_part(b, one.data, one.len);
        buf_clear(&one);
    }
    if (f->type == FIELD_SET) {
        value_sort_parts(b);
    }
    return true;
}

// random_row is NULL at times: the row is deleted, or not yet created. Of the
// values of the row before it keeps many.
static struct row *random_row(const struct schema *s, const struct row *before,
                              unsigned *seed) {
    if (rand_r(seed) % 6 == 0) {
        return NULL;
    }
    struct value values[SCHEMA_FIELDS] = {{NULL, 0}};
    struct buf texts[SCHEMA_FIELDS] = {{0}};
    for (uint32_t i = 0; i < s->count; i++) {
        if (before && rand_r(seed) % 2) {
            values[i] = row_get(before, i);
        } else if (add_value(&texts[i], &s->fields[i], seed)) {
            values[i] = (struct value){buf_cstr(&texts[i]), texts[i].len};
        }
    }
    struct row *r = row_new(values, s->count);
    for (uint32_t i = 0; i < s->count; i++) {
        buf_clear(&texts[i]);
    }
    return r;
}

// assert_as_built compares what a row went through to what it is.
static void assert_as_built(const struct schema *s, struct store *gone_through,
                            const struct row *r) {
    static struct store built;
    if (r) {
        struct buf packed = {0};
        uint32_t n = index_build(s, r, true, &packed);
        apply(&built, &packed, n);
        buf_clear(&packed);
    }
    assert_same(gone_through, &built);
    clear_store(&built);
}

static void go_through(const struct schema *s, unsigned seed) {
    static struct store store;
    struct row *was = NULL;
    for (int step = 0; step < 20; step++) {
        struct row *is = random_row(s, was, &seed);
        struct buf packed = {0}, claims = {0};
        uint8_t claimed[SCHEMA_FIELDS];
        uint32_t n = index_diff(s, was, is, &packed);
        apply(&store, &packed, n);
        assert_as_built(s, &store, is);
        // what is claimed beforehand is what is entered then
        assert_int_equal(index_uniques(s, was, is, &claims, claimed),
                         store.uniques);
        buf_clear(&packed);
        buf_clear(&claims);
        free(was);
        was = is;
    }
    free(was);
    clear_store(&store);
}

static void one_diff_after_the_other_is_as_good_as_a_build(void **state) {
    (void)state;
    void (*const schemas[])(struct schema *) = {person_schema, book_schema};
    for (size_t i = 0; i < COUNT(schemas); i++) {
        struct schema s;
        schemas[i](&s);
        for (unsigned seed = 1; seed < 1500; seed++) {
            go_through(&s, seed);
        }
        schema_clear(&s);
    }
}

// What is under construction while a row changes is entered by the diff, too:
// what is built afterwards of the row as it was then changes nothing.
static void a_build_of_what_is_built_changes_nothing(void **state) {
    (void)state;
    struct schema s;
    book_schema(&s);
    s.fields[B_RANK].is_building = s.fields[B_BORN].is_building = true;
    s.compounds[0].is_building = true;
    for (unsigned seed = 1; seed < 500; seed++) {
        static struct store store;
        unsigned random = seed;
        struct row *r = random_row(&s, NULL, &random);
        struct buf created = {0}, built = {0};
        uint32_t n = index_diff(&s, NULL, r, &created);
        apply(&store, &created, n);
        if (r) {
            n = index_build(&s, r, false, &built);
            apply(&store, &built, n);
        }
        assert_as_built(&s, &store, r);
        buf_clear(&created);
        buf_clear(&built);
        clear_store(&store);
        free(r);
    }
    schema_clear(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_diff_after_the_other_is_as_good_as_a_build),
        cmocka_unit_test(a_build_of_what_is_built_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
