// client: HTTP requests: what is plain over http/wire, all else by libcurl.
#include "http/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "http/curl_fetch.h"
#include "http/response.h"

static const double connect_seconds = 5;
static const size_t head_bytes = 64 * 1024;
static const uint64_t body_bytes = 64 << 20;

struct http_client {
    struct runtime *rt;
    struct resource resource;
    struct list fetches, news;
    struct defer tell;
    void (*on_end)(void *arg);
    void *on_end_arg;
    struct wire *wire;         // NULL until it is needed,
    struct curl_fetches *curl; // as this
};

// -- telling

void fetch_tell(struct http_fetch *f) {
    if (list_is_empty(&f->news)) {
        list_append(&f->client->news, &f->news);
    }
}

void fetch_tell_all(struct http_client *c) {
    while (!list_is_empty(&c->news)) {
        struct http_fetch *f =
            list_entry(c->news.next, struct http_fetch, news);
        list_remove(&f->news);
        f->on_change(f);
    }
}

// -- the end of a fetch

static void detach(struct http_fetch *f) {
    timer_stop(&f->client->rt->timers, &f->timer);
    if (f->wire) {
        wire_free(f->wire);
        f->wire = NULL;
    }
    if (f->easy) {
        curl_fetch_end(f);
    }
}

void fetch_fail(struct http_fetch *f, const char *code, const char *text) {
    if (!f->code[0]) {
        snprintf(f->code, sizeof f->code, "%s", code);
        snprintf(f->error, sizeof f->error, "%s", text);
    }
}

void fetch_finish(struct http_fetch *f) {
    if (f->code[0]) {
        f->phase = f->wire   ? wire_phase(f->wire)
                   : f->easy ? curl_fetch_phase(f)
                             : "start";
    }
    detach(f);
    f->is_over = true;
    fetch_tell(f);
}

static void on_tell(struct defer *d) {
    fetch_tell_all(list_entry(d, struct http_client, tell));
}

static void on_deadline(struct timer *t) {
    struct http_fetch *f = list_entry(t, struct http_fetch, timer);
    struct http_client *c = f->client;
    fetch_fail(f, "http.timeout", "the response took too long");
    fetch_finish(f);
    fetch_tell_all(c);
}

// -- starting

double fetch_connect_limit(const struct http_fetch_options *o) {
    return o->connect_timeout ? o->connect_timeout : connect_seconds;
}

bool fetch_wants_length(const char *method) {
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

static void start_curl(struct http_fetch *f,
                       const struct http_fetch_options *o) {
    struct http_client *c = f->client;
    char error[256];
    if (!c->curl) {
        c->curl = curl_fetches_new(c->rt, c, error, sizeof error);
    }
    if (!c->curl) {
        fetch_fail(f, "http.library", error);
        fetch_finish(f);
        return;
    }
    curl_fetch_start(c->curl, f, o);
}

// -- what goes without libcurl

// A URL as the wire takes it.
struct place {
    struct slice authority, host, target;
    int port;
};

const char *http_url_fault(const char *url, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)url[i] <= ' ' || url[i] == 127) {
            return "character";
        }
    }
    bool is_ours = strncasecmp(url, "http://", 7) == 0 ||
                   strncasecmp(url, "https://", 8) == 0;
    return is_ours ? NULL : "scheme";
}

// split takes a plain URL apart; false for one that libcurl is to look at.
static bool split(const char *url, struct place *place) {
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0 || strstr(url, "/.")) {
        return false;
    }
    const char *p = url + sizeof scheme - 1;
    size_t len = strcspn(p, "/?#");
    const char *target = p + len;
    const char *colon = memchr(p, ':', len);
    size_t host = colon ? (size_t)(colon - p) : len;
    for (size_t i = 0; i < len; i++) {
        bool is_usual = (p[i] >= 'a' && p[i] <= 'z') ||
                        (p[i] >= '0' && p[i] <= '9') || p[i] == '.' ||
                        p[i] == '-' || p + i == colon;
        if (!is_usual) {
            return false;
        }
    }
    long port = 80;
    if (colon) {
        char *end;
        port = strtol(colon + 1, &end, 10);
        if (end != target || end == colon + 1) {
            return false;
        }
    }
    *place = (struct place){{p, port == 80 ? host : len},
                            {p, host},
                            {target, strcspn(target, "#")},
                            (int)port};
    return host > 0 && host < 256 && port > 0 && port < 65536;
}

static bool has_field(struct slice fields, const char *name) {
    const char *p = fields.p, *end = p + fields.len;
    while (p && p < end) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        if (slice_equals((struct slice){p, (size_t)(colon - p)}, name)) {
            return true;
        }
        p = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1;
    }
    return false;
}

static void write_head(struct buf *b, const struct http_fetch_options *o,
                       const struct place *place) {
    struct slice t = place->target;
    buf_reserve(b, 256 + t.len + o->fields.len);
    buf_adds(b, o->method);
    buf_addc(b, ' ');
    if (t.len == 0 || t.p[0] != '/') {
        buf_addc(b, '/');
    }
    buf_add(b, t.p, t.len);
    buf_adds(b, " HTTP/1.1\r\n");
    if (!has_field(o->fields, "host")) {
        buf_adds(b, "Host: ");
        buf_add(b, place->authority.p, place->authority.len);
        buf_adds(b, "\r\n");
    }
    if (!has_field(o->fields, "user-agent")) {
        buf_adds(b, "User-Agent: neap/" NEAP_VERSION "\r\n");
    }
    if (!has_field(o->fields, "accept")) {
        buf_adds(b, "Accept: */*\r\n");
    }
    if (!o->is_encoded && !has_field(o->fields, "accept-encoding")) {
        buf_adds(b, "Accept-Encoding: gzip\r\n");
    }
    if (o->has_body || fetch_wants_length(o->method)) {
        buf_adds(b, "Content-Length: ");
        buf_addu(b, o->body.len);
        buf_adds(b, "\r\n");
    }
    buf_add(b, o->fields.p, o->fields.len);
    buf_adds(b, "\r\n");
}

