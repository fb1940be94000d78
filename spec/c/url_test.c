// url_test: what redis:// and unix:// URLs mean, and how the wrong ones fail.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "redis/url.h"

static struct redis_url u;
static char err[REDIS_URL_ERROR];

static void parse(const char *text) {
    redis_url_clear(&u);
    err[0] = 0;
    if (redis_url_parse(&u, text, err, sizeof err) < 0) {
        fail_msg("%s: %s", text, err);
    }
}

// Every secret in this file holds "hush".
static void refuse(const char *text, const char *expected) {
    redis_url_clear(&u);
    assert_int_equal(redis_url_parse(&u, text, err, sizeof err), -1);
    if (!strstr(err, expected) || strstr(err, "hush")) {
        fail_msg("%s: %s", text, err);
    }
    assert_null(u.scheme);
    assert_null(u.password);
}

static void describe(const char *text, const char *expected) {
    char out[200];
    parse(text);
    assert_string_equal(redis_url_describe(&u, out, sizeof out), expected);
}

static int teardown(void **state) {
    (void)state;
    redis_url_clear(&u);
    return 0;
}

static void defaults(void **state) {
    (void)state;
    static const char *const bare[] = {"redis://",  "redis:///",
                                       "redis://:", "redis://@",
                                       "redis://?", "REDIS://127.0.0.1:6379/0"};
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
        parse(bare[i]);
        assert_string_equal(u.scheme, "redis");
        assert_string_equal(u.host, "127.0.0.1");
        assert_int_equal(u.port, 6379);
        assert_int_equal(u.db, 0);
        assert_int_equal(u.pool, -1);
        assert_true(u.timeout < 0 && u.connect_timeout < 0);
        assert_null(u.path);
        assert_null(u.user);
        assert_null(u.password);
        assert_null(u.name);
    }
}

static void everything_given(void **state) {
    (void)state;
    parse("redis://ann:hush@example.org:7000/3?timeout=2.5&connect_timeout=1"
          "&pool=8&name=web%2d1");
    assert_string_equal(u.host, "example.org");
    assert_int_equal(u.port, 7000);
    assert_int_equal(u.db, 3);
    assert_string_equal(u.user, "ann");
    assert_string_equal(u.password, "hush");
    assert_true(u.timeout == 2.5 && u.connect_timeout == 1);
    assert_int_equal(u.pool, 8);
    assert_string_equal(u.name, "web-1");
    parse("redis://h/3?db=4&name=a&name=b");
    assert_int_equal(u.db, 4);
    assert_string_equal(u.name, "b");
}

static void users_and_passwords(void **state) {
    (void)state;
    parse("redis://:hush@h");
    assert_null(u.user);
    assert_string_equal(u.password, "hush");
    parse("redis://ann@h");
    assert_string_equal(u.user, "ann");
    assert_null(u.password);
    parse("redis://ann:@h");
    assert_string_equal(u.password, "");
    parse("redis://:@h");
    assert_null(u.password);
    parse("redis://a%40b:%2fhu%3Ash%25@h:1");
    assert_string_equal(u.user, "a@b");
    assert_string_equal(u.password, "/hu:sh%");
    parse("redis://:hu@sh:x@h");
    assert_string_equal(u.password, "hu@sh:x");
    assert_string_equal(u.host, "h");
}

static void ipv6(void **state) {
    (void)state;
    parse("redis://[::1]");
    assert_string_equal(u.host, "::1");
    assert_int_equal(u.port, 6379);
    parse("redis://:hush@[fe80::1%eth0]:7000/1");
    assert_string_equal(u.host, "fe80::1%eth0");
    assert_int_equal(u.port, 7000);
    refuse("redis://[::1", "bad IPv6 address \"::1\"");
    refuse("redis://[]", "bad IPv6 address");
    refuse("redis://[zz]", "bad IPv6 address \"zz\"");
    refuse("redis://[::1]7000", "bad port \"7000\"");
    refuse("redis://fe80::1", "[brackets]");
}

