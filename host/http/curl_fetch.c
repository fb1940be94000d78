// curl_fetch: the fetches that libcurl carries, by its multi interface on the
// runtime's loop.
#include "http/curl_fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "http/response.h"

static const long kept_connections = 4096;
enum { kept_easies = 1024, kicks_most = 8, lane_count = 64 };

// What is known of a file descriptor. libcurl tells when it closes a
// connection, but neither of one that is still being made nor of a resolver's
// socket.
enum fd_state { FD_UNKNOWN, FD_OPENED, FD_CONNECTED };

// A socket of libcurl's, as the loop watches it.
struct watch {
    uv_poll_t poll;
    struct lane *lane;
    curl_socket_t fd;
    int events;     // watched for
    bool is_wanted; // by libcurl; else it lies idle in its pool
};

// A lane has the connections to some servers: libcurl looks at all connections
// of a multi at the end of each request.
struct lane {
    struct curl_fetches *fetches;
    CURLM *multi;       // NULL until it is used
    struct timer timer; // libcurl's own
    struct defer kick;  // it has something to do now
    bool is_due;
};

struct curl_fetches {
    struct runtime *rt;
    struct http_client *client;
    const struct curl *curl;
    struct lane lanes[lane_count];
    struct watch **watches; // by file descriptor
    uint8_t *states;        // likewise, of fd_state
    int watch_count;
    CURL *easies[kept_easies]; // that are free
    int easy_count;
};

static const struct curl *curl_of(const struct http_fetch *f) {
    return f->lane->fetches->curl;
}

// -- the end of a fetch

const char *curl_fetch_phase(const struct http_fetch *f) {
    const struct curl *curl = curl_of(f);
    curl_off_t resolved = 0, connected = 0, ready = 0;
    curl->easy_getinfo(f->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
    curl->easy_getinfo(f->easy, CURLINFO_CONNECT_TIME_T, &connected);
    curl->easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
    if (strcmp(f->code, "http.tls") == 0) {
        return "tls";
    }
    if (f->head.len > 0) {
        return "receive";
    }
    if (ready > 0) {
        return "wait";
    }
    return connected > 0 ? "tls" : resolved > 0 ? "connect" : "resolve";
}

static const char *code_of(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return "http.resolve";
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY: return "http.connect";
    case CURLE_OPERATION_TIMEDOUT: return "http.timeout";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_SHUTDOWN_FAILED: return "http.tls";
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE: return "http.closed";
    case CURLE_URL_MALFORMAT: return "http.url";
    case CURLE_OUT_OF_MEMORY: return "memory";
    default: return "http.protocol";
    }
}

void curl_fetch_end(struct http_fetch *f) {
    struct curl_fetches *c = f->lane->fetches;
    c->curl->multi_remove_handle(f->lane->multi, f->easy);
    if (c->easy_count < kept_easies) {
        c->curl->easy_reset(f->easy);
        c->easies[c->easy_count++] = f->easy;
    } else {
        c->curl->easy_cleanup(f->easy);
    }
    c->curl->slist_free_all(f->fields);
    f->easy = NULL;
    f->fields = NULL;
}

static void on_message(struct curl_fetches *c, CURLMsg *message) {
    void *owner = NULL;
    c->curl->easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
    struct http_fetch *f = owner;
    CURLcode code = message->data.result;
    if (code != CURLE_OK) {
        bool is_told = f->curl_error[0];
        fetch_fail(f, code_of(code),
                   is_told ? f->curl_error : c->curl->easy_strerror(code));
    } else if (!f->has_head) {
        fetch_fail(f, "http.protocol", "no response came");
    }
    fetch_finish(f);
}

// -- driving libcurl

static void act(struct lane *l, curl_socket_t fd, int events) {
    struct curl_fetches *c = l->fetches;
    int running, left;
    CURLMsg *message;
    c->curl->multi_socket_action(l->multi, fd, events, &running);
    while ((message = c->curl->multi_info_read(l->multi, &left))) {
        if (message->msg == CURLMSG_DONE) {
            on_message(c, message);
        }
    }
}