static void on_wire(struct wire_call *w) {
    struct http_fetch *f = w->ctx;
    f->status = w->answer.status;
    f->head = w->answer.head;
    f->body = w->answer.body;
    w->answer.head = w->answer.body = (struct buf){0};
    if (w->code) {
        fetch_fail(f, w->code, w->error);
    }
    fetch_finish(f);
    fetch_tell_all(f->client);
}

// is_repeatable: RFC 9110 §9.2.2.
static bool is_repeatable(const char *method) {
    static const char *const names[] = {"GET",    "HEAD",    "PUT",
                                        "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(method, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool start_wire(struct http_fetch *f,
                       const struct http_fetch_options *o) {
    struct http_client *c = f->client;
    struct place place;
    if (o->is_streamed || o->is_upload || o->proxy || !split(o->url, &place)) {
        return false;
    }
    struct wire_options options = {
        .host = place.host,
        .port = place.port,
        .path = o->socket,
        .body = o->body,
        .is_head = strcmp(o->method, "HEAD") == 0,
        .is_repeatable = is_repeatable(o->method),
        .is_decoding = !o->is_encoded,
        .connect_timeout = fetch_connect_limit(o),
        .head_max = f->head_max,
        .body_max = f->body_max,
    };
    write_head(&options.head, o, &place);
    c->wire = c->wire ? c->wire : wire_new(c->rt);
    f->wire = wire_start(c->wire, &options, on_wire, f);
    return true;
}

// -- fetches

struct http_fetch *http_fetch_start(struct http_client *c,
                                    const struct http_fetch_options *o,
                                    void (*on_change)(struct http_fetch *f),
                                    void *ctx) {
    struct http_fetch *f = xcalloc(1, sizeof *f);
    f->client = c;
    f->on_change = on_change;
    f->ctx = ctx;
    f->is_streamed = o->is_streamed;
    f->is_timed = o->is_timed;
    f->head_max = o->head_max ? o->head_max : head_bytes;
    f->body_max = o->body_max      ? o->body_max
                  : o->is_streamed ? UINT64_MAX
                                   : body_bytes;
    timer_init(&f->timer, on_deadline);
    list_append(&c->fetches, &f->link);
    list_init(&f->news);
    if (!start_wire(f, o)) {
        start_curl(f, o);
    }
    if (o->timeout && !f->is_over) {
        timer_start(&c->rt->timers, &f->timer, timer_after(o->timeout));
    }
    if (f->is_over) {
        runtime_defer(c->rt, &c->tell);
    }
    return f;
}

void http_fetch_free(struct http_fetch *f) {
    if (f->client) {
        detach(f);
        list_remove(&f->link);
        list_remove(&f->news);
    }
    buf_clear(&f->head);
    buf_clear(&f->body);
    buf_clear(&f->upload);
    free(f);
}

// -- streams

bool http_fetch_has_room(const struct http_fetch *f) {
    return f->is_over || f->upload.len < FETCH_STREAM_HIGH;
}

bool http_fetch_send(struct http_fetch *f, const char *s, size_t len) {
    if (s) {
        buf_add(&f->upload, s, len);
    } else {
        f->is_upload_over = true;
    }
    if (f->is_upload_paused && f->easy) {
        f->is_upload_paused = false;
        curl_fetch_resume(f);
    }
    return http_fetch_has_room(f);
}

void http_fetch_taken(struct http_fetch *f) {
    f->body.len = 0;
    if (f->is_paused && f->easy) {
        f->is_paused = false;
        curl_fetch_resume(f);
    }
}

// -- the client

static void close_client(struct resource *r) {
    struct http_client *c = list_entry(r, struct http_client, resource);
    c->on_end(c->on_end_arg);
    for (struct list *n = c->fetches.next; n != &c->fetches; n = n->next) {
        struct http_fetch *f = list_entry(n, struct http_fetch, link);
        if (!f->is_over) {
            fetch_fail(f, "http.closed", "the process ends");
            fetch_finish(f);
        }
    }
    fetch_tell_all(c);
    while (!list_is_empty(&c->fetches)) { // those that their owners keep
        struct http_fetch *f =
            list_entry(c->fetches.next, struct http_fetch, link);
        list_remove(&f->link);
        f->client = NULL;
    }
    if (c->wire) {
        wire_close(c->wire);
    }
    runtime_undefer(c->rt, &c->tell);
    if (c->curl) {
        curl_fetches_close(c->curl);
    }
    free(c);
}

struct http_client *http_client_new(struct runtime *rt,
                                    void (*on_end)(void *arg), void *arg) {
    struct http_client *c = xcalloc(1, sizeof *c);
    c->rt = rt;
    c->on_end = on_end;
    c->on_end_arg = arg;
    c->tell.fn = on_tell;
    c->resource.close = close_client;
    list_init(&c->fetches);
    list_init(&c->news);
    runtime_add(rt, &c->resource);
    return c;
}
