// tally_test: sums, extremes and counts by value against a plain loop.
#include "query_random.h"

#include "model/index.h"
#include "model/packed.h"
#include "model/tally.h"

enum { SEGMENTS = 3, ROWS = 400 };

static struct schema schema;

static int set_up(void **state) {
    (void)state;
    random_schema(&schema);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    schema_clear(&schema);
    return 0;
}

// What a plain loop says.
struct plain {
    __int128 sum;
    uint64_t count, nulls, least, most;
    uint64_t by_value[65536];
};

static void add_plainly(struct plain *p, int64_t base, uint64_t stored) {
    if (stored == 0) {
        p->nulls++;
        return;
    }
    p->sum += (__int128)base + (__int128)stored - 1;
    p->least = p->count == 0 || stored < p->least ? stored : p->least;
    p->most = stored > p->most ? stored : p->most;
    p->count++;
    p->by_value[stored % 65536]++;
}

// random_stored is what a column may store: null, an end, or near another.
static uint64_t random_stored(int width) {
    uint64_t most = UINT64_MAX >> (64 - 8 * width);
    switch (chance(5)) {
    case 0: return 0;
    case 1: return most - chance(2);
    case 2: return 1 + chance(3);
    default:
        return ((uint64_t)chance(UINT32_MAX) << 32 | chance(UINT32_MAX)) & most;
    }
}

// add_segment tallies random rows of a random column both ways; some columns
// are shorter than their rows, some rows have none.
static void add_segment(struct tally *t, struct plain *p, int width,
                        int64_t base, uint32_t density) {
    size_t len = chance(4) ? (size_t)ROWS : chance(ROWS);
    char column[ROWS * 8];
    struct bits rows;
    bits_zero(&rows);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint64_t v = random_stored(width);
        packed_put(column + i * (size_t)width, width, v);
        if (density && chance(density) == 0) {
            bits_set(&rows, i);
            add_plainly(p, base, i < len ? v : 0);
        }
    }
    tally_add(t, &rows, column, len * (size_t)width);
}

static void check_field(uint32_t field, int width, int64_t base) {
    for (uint32_t density = 0; density < 20; density = density * 3 + 1) {
        struct tally t;
        static struct plain p;
        memset(&p, 0, sizeof p);
        tally_init(&t, &schema.fields[field]);
        for (int i = 0; i < SEGMENTS; i++) {
            add_segment(&t, &p, width, base, density);
        }
        assert_true(t.sum == p.sum);
        assert_true(t.count == p.count && t.nulls == p.nulls);
        assert_true(t.least == p.least && t.most == p.most);
        assert_int_equal(t.by_value != NULL, width <= 2);
        for (uint32_t v = 1; v < t.values; v++) {
            assert_true(t.by_value[v] == p.by_value[v]);
        }
        tally_clear(&t);
        assert_null(t.by_value);
    }
}

static void columns_of_each_width_are_tallied(void **state) {
    (void)state;
    check_field(R_BYTES, 1, -3);
    check_field(R_SHORTS, 2, 0);
    check_field(R_WORDS, 4, 0);
    check_field(R_BORN, 4, -719162);
    check_field(R_LONGS, 8, -9007199254740992);
}

static void choices_are_tallied_as_bytes(void **state) {
    (void)state;
    check_field(R_GENDER, 1, 1);
    check_field(R_OPEN, 1, 1);
}

static void nothing_has_no_extremes(void **state) {
    (void)state;
    struct tally t;
    struct bits rows;
    bits_zero(&rows);
    tally_init(&t, &schema.fields[R_BYTES]);
    tally_add(&t, &rows, NULL, 0);
    bits_set(&rows, 5);
    bits_set(&rows, 65535);
    tally_add(&t, &rows, NULL, 0); // rows, but no column: all are null
    assert_int_equal(t.count, 0);
    assert_int_equal(t.nulls, 2);
    assert_int_equal(t.least, 0);
    assert_int_equal(t.most, 0);
    tally_add(&t, &rows, "\0\0\0\0\0\7", 6);
    tally_add(&t, &rows, NULL, 0); // which does not change the extremes
    assert_int_equal(t.count, 1);
    assert_int_equal(t.nulls, 5);
    assert_int_equal(t.least, 7);
    assert_int_equal(t.most, 7);
    tally_clear(&t);
}

static void numbers_are_what_is_stored_for_them(void **state) {
    (void)state;
    static const uint32_t fields[] = {R_BYTES, R_SHORTS, R_WORDS, R_LONGS,
                                      R_BORN};
    for (size_t i = 0; i < COUNT(fields); i++) {
        const struct field *f = &schema.fields[fields[i]];
        const struct domain *d = &domains[fields[i]];
        struct tally t;
        tally_init(&t, f);
        for (uint32_t k = 0; k < d->stored; k++) {
            uint64_t v = index_packed(f, sample_value(fields[i], k));
            assert_true(tally_number(&t, v) == d->samples[k].number);
        }
        tally_clear(&t);
    }
    struct tally t;
    tally_init(&t, &schema.fields[R_GENDER]);
    assert_true(tally_number(&t, 2) == 2); // the second choice
    tally_clear(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_of_each_width_are_tallied),
        cmocka_unit_test(choices_are_tallied_as_bytes),
        cmocka_unit_test(nothing_has_no_extremes),
        cmocka_unit_test(numbers_are_what_is_stored_for_them),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
