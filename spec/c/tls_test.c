// tls_test: the client's end of TLS against an OpenSSL server in memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cmocka.h>

#include "redis/tls.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define DAY      (24 * 3600L)

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static struct identity ca, other_ca, good, expired, by_address, self_signed,
    client;
static char folder[] = "/tmp/neap-tls-XXXXXX";

static EVP_PKEY *make_key(int type) {
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(type, NULL);
    EVP_PKEY *key = NULL;
    assert_int_equal(EVP_PKEY_keygen_init(c), 1);
    if (type == EVP_PKEY_EC) {
        int curve = NID_X9_62_prime256v1;
        assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(c, curve), 1);
    }
    assert_int_equal(EVP_PKEY_keygen(c, &key), 1);
    EVP_PKEY_CTX_free(c);
    return key;
}

static void extend(X509 *cert, X509 *issuer, int nid, const char *value) {
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

// An identity whose certificate ends in that many seconds; without an issuer it
// signs itself, without names it is a CA.
static struct identity identify(const char *cn, const char *names,
                                const struct identity *issuer, long seconds) {
    static long serial = 1;
    struct identity i = {make_key(EVP_PKEY_EC), X509_new()};
    issuer = issuer ? issuer : &i;
    X509_set_version(i.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(i.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(i.cert), -2 * DAY);
    X509_gmtime_adj(X509_getm_notAfter(i.cert), seconds);
    X509_set_pubkey(i.cert, i.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(i.cert), "CN",
                               MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
                               0);
    X509_set_issuer_name(i.cert, X509_get_subject_name(issuer->cert));
    extend(i.cert, issuer->cert, NID_basic_constraints,
           names ? "CA:FALSE" : "critical,CA:TRUE");
    if (names) {
        extend(i.cert, issuer->cert, NID_subject_alt_name, names);
    }
    assert_true(X509_sign(i.cert, issuer->key, EVP_sha256()) > 0);
    return i;
}

static void forget(struct identity *i) {
    EVP_PKEY_free(i->key);
    X509_free(i->cert);
}

// path names a file of the folder; the last four stay valid.
static const char *path(const char *name) {
    static char paths[4][128];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", folder, name);
    return paths[at];
}

static void save(const char *name, X509 *cert, EVP_PKEY *key,
                 const char *passphrase) {
    FILE *f = fopen(path(name), "w");
    assert_non_null(f);
    if (cert) {
        assert_int_equal(PEM_write_X509(f, cert), 1);
    }
    if (key) {
        const EVP_CIPHER *cipher = passphrase ? EVP_aes_128_cbc() : NULL;
        assert_int_equal(PEM_write_PKCS8PrivateKey(f, key, cipher, NULL, 0,
                                                   NULL, (void *)passphrase),
                         1);
    }
    fclose(f);
}

static const char *const files[] = {
    "ca.pem",    "other-ca.pem",  "client.pem", "client.key", "both.pem",
    "other.key", "encrypted.key", "ed.key",     "empty.pem",  "garbage.pem",
};

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    ca = identify("neap CA", NULL, NULL, DAY);
    other_ca = identify("another CA", NULL, NULL, DAY);
    good = identify("good", "DNS:redis.test,DNS:second.test", &ca, DAY);
    expired = identify("expired", "DNS:redis.test", &ca, -DAY);
    by_address = identify("ip", "IP:127.0.0.1,IP:::1", &ca, DAY);
    self_signed = identify("self", "DNS:redis.test", NULL, DAY);
    client = identify("client", "DNS:client.test", &ca, DAY);
    save("ca.pem", ca.cert, NULL, NULL);
    save("other-ca.pem", other_ca.cert, NULL, NULL);
    save("client.pem", client.cert, NULL, NULL);
    save("client.key", NULL, client.key, NULL);
    save("both.pem", client.cert, client.key, NULL);
    save("other.key", NULL, good.key, NULL);
    save("encrypted.key", NULL, client.key, "secret");
    EVP_PKEY *ed = make_key(EVP_PKEY_ED25519);
    save("ed.key", NULL, ed, NULL);
    EVP_PKEY_free(ed);
    save("empty.pem", NULL, NULL, NULL);
    FILE *f = fopen(path("garbage.pem"), "w");
    fputs("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"
          "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n",
          f);
    fclose(f);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    struct identity *const all[] = {&ca,         &other_ca,    &good,  &expired,
                                    &by_address, &self_signed, &client};
    for (size_t i = 0; i < COUNT(all); i++) {
        forget(all[i]);
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        unlink(path(files[i]));
    }
    return rmdir(folder);
}

struct wire {
    struct tls *t;
    int shaken; // what tls_handshake said
    long last;  // what tls_read said, once shaken
    struct buf got;
    SSL *peer;
    struct buf heard;
    size_t piece; // how many bytes go over at once
};

struct setting {
    const struct identity *peer; // good
    const char *ca;              // the file; ca.pem
    const char *cert;            // the client's
    const char *key;
    const char *name; // redis.test
    const char *sni;
    int version; // of TLS, at most
    bool is_unverified;
    bool is_asking; // the server, for the client's certificate
    size_t piece;
};

static void assert_clean(void) {
    assert_int_equal(ERR_peek_error(), 0);
}

static const char *error_of(struct wire *w) {
    const char *text = tls_error(w->t);
    assert_true(*text);
    assert_clean();
    return text;
}

// Case differs among versions of OpenSSL.
static void assert_says(const char *text, const char *part) {
    if (!strcasestr(text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", text, part);
    }
}

static SSL *serve(const struct setting *s) {
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());
    const struct identity *who = s->peer ? s->peer : &good;
    assert_int_equal(SSL_CTX_use_certificate(c, who->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(c, who->key), 1);
    SSL_CTX_set_max_proto_version(c, s->version);
    SSL_CTX_set_session_id_context(c, (const unsigned char *)"neap", 4);
    if (s->version && s->version < TLS1_2_VERSION) {
        SSL_CTX_set_min_proto_version(c, s->version);
        SSL_CTX_set_cipher_list(c, "ALL:@SECLEVEL=0");
    }
    if (s->is_asking) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(c), ca.cert);
        SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           NULL);
    }
    SSL *peer = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_bio(peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(peer);
    return peer;
}

