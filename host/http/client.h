// client: HTTP requests on the runtime's loop. What is plain (http, a whole
// request, a whole response) goes over http/wire, all else (TLS, HTTP/2,
// proxies, streams, names that are not ASCII) by libcurl's multi interface.
// Mechanism only: redirects, retries and what the parts mean are the owner's.
//
//   struct http_fetch *f = http_fetch_start(client, &options, on_change, me);
//   ...on_change(f): f->is_over: f->code, or f->status, f->head, f->body
//   http_fetch_free(f);       // at any time: it is cancelled if it is not over
//
// on_change is called from the loop, never from within these functions.
#ifndef NEAP_HTTP_CLIENT_H
#define NEAP_HTTP_CLIENT_H

#include "base/buf.h"
#include "base/list.h"
#include "core/runtime.h"
#include "http/curl.h"
#include "http/wire.h"

struct http_client;

// http_url_fault returns NULL; "character" if there is a space or a control
// character in the URL, "scheme" if it is none of http or https.
const char *http_url_fault(const char *url, size_t len);

// Zero stands for the default, named in brackets.
struct http_fetch_options {
    const char *url;     // http or https; it is copied
    const char *method;  // a token
    struct slice fields; // "Name: value" CRLF each; it is copied
    struct slice body;   // it has to live as long as the fetch
    bool has_body;
    bool is_upload;         // the body comes by http_fetch_send
    bool is_streamed;       // the response's body goes by http_fetch_taken
    bool is_timed;          // is_streamed: the timeout is for the body, too
    double timeout;         // s, for all of it; is_streamed: up to the end of
                            // the head [none]
    double connect_timeout; // s [5]
    uint64_t body_max;      // bytes of a decoded body [64 MiB; is_streamed:
                            // none]
    size_t head_max;        // bytes [64 KiB]
    const char *proxy;      // URL [none]
    const char *socket;     // path of a unix socket to connect to
    const char *ca;         // PEM file of whom to trust [the system's]
    const char *cert, *key; // PEM files of the client's certificate
    bool is_unverified;     // whoever answers is trusted
    bool is_encoded;        // the body is handed out as it was sent
};

struct http_fetch {
    struct http_client *client;
    struct lane *lane;
    struct list link;          // of the client's fetches
    struct list news;          // in the list of those whose owner is to be told
    struct wire_call *wire;    // or,
    CURL *easy;                // of libcurl,
    struct curl_slist *fields; // and its header
    void (*on_change)(struct http_fetch *f);
    void *ctx;
    // the response
    int status;
    bool has_head, is_over;
    struct buf head; // status line and fields, each with its CRLF
    struct buf body; // is_streamed: what was not taken yet
    char code[24];   // "" or what it failed with: "http.timeout"
    char error[CURL_ERROR_SIZE], curl_error[CURL_ERROR_SIZE];
    const char *phase; // of a failure: "resolve", "connect", "tls", "send",
                       // "wait", "receive"
    // what is under way
    struct timer timer;
    bool is_streamed, is_timed, is_paused;
    uint64_t body_max, body_seen;
    size_t head_max;
    struct buf upload;
    bool is_upload_paused, is_upload_over;
};

// http_client_new makes a client, which is closed with the runtime: on_end is
// called then. It loads libcurl when that is first needed.
struct http_client *http_client_new(struct runtime *rt,
                                    void (*on_end)(void *arg), void *arg);

// http_fetch_start begins a request; on_change is called later, also if it
// fails at once.
struct http_fetch *http_fetch_start(struct http_client *c,
                                    const struct http_fetch_options *o,
                                    void (*on_change)(struct http_fetch *f),
                                    void *ctx);

// http_fetch_free ends it, wherever it is.
void http_fetch_free(struct http_fetch *f);

// http_fetch_send appends bytes to the upload; NULL ends it. It returns whether
// there is room for more: else on_change tells when there is.
bool http_fetch_send(struct http_fetch *f, const char *s, size_t len);
bool http_fetch_has_room(const struct http_fetch *f);

// http_fetch_taken: the body's bytes in hand were taken; more may come.
void http_fetch_taken(struct http_fetch *f);

#endif
