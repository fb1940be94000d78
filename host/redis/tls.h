// tls: a client's end of TLS as a transformation of bytes: no sockets here.
//
//   struct tls_context *c = tls_context_new(&options, err, sizeof err);
//   struct tls *t = tls_new(c, "redis.example.com", NULL);
//   int r = tls_handshake(t);       // until 1: send tls_out, feed the answer
//   tls_write(t, "PING\r\n", 6);    // then send tls_out
//   tls_feed(t, bytes, len);        // what the socket gave
//   while ((n = tls_read(t, out, sizeof out)) > 0) { ... }
//   tls_close(t);                   // then send tls_out, close the socket
//   tls_free(t);
//
// Send tls_out after every call, one that returned -1 included: it may hold an
// alert that tells the peer why, and tls_read has answers of its own to give.
// A socket that ends before tls_read said TLS_END was cut off; only the caller
// sees that. A context and its connections belong to one thread.
#ifndef NEAP_REDIS_TLS_H
#define NEAP_REDIS_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define TLS_ERROR 512  // room enough for any message
#define TLS_END   (-2) // from tls_read: the peer closed in order

struct tls_options {
    const char *ca;   // PEM file of whom to trust; NULL: whom the system does
    const char *cert; // PEM file of the client's certificate chain, or NULL
    const char *key;  // PEM file of its key; NULL: it is in cert
    bool is_verified; // the peer's certificate and the name in it; else neither
};

// tls_context_new readies what all connections of a client share. It reads the
// files, so it blocks. NULL on failure, with the file at fault and the reason
// in err.
struct tls_context *tls_context_new(const struct tls_options *o, char *err,
                                    size_t errlen);

// tls_context_free gives the context up; it lives on until its last connection
// is freed. NULL is fine.
void tls_context_free(struct tls_context *c);

// tls_new begins a connection. name is the DNS name or IP address that the
// certificate must be for, and, if a DNS name, what SNI says; sni, if not NULL,
// takes its place in both. Never NULL: what is wrong with a name comes out of
// tls_handshake.
struct tls *tls_new(struct tls_context *c, const char *name, const char *sni);

// tls_free frees the connection with whatever lies in tls_out. NULL is fine.
void tls_free(struct tls *t);

// tls_feed takes (copies) bytes that came from the peer.
void tls_feed(struct tls *t, const void *bytes, size_t len);

// tls_handshake goes on with the handshake: 1 done, 0 needs more from the peer,
// -1 failed. With TLS 1.3 a peer that refuses the client's certificate says so
// only afterwards, to tls_read.
int tls_handshake(struct tls *t);

// tls_write encrypts all bytes into tls_out and returns 0, or -1. During a
// handshake it keeps a copy instead, which follows once that is done.
int tls_write(struct tls *t, const void *bytes, size_t len);

// tls_read decrypts up to size bytes and returns how many; 0 for none at
// present, TLS_END, or -1. Less than size means that all is read.
long tls_read(struct tls *t, void *out, size_t size);

// tls_out returns what has to be sent to the peer; the caller takes it and
// sets len to 0, or moves the whole buffer out and leaves {0}.
struct buf *tls_out(struct tls *t);

// tls_error returns the reason of the last -1, never empty, valid until the
// next call. A connection that failed stays so, for the same reason.
const char *tls_error(struct tls *t);

// tls_close puts a close_notify into tls_out, if the handshake is done.
void tls_close(struct tls *t);

#endif
