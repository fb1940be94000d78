// bulk_test: what new rows enter by key, and that it is what index_diff has
// them enter one by one.
#include <stdio.h>

#include "model_fixture.h"

#include "model/bulk.h"
#include "model/index.h"

// What a row enters: "op place argument item", a line each, sorted.
struct lines {
    char *list[20000];
    size_t count;
};

static struct lines by_key, by_row;

static void add_line(struct lines *l, uint32_t row, int64_t op, int64_t place,
                     struct value argument, struct value item) {
    struct buf b = {0};
    buf_printf(&b, "%u %d %d ", row, (int)op, (int)place);
    for (size_t i = 0; i < argument.len; i++) {
        buf_printf(&b, "%02x", (unsigned char)argument.p[i]);
    }
    buf_addc(&b, ' ');
    for (size_t i = 0; i < item.len; i++) {
        buf_printf(&b, "%02x", (unsigned char)item.p[i]);
    }
    assert_in_range(l->count, 0, COUNT(l->list) - 1);
    l->list[l->count++] = xstrdup(buf_cstr(&b));
    buf_clear(&b);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_lines(struct lines *l) {
    while (l->count > 0) {
        free(l->list[--l->count]);
    }
}

static struct value read_value(struct unpack *u) {
    struct value v;
    v.p = unpack_bytes(u, &v.len);
    return v;
}

static const struct value none = {NULL, 0};

// read_bits reads the rows of one bitmap: each is there once, in their order.
static void read_bits(struct unpack *u, int64_t place, struct value suffix,
                      uint32_t items, uint32_t rows) {
    int64_t last = -1;
    for (; items > 0; items -= 2) {
        int64_t word = unpack_int(u);
        assert_true(word > last && word * 32 < rows);
        last = word;
        char text[24] = "";
        struct value v = read_value(u);
        assert_in_range(v.len, 1, 10);
        memcpy(text, v.p, v.len);
        uint64_t bits = strtoull(text, NULL, 10);
        uint32_t from = (uint32_t)word * 32;
        uint32_t len = rows - from < 32 ? rows - from : 32;
        assert_true(bits > 0 && bits >> len == 0);
        for (uint32_t i = 0; i < len; i++) {
            if (bits >> (len - 1 - i) & 1) {
                add_line(&by_key, from + i, OP_BIT_SET, place, suffix, none);
            }
        }
    }
}

// read_bytes reads a column: zeros are as good as none.
static void read_bytes(struct unpack *u, int64_t place, int64_t width,
                       uint32_t rows) {
    static const char zeros[8];
    struct value v = read_value(u);
    assert_int_equal(v.len, width * rows);
    for (uint32_t i = 0; i < rows; i++, v.p += width) {
        if (memcmp(v.p, zeros, (size_t)width) != 0) {
            struct value one = {v.p, (size_t)width};
            add_line(&by_key, i, OP_PACK, place, none, one);
        }
    }
}

static void read_bulk(const struct buf *packed, uint32_t rows) {
    struct unpack u = unpack_from(packed);
    int64_t left = unpack_array(&u);
    while (left > 0 && !u.is_bad) {
        int64_t op = unpack_int(&u), place = unpack_int(&u), width = 0;
        struct value argument = none;
        if (op == OP_PACK) {
            width = unpack_int(&u);
        } else {
            argument = read_value(&u);
        }
        int64_t items = unpack_int(&u);
        left -= 4 + items;
        if (op == OP_BIT_SET) {
            read_bits(&u, place, argument, (uint32_t)items, rows);
        } else if (op == OP_PACK) {
            assert_int_equal(items, 1);
            read_bytes(&u, place, width, rows);
        } else {
            assert_int_equal(op, OP_ZADD);
            for (; items > 0; items -= 2) {
                uint32_t row = (uint32_t)unpack_int(&u);
                add_line(&by_key, row, op, place, none, read_value(&u));
            }
        }
    }
    assert_int_equal(left, 0);
    assert_false(u.is_bad);
    assert_ptr_equal(u.p, u.end);
}

// read_commands reads those of one row, as index_diff and index_rest pack them.
static void read_commands(struct lines *l, uint32_t row, struct buf *packed,
                          uint32_t n) {
    struct unpack u = unpack_from(packed);
    if (n > 0) {
        unpack_array(&u);
    }
    for (; n > 0; n--) {
        int64_t op = unpack_int(&u), place = unpack_int(&u);
        struct value argument = none, item = none;
        if (op == OP_PACK) {
            unpack_int(&u);
            item = read_value(&u);
        } else if (op == OP_ZADD) {
            item = read_value(&u);
        } else {
            argument = read_value(&u);
        }
        if (op == OP_COMPOUND_ADD) {
            item = read_value(&u);
        }
        add_line(l, row, op, place, argument, item);
    }
    assert_false(u.is_bad);
    packed->len = 0;
}

static void assert_same_lines(void) {
    qsort(by_key.list, by_key.count, sizeof by_key.list[0], by_text);
    qsort(by_row.list, by_row.count, sizeof by_row.list[0], by_text);
    for (size_t i = 0; i < by_key.count && i < by_row.count; i++) {
        assert_string_equal(by_key.list[i], by_row.list[i]);
    }
    assert_int_equal(by_key.count, by_row.count);
    free_lines(&by_key);
    free_lines(&by_row);
}

static void assert_bulk(const struct schema *s, struct row *const *rows,
                        uint32_t count) {
    struct buf packed = {0};
    bulk_pack(s, (const struct row *const *)rows, count, &packed);
    read_bulk(&packed, count);
    packed.len = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = index_rest(s, rows[i], &packed);
        read_commands(&by_key, i, &packed, n);
        n = index_diff(s, NULL, rows[i], &packed);
        read_commands(&by_row, i, &packed, n);
    }
    assert_same_lines();
    buf_clear(&packed);
}