static void on_kick(struct defer *d) {
    struct lane *l = list_entry(d, struct lane, kick);
    for (int i = 0; l->is_due && i < kicks_most; i++) {
        l->is_due = false;
        act(l, CURL_SOCKET_TIMEOUT, 0);
    }
    if (l->is_due) { // others have their turn first
        timer_start(&l->fetches->rt->timers, &l->timer, timer_after(0));
    }
    fetch_tell_all(l->fetches->client);
}

static void on_timer(struct timer *t) {
    struct lane *l = list_entry(t, struct lane, timer);
    l->is_due = true;
    on_kick(&l->kick);
}

static int on_timeout_set(CURLM *multi, long ms, void *arg) {
    struct lane *l = arg;
    struct runtime *rt = l->fetches->rt;
    (void)multi;
    timer_stop(&rt->timers, &l->timer);
    if (ms == 0) {
        l->is_due = true;
        runtime_defer(rt, &l->kick);
    } else if (ms > 0) {
        timer_start(&rt->timers, &l->timer, timer_after((double)ms / 1000));
    }
    return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *w = poll->data;
    // an error shows when it reads, perhaps behind an answer
    int flags = status < 0 ? CURL_CSELECT_IN | CURL_CSELECT_OUT : 0;
    if (status < 0) { // uv has stopped it
        w->events = 0;
    }
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    if (!w->is_wanted) { // it ended, or says what nobody asked for
        w->events = 0;
        uv_poll_stop(poll);
        return;
    }
    struct http_client *client = w->lane->fetches->client;
    act(w->lane, w->fd, flags);
    fetch_tell_all(client);
}

static void grow_watches(struct curl_fetches *c, int fd) {
    int count = c->watch_count;
    while (fd >= c->watch_count) {
        c->watch_count = c->watch_count ? c->watch_count * 2 : 64;
    }
    size_t n = (size_t)c->watch_count, more = n - (size_t)count;
    if (more) {
        c->watches = xrealloc(c->watches, n * sizeof c->watches[0]);
        c->states = xrealloc(c->states, n * sizeof c->states[0]);
        memset(c->watches + count, 0, more * sizeof c->watches[0]);
        memset(c->states + count, 0, more * sizeof c->states[0]);
    }
}

static void on_closed(uv_handle_t *h) {
    free(h->data);
}

static void unwatch(struct curl_fetches *c, int fd) {
    struct watch *w = fd < c->watch_count ? c->watches[fd] : NULL;
    if (w) {
        c->watches[fd] = NULL;
        uv_poll_stop(&w->poll);
        uv_close((uv_handle_t *)&w->poll, on_closed);
    }
}

static void watch(struct lane *l, int fd, int events) {
    struct curl_fetches *c = l->fetches;
    grow_watches(c, fd);
    struct watch *w = c->watches[fd];
    if (!w) {
        w = xcalloc(1, sizeof *w);
        w->lane = l;
        w->fd = fd;
        w->poll.data = w;
        if (uv_poll_init(c->rt->loop, &w->poll, fd) < 0) {
            free(w); // not a socket: its fetch runs into its deadline
            return;
        }
        c->watches[fd] = w;
    }
    if (w->events != events) {
        w->events = events;
        uv_poll_start(&w->poll, events, on_poll);
    }
    w->is_wanted = true;
    uv_ref((uv_handle_t *)&w->poll);
    if (events == UV_READABLE && c->states[fd] == FD_OPENED) {
        c->states[fd] = FD_CONNECTED;
    }
}

// rest: libcurl keeps the connection for later. It stays watched for its end,
// which saves two system calls if it is soon used again.
static void rest(struct curl_fetches *c, int fd) {
    struct watch *w = fd < c->watch_count ? c->watches[fd] : NULL;
    if (!w) {
        return;
    }
    w->is_wanted = false;
    uv_unref((uv_handle_t *)&w->poll);
    if (w->events & UV_WRITABLE) {
        w->events = UV_READABLE;
        uv_poll_start(&w->poll, w->events, on_poll);
    }
}