static struct wire wire_open(const struct setting *s) {
    char err[TLS_ERROR] = "";
    struct tls_options o = {path(s->ca ? s->ca : "ca.pem"),
                            s->cert ? path(s->cert) : NULL,
                            s->key ? path(s->key) : NULL, !s->is_unverified};
    struct tls_context *c = tls_context_new(&o, err, sizeof err);
    assert_string_equal(err, "");
    struct wire w = {.piece = s->piece ? s->piece : 65536, .peer = serve(s)};
    w.t = tls_new(c, s->name ? s->name : "redis.test", s->sni);
    assert_clean();
    tls_context_free(c);
    return w;
}

static void wire_close(struct wire *w) {
    tls_free(w->t);
    buf_clear(&w->got);
    SSL_free(w->peer);
    buf_clear(&w->heard);
    ERR_clear_error();
}

static void client_step(struct wire *w) {
    char bytes[5000];
    if (w->shaken == 0) {
        w->shaken = tls_handshake(w->t);
        assert_clean();
    }
    while (w->shaken == 1 &&
           (w->last = tls_read(w->t, bytes, sizeof bytes)) > 0) {
        buf_add(&w->got, bytes, (size_t)w->last);
    }
    assert_clean();
}

static void peer_step(struct wire *w) {
    char bytes[5000];
    int n;
    while ((n = SSL_read(w->peer, bytes, sizeof bytes)) > 0) {
        buf_add(&w->heard, bytes, (size_t)n);
    }
    ERR_clear_error();
}

static void to_peer(struct wire *w) {
    struct buf *out = tls_out(w->t);
    for (size_t at = 0; at < out->len; at += w->piece) {
        size_t n = out->len - at < w->piece ? out->len - at : w->piece;
        BIO_write(SSL_get_rbio(w->peer), out->data + at, (int)n);
        peer_step(w);
    }
    out->len = 0;
}

// pump lets both ends talk until they have nothing to say.
static void pump(struct wire *w) {
    BIO *from_peer = SSL_get_wbio(w->peer);
    char *bytes = malloc(w->piece);
    client_step(w);
    while (tls_out(w->t)->len || BIO_pending(from_peer)) {
        to_peer(w);
        int n = BIO_read(from_peer, bytes, (int)w->piece);
        if (n > 0) {
            tls_feed(w->t, bytes, (size_t)n);
            client_step(w);
        }
    }
    free(bytes);
}

static void say(struct wire *w, const void *bytes, size_t len) {
    assert_int_equal(tls_write(w->t, bytes, len), 0);
    assert_clean();
}

static void peer_say(struct wire *w, const void *bytes, size_t len) {
    assert_int_equal(SSL_write(w->peer, bytes, (int)len), len);
}

static void assert_holds(const struct buf *b, const void *bytes, size_t len) {
    assert_int_equal(b->len, len);
    assert_memory_equal(b->data, bytes, len);
}

static void assert_echo(struct wire *w) {
    assert_int_equal(w->shaken, 1);
    w->heard.len = w->got.len = 0;
    say(w, "PING\r\n", 6);
    pump(w);
    assert_holds(&w->heard, "PING\r\n", 6);
    peer_say(w, "+PONG\r\n", 7);
    pump(w);
    assert_holds(&w->got, "+PONG\r\n", 7);
    assert_int_equal(w->last, 0);
}

static void assert_connects(struct setting s) {
    struct wire w = wire_open(&s);
    pump(&w);
    if (w.shaken < 0) {
        fail_msg("%s", tls_error(w.t));
    }
    assert_echo(&w);
    wire_close(&w);
}

static void assert_fails(struct setting s, const char *part) {
    struct wire w = wire_open(&s);
    pump(&w);
    assert_int_equal(w.shaken, -1);
    assert_says(error_of(&w), part);
    assert_int_equal(tls_handshake(w.t), -1);
    assert_int_equal(tls_write(w.t, "x", 1), -1);
    assert_says(error_of(&w), part);
    assert_false(SSL_is_init_finished(w.peer) && w.heard.len);
    wire_close(&w);
}

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
