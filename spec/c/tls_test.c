// tls_test: the client's end of TLS against an OpenSSL server in memory.
#include "tls_fixture.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void talks_both_versions(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct wire w = wire_open(&(struct setting){.version = versions[i]});
        assert_int_equal(tls_handshake(w.t), 0);
        assert_true(tls_out(w.t)->len > 0);
        pump(&w);
        assert_echo(&w);
        assert_int_equal(SSL_version(w.peer), versions[i]);
        wire_close(&w);
    }
    assert_fails((struct setting){.version = TLS1_1_VERSION}, "version");
}

static void talks_byte_by_byte(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(versions); i++) {
        assert_connects((struct setting){.version = versions[i], .piece = 1});
    }
}

static void carries_a_mebibyte_each_way(void **state) {
    (void)state;
    static const size_t pieces[] = {65536, 1000, 1 << 21};
    size_t len = 1 << 20;
    char *bytes = malloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (char)((i * 2654435761u) >> 13);
    }
    for (size_t i = 0; i < COUNT(pieces); i++) {
        struct wire w = wire_open(&(struct setting){.piece = pieces[i]});
        pump(&w);
        say(&w, bytes, len);
        pump(&w);
        assert_holds(&w.heard, bytes, len);
        peer_say(&w, bytes, len);
        pump(&w);
        assert_holds(&w.got, bytes, len);
        wire_close(&w);
    }
    free(bytes);
}

static void reads_over_records_up_to_size(void **state) {
    (void)state;
    char bytes[8] = "";
    struct wire w = wire_open(&(struct setting){0});
    pump(&w);
    peer_say(&w, "abc", 3);
    peer_say(&w, "defg", 4);
    char raw[1000];
    int n = BIO_read(SSL_get_wbio(w.peer), raw, sizeof raw);
    tls_feed(w.t, raw, (size_t)n);
    assert_int_equal(tls_read(w.t, bytes, 0), 0);
    assert_int_equal(tls_read(w.t, bytes, 2), 2);
    assert_int_equal(tls_read(w.t, bytes + 2, 6), 5);
    assert_string_equal(bytes, "abcdefg");
    assert_int_equal(tls_read(w.t, bytes, 8), 0);
    say(&w, "", 0);
    assert_int_equal(tls_out(w.t)->len, 0);
    wire_close(&w);
}

static void refuses_who_is_not_trusted(void **state) {
    (void)state;
    assert_fails((struct setting){.ca = "other-ca.pem"},
                 "certificate verify failed: unable to get local issuer");
    assert_fails((struct setting){.peer = &self_signed},
                 "certificate verify failed: self");
    assert_fails((struct setting){.peer = &expired},
                 "certificate verify failed: certificate has expired");
    struct tls_options o = {.is_verified = true};
    struct wire w = wire_open(&(struct setting){0});
    tls_free(w.t);
    char err[TLS_ERROR] = "";
    struct tls_context *c = tls_context_new(&o, err, sizeof err);
    assert_non_null(c);
    w.t = tls_new(c, "redis.test", NULL);
    tls_context_free(c);
    pump(&w);
    assert_int_equal(w.shaken, -1);
    assert_says(error_of(&w), "certificate verify failed: unable to get");
    wire_close(&w);
}

static void tells_the_peer_why_it_refuses(void **state) {
    (void)state;
    struct wire w = wire_open(&(struct setting){.ca = "other-ca.pem"});
    BIO *from_peer = SSL_get_wbio(w.peer);
    char bytes[8192];
    client_step(&w);
    to_peer(&w);
    int n = BIO_read(from_peer, bytes, sizeof bytes);
    tls_feed(w.t, bytes, (size_t)n);
    client_step(&w);
    assert_int_equal(w.shaken, -1);
    struct buf *out = tls_out(w.t);
    assert_true(out->len > 0);
    BIO_write(SSL_get_rbio(w.peer), out->data, (int)out->len);
    assert_true(SSL_read(w.peer, bytes, sizeof bytes) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()),
                     SSL_R_TLSV1_ALERT_UNKNOWN_CA);
    wire_close(&w);
}

static void refuses_another_name(void **state) {
    (void)state;
    const char *text = "certificate verify failed: hostname mismatch";
    assert_connects((struct setting){.name = "second.test"});
    assert_fails((struct setting){.name = "other.test"}, text);
    assert_fails((struct setting){.name = "test"}, text);
    assert_fails((struct setting){.name = "good"}, text); // the CN
}