static int on_socket_set(CURL *easy, curl_socket_t fd, int what, void *arg,
                         void *socket_arg) {
    struct lane *l = arg;
    struct curl_fetches *c = l->fetches;
    (void)easy, (void)socket_arg;
    switch (what) {
    case CURL_POLL_IN: watch(l, fd, UV_READABLE); break;
    case CURL_POLL_OUT: watch(l, fd, UV_WRITABLE); break;
    case CURL_POLL_INOUT: watch(l, fd, UV_READABLE | UV_WRITABLE); break;
    case CURL_POLL_REMOVE:
        grow_watches(c, fd);
        if (c->states[fd] == FD_CONNECTED) {
            rest(c, fd);
        } else {
            c->states[fd] = FD_UNKNOWN;
            unwatch(c, fd);
        }
        break;
    default: break;
    }
    return 0;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose,
                             struct curl_sockaddr *address) {
    struct curl_fetches *c = arg;
    (void)purpose;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);
    if (fd >= 0) {
        grow_watches(c, fd);
        c->states[fd] = FD_OPENED;
    }
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int on_close(void *arg, curl_socket_t fd) {
    struct curl_fetches *c = arg;
    unwatch(c, fd);
    if (fd < c->watch_count) {
        c->states[fd] = FD_UNKNOWN;
    }
    return close(fd);
}

// -- what a response brings

// read_status reads the number of a status line; 0 if there is none.
static int read_status(const char *s, size_t len) {
    const char *space = memchr(s, ' ', len);
    size_t at = space ? (size_t)(space - s) + 1 : len;
    int status = 0;
    for (size_t i = at; i < len && i < at + 3; i++) {
        status = status * 10 + (s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : 0);
    }
    return status;
}

// end_head: the head is whole. libcurl is lenient, so it is read once more as
// plain responses are: what is taken for a field is one, whatever came.
static bool end_head(struct http_fetch *f) {
    struct http_reply reply;
    size_t scanned = 0;
    buf_add(&f->head, "\r\n", 2);
    bool is_1 = f->head.len > 6 && memcmp(f->head.data, "HTTP/1", 6) == 0;
    if (is_1 && http_parse_reply(&reply, f->head.data, f->head.len, &scanned) !=
                    HTTP_OK) {
        fetch_fail(f, "http.protocol", "what came is no response of HTTP/1.1");
        return false;
    }
    f->head.len -= 2;
    if (f->is_streamed && !f->is_timed) {
        timer_stop(&f->lane->fetches->rt->timers, &f->timer);
    }
    if (f->is_streamed) {
        fetch_tell(f);
    }
    return true;
}

static size_t on_field(char *s, size_t size, size_t count, void *arg) {
    struct http_fetch *f = arg;
    size_t len = size * count;
    if (f->has_head) { // a trailer
        return len;
    }
    bool is_line = len > 5 && memcmp(s, "HTTP/", 5) == 0;
    if (is_line) { // behind a 100 or 103 comes another
        f->head.len = 0;
        f->status = read_status(s, len);
    }
    if (f->head.len + len > f->head_max) {
        fetch_fail(f, "http.too_large",
                   "the head of the response is too large");
        return 0;
    }
    if (len <= 2 && f->status >= 200) {
        f->has_head = end_head(f);
        return f->has_head ? len : 0;
    }
    buf_add(&f->head, s, len);
    return len;
}

