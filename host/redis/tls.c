// tls: OpenSSL between two byte buffers.
#include "redis/tls.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"

struct tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *wire;
    int refs; // the owner and each connection, whose BIO needs wire
};

struct tls {
    struct tls_context *context;
    SSL *ssl;
    struct buf in;   // fed, encrypted
    size_t taken;    // of in, by OpenSSL
    struct buf out;  // encrypted, to be sent
    struct buf held; // plain, written during a handshake
    int first;       // byte of in
    bool has_failed;
    char error[TLS_ERROR];
};

// A BIO of our own, to have records written straight to where they leave from.
static int wire_read(BIO *b, char *bytes, int size) {
    struct tls *t = BIO_get_data(b);
    size_t n = t->in.len - t->taken;
    BIO_clear_retry_flags(b);
    if (n == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    n = n < (size_t)size ? n : (size_t)size;
    memcpy(bytes, t->in.data + t->taken, n);
    t->taken += n;
    return (int)n;
}

static int wire_write(BIO *b, const char *bytes, int len) {
    struct tls *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    buf_add(&t->out, bytes, (size_t)len);
    return len;
}

static long wire_ctrl(BIO *b, int command, long n, void *p) {
    (void)b, (void)n, (void)p;
    return command == BIO_CTRL_FLUSH;
}

// OpenSSL's queue holds the cause first, then what that led to: of a file the
// first says most (no such file), of a connection the last (bad record mac).
static const char *reason(unsigned long e) {
    const char *s = ERR_GET_LIB(e) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(e))
                                                  : ERR_reason_error_string(e);
    return s ? s : "unknown reason";
}

// Where the text for the caller of tls_context_new goes.
struct report {
    char *err;
    size_t errlen;
};

static int refuse(struct report to, const char *what, const char *file,
                  const char *why) {
    snprintf(to.err, to.errlen, "%s \"%s\": %s", what, file, why);
    return 0;
}

// Without it OpenSSL asks for the passphrase on the terminal.
static int on_passphrase(char *out, int size, int is_writing, void *is_asked) {
    (void)out, (void)size, (void)is_writing;
    *(bool *)is_asked = true;
    return -1;
}

// The key goes first: a certificate that it doesn't fit drops it, and that is
// found by the check, apart from what can be wrong with the files.
static int use_certificate(SSL_CTX *ssl, const char *cert, const char *key,
                           struct report to) {
    if (!cert) {
        return refuse(to, "key", key, "given without a cert");
    }
    bool is_asked = false;
    SSL_CTX_set_default_passwd_cb(ssl, on_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &is_asked);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1) {
        unsigned long e = ERR_peek_error();
        const char *why = is_asked ? "needs a passphrase, which is unsupported"
                          : ERR_GET_LIB(e) == ERR_LIB_SYS
                              ? reason(e)
                              : "holds no readable private key";
        return refuse(to, "key", key, why);
    }
    if (SSL_CTX_use_certificate_chain_file(ssl, cert) != 1) {
        return refuse(to, "cert", cert, reason(ERR_peek_error()));
    }
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    if (SSL_CTX_check_private_key(ssl) != 1) {
        return refuse(to, "key", key, "does not fit the cert");
    }
    return 1;
}

static int set_up(struct tls_context *c, const struct tls_options *o,
                  struct report to) {
    c->ssl = SSL_CTX_new(TLS_client_method());
    c->wire = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "neap tls");
    if (!c->ssl || !c->wire || !BIO_meth_set_read(c->wire, wire_read) ||
        !BIO_meth_set_write(c->wire, wire_write) ||
        !BIO_meth_set_ctrl(c->wire, wire_ctrl) ||
        !SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION)) {
        return refuse(to, "library", OPENSSL_VERSION_TEXT,
                      reason(ERR_peek_error()));
    }
    SSL_CTX_set_mode(c->ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    int mode = o->is_verified ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    SSL_CTX_set_verify(c->ssl, mode, NULL);
    if (o->ca && !SSL_CTX_load_verify_locations(c->ssl, o->ca, NULL)) {
        return refuse(to, "ca", o->ca, reason(ERR_peek_error()));
    }
    if (!o->ca && o->is_verified && !SSL_CTX_set_default_verify_paths(c->ssl)) {
        return refuse(to, "ca", "the system's", reason(ERR_peek_error()));
    }
    const char *key = o->key ? o->key : o->cert;
    return !key || use_certificate(c->ssl, o->cert, key, to);
}

struct tls_context *tls_context_new(const struct tls_options *o, char *err,
                                    size_t errlen) {
    struct tls_context *c = xcalloc(1, sizeof *c);
    c->refs = 1;
    ERR_clear_error();
    if (!set_up(c, o, (struct report){err, errlen})) {
        tls_context_free(c);
        c = NULL;
    }
    ERR_clear_error();
    return c;
}