// random_row draws the value of each field from a few, null among them.
static struct row *random_row(const struct schema *s, unsigned *seed) {
    static const char *const numbers[] = {"0", "7", "100"};
    static const char *const dates[] = {"1970-01-02", "2024-02-29",
                                        "0001-01-01"};
    static const char *const texts[] = {"", "f", "a longer text"};
    static const char *const lists[] = {"", "1,2", "2,2,1,3"};
    struct value values[SCHEMA_FIELDS] = {{NULL, 0}};
    struct buf parts[SCHEMA_FIELDS] = {{0}};
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        unsigned draw = (unsigned)rand_r(seed) % 4;
        if (draw == 3) {
            continue;
        }
        const char *text = f->element              ? lists[draw]
                           : f->type == FIELD_DATE ? dates[draw]
                           : f->type == FIELD_STRING || f->type == FIELD_ENUM
                               ? texts[draw]
                               : numbers[draw];
        if (f->element) {
            add_parts(&parts[i], text);
            text = buf_cstr(&parts[i]);
        }
        values[i] =
            (struct value){text, f->element ? parts[i].len : strlen(text)};
    }
    struct row *r = row_new(values, s->count);
    for (uint32_t i = 0; i < s->count; i++) {
        buf_clear(&parts[i]);
    }
    return r;
}

static void all_rows_enter_what_each_would(void **state) {
    (void)state;
    void (*const schemas[])(struct schema *) = {person_schema, book_schema};
    static const uint32_t counts[] = {1, 2, 31, 32, 33, 64, 100, 256};
    for (size_t i = 0; i < COUNT(schemas); i++) {
        struct schema s;
        schemas[i](&s);
        for (uint32_t f = 0; f < s.count; f++) { // lists have bitmaps, too
            if (s.fields[f].element && f % 2) {
                s.fields[f].index = INDEX_BITMAP;
            }
        }
        for (unsigned seed = 0; seed < 160; seed++) {
            struct row *rows[256];
            unsigned random = seed;
            uint32_t count = counts[seed % COUNT(counts)];
            for (uint32_t j = 0; j < count; j++) {
                rows[j] = random_row(&s, &random);
            }
            assert_bulk(&s, rows, count);
            for (uint32_t j = 0; j < count; j++) {
                free(rows[j]);
            }
        }
        schema_clear(&s);
    }
}

static void no_rows_enter_nothing(void **state) {
    (void)state;
    struct schema s;
    person_schema(&s);
    assert_bulk(&s, NULL, 0);
    schema_clear(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_rows_enter_what_each_would),
        cmocka_unit_test(no_rows_enter_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