static size_t on_body(char *s, size_t size, size_t count, void *arg) {
    struct http_fetch *f = arg;
    size_t len = size * count;
    if (f->is_streamed && f->body.len >= FETCH_STREAM_HIGH) {
        f->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    f->body_seen += len;
    if (f->body_seen > f->body_max) {
        char text[80];
        snprintf(text, sizeof text, "the body is larger than %llu bytes",
                 (unsigned long long)f->body_max);
        fetch_fail(f, "http.too_large", text);
        return 0;
    }
    buf_add(&f->body, s, len);
    if (f->is_streamed) {
        fetch_tell(f);
    }
    return len;
}

static size_t on_upload(char *s, size_t size, size_t count, void *arg) {
    struct http_fetch *f = arg;
    size_t n = size * count;
    if (f->upload.len == 0) {
        f->is_upload_paused = !f->is_upload_over;
        return f->is_upload_over ? 0 : CURL_READFUNC_PAUSE;
    }
    n = n < f->upload.len ? n : f->upload.len;
    memcpy(s, f->upload.data, n);
    buf_shift(&f->upload, n);
    fetch_tell(f);
    return n;
}

// -- starting

// set_method and what its body is. libcurl's own methods but GET and HEAD are
// those with a body; the name on the wire is another matter.
static void set_method(const struct curl *curl, CURL *e,
                       const struct http_fetch_options *o) {
    bool is_post = strcmp(o->method, "POST") == 0;
    bool has_body = o->has_body || fetch_wants_length(o->method);
    if (strcmp(o->method, "HEAD") == 0) {
        curl->easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    }
    if (o->is_upload) {
        curl->easy_setopt(e, CURLOPT_UPLOAD, 1L);
    } else if (has_body) {
        curl->easy_setopt(e, CURLOPT_POST, 1L);
        curl->easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
                          (curl_off_t)o->body.len);
        curl->easy_setopt(e, CURLOPT_POSTFIELDS, o->has_body ? o->body.p : "");
    }
    bool is_own = has_body ? is_post : strcmp(o->method, "GET") == 0;
    if (!is_own || o->is_upload) {
        curl->easy_setopt(e, CURLOPT_CUSTOMREQUEST, o->method);
    }
}

// set_fields adds the request's fields to the list, and keeps libcurl from
// adding some of its own.
static void set_fields(struct http_fetch *f,
                       const struct http_fetch_options *o) {
    const struct curl *curl = curl_of(f);
    const char *p = o->fields.p, *end = p + o->fields.len;
    bool has_type = false;
    struct buf line = {0};
    while (p && p < end) {
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        struct slice name = {p, (size_t)(colon - p)};
        has_type = has_type || slice_equals(name, "content-type");
        line.len = 0;
        if (stop - colon <= 2) { // "Name:" would take the field out
            buf_add(&line, name.p, name.len);
            buf_addc(&line, ';');
        } else {
            buf_add(&line, p, (size_t)(stop - p));
        }
        f->fields = curl->slist_append(f->fields, buf_cstr(&line));
        p = stop + 2;
    }
    buf_clear(&line);
    f->fields = curl->slist_append(f->fields, "Expect:");
    if (!has_type) {
        f->fields = curl->slist_append(f->fields, "Content-Type:");
    }
    curl->easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->fields);
}

static void set_callbacks(struct http_fetch *f) {
    const struct curl *curl = curl_of(f);
    CURL *e = f->easy;
    curl->easy_setopt(e, CURLOPT_PRIVATE, f);
    curl->easy_setopt(e, CURLOPT_ERRORBUFFER, f->curl_error);
    curl->easy_setopt(e, CURLOPT_HEADERFUNCTION, on_field);
    curl->easy_setopt(e, CURLOPT_HEADERDATA, f);
    curl->easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl->easy_setopt(e, CURLOPT_WRITEDATA, f);
    curl->easy_setopt(e, CURLOPT_READFUNCTION, on_upload);
    curl->easy_setopt(e, CURLOPT_READDATA, f);
    curl->easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl->easy_setopt(e, CURLOPT_OPENSOCKETDATA, f->lane->fetches);
    curl->easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl->easy_setopt(e, CURLOPT_CLOSESOCKETDATA, f->lane->fetches);
}