static void refuses_no_name(void **state) {
    (void)state;
    assert_fails((struct setting){.name = ""}, "bad server name \"\"");
    assert_fails((struct setting){.sni = ""}, "bad server name \"\"");
    char name[400];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_fails((struct setting){.name = name}, "bad server name \"xxx");
    char err[TLS_ERROR];
    struct tls_context *c =
        tls_context_new(&(struct tls_options){0}, err, sizeof err);
    struct tls *t = tls_new(c, NULL, NULL);
    assert_int_equal(tls_handshake(t), -1);
    assert_int_equal(tls_read(t, err, sizeof err), -1);
    assert_says(tls_error(t), "bad server name");
    tls_close(t);
    assert_clean();
    tls_free(t);
    tls_context_free(c);
}

static void verifies_addresses(void **state) {
    (void)state;
    const char *text = "certificate verify failed: IP address mismatch";
    struct setting s = {.peer = &by_address, .name = "127.0.0.1"};
    assert_connects(s);
    struct wire w = wire_open(&s);
    pump(&w);
    assert_null(SSL_get_servername(w.peer, TLSEXT_NAMETYPE_host_name));
    wire_close(&w);
    assert_connects((struct setting){.peer = &by_address, .name = "::1"});
    assert_fails((struct setting){.peer = &by_address, .name = "127.0.0.2"},
                 text);
    assert_fails((struct setting){.peer = &by_address, .name = "::2"}, text);
    assert_fails((struct setting){.name = "127.0.0.1"}, text);
    assert_fails((struct setting){.peer = &by_address}, "hostname mismatch");
}

static void assert_sni(struct setting s, const char *expected) {
    struct wire w = wire_open(&s);
    pump(&w);
    assert_echo(&w);
    assert_string_equal(SSL_get_servername(w.peer, TLSEXT_NAMETYPE_host_name),
                        expected);
    wire_close(&w);
}

static void lets_sni_replace_the_name(void **state) {
    (void)state;
    assert_sni((struct setting){0}, "redis.test");
    assert_sni((struct setting){.name = "10.0.0.1", .sni = "redis.test"},
               "redis.test");
    assert_sni((struct setting){.name = "other.test", .sni = "second.test"},
               "second.test");
    assert_fails((struct setting){.sni = "other.test"}, "hostname mismatch");
    assert_connects((struct setting){.peer = &by_address, .sni = "127.0.0.1"});
}

static void accepts_all_when_unverified(void **state) {
    (void)state;
    const struct identity *const peers[] = {&good, &expired, &by_address,
                                            &self_signed};
    for (size_t i = 0; i < COUNT(peers); i++) {
        assert_connects((struct setting){.peer = peers[i],
                                         .ca = "other-ca.pem",
                                         .name = "other.test",
                                         .is_unverified = true});
    }
}

static void gives_the_clients_certificate(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct setting s = {.version = versions[i], .is_asking = true};
        s.cert = "client.pem";
        s.key = "client.key";
        assert_connects(s);
        s.cert = "both.pem";
        s.key = NULL;
        assert_connects(s);
    }
}

static void hears_that_its_certificate_is_missed(void **state) {
    (void)state;
    assert_fails((struct setting){.version = TLS1_2_VERSION, .is_asking = true},
                 "handshake failure");
    struct wire w = wire_open(
        &(struct setting){.version = TLS1_3_VERSION, .is_asking = true});
    pump(&w);
    assert_int_equal(w.shaken, 1);
    assert_int_equal(w.last, -1);
    assert_says(error_of(&w), "certificate required");
    wire_close(&w);
}

static void assert_unusable(struct tls_options o, const char *file,
                            const char *why) {
    char err[TLS_ERROR] = "";
    assert_null(tls_context_new(&o, err, sizeof err));
    assert_clean();
    assert_says(err, path(file));
    assert_says(err, why);
}

static void names_the_file_at_fault(void **state) {
    (void)state;
    const char *cert = path("client.pem");
    const char *missing = "No such file or directory";
    assert_unusable((struct tls_options){.ca = path("no.pem")}, "no.pem",
                    missing);
    assert_unusable((struct tls_options){.cert = cert, .key = path("no.key")},
                    "no.key", missing);
    assert_unusable(
        (struct tls_options){.cert = path("no.pem"), .key = path("client.key")},
        "no.pem", missing);
    assert_unusable((struct tls_options){.key = path("client.key")},
                    "client.key", "without a cert");
    cert = path("client.pem");
    assert_unusable((struct tls_options){.cert = cert}, "client.pem",
                    "no readable private key");
}

static void says_what_is_wrong_with_a_file(void **state) {
    (void)state;
    static const char *const bad[] = {"empty.pem", "garbage.pem"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct tls_options o = {.ca = path(bad[i])};
        assert_unusable(o, bad[i], "ca \"");
        o = (struct tls_options){NULL, path(bad[i]), path("client.key"), true};
        assert_unusable(o, bad[i], "cert \"");
        o = (struct tls_options){NULL, path("client.pem"), path(bad[i]), true};
        assert_unusable(o, bad[i], "key \"");
    }
}

