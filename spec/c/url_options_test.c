// url_options_test: a URL's parts set one by one, and whether they then fit.
// Every secret in this file holds "hush".
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
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

static int set(const char *key, const char *value) {
    err[0] = 0;
    return redis_url_set(&u, key, value, strlen(value), err, sizeof err);
}

static void take(const char *key, const char *value) {
    if (set(key, value) < 0) {
        fail_msg("%s=%s: %s", key, value, err);
    }
}

static void refuse_set(const char *key, const char *value,
                       const char *expected) {
    assert_int_equal(set(key, value), -1);
    if (!strstr(err, expected) || strstr(err, "hush")) {
        fail_msg("%s=%s: %s", key, value, err);
    }
}

static void refuse_check(const char *expected) {
    assert_int_equal(redis_url_check(&u, err, sizeof err), -1);
    if (!strstr(err, expected)) {
        fail_msg("%s", err);
    }
}

static int teardown(void **state) {
    (void)state;
    redis_url_clear(&u);
    return 0;
}

static void setting_one_by_one(void **state) {
    (void)state;
    parse("redis://h/3");
    take("host", "example.org");
    take("port", "7000");
    take("timeout", "1.5");
    take("connect_timeout", "0");
    take("pool_timeout", "2");
    take("idle_timeout", "3");
    take("slow", "0.25");
    take("pool", "8");
    take("queue", "9");
    take("queue_bytes", "1");
    take("db", "4");
    take("name", "web%2d1");
    take("user", "a%40:b");
    take("password", "hu/sh%41@\n");
    assert_string_equal(u.host, "example.org");
    assert_int_equal(u.port, 7000);
    assert_true(u.timeout == 1.5 && u.connect_timeout == 0);
    assert_true(u.pool_timeout == 2 && u.idle_timeout == 3 && u.slow == 0.25);
    assert_int_equal(u.pool, 8);
    assert_int_equal(u.queue, 9);
    assert_true(u.queue_bytes == 1);
    assert_int_equal(u.db, 4);
    assert_string_equal(u.name, "web%2d1");
    assert_string_equal(u.user, "a%40:b");
    assert_string_equal(u.password, "hu/sh%41@\n");
    assert_int_equal(redis_url_check(&u, err, sizeof err), 0);
    assert_int_equal(redis_url_set(&u, "password", "", 0, err, 9), 0);
    assert_string_equal(u.password, "");
    assert_int_equal(redis_url_set(&u, "name", "abc", 2, err, 9), 0);
    assert_string_equal(u.name, "ab");
    take("user", "");
    assert_null(u.user);
    take("host", "::1");
    assert_string_equal(u.host, "::1");
    take("host", "[fe80::2%en0]");
    assert_string_equal(u.host, "fe80::2%en0");
}

static void setting_what_is_for_tls_and_sentinels(void **state) {
    (void)state;
    parse("sentinel://h/m");
    take("sentinel_user", "s");
    take("sentinel_password", "hush");
    take("ca", "a%20b");
    assert_string_equal(u.sentinel_user, "s");
    assert_string_equal(u.sentinel_password, "hush");
    assert_string_equal(u.ca, "a%20b");
    refuse_check("ca is for TLS");
    take("sentinel_tls", "yes");
    assert_true(u.is_sentinel_tls);
    assert_int_equal(redis_url_check(&u, err, sizeof err), 0);
    take("sni", "x.org");
    assert_string_equal(u.sni, "x.org");
    refuse_check("sni is for TLS");
    take("tls", "yes");
    take("cert", "c");
    refuse_check("cert takes key");
    take("key", "k");
    assert_string_equal(u.cert, "c");
    assert_string_equal(u.key, "k");
    assert_int_equal(redis_url_check(&u, err, sizeof err), 0);
    take("verify", "no");
    assert_false(u.is_verified);
    u.sentinel_count--;
    refuse_check("takes hosts");
    u.sentinel_count++;
    free(u.master);
    u.master = NULL;
    refuse_check("a master's name");
    refuse_set("host", "h", "host is for redis:// and rediss://");
    refuse_set("port", "1", "port is for redis:// and rediss://");
}

