// url_test: what the URLs of Redis servers mean, how the wrong ones fail, and
// that neither ever shows a password.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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
        assert_int_equal(u.queue, -1);
        assert_true(u.timeout < 0 && u.connect_timeout < 0);
        assert_true(u.pool_timeout < 0 && u.idle_timeout < 0);
        assert_true(u.slow < 0 && u.queue_bytes < 0);
        assert_false(u.is_tls || u.is_sentinel_tls);
        assert_true(u.is_verified && !u.is_verify_given);
        assert_int_equal(u.sentinel_count, 0);
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
    parse("redis://h?pool_timeout=0.5&idle_timeout=60&slow=0&queue=100"
          "&queue_bytes=1099511627776&db=5&user=a%26b&password=hu%2Fsh%3D");
    assert_true(u.pool_timeout == 0.5 && u.idle_timeout == 60 && u.slow == 0);
    assert_int_equal(u.queue, 100);
    assert_true(u.queue_bytes == 1099511627776);
    assert_int_equal(u.db, 5);
    assert_string_equal(u.user, "a&b");
    assert_string_equal(u.password, "hu/sh=");
    parse("redis://ann:hush@h?user=bob&password=a=hush@b?/c&user=");
    assert_null(u.user);
    assert_string_equal(u.password, "a=hush@b?/c");
    assert_string_equal(u.host, "h");
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
    refuse("redis://[1:2:3]", "bad IPv6 address \"1:2:3\"");
    refuse("redis://[127.0.0.1]", "bad IPv6 address");
    refuse("redis://[fe80::1%]", "bad IPv6 address");
    refuse("redis://[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]",
           "bad IPv6 address");
    refuse("redis://[::1", "bad IPv6 address");
    refuse("redis://:hush@[::", "bad IPv6 address \"::\"");
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
    parse("unix:///a@b&c#d");
    assert_string_equal(u.path, "/a@b&c#d");
    refuse("unix:///run/s&password=hush", "options begin with a ?");
    refuse("unix://ann:@/hush@/run/s", "@ in a path is written %40");
    refuse("unix://:@/hush@/run/s", "@ in a path is written %40");
    char text[200] = "unix:///";
    memset(text + strlen(text), 'x', 106);
    parse(text);
    strcat(text, "x");
    refuse(text, "107 bytes");
}

static void schemes(void **state) {
    (void)state;
    parse("rediss://:hush@h");
    assert_string_equal(u.scheme, "rediss");
    assert_string_equal(u.host, "h");
    assert_int_equal(u.port, 6379);
    assert_true(u.is_tls && u.is_verified);
    refuse("CLUSTER://h", "cluster:// is not available in this build");
    refuse("http://:hush@h", "unknown scheme \"http\"");
    refuse("redi://h", "unknown scheme \"redi\"");
    refuse("redi://h", "sentinel://");
    refuse("ann:hush@h", "not a URL");
    refuse("hush@h://x", "not a URL");
    refuse("://h", "not a URL");
    refuse("redis:h", "not a URL");
    refuse("", "not a URL");
}

static void tls(void **state) {
    (void)state;
    parse("rediss://h:1/2?verify=no&ca=/a%20b.pem&cert=c.pem&key=k.pem&sni=x");
    assert_true(u.is_tls && !u.is_verified && u.is_verify_given);
    assert_string_equal(u.ca, "/a b.pem");
    assert_string_equal(u.cert, "c.pem");
    assert_string_equal(u.key, "k.pem");
    assert_string_equal(u.sni, "x");
    parse("rediss://h?verify=no&verify=yes");
    assert_true(u.is_verified && u.is_verify_given);
    refuse("redis://h?ca=a", "ca is for TLS; that takes rediss://");
    refuse("redis://h?cert=c&key=k", "cert is for TLS");
    refuse("redis://h?key=k", "key is for TLS");
    refuse("redis://h?verify=yes", "verify is for TLS");
    refuse("redis://h?verify=no", "verify is for TLS");
    refuse("redis://h?sni=x", "sni is for TLS; that takes rediss://");
    refuse("unix:///run/s?ca=a", "ca is for TLS");
    refuse("rediss://h?cert=c", "cert takes key as well");
    refuse("rediss://h?key=k", "key takes cert as well");
    refuse("redis://h?tls=yes", "use rediss:// for TLS");
    refuse("rediss://h?tls=yes", "use rediss:// for TLS");
    refuse("unix:///run/s?tls=no", "use rediss:// for TLS");
    refuse("rediss://h?verify=maybe",
           "bad verify \"maybe\"; expected yes or no");
    refuse("rediss://h?verify=", "bad verify \"\"");
    refuse("rediss://h?ca=", "bad ca \"\"");
    refuse("rediss://h?ca=a%0a", "bad ca");
    refuse("rediss://h?sni=a%20b", "bad sni \"a b\"");
    refuse("rediss://h?sni=", "bad sni");
}

