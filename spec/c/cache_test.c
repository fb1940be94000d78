// cache_test: pieces of columns come back under their stamps, and give way.
#include <stdio.h>
#include <stdlib.h>

#include "model_fixture.h"

#include "model/cache.h"

static struct cached_ref open_column(struct cache *c, const char *key) {
    return cache_open(c, key, strlen(key));
}

static void assert_piece(struct cached_ref ref, uint32_t segment,
                         uint64_t stamp, const char *text) {
    const struct piece *p = cache_find(ref, segment);
    assert_non_null(p);
    assert_int_equal(p->stamp, stamp);
    assert_int_equal(p->len, strlen(text));
    assert_memory_equal(p->len ? p->data : "", text, p->len);
}

static void pieces_come_back_as_they_were_put(void **state) {
    (void)state;
    struct cache c = {0};
    struct cached_ref a = open_column(&c, "a"), b = open_column(&c, "b");
    assert_null(cache_find(a, 0));
    cache_put(&c, a, 2, 7, "two", 3);
    cache_put(&c, a, 0, 8, NULL, 0); // a key that is absent
    cache_put(&c, b, 2, 9, "other", 5);
    assert_piece(open_column(&c, "a"), 2, 7, "two");
    assert_piece(a, 0, 8, "");
    assert_piece(b, 2, 9, "other");
    assert_null(cache_find(a, 1));
    assert_null(cache_find(a, 3));
    cache_put(&c, a, 2, 10, "longer than before", 18);
    assert_piece(a, 2, 10, "longer than before");
    cache_put(&c, a, 2, 11, "x", 1);
    assert_piece(a, 2, 11, "x");
    cache_clear(&c);
    assert_int_equal(c.bytes, 0);
}

static void keys_with_zeros_in_them_differ(void **state) {
    (void)state;
    struct cache c = {0};
    cache_put(&c, cache_open(&c, "a\0b", 3), 0, 1, "1", 1);
    cache_put(&c, cache_open(&c, "a\0c", 3), 0, 1, "2", 1);
    cache_put(&c, cache_open(&c, "a", 1), 0, 1, "3", 1);
    assert_piece(cache_open(&c, "a\0b", 3), 0, 1, "1");
    assert_piece(cache_open(&c, "a\0c", 3), 0, 1, "2");
    assert_piece(cache_open(&c, "a", 1), 0, 1, "3");
    cache_clear(&c);
}

static void a_segment_is_expected_to_stay_when_it_stayed_once(void **state) {
    (void)state;
    struct cache c = {0};
    assert_int_equal(cache_expect(&c, 3), 0);
    cache_see(&c, 3, 5);
    assert_int_equal(cache_expect(&c, 3), 0);
    cache_see(&c, 3, 5);
    assert_int_equal(cache_expect(&c, 3), 5);
    assert_int_equal(cache_expect(&c, 2), 0);
    assert_int_equal(cache_expect(&c, 4), 0);
    cache_see(&c, 3, 6);
    assert_int_equal(cache_expect(&c, 3), 0);
    cache_see(&c, 3, 0); // without a stamp nothing can be told
    cache_see(&c, 3, 0);
    assert_int_equal(cache_expect(&c, 3), 0);
    cache_clear(&c);
}

// Whoever holds a column whose place was taken finds nothing and puts nothing.
static void columns_not_used_for_longest_give_way(void **state) {
    (void)state;
    struct cache c = {0};
    struct cached_ref first = open_column(&c, "first");
    cache_put(&c, first, 0, 1, "1", 1);
    struct cached_ref kept = open_column(&c, "kept");
    cache_put(&c, kept, 0, 1, "2", 1);
    for (int i = 0; i < 20 * CACHE_SETS * CACHE_WAYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        cache_put(&c, open_column(&c, key), 0, 1, "x", 1);
        open_column(&c, "kept");
    }
    assert_null(cache_find(first, 0));
    cache_put(&c, first, 0, 2, "1", 1);
    assert_null(cache_find(first, 0));
    assert_null(cache_find(open_column(&c, "first"), 0));
    assert_piece(kept, 0, 1, "2");
    assert_true(c.bytes <=
                CACHE_SETS * CACHE_WAYS * (1 + sizeof(struct piece)));
    cache_clear(&c);
}

static void it_holds_no_more_bytes_than_it_may(void **state) {
    (void)state;
    struct cache c = {0};
    const size_t size = 1 << 20;
    char *bytes = calloc(1, size);
    char key[16];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "%d", i);
        cache_put(&c, open_column(&c, key), 0, 1, bytes, size);
    }
    assert_true(c.bytes > CACHE_BYTES);
    open_column(&c, "0"); // used again: it stays
    cache_trim(&c);
    assert_true(c.bytes <= CACHE_BYTES);
    assert_true(c.bytes > CACHE_BYTES - 2 * (int)size);
    assert_non_null(cache_find(open_column(&c, "0"), 0));
    assert_non_null(cache_find(open_column(&c, "39"), 0));
    assert_null(cache_find(open_column(&c, "1"), 0));
    free(bytes);
    cache_clear(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_come_back_as_they_were_put),
        cmocka_unit_test(keys_with_zeros_in_them_differ),
        cmocka_unit_test(a_segment_is_expected_to_stay_when_it_stayed_once),
        cmocka_unit_test(columns_not_used_for_longest_give_way),
        cmocka_unit_test(it_holds_no_more_bytes_than_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