void tls_context_free(struct tls_context *c) {
    if (c && --c->refs == 0) {
        SSL_CTX_free(c->ssl);
        BIO_meth_free(c->wire);
        free(c);
    }
}

// To OpenSSL an empty name would mean that any will do. An IP address is no
// subject for SNI (RFC 6066 §3).
static int set_name(SSL *ssl, const char *name) {
    if (!name || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)) {
        return name != NULL;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return *name && SSL_set1_host(ssl, name) &&
           SSL_set_tlsext_host_name(ssl, name);
}

struct tls *tls_new(struct tls_context *c, const char *name, const char *sni) {
    struct tls *t = xcalloc(1, sizeof *t);
    t->context = c;
    c->refs++;
    t->ssl = SSL_new(c->ssl);
    BIO *wire = BIO_new(c->wire);
    if (!t->ssl || !wire) {
        abort(); // out of memory
    }
    BIO_set_data(wire, t);
    SSL_set_bio(t->ssl, wire, wire);
    SSL_set_connect_state(t->ssl);
    name = sni ? sni : name;
    if (!set_name(t->ssl, name)) {
        t->has_failed = true;
        snprintf(t->error, sizeof t->error, "bad server name \"%.300s\"",
                 name ? name : "");
    }
    ERR_clear_error();
    return t;
}

void tls_free(struct tls *t) {
    if (t) {
        SSL_free(t->ssl);
        tls_context_free(t->context);
        buf_clear(&t->in);
        buf_clear(&t->out);
        buf_clear(&t->held);
        free(t);
    }
}

void tls_feed(struct tls *t, const void *bytes, size_t len) {
    if (!t->first && len) {
        t->first = *(const unsigned char *)bytes;
    }
    if (t->taken > t->in.len / 2) {
        buf_shift(&t->in, t->taken);
        t->taken = 0;
    }
    buf_add(&t->in, bytes, len);
}

// result makes 1, 0 (needs more from the peer) or -1 of what OpenSSL returned.
static int result(struct tls *t, int r) {
    int why = SSL_get_error(t->ssl, r);
    if (why == SSL_ERROR_NONE || why == SSL_ERROR_WANT_READ) {
        return why == SSL_ERROR_NONE;
    }
    unsigned long e = ERR_peek_last_error();
    bool is_foreign =
        t->first && t->first != SSL3_RT_HANDSHAKE && t->first != SSL3_RT_ALERT;
    const char *text = why == SSL_ERROR_ZERO_RETURN ? "closed by the peer"
                       : is_foreign ? "the peer does not speak TLS"
                                    : reason(e);
    bool is_verdict = ERR_GET_LIB(e) == ERR_LIB_SSL &&
                      ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    long verdict = SSL_get_verify_result(t->ssl);
    snprintf(t->error, sizeof t->error, is_verdict ? "%s: %s" : "%s", text,
             X509_verify_cert_error_string(verdict));
    t->has_failed = true;
    ERR_clear_error();
    return -1;
}

static int encrypt(struct tls *t, const void *bytes, size_t len) {
    size_t n;
    ERR_clear_error();
    return result(t, SSL_write_ex(t->ssl, bytes, len, &n));
}

static void release_held(struct tls *t) {
    if (t->held.len && encrypt(t, t->held.data, t->held.len) == 1) {
        buf_clear(&t->held);
    }
}

int tls_handshake(struct tls *t) {
    ERR_clear_error();
    int r = t->has_failed ? -1 : result(t, SSL_do_handshake(t->ssl));
    if (r == 1) {
        release_held(t);
    }
    return t->has_failed ? -1 : r;
}

int tls_write(struct tls *t, const void *bytes, size_t len) {
    // A write that OpenSSL put off has to be repeated before another.
    if (!t->has_failed && len && (t->held.len || !encrypt(t, bytes, len))) {
        buf_add(&t->held, bytes, len);
    }
    return t->has_failed ? -1 : 0;
}

long tls_read(struct tls *t, void *out, size_t size) {
    if (t->has_failed) {
        return -1;
    }
    size_t len = 0;
    int r = 1;
    ERR_clear_error();
    while (r == 1 && len < size) { // OpenSSL gives a record at a time
        size_t n = 0;
        r = SSL_read_ex(t->ssl, (char *)out + len, size - len, &n);
        len += n;
    }
    if (SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN) {
        return len ? (long)len : TLS_END;
    }
    if (result(t, r) >= 0) {
        release_held(t);
    }
    return t->has_failed && !len ? -1 : (long)len;
}

struct buf *tls_out(struct tls *t) {
    return &t->out;
}

const char *tls_error(struct tls *t) {
    return t->error;
}

void tls_close(struct tls *t) {
    if (!t->has_failed) {
        SSL_shutdown(t->ssl);
    }
    ERR_clear_error();
}
