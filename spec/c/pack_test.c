// pack_test: what is packed reads back; what is damaged is noticed.
#include "model_fixture.h"

#include "base/pack.h"

static struct unpack reader(const struct buf *b) {
    const unsigned char *p = (const unsigned char *)b->data;
    return (struct unpack){p, p + b->len, false};
}

static void integers_of_every_size_come_back(void **state) {
    (void)state;
    static const int64_t values[] = {
        0,     1,      127,         128,        255,       256,
        65535, 65536,  4294967295,  4294967296, INT64_MAX, -1,
        -32,   -33,    -128,        -129,       -32769,    -2147483649,
        1000,  100000, -2147483648, INT64_MIN};
    struct buf b = {0};
    for (size_t i = 0; i < COUNT(values); i++) {
        pack_int(&b, values[i]);
    }
    struct unpack u = reader(&b);
    for (size_t i = 0; i < COUNT(values); i++) {
        assert_int_equal(unpack_int(&u), values[i]);
    }
    assert_false(u.is_bad);
    assert_ptr_equal(u.p, u.end);
    buf_clear(&b);
}

// Redis's cmsgpack writes the shortest form of each.
static void short_forms_are_read(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        int64_t value;
    } list[] = {
        {"\x7f", 1, 127},
        {"\xe0", 1, -32},
        {"\xff", 1, -1},
        {"\xcc\xff", 2, 255},
        {"\xcd\xff\xff", 3, 65535},
        {"\xce\xff\xff\xff\xff", 5, 4294967295},
        {"\xcf\0\0\0\1\0\0\0\0", 9, 4294967296},
        {"\xd0\x80", 2, -128},
        {"\xd1\x80\0", 3, -32768},
        {"\xd2\x80\0\0\0", 5, -2147483648},
        {"\xd3\xff\xff\xff\xff\0\0\0\0", 9, -4294967296},
    };
    for (size_t i = 0; i < COUNT(list); i++) {
        const unsigned char *p = (const unsigned char *)list[i].bytes;
        struct unpack u = {p, p + list[i].len, false};
        assert_int_equal(unpack_int(&u), list[i].value);
        assert_false(u.is_bad);
        assert_ptr_equal(u.p, u.end);
    }
}

static void bytes_of_every_size_come_back(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 70000};
    char *bytes = calloc(1, 70000);
    for (size_t i = 0; i < 70000; i++) {
        bytes[i] = (char)(i * 7);
    }
    struct buf b = {0};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        pack_bytes(&b, bytes, sizes[i]);
    }
    pack_str(&b, "text");
    struct unpack u = reader(&b);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t len;
        const char *p = unpack_bytes(&u, &len);
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(p, bytes, len);
    }
    size_t len;
    assert_memory_equal(unpack_bytes(&u, &len), "text", 4);
    assert_false(u.is_bad);
    assert_ptr_equal(u.p, u.end);
    free(bytes);
    buf_clear(&b);
}

static void arrays_and_maps_of_every_size_come_back(void **state) {
    (void)state;
    static const uint32_t sizes[] = {0, 1, 15, 16, 65535, 65536, UINT32_MAX};
    struct buf b = {0};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        pack_array(&b, sizes[i]);
        size_t at = pack_array32(&b);
        pack_set_array32(&b, at, sizes[i]);
        pack_map(&b, sizes[i]);
    }
    buf_add(&b, "\xdc\1\2\xde\1\2", 6);
    struct unpack u = reader(&b);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int form = 0; form < 2; form++) {
            assert_true(unpack_is_array(&u));
            assert_int_equal(unpack_array(&u), sizes[i]);
        }
        assert_false(unpack_is_array(&u));
        assert_int_equal(unpack_map(&u), sizes[i]);
    }
    assert_int_equal(unpack_array(&u), 258);
    assert_int_equal(unpack_map(&u), 258);
    assert_false(unpack_is_array(&u));
    assert_false(u.is_bad);
    buf_clear(&b);
}

// A message as commit.c reads it: a list of verdicts.
static void read_message(struct unpack *u) {
    uint32_t n = unpack_array(u);
    for (uint32_t i = 0; i < n && !u->is_bad; i++) {
        if (unpack_is_array(u)) {
            size_t len;
            unpack_array(u);
            unpack_int(u);
            const char *p = unpack_bytes(u, &len);
            for (size_t j = 0; j < len; j++) {
                assert_true((const unsigned char *)p + j < u->end);
            }
        } else {
            unpack_int(u);
        }
    }
}

static void make_message(struct buf *b) {
    pack_array(b, 4);
    pack_int(b, 70000);
    pack_array(b, 2);
    pack_int(b, 5);
    pack_bytes(b, "WRONGTYPE Operation against a key, longer than 31", 49);
    pack_int(b, 1);
    pack_array(b, 2);
    pack_int(b, 4);
    pack_str(b, "short");
}

static void a_message_cut_at_any_byte_is_bad(void **state) {
    (void)state;
    struct buf b = {0};
    make_message(&b);
    for (size_t len = 0; len <= b.len; len++) {
        // of its own size, so that a sanitizer sees what reads past it
        unsigned char *copy = malloc(len + 1);
        memcpy(copy, b.data, len);
        unsigned char *tight = realloc(copy, len ? len : 1);
        struct unpack u = {tight, tight + len, false};
        read_message(&u);
        assert_int_equal(u.is_bad, len < b.len);
        free(tight);
    }
    buf_clear(&b);
}

static void a_message_with_any_byte_changed_is_read_to_an_end(void **state) {
    (void)state;
    struct buf b = {0};
    make_message(&b);
    for (size_t i = 0; i < b.len; i++) {
        for (int v = 0; v < 256; v++) {
            unsigned char *copy = malloc(b.len);
            memcpy(copy, b.data, b.len);
            copy[i] = (unsigned char)v;
            struct unpack u = {copy, copy + b.len, false};
            read_message(&u);
            assert_true(u.p <= u.end);
            free(copy);
        }
    }
    buf_clear(&b);
}

static void what_is_of_another_kind_is_bad(void **state) {
    (void)state;
    static const unsigned char list[] = {0xc0, 0xc1, 0xc2, 0xca, 0xcb,
                                         0x80, 0xd4, 0xde, 0xc4, 0xc7};
    for (size_t i = 0; i < COUNT(list); i++) {
        size_t len;
        struct unpack u = {list + i, list + i + 1, false};
        unpack_int(&u);
        assert_true(u.is_bad);
        u = (struct unpack){list + i, list + i + 1, false};
        unpack_array(&u);
        assert_true(u.is_bad);
        u = (struct unpack){list + i, list + i + 1, false};
        unpack_bytes(&u, &len);
        assert_true(u.is_bad);
        assert_int_equal(len, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_every_size_come_back),
        cmocka_unit_test(short_forms_are_read),
        cmocka_unit_test(bytes_of_every_size_come_back),
        cmocka_unit_test(arrays_and_maps_of_every_size_come_back),
        cmocka_unit_test(a_message_cut_at_any_byte_is_bad),
        cmocka_unit_test(a_message_with_any_byte_changed_is_read_to_an_end),
        cmocka_unit_test(what_is_of_another_kind_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