static CURLcode set_security(const struct curl *curl, CURL *e,
                             const struct http_fetch_options *o) {
    CURLcode code = CURLE_OK;
    if (o->is_unverified) {
        curl->easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
        curl->easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (o->ca) {
        code = curl->easy_setopt(e, CURLOPT_CAINFO, o->ca);
        curl->easy_setopt(e, CURLOPT_CAPATH, NULL);
    }
    if (o->cert) {
        code = curl->easy_setopt(e, CURLOPT_SSLCERT, o->cert);
        curl->easy_setopt(e, CURLOPT_SSLKEY, o->key ? o->key : o->cert);
    }
    return code;
}

static CURLcode set_options(struct http_fetch *f,
                            const struct http_fetch_options *o) {
    const struct curl *curl = curl_of(f);
    CURL *e = f->easy;
    double connect = fetch_connect_limit(o);
    set_callbacks(f);
    set_method(curl, e, o);
    curl->easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    set_fields(f, o);
    curl->easy_setopt(e, CURLOPT_USERAGENT, "neap/" NEAP_VERSION);
    curl->easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    // a resolver that hangs is left behind instead of waited for
    curl->easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    curl->easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl->easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect * 1000) + 1);
    // what the environment says is not for one program among many
    curl->easy_setopt(e, CURLOPT_PROXY, o->proxy ? o->proxy : "");
    if (!o->is_encoded) {
        curl->easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    }
    if (o->socket) {
        curl->easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, o->socket);
    }
    if (strncmp(o->url, "https", 5) == 0) {
        // wait for a connection that is being made: HTTP/2 may share it
        curl->easy_setopt(e, CURLOPT_PIPEWAIT, 1L);
    }
    CURLcode code = set_security(curl, e, o);
    return code ? code : curl->easy_setopt(e, CURLOPT_URL, o->url);
}

// lane_of returns the lane of a URL's server.
static struct lane *lane_of(struct curl_fetches *c, const char *url) {
    const char *host = strstr(url, "://");
    size_t scheme = host ? (size_t)(host - url) + 3 : 0;
    size_t len = scheme + strcspn(url + scheme, "/?#");
    struct lane *l = &c->lanes[hash128(url, len).low % lane_count];
    if (!l->multi) {
        const struct curl *curl = c->curl;
        l->multi = curl->multi_init();
        curl->multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket_set);
        curl->multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
        curl->multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timeout_set);
        curl->multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
        curl->multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, kept_connections);
    }
    return l;
}

void curl_fetch_start(struct curl_fetches *c, struct http_fetch *f,
                      const struct http_fetch_options *o) {
    f->lane = lane_of(c, o->url);
    f->easy = c->easy_count ? c->easies[--c->easy_count] : c->curl->easy_init();
    CURLcode code = set_options(f, o);
    if (code != CURLE_OK) {
        fetch_fail(f, code_of(code), c->curl->easy_strerror(code));
        fetch_finish(f);
        return;
    }
    c->curl->multi_add_handle(f->lane->multi, f->easy);
}

void curl_fetch_resume(struct http_fetch *f) {
    int mask = (f->is_paused ? CURLPAUSE_RECV : 0) |
               (f->is_upload_paused ? CURLPAUSE_SEND : 0);
    curl_of(f)->easy_pause(f->easy, mask);
    f->lane->is_due = true;
    runtime_defer(f->lane->fetches->rt, &f->lane->kick);
}

// -- all of them

struct curl_fetches *curl_fetches_new(struct runtime *rt,
                                      struct http_client *client, char *error,
                                      size_t size) {
    const struct curl *curl = curl_load(error, size);
    if (!curl) {
        return NULL;
    }
    struct curl_fetches *c = xcalloc(1, sizeof *c);
    c->rt = rt;
    c->client = client;
    c->curl = curl;
    for (int i = 0; i < lane_count; i++) {
        struct lane *l = &c->lanes[i];
        l->fetches = c;
        l->kick.fn = on_kick;
        timer_init(&l->timer, on_timer);
    }
    return c;
}

void curl_fetches_close(struct curl_fetches *c) {
    while (c->easy_count) {
        c->curl->easy_cleanup(c->easies[--c->easy_count]);
    }
    for (int i = 0; i < lane_count; i++) {
        struct lane *l = &c->lanes[i];
        if (l->multi) {
            c->curl->multi_cleanup(l->multi);
        }
        timer_stop(&c->rt->timers, &l->timer);
        runtime_undefer(c->rt, &l->kick);
    }
    for (int fd = 0; fd < c->watch_count; fd++) {
        unwatch(c, fd);
    }
    free(c->watches);
    free(c->states);
    free(c);
}