static void sentinels(void **state) {
    (void)state;
    parse("sentinel://ann:hush@h1,[fe80::1%eth0]:7,h3:26380/my%2Fmaster/3"
          "?sentinel_user=s&sentinel_password=hush%26&timeout=2");
    assert_string_equal(u.scheme, "sentinel");
    assert_int_equal(u.sentinel_count, 3);
    assert_string_equal(u.sentinels[0].name, "h1");
    assert_int_equal(u.sentinels[0].port, 26379);
    assert_string_equal(u.sentinels[1].name, "fe80::1%eth0");
    assert_int_equal(u.sentinels[1].port, 7);
    assert_string_equal(u.sentinels[2].name, "h3");
    assert_int_equal(u.sentinels[2].port, 26380);
    assert_string_equal(u.master, "my/master");
    assert_int_equal(u.db, 3);
    assert_string_equal(u.user, "ann");
    assert_string_equal(u.password, "hush");
    assert_string_equal(u.sentinel_user, "s");
    assert_string_equal(u.sentinel_password, "hush&");
    assert_null(u.host);
    assert_int_equal(u.port, 0);
    assert_false(u.is_tls || u.is_sentinel_tls);
    parse("sentinel://h/m/?tls=yes&sni=x&ca=a");
    assert_true(u.is_tls && !u.is_sentinel_tls);
    parse("sentinel://h/m?ca=a&sentinel_tls=yes&tls=yes&tls=no");
    assert_true(!u.is_tls && u.is_sentinel_tls);
}

static void wrong_sentinels(void **state) {
    (void)state;
    refuse("sentinel://", "sentinel:// takes hosts and a master's name");
    refuse("sentinel:///m", "sentinel:// takes hosts and a master's name");
    refuse("sentinel://:hush@h", "sentinel:// takes hosts");
    refuse("sentinel://h/", "sentinel:// takes hosts and a master's name");
    refuse("sentinel://h//0", "sentinel:// takes hosts and a master's name");
    refuse("sentinel://h,/m", "bad host \"\"");
    refuse("sentinel://,h/m", "bad host \"\"");
    refuse("sentinel://h,:1/m", "bad host \":1\"");
    refuse("sentinel://h1,h 2/m", "bad host \"h 2\"");
    refuse("sentinel://h1;h2/m", "bad host \"h1;h2\"");
    refuse("sentinel://h1,h2:0/m", "bad port \"0\"");
    refuse("sentinel://h,[::1/m", "bad IPv6 address \"::1\"");
    refuse("sentinel://h,::1/m", "bad host");
    refuse("sentinel://h,fe80::1/m", "[brackets]");
    refuse("sentinel://h/m/x", "bad db \"x\"");
    refuse("sentinel://h/m/0/1", "bad db \"0/1\"");
    refuse("sentinel://h/a@b", "@ # & = and % in it");
    refuse("sentinel://h/m&password=hush", "bad master's name");
    refuse("sentinel://h/m%2", "percent-encoding in the master's name");
    refuse("sentinel://h/m%00", "a NUL in the master's name");
    refuse("sentinel://h/m%0a", "control character in the master's name");
    refuse("sentinel://h/m?tls=1", "bad tls \"1\"; expected yes or no");
    refuse("sentinel://h/m?ca=a", "that takes tls=yes or sentinel_tls=yes");
    refuse("sentinel://h/m?sni=a&sentinel_tls=yes", "sni is for TLS; that "
                                                    "takes tls=yes");
    refuse("sentinel://h/m?tls=yes&key=a", "key takes cert");
    refuse("sentinel://h/m?host=a", "in front of the ?");
    refuse("redis://h?sentinel_tls=yes", "sentinel_tls is for sentinel://");
    refuse("redis://h?sentinel_user=a", "sentinel_user is for sentinel://");
    refuse("unix:///s?sentinel_password=hush", "sentinel_password is for");
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
    refuse("redis://h?tiemout=1",
           "timeout, connect_timeout, pool_timeout, idle_timeout, slow, pool, "
           "queue, queue_bytes, db, name, user, password, sentinel_user, "
           "sentinel_password, tls, sentinel_tls, verify, ca, cert, key, sni, "
           "host, port");
    refuse("redis://h?pasword=hush", "unknown option \"pasword\"");
    refuse("redis://h?Pool=1", "unknown option \"Pool\"");
    refuse("redis://h?=1", "unknown option \"\"");
    refuse("redis://h?host=a", "in front of the ?");
    refuse("redis://h?port=1", "in front of the ?");
    refuse("redis://h?queue=0", "bad queue \"0\"");
    refuse("redis://h?queue=1.5", "bad queue \"1.5\"");
    refuse("redis://h?queue_bytes=0", "bad queue_bytes \"0\"");
    refuse("redis://h?queue_bytes=1.5", "bad queue_bytes \"1.5\"");
    refuse("redis://h?queue_bytes=1099511627777", "1 to 2^40");
    refuse("redis://h?pool_timeout=x", "bad pool_timeout \"x\"");
    refuse("redis://h?idle_timeout=-1", "bad idle_timeout");
    refuse("redis://h?slow=", "bad slow");
    refuse("redis://h?name=%zz", "percent-encoding in the name");
    refuse("redis://h?password=hush%0", "percent-encoding in the password");
    refuse("redis://h?password=hush%00", "a NUL in the password");
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
    refuse("redis://:hush/hush@h", "; / ? # & and % in a password are written "
                                   "%2F %3F %23 %26 %25");
    refuse("redis://:hush/hush@h", "bad port; expected");
    refuse("redis://:hush?hush@h", "bad port");
    refuse("rediss://:hush#hush@h", "bad port");
    refuse("redis://:1/hush@h", "bad db");
    refuse("redis://:1?hush@h", "unknown option; known are");
    refuse("redis://:1?db=hush@h", "bad db");
    refuse("redis://ann:a:hush/x@h", "bad port");
    refuse("redis://[hush/x@h", "bad IPv6 address");
    refuse("unix://:hush/hush@/run/s", "absolute path");
    refuse("sentinel://:hush/x@h/m", "bad host");
    refuse("sentinel://ann:hush?x@h/m", "bad port");
    refuse("sentinel://ann:1/hush@h/m", "bad master's name");
    refuse("sentinel://ann:1#hush@h/m", "bad master's name");
    refuse("sentinel://ann:1/m?hush@h/m", "unknown option");
}