static void unix_sockets(void **state) {
    (void)state;
    parse("unix:///run/a%20b.sock?db=2&timeout=0");
    assert_string_equal(u.scheme, "unix");
    assert_string_equal(u.path, "/run/a b.sock");
    assert_int_equal(u.db, 2);
    assert_true(u.timeout == 0);
    assert_null(u.host);
    parse("unix://ann:hush@/run/s");
    assert_string_equal(u.path, "/run/s");
    assert_string_equal(u.user, "ann");
    assert_string_equal(u.password, "hush");
    refuse("unix://run/s", "absolute path");
    refuse("unix://", "absolute path");
    refuse("unix:///", "absolute path");
    char text[200] = "unix:///";
    memset(text + strlen(text), 'x', 106);
    parse(text);
    strcat(text, "x");
    refuse(text, "107 bytes");
}

static void schemes(void **state) {
    (void)state;
    refuse("rediss://:hush@h", "rediss:// is not available in this build");
    refuse("sentinel://h", "sentinel:// is not available in this build");
    refuse("CLUSTER://h", "cluster:// is not available in this build");
    refuse("http://:hush@h", "unknown scheme \"http\"");
    refuse("redi://h", "unknown scheme \"redi\"");
    refuse("ann:hush@h", "not a URL");
    refuse("hush@h://x", "not a URL");
    refuse("://h", "not a URL");
    refuse("redis:h", "not a URL");
    refuse("", "not a URL");
}

static void wrong_parts_are_named(void **state) {
    (void)state;
    refuse("redis://h:0", "bad port \"0\"");
    refuse("redis://h:65536", "bad port \"65536\"");
    refuse("redis://:hush@h:x", "bad port \"x\"");
    refuse("redis://h:99999999999999999999", "bad port");
    refuse("redis://h/x", "bad db \"x\"");
    refuse("redis://h/-1", "bad db \"-1\"");
    refuse("redis://h/1/2", "bad db \"1/2\"");
    refuse("redis://h?db=", "bad db \"\"");
    refuse("redis://h?timeout=soon", "bad timeout \"soon\"");
    refuse("redis://h?timeout=-1", "bad timeout \"-1\"");
    refuse("redis://h?timeout", "bad timeout \"\"");
    refuse("redis://h?connect_timeout=1s", "bad connect_timeout \"1s\"");
    refuse("redis://h?pool=0", "bad pool \"0\"");
    refuse("redis://h?pool=2147483648", "bad pool");
    refuse("redis://h?name=a%20b", "bad name");
    refuse("redis://h?name=", "bad name");
    refuse("redis://h?tiemout=1", "\"tiemout\"");
    refuse("redis://h?password=hush", "\"password\"");
    refuse("redis://a b", "bad host \"a b\"");
    refuse("redis://h\n", "control character");
    refuse("redis://:%0@h", "percent-encoding in the password");
    refuse("redis://:%zz@h", "percent-encoding in the password");
    refuse("redis://a%:hush@h", "percent-encoding in the user");
    refuse("redis://:hush%00@h", "a NUL in the password");
    refuse("unix:///run/%00", "a NUL in the path");
}

static void an_unescaped_password_stays_hidden(void **state) {
    (void)state;
    refuse("redis://:hush/hush@h", "bad port; / ? #");
    refuse("redis://:hush?hush@h", "bad port");
    refuse("redis://:hush#hush@h", "bad port");
    refuse("redis://:1/hush@h", "bad db");
    refuse("redis://:1?hush@h", "bad option");
    refuse("redis://:1?db=hush@h", "bad db");
    refuse("redis://ann:a:hush/x@h", "bad port");
    refuse("redis://[hush/x@h", "bad IPv6 address");
    refuse("unix://:hush/hush@/run/s", "absolute path");
}

static void descriptions(void **state) {
    (void)state;
    describe("redis://", "redis://127.0.0.1:6379/0");
    describe("redis://ann:hush@h:1/2?pool=3", "redis://ann@h:1/2");
    describe("redis://hush@h", "redis://h:6379/0");
    describe("redis://:hush@[::1]", "redis://[::1]:6379/0");
    describe("unix://ann:hush@/run/s", "unix://ann@/run/s");
    describe("unix:///run/s?db=2", "unix:///run/s?db=2");
    char small[8];
    assert_string_equal(redis_url_describe(&u, small, sizeof small), "unix://");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything_given),
        cmocka_unit_test(users_and_passwords),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(schemes),
        cmocka_unit_test(wrong_parts_are_named),
        cmocka_unit_test(an_unescaped_password_stays_hidden),
        cmocka_unit_test(descriptions),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
