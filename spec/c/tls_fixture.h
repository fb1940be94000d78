// tls_fixture: certificates, and an OpenSSL server in memory, for tls_test.
//
//   struct wire w = wire_open(&(struct setting){.sni = "second.test"});
//   pump(&w);            // the handshake
//   say(&w, "x", 1);     // then pump(&w): it is in w.heard
//   wire_close(&w);
#ifndef SPEC_TLS_FIXTURE_H
#define SPEC_TLS_FIXTURE_H

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

// A key, and the certificate of it.
struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static struct identity ca, other_ca, good, expired, by_address, self_signed,
    client;
static char folder[] = "/tmp/neap-tls-XXXXXX";

// make_key returns a new private key.
static inline EVP_PKEY *make_key(int type) {
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

// extend adds an X.509 extension, in the notation of openssl.cnf.
static inline void extend(X509 *cert, X509 *issuer, int nid,
                          const char *value) {
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

// identify makes an identity whose certificate ends in that many seconds;
// without an issuer it signs itself, without names it is a CA.
static inline struct identity identify(const char *cn, const char *names,
                                       const struct identity *issuer,
                                       long seconds) {
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

// forget frees an identity.
static inline void forget(struct identity *i) {
    EVP_PKEY_free(i->key);
    X509_free(i->cert);
}

// path names a file of the folder; the last four stay valid.
static inline const char *path(const char *name) {
    static char paths[4][128];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", folder, name);
    return paths[at];
}

// save writes what is given as a PEM file of the folder.
static inline void save(const char *name, X509 *cert, EVP_PKEY *key,
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

// set_up makes the identities and the folder with their files.
static inline int set_up(void **state) {
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

// tear_down frees and deletes them.
static inline int tear_down(void **state) {
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

// Both ends of a connection, and what they heard.
struct wire {
    struct tls *t;
    int shaken; // what tls_handshake said
    long last;  // what tls_read said, once shaken
    struct buf got;
    SSL *peer;
    struct buf heard;
    size_t piece; // how many bytes go over at once
};

// What a connection is to be like; what isn't given is as commented.
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

// assert_clean fails the test if OpenSSL's queue of errors isn't empty.
static inline void assert_clean(void) {
    assert_int_equal(ERR_peek_error(), 0);
}

// error_of returns the reason of the last failure.
static inline const char *error_of(struct wire *w) {
    const char *text = tls_error(w->t);
    assert_true(*text);
    assert_clean();
    return text;
}

// assert_says looks for the part whatever its case, which differs among
// versions of OpenSSL.
static inline void assert_says(const char *text, const char *part) {
    if (!strcasestr(text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", text, part);
    }
}

// serve returns the server's end.
static inline SSL *serve(const struct setting *s) {
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

// wire_open begins a connection; pump carries the handshake out.
static inline struct wire wire_open(const struct setting *s) {
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

// wire_close frees both ends.
static inline void wire_close(struct wire *w) {
    tls_free(w->t);
    buf_clear(&w->got);
    SSL_free(w->peer);
    buf_clear(&w->heard);
    ERR_clear_error();
}

// client_step does what the client can do with what it was fed.
static inline void client_step(struct wire *w) {
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

// peer_step does the same for the server.
static inline void peer_step(struct wire *w) {
    char bytes[5000];
    int n;
    while ((n = SSL_read(w->peer, bytes, sizeof bytes)) > 0) {
        buf_add(&w->heard, bytes, (size_t)n);
    }
    ERR_clear_error();
}

// to_peer carries the client's bytes over, a piece at a time.
static inline void to_peer(struct wire *w) {
    struct buf *out = tls_out(w->t);
    for (size_t at = 0; at < out->len; at += w->piece) {
        size_t n = out->len - at < w->piece ? out->len - at : w->piece;
        BIO_write(SSL_get_rbio(w->peer), out->data + at, (int)n);
        peer_step(w);
    }
    out->len = 0;
}

// pump lets both ends talk until they have nothing to say.
static inline void pump(struct wire *w) {
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

// say sends bytes from the client, and peer_say from the server, at the
// next pump.
static inline void say(struct wire *w, const void *bytes, size_t len) {
    assert_int_equal(tls_write(w->t, bytes, len), 0);
    assert_clean();
}

static inline void peer_say(struct wire *w, const void *bytes, size_t len) {
    assert_int_equal(SSL_write(w->peer, bytes, (int)len), len);
}

// assert_holds compares what arrived.
static inline void assert_holds(const struct buf *b, const void *bytes,
                                size_t len) {
    assert_int_equal(b->len, len);
    assert_memory_equal(b->data, bytes, len);
}

// assert_echo sends bytes each way over an open connection.
static inline void assert_echo(struct wire *w) {
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

// assert_connects opens a connection that has to work.
static inline void assert_connects(struct setting s) {
    struct wire w = wire_open(&s);
    pump(&w);
    if (w.shaken < 0) {
        fail_msg("%s", tls_error(w.t));
    }
    assert_echo(&w);
    wire_close(&w);
}

// assert_fails opens one whose handshake has to fail and say the part.
static inline void assert_fails(struct setting s, const char *part) {
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

#endif