static void a_password_in_the_query_stays_hidden(void **state) {
    (void)state;
    refuse("redis://h?password=a&hush", "unknown option; known are");
    refuse("redis://h?password=a&hush=%", "percent-encoding in the query");
    refuse("redis://h?password=hush&timeout=hush", "bad timeout; expected");
    refuse("redis://h?password=hush&timeout=hush", "are written %2F");
    refuse("redis://h?password=\"&hush\"=1", "unknown option; known are");
    refuse("redis://h?password=hush&tls=yes", "for TLS");
    refuse("sentinel://h/m?sentinel_password=a&hush=", "unknown option");
    refuse("redis://h?pool=3;password=hush", "bad pool");
    refuse("redis://h?pool=3;password=hush", "expected a whole number");
    refuse("redis://h?pool=3?password=hush", "bad pool");
    refuse("redis://h&password=hush", "bad host");
    refuse("redis://h;password=hush", "bad host");
    refuse("redis://h%3Fpassword=hush", "bad host");
    refuse("redis://h:1&password=hush", "bad port");
    refuse("redis://h:1:password=hush", "bad port");
    refuse("redis://[::1]password=hush", "bad port");
    refuse("redis://h/1&password=hush", "bad db");
}

static void descriptions(void **state) {
    (void)state;
    describe("redis://", "redis://127.0.0.1:6379/0");
    describe("redis://ann:hush@h:1/2?pool=3", "redis://ann@h:1/2");
    describe("redis://hush@h", "redis://h:6379/0");
    describe("redis://:hush@[::1]", "redis://[::1]:6379/0");
    describe("unix://ann:hush@/run/s", "unix://ann@/run/s");
    describe("unix:///run/s?db=2", "unix:///run/s?db=2");
    describe("rediss://:hush@h?ca=a", "rediss://h:6379/0");
    describe("sentinel://h1,[::1]:7/m", "sentinel://h1:26379,[::1]:7/m/0");
    describe("sentinel://ann:hush@h/m/2?sentinel_password=hush",
             "sentinel://ann@h:26379/m/2");
}

// Each size up to what it takes, in memory of just that size.
static void descriptions_are_cut_off(void **state) {
    (void)state;
    static const char *const texts[] = {
        "redis://ann:hush@h:1/2", "unix:///run/s?db=2",
        "sentinel://ann:hush@host1,[fe80::1]:7,host3/master/12"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char whole[200];
        parse(texts[i]);
        size_t len = strlen(redis_url_describe(&u, whole, sizeof whole));
        for (size_t size = 1; size <= len + 1; size++) {
            char *out = malloc(size);
            assert_ptr_equal(redis_url_describe(&u, out, size), out);
            assert_int_equal(strlen(out), size - 1);
            assert_memory_equal(out, whole, size - 1);
            free(out);
        }
        whole[0] = 'x';
        redis_url_describe(&u, whole, 0);
        assert_int_equal(whole[0], 'x');
    }
}