static void refuses_keys_it_cannot_use(void **state) {
    (void)state;
    static const char *const keys[][2] = {
        {"other.key", "does not fit the cert"},
        {"ed.key", "does not fit the cert"},
        {"encrypted.key", "passphrase"},
    };
    for (size_t i = 0; i < COUNT(keys); i++) {
        struct tls_options o = {.cert = path("client.pem"),
                                .key = path(keys[i][0])};
        assert_unusable(o, keys[i][0], keys[i][1]);
    }
    char err[8];
    struct tls_options o = {.ca = path("no.pem")};
    assert_null(tls_context_new(&o, err, sizeof err));
    assert_string_equal(err, "ca \"/tm"); // what fits
}

static void ends_when_the_peer_closes(void **state) {
    (void)state;
    char byte;
    struct wire w = wire_open(&(struct setting){0});
    pump(&w);
    assert_echo(&w);
    peer_say(&w, "bye", 3);
    SSL_shutdown(w.peer);
    w.got.len = 0;
    pump(&w);
    assert_holds(&w.got, "bye", 3);
    assert_int_equal(w.last, TLS_END);
    assert_int_equal(tls_read(w.t, &byte, 1), TLS_END);
    assert_clean();
    wire_close(&w);
}

static void fails_when_the_peer_closes_the_handshake(void **state) {
    (void)state;
    // A close_notify in the clear: an alert (RFC 8446 §6.1).
    static const char bytes[] = {21, 3, 3, 0, 2, 1, 0};
    struct wire w = wire_open(&(struct setting){0});
    client_step(&w);
    tls_feed(w.t, bytes, sizeof bytes);
    client_step(&w);
    assert_int_equal(w.shaken, -1);
    assert_says(error_of(&w), "closed by the peer");
    wire_close(&w);
}

static void closes_in_order(void **state) {
    (void)state;
    struct wire w = wire_open(&(struct setting){0});
    tls_close(w.t); // too early
    assert_clean();
    pump(&w);
    assert_echo(&w);
    assert_int_equal(SSL_get_shutdown(w.peer), 0);
    tls_close(w.t);
    assert_clean();
    to_peer(&w);
    assert_int_equal(SSL_get_shutdown(w.peer), SSL_RECEIVED_SHUTDOWN);
    assert_int_equal(tls_write(w.t, "x", 1), -1);
    assert_says(error_of(&w), "shutdown");
    wire_close(&w);
}

static void knows_who_does_not_speak_tls(void **state) {
    (void)state;
    static const char *const texts[] = {
        "-ERR unknown command\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        for (size_t piece = 1; piece < 20; piece += 18) {
            struct wire w = wire_open(&(struct setting){0});
            client_step(&w);
            for (size_t at = 0; at < strlen(texts[i]); at += piece) {
                size_t rest = strlen(texts[i]) - at;
                tls_feed(w.t, texts[i] + at, rest < piece ? rest : piece);
                client_step(&w);
            }
            assert_int_equal(w.shaken, -1);
            assert_says(error_of(&w), "does not speak TLS");
            wire_close(&w);
        }
    }
}

static void fails_for_good_at_a_bad_record(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(versions); i++) {
        char raw[1000];
        char bytes[100];
        struct wire w = wire_open(&(struct setting){.version = versions[i]});
        pump(&w);
        assert_echo(&w);
        peer_say(&w, "whole", 5);
        peer_say(&w, "broken", 6);
        int n = BIO_read(SSL_get_wbio(w.peer), raw, sizeof raw);
        raw[n - 1] ^= 1;
        tls_feed(w.t, raw, (size_t)n);
        assert_int_equal(tls_read(w.t, bytes, sizeof bytes), 5);
        assert_clean();
        assert_int_equal(tls_read(w.t, bytes, sizeof bytes), -1);
        assert_says(error_of(&w), "bad record mac");
        tls_feed(w.t, raw, (size_t)n);
        assert_int_equal(tls_read(w.t, bytes, sizeof bytes), -1);
        assert_says(error_of(&w), "bad record mac");
        tls_close(w.t);
        assert_clean();
        wire_close(&w);
    }
}

// Leaves an error of somebody else in OpenSSL's queue.
static void stain(void) {
    assert_null(BIO_new_file(path("no.pem"), "r"));
    assert_true(ERR_peek_error() != 0);
}