static void setting_wrong(void **state) {
    (void)state;
    parse("redis://h:1/3?pool=2&name=n&timeout=1&password=hush");
    refuse_set("tiemout", "hush", "unknown option \"tiemout\"; known are");
    refuse_set("a@hush", "1", "unknown option \"...\"; known are");
    refuse_set("timeout", "soon", "bad timeout \"soon\"; expected seconds");
    refuse_set("pool", "0", "bad pool \"0\"");
    refuse_set("db", "-1", "bad db \"-1\"");
    refuse_set("name", "a b", "bad name \"a b\"");
    refuse_set("port", "65536", "bad port \"65536\"; expected 1 to 65535");
    refuse_set("host", "", "bad host \"\"");
    refuse_set("host", "h:1", "bad host \"h:1\"");
    refuse_set("host", "redis://ann:hush@h", "bad host \"...\"");
    refuse_set("host", "h?password=hush", "bad host \"...\"");
    refuse_set("host", "[h]", "bad IPv6 address \"h\"");
    refuse_set("host", "[", "bad host \"[\"");
    refuse_set("tls", "yes", "rediss://");
    refuse_set("sentinel_tls", "yes", "sentinel_tls is for sentinel://");
    assert_int_equal(redis_url_set(&u, "password", "hush\0x", 6, err, 99), -1);
    assert_string_equal(err, "a NUL in the password");
    assert_int_equal(redis_url_set(&u, "timeout", "1\0", 2, err, 99), -1);
    assert_string_equal(err, "a NUL in the timeout");
    assert_string_equal(u.host, "h"); // all is as it was
    assert_int_equal(u.port, 1);
    assert_int_equal(u.db, 3);
    assert_int_equal(u.pool, 2);
    assert_string_equal(u.name, "n");
    assert_true(u.timeout == 1);
    assert_string_equal(u.password, "hush");
    redis_url_clear(&u);
    take("pool", "3"); // without a URL
    assert_int_equal(redis_url_check(&u, err, sizeof err), 0);
    refuse_set("host", "h", "host is for");
}

static void talking_to_a_sentinel(void **state) {
    (void)state;
    parse("sentinel://ann:hush@h1,[::1]:7/m/3?name=n&tls=yes&ca=a&cert=c&key=k"
          "&sni=x&verify=no&timeout=1&connect_timeout=2&pool_timeout=3"
          "&idle_timeout=4&slow=5&pool=6");
    struct redis_url s = redis_url_sentinel(&u, 0);
    assert_string_equal(s.scheme, "redis");
    assert_string_equal(s.host, "h1");
    assert_int_equal(s.port, 26379);
    assert_null(s.user);
    assert_null(s.password);
    assert_null(s.name);
    assert_null(s.ca);
    assert_int_equal(s.db, 0);
    assert_int_equal(s.pool, -1);
    assert_int_equal(s.sentinel_count, 0);
    assert_true(!s.is_tls && s.is_verified);
    assert_true(s.timeout == 1 && s.connect_timeout == 2);
    assert_true(s.pool_timeout == 3 && s.idle_timeout == 4 && s.slow < 0);
    assert_int_equal(redis_url_check(&s, err, sizeof err), 0);
    redis_url_clear(&s);
    take("sentinel_tls", "yes");
    take("sentinel_user", "bob");
    take("sentinel_password", "hush2");
    s = redis_url_sentinel(&u, 1);
    assert_string_equal(s.scheme, "rediss");
    assert_string_equal(s.host, "::1");
    assert_int_equal(s.port, 7);
    assert_string_equal(s.user, "bob");
    assert_string_equal(s.password, "hush2");
    assert_true(s.is_tls && !s.is_verified);
    assert_string_equal(s.ca, "a");
    assert_string_equal(s.cert, "c");
    assert_string_equal(s.key, "k");
    assert_null(s.sni);
    assert_int_equal(redis_url_check(&s, err, sizeof err), 0);
    redis_url_clear(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(setting_one_by_one),
        cmocka_unit_test(setting_what_is_for_tls_and_sentinels),
        cmocka_unit_test(setting_wrong),
        cmocka_unit_test(talking_to_a_sentinel),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