// parse_any parses text from memory of just its size, and tells whether what
// comes of it is whole; no secret may be seen.
static bool parse_any(const char *text, size_t len, size_t errlen) {
    char out[300], *exact = malloc(len + 1);
    memcpy(exact, text, len);
    exact[len] = 0;
    err[0] = 0;
    redis_url_clear(&u);
    bool is_good = redis_url_parse(&u, exact, err, errlen) == 0;
    if (is_good) {
        assert_non_null(u.scheme);
        assert_int_equal(!u.host + !u.path + !u.sentinels, 2);
        assert_int_equal(redis_url_check(&u, err, errlen), 0);
        redis_url_describe(&u, out, sizeof out);
    } else {
        assert_null(u.scheme);
        assert_true(errlen < 2 || *err);
    }
    if (strstr(err, "hush") || (is_good && strstr(out, "hush"))) {
        fail_msg("%s: %s", exact, is_good ? out : err);
    }
    free(exact);
    return is_good;
}

static const char *const valid[] = {
    "redis://ann:s%40me@example.org:7000/3?timeout=2.5&pool=8&name=web%2d1",
    "rediss://[fe80::1%eth0]:1/2?verify=no&ca=a%20b&cert=c&key=k&sni=x",
    "unix://ann:secret@/run/a%20b.sock?db=2&queue=1&queue_bytes=2",
    "sentinel://a:b@h,[::1]:7/m%2f/3?tls=yes&sentinel_password=b&user=u"};

static uint32_t dice(uint32_t sides) {
    static uint32_t seed = 2463534242; // xorshift32
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % sides;
}

static void any_text_is_survived(void **state) {
    (void)state;
    static const char odd[] = ":/?#[]@!&=,;%.01azAZ \"\x01\x7f\xff";
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        size_t len = strlen(valid[i]);
        assert_true(parse_any(valid[i], len, sizeof err));
        for (size_t n = 0; n < len; n++) {
            parse_any(valid[i], n, sizeof err);
            parse_any(valid[i], n, n % 20); // no room for the reason
        }
        for (int round = 0; round < 20000; round++) {
            char text[200];
            memcpy(text, valid[i], len);
            for (uint32_t n = dice(6) + 1; n > 0; n--) {
                char c =
                    dice(2) ? odd[dice(sizeof odd - 1)] : (char)(dice(255) + 1);
                text[dice((uint32_t)len)] = c;
            }
            parse_any(text, dice(2) ? len : dice((uint32_t)len), sizeof err);
        }
    }
}

// Passwords of what ought to have been escaped, wherever one may stand.
static void any_password_stays_hidden(void **state) {
    (void)state;
    static const char *const forms[] = {"redis://ann:%s@h:1/2",
                                        "rediss://:%s@h?pool=x",
                                        "unix://:%s@/run/s",
                                        "unix://ann:%s@/run/s",
                                        "sentinel://ann:%s@h1,h2/m/1",
                                        "redis://h?password=%s&timeout=x",
                                        "unix:///s?slow=1&password=%s",
                                        "sentinel://h/m?sentinel_password=%s"};
    static const char *const pieces[] = {"hush", "/", "?", "#", "&",  "=", ":",
                                         ",",    ";", "@", "%", "[",  "]", "1",
                                         "\"",   ".", "-", " ", "db", "m"};
    for (int round = 0; round < 200000; round++) {
        char password[64] = "", text[200];
        for (uint32_t n = dice(9) + 1; n > 0; n--) {
            strcat(password, pieces[dice(sizeof pieces / sizeof *pieces)]);
        }
        snprintf(text, sizeof text, forms[dice(sizeof forms / sizeof *forms)],
                 password);
        parse_any(text, strlen(text), sizeof err);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything_given),
        cmocka_unit_test(users_and_passwords),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(schemes),
        cmocka_unit_test(tls),
        cmocka_unit_test(sentinels),
        cmocka_unit_test(wrong_sentinels),
        cmocka_unit_test(wrong_parts_are_named),
        cmocka_unit_test(an_unescaped_password_stays_hidden),
        cmocka_unit_test(a_password_in_the_query_stays_hidden),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(descriptions_are_cut_off),
        cmocka_unit_test(any_text_is_survived),
        cmocka_unit_test(any_password_stays_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