static void is_not_misled_by_others_errors(void **state) {
    (void)state;
    char byte;
    struct wire w = wire_open(&(struct setting){0});
    stain();
    assert_int_equal(tls_handshake(w.t), 0);
    pump(&w);
    assert_echo(&w);
    stain();
    assert_int_equal(tls_read(w.t, &byte, 1), 0);
    stain();
    say(&w, "x", 1);
    to_peer(&w);
    assert_echo(&w);
    wire_close(&w);
    stain();
    assert_unusable((struct tls_options){.ca = path("empty.pem")}, "empty.pem",
                    "no certificate");
}

static void keeps_what_is_written_too_early(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct wire w = wire_open(
            &(struct setting){.version = versions[i], .piece = i ? 1 : 500});
        say(&w, "one ", 4);
        say(&w, "two ", 4);
        client_step(&w);
        say(&w, "three", 5);
        pump(&w);
        assert_holds(&w.heard, "one two three", 13);
        assert_echo(&w);
        wire_close(&w);
    }
    struct wire w = wire_open(&(struct setting){.name = "other.test"});
    say(&w, "secret", 6);
    pump(&w);
    assert_int_equal(w.shaken, -1);
    assert_int_equal(w.heard.len, 0);
    wire_close(&w);
}

static void writes_what_it_kept_as_soon_as_it_can(void **state) {
    (void)state;
    char bytes[8192];
    struct wire w = wire_open(&(struct setting){.version = TLS1_3_VERSION});
    BIO *from_peer = SSL_get_wbio(w.peer);
    say(&w, "early", 5);
    to_peer(&w);
    tls_feed(w.t, bytes, (size_t)BIO_read(from_peer, bytes, sizeof bytes));
    assert_int_equal(tls_handshake(w.t), 1);
    to_peer(&w);
    assert_holds(&w.heard, "early", 5);
    wire_close(&w);
}

static void survives_renegotiation(void **state) {
    (void)state;
    struct wire w = wire_open(&(struct setting){.version = TLS1_2_VERSION});
    char bytes[8192];
    BIO *from_peer = SSL_get_wbio(w.peer);
    pump(&w);
    assert_echo(&w);
    w.heard.len = 0;
    assert_int_equal(SSL_renegotiate(w.peer), 1);
    SSL_do_handshake(w.peer);
    tls_feed(w.t, bytes, (size_t)BIO_read(from_peer, bytes, sizeof bytes));
    client_step(&w);
    assert_true(tls_out(w.t)->len > 0); // the new ClientHello
    say(&w, "in ", 3);
    say(&w, "between", 7);
    pump(&w);
    assert_int_equal(w.shaken, 1);
    assert_holds(&w.heard, "in between", 10);
    assert_echo(&w);
    assert_false(SSL_renegotiate_pending(w.peer));
    wire_close(&w);
}

static void survives_a_change_of_keys(void **state) {
    (void)state;
    struct wire w = wire_open(&(struct setting){.version = TLS1_3_VERSION});
    pump(&w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(w.peer, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(w.peer), 1);
        pump(&w);
        assert_echo(&w);
    }
    wire_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(talks_both_versions),
        cmocka_unit_test(talks_byte_by_byte),
        cmocka_unit_test(carries_a_mebibyte_each_way),
        cmocka_unit_test(reads_over_records_up_to_size),
        cmocka_unit_test(refuses_who_is_not_trusted),
        cmocka_unit_test(tells_the_peer_why_it_refuses),
        cmocka_unit_test(refuses_another_name),
        cmocka_unit_test(refuses_no_name),
        cmocka_unit_test(verifies_addresses),
        cmocka_unit_test(lets_sni_replace_the_name),
        cmocka_unit_test(accepts_all_when_unverified),
        cmocka_unit_test(gives_the_clients_certificate),
        cmocka_unit_test(hears_that_its_certificate_is_missed),
        cmocka_unit_test(names_the_file_at_fault),
        cmocka_unit_test(says_what_is_wrong_with_a_file),
        cmocka_unit_test(refuses_keys_it_cannot_use),
        cmocka_unit_test(ends_when_the_peer_closes),
        cmocka_unit_test(fails_when_the_peer_closes_the_handshake),
        cmocka_unit_test(closes_in_order),
        cmocka_unit_test(knows_who_does_not_speak_tls),
        cmocka_unit_test(fails_for_good_at_a_bad_record),
        cmocka_unit_test(is_not_misled_by_others_errors),
        cmocka_unit_test(keeps_what_is_written_too_early),
        cmocka_unit_test(writes_what_it_kept_as_soon_as_it_can),
        cmocka_unit_test(survives_renegotiation),
        cmocka_unit_test(survives_a_change_of_keys),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
