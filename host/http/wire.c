// wire: HTTP/1.1 requests to servers over TCP and unix sockets.
//
// A connection serves one call at a time. What it reads is parsed as it comes;
// between calls it is watched for its end. Its handle outlives it until uv has
// closed that.
//
// A call without a connection waits for one: for the one that is made for it,
// or whichever of its origin's is there first. That serves the newest call,
// which has the most time left; who waited longer takes over what was made for
// that. So under load connections are gained, rather than made for calls that
// give up before they are there.
#include "http/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/mem.h"
#include "core/resolve.h"

enum {
    origin_buckets = 256,
    addresses_most = 8,
    idle_most = 4096,
    connects_of_turn = 16
};
static const double idle_seconds = 60;
static const double resolved_seconds = 30; // for which a name's addresses hold

// Where connections lead to.
struct origin {
    struct origin **bucket, *next;
    struct list idle; // connections, the one used last at the end
    uint32_t users;   // connections and calls
    struct sockaddr_storage addresses[addresses_most]; // of its name
    uint32_t address_count;
    uint64_t resolved_ns;   // when these were found out
    struct resolve *lookup; // of its name, for those who wait
    struct list waiting;    // connections
    struct list dials; // connections that are being made, first those that no
                       // call in particular waits for
    struct list calls; // that have no connection yet, the newest first
    size_t key_len;
    char key[];
};

enum conn_phase { CONN_RESOLVING, CONN_CONNECTING, CONN_OPEN };

struct wire_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct wire *wire;
    struct origin *origin;
    struct wire_call *call;    // NULL while it is idle, or being made
    struct wire_call *starter; // while it is being made: for whom, or NULL
    struct list dial;          // in its origin's list
    struct list idle;          // in its origin's list
    struct list all_idle;      // in that of all, the one idle for longest first
    struct list all;
    uint64_t idle_since_ns;
    enum conn_phase phase;
    bool has_handle, is_closing, is_reused;
    uv_connect_t connect;
    uv_write_t write;
    bool is_writing;
    struct list waiting;                // for the lookup of its origin's name
    struct sockaddr_storage *addresses; // of a name
    uint32_t address_count, next_address;
    struct timer timer; // to connect
    uint64_t due_ns;
};

struct wire {
    struct runtime *rt;
    struct origin *origins[origin_buckets];
    struct list all_idle, all;
    uint32_t idle_count;
    struct list done; // calls
    struct defer tell;
    struct timer reaper;
    uint32_t call_count;
    struct list calls;         // for which none is being made, the newest first
    struct timer pace;         // until more connections may be made
    uint64_t turn, turn_count; // of the loop; how many were begun in it
};

static void try_address(struct wire_conn *c);
static void begin(struct wire_call *w);
static void send_request(struct wire_conn *c);

// -- for whom connections are made

// limit sets the timer of a connection that is being made: an address that does
// not answer leaves time for those behind it.
static void limit(struct wire_conn *c) {
    uint64_t now = uv_hrtime(), left = c->due_ns > now ? c->due_ns - now : 0;
    uint32_t behind = c->address_count - c->next_address;
    timer_start(&c->wire->rt->timers, &c->timer, now + left / (behind + 1));
}

// pair makes c the one that is being made for w, within w's time; either may be
// NULL.
static void pair(struct wire_conn *c, struct wire_call *w) {
    if (w) {
        w->dial = c;
    }
    if (c) {
        c->starter = w;
        list_remove(&c->dial);
    }
    if (c && w) {
        list_append(&c->origin->dials, &c->dial);
        c->due_ns = w->connect_due_ns;
        limit(c);
    } else if (c) {
        list_prepend(&c->origin->dials, &c->dial);
    }
}

// leave_queue: w waits no more; what is being made for it is anybody's.
static void leave_queue(struct wire_call *w) {
    list_remove(&w->link);
    list_remove(&w->near);
    if (w->dial) {
        pair(w->dial, NULL);
        w->dial = NULL;
    }
}

// newest_call returns the one that has waited least for a connection, or NULL.
static struct wire_call *newest_call(struct origin *o) {
    return list_is_empty(&o->calls)
               ? NULL
               : list_entry(o->calls.next, struct wire_call, near);
}

static void serve(struct wire_conn *c, struct wire_call *w) {
    leave_queue(w);
    c->call = w;
    w->conn = c;
    send_request(c);
}

// -- the end of calls and connections

static void on_tell(struct defer *d) {
    struct wire *wire = list_entry(d, struct wire, tell);
    while (!list_is_empty(&wire->done)) {
        struct wire_call *w =
            list_entry(wire->done.next, struct wire_call, link);
        list_remove(&w->link);
        w->on_done(w);
    }
}

static void finish(struct wire_call *w) {
    w->conn = NULL;
    list_append(&w->wire->done, &w->link);
    runtime_defer(w->wire->rt, &w->wire->tell);
}

static void on_closed(uv_handle_t *h) {
    free(h->data);
}

static void drop_origin(struct origin *o) {
    if (--o->users == 0) {
        struct origin **at = o->bucket;
        while (*at != o) {
            at = &(*at)->next;
        }
        *at = o->next;
        free(o);
    }
}

// leave takes an idle connection out of the lists of these.
static void leave(struct wire_conn *c) {
    c->wire->idle_count -= !list_is_empty(&c->idle);
    list_remove(&c->idle);
    list_remove(&c->all_idle);
}

static void close_conn(struct wire_conn *c) {
    if (c->is_closing) {
        return;
    }
    // in the middle of a call a reset tells the server at once that nobody
    // waits, and leaves the system nothing to remember
    bool is_cut = c->call && c->phase == CONN_OPEN && c->handle.type == UV_TCP;
    c->is_closing = true;
    c->call = NULL;
    timer_stop(&c->wire->rt->timers, &c->timer);
    leave(c);
    list_remove(&c->all);
    list_remove(&c->waiting);
    list_remove(&c->dial);
    if (c->starter) {
        c->starter->dial = NULL;
    }
    if (c->origin->lookup && list_is_empty(&c->origin->waiting)) {
        resolve_cancel(c->origin->lookup);
        c->origin->lookup = NULL;
    }
    drop_origin(c->origin);
    free(c->addresses);
    if (!c->has_handle) {
        free(c);
    } else if (!is_cut || uv_tcp_close_reset(&c->tcp, on_closed) < 0) {
        uv_close(&c->handle, on_closed);
    }
}

static const char *phase_of(const struct wire_conn *c) {
    switch (c->phase) {
    case CONN_RESOLVING: return "resolve";
    case CONN_CONNECTING: return "connect";
    default: break;
    }
    return c->call && answer_has_begun(&c->call->answer) ? "receive" : "wait";
}

// fail ends the call and the connection.
static void fail(struct wire_conn *c, const char *code, const char *text) {
    struct wire_call *w = c->call ? c->call : c->starter;
    if (c->phase == CONN_CONNECTING) { // the name may have others by now
        c->origin->address_count = 0;
    }
    if (w) {
        leave_queue(w);
        w->code = code;
        w->phase = phase_of(c);
        c->call = NULL;
        snprintf(w->error, sizeof w->error, "%s", text);
        finish(w);
    }
    close_conn(c);
}

// lose: the connection has ended. One that was kept may have been about to when
// the request was sent: then it goes out again, if it may.
static void lose(struct wire_conn *c, const char *text) {
    struct wire_call *w = c->call;
    if (w && c->is_reused && !answer_has_begun(&w->answer) &&
        w->is_repeatable) {
        c->call = NULL;
        w->conn = NULL;
        close_conn(c);
        begin(w);
        return;
    }
    fail(c, "http.closed", text);
}

// -- idle connections

static void reap(struct wire *wire) {
    uint64_t now = uv_hrtime();
    while (!list_is_empty(&wire->all_idle)) {
        struct wire_conn *c =
            list_entry(wire->all_idle.next, struct wire_conn, all_idle);
        uint64_t due = c->idle_since_ns + (uint64_t)(idle_seconds * 1e9);
        if (due > now) {
            timer_start(&wire->rt->timers, &wire->reaper, due);
            return;
        }
        close_conn(c);
    }
}

static void on_reaper(struct timer *t) {
    reap(list_entry(t, struct wire, reaper));
}

static void rest(struct wire_conn *c) {
    struct wire *wire = c->wire;
    struct wire_call *next = newest_call(c->origin);
    c->call = NULL;
    c->is_reused = true;
    if (next && next->is_repeatable) { // whether it lasts is not known yet
        serve(c, next);
        return;
    }
    c->idle_since_ns = timer_coarse_ns();
    list_append(&c->origin->idle, &c->idle);
    list_append(&wire->all_idle, &c->all_idle);
    uv_unref(&c->handle);
    if (++wire->idle_count > idle_most) {
        close_conn(list_entry(wire->all_idle.next, struct wire_conn, all_idle));
    }
    if (!timer_is_active(&wire->reaper)) {
        timer_start(&wire->rt->timers, &wire->reaper,
                    timer_after(idle_seconds));
    }
}

static struct origin *origin_of(struct wire *wire, const char *key,
                                size_t len) {
    struct origin **bucket =
        &wire->origins[hash128(key, len).low % origin_buckets];
    for (struct origin *o = *bucket; o; o = o->next) {
        if (o->key_len == len && memcmp(o->key, key, len) == 0) {
            return o;
        }
    }
    struct origin *o = xcalloc(1, sizeof *o + len + 1);
    memcpy(o->key, key, len);
    o->key_len = len;
    list_init(&o->idle);
    list_init(&o->waiting);
    list_init(&o->dials);
    list_init(&o->calls);
    o->bucket = bucket;
    o->next = *bucket;
    *bucket = o;
    return o;
}

// -- responses

// over ends the call well.
static void over(struct wire_conn *c) {
    struct wire_call *w = c->call;
    bool is_kept = w->answer.is_kept && !c->is_writing;
    finish(w);
    c->call = NULL;
    if (is_kept) {
        rest(c);
    } else {
        close_conn(c);
    }
}

// take goes on with what has become of the response.
static void take(struct wire_conn *c, enum answer_state state) {
    const struct answer *a = &c->call->answer;
    if (state == ANSWER_WHOLE) {
        over(c);
    } else if (state == ANSWER_BAD) {
        fail(c, a->code, a->error);
    }
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    struct wire_conn *c = h->data;
    struct runtime *rt = c->wire->rt; // consumed within the callback
    (void)hint;
    *b = uv_buf_init(rt->read_buffer, sizeof rt->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct wire_conn *c = stream->data;
    if (n == 0 || c->is_closing) {
        return;
    }
    if (!c->call) { // it says what nobody asked for, or its end
        close_conn(c);
    } else if (n > 0) {
        take(c, answer_read(&c->call->answer, b->base, (size_t)n));
    } else {
        enum answer_state state =
            n == UV_EOF ? answer_end(&c->call->answer) : ANSWER_MORE;
        if (state == ANSWER_MORE) {
            lose(c, n == UV_EOF ? "the server closed the connection"
                                : uv_strerror((int)n));
        } else {
            take(c, state);
        }
    }
}

// -- requests

// on_written: if it failed reading will tell, perhaps of an answer that came
// before all was sent.
static void on_written(uv_write_t *req, int status) {
    struct wire_conn *c = req->data;
    (void)status;
    c->is_writing = false;
}

// send writes the request: at once as far as the socket takes it.
static void send_request(struct wire_conn *c) {
    struct wire_call *w = c->call;
    uv_buf_t b[2] = {
        uv_buf_init(w->request.data, (unsigned)w->request.len),
        uv_buf_init((char *)(uintptr_t)w->request_body.p,
                    (unsigned)w->request_body.len),
    };
    unsigned count = w->request_body.len ? 2 : 1;
    int n = uv_try_write(&c->stream, b, count);
    if (n < 0 && n != UV_EAGAIN) {
        lose(c, uv_strerror(n));
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    size_t all = w->request.len + w->request_body.len;
    if (sent == all) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t part = sent < b[i].len ? sent : b[i].len;
        b[i].base += part;
        b[i].len -= part;
        sent -= part;
    }
    c->is_writing = true;
    c->write.data = c;
    uv_write(&c->write, &c->stream, b, count, on_written);
}

// -- connecting

// take_up lets a new connection serve the newest call. Another for whom it was
// made goes on with what is being made for that one.
static void take_up(struct wire_conn *c) {
    struct wire_call *maker = c->starter, *next = newest_call(c->origin);
    list_remove(&c->dial);
    c->starter = NULL;
    if (maker && maker != next) {
        pair(next->dial, maker);
        maker->dial = next->dial;
        next->dial = NULL;
        if (!maker->dial) {
            list_append(&next->link, &maker->link);
        }
    } else if (maker) {
        maker->dial = NULL;
    }
    if (next) {
        serve(c, next);
    } else {
        rest(c);
    }
}

static void on_connected(uv_connect_t *req, int status) {
    struct wire_conn *c = req->data;
    if (c->is_closing || status == UV_ECANCELED) {
        return;
    }
    if (status < 0 && c->next_address < c->address_count) {
        try_address(c);
        return;
    }
    if (status < 0) {
        fail(c, "http.connect", uv_strerror(status));
        return;
    }
    timer_stop(&c->wire->rt->timers, &c->timer);
    c->phase = CONN_OPEN;
    if (c->handle.type == UV_TCP) {
        uv_tcp_nodelay(&c->tcp, 1);
    }
    uv_read_start(&c->stream, on_alloc, on_read);
    take_up(c);
}

static void on_late(struct timer *t);

// An address that failed leaves its handle to uv, and the rest moves on to a
// connection of its own.
static struct wire_conn *new_conn(struct wire *wire, struct origin *o) {
    struct wire_conn *c = xcalloc(1, sizeof *c);
    c->wire = wire;
    c->origin = o;
    o->users++;
    c->handle.data = c->connect.data = c;
    list_init(&c->idle);
    list_init(&c->all_idle);
    list_init(&c->waiting);
    list_init(&c->dial);
    timer_init(&c->timer, on_late);
    list_append(&wire->all, &c->all);
    return c;
}

static void connect_address(struct wire_conn *c, const struct sockaddr *a) {
    c->phase = CONN_CONNECTING;
    c->has_handle = true;
    uv_tcp_init(c->wire->rt->loop, &c->tcp);
    int rc = uv_tcp_connect(&c->connect, &c->tcp, a, on_connected);
    if (rc < 0 && c->next_address < c->address_count) {
        try_address(c);
    } else if (rc < 0) {
        fail(c, "http.connect", uv_strerror(rc));
    }
}

// try_address goes on to the name's next address, on a new handle.
static void try_address(struct wire_conn *c) {
    struct wire_conn *n = c;
    if (c->has_handle) {
        n = new_conn(c->wire, c->origin);
        n->addresses = c->addresses;
        n->address_count = c->address_count;
        n->next_address = c->next_address;
        n->due_ns = c->due_ns;
        pair(n, c->starter);
        c->starter = NULL;
        c->addresses = NULL;
        close_conn(c);
    }
    const struct sockaddr_storage *a = &n->addresses[n->next_address++];
    limit(n);
    connect_address(n, (const struct sockaddr *)a);
}

static void on_late(struct timer *t) {
    struct wire_conn *c = list_entry(t, struct wire_conn, timer);
    if (c->next_address < c->address_count) {
        try_address(c);
    } else {
        fail(c, "http.timeout", "the connection took too long");
    }
}

// try_addresses tries those that the origin's name has.
static void try_addresses(struct wire_conn *c) {
    const struct origin *o = c->origin;
    size_t size = o->address_count * sizeof o->addresses[0];
    c->addresses = xmalloc(size);
    memcpy(c->addresses, o->addresses, size);
    c->address_count = o->address_count;
    try_address(c);
}

static void keep_addresses(struct origin *o, const struct addrinfo *list) {
    o->address_count = 0;
    o->resolved_ns = timer_coarse_ns();
    for (; list && o->address_count < addresses_most; list = list->ai_next) {
        if (list->ai_addrlen <= sizeof o->addresses[0]) {
            memcpy(&o->addresses[o->address_count++], list->ai_addr,
                   list->ai_addrlen);
        }
    }
}

static void on_resolved(void *ctx, int status, const struct addrinfo *list) {
    struct origin *o = ctx;
    o->lookup = NULL;
    if (status == 0) {
        keep_addresses(o, list);
    }
    bool is_known = status == 0 && o->address_count;
    o->users++; // it may have none but those who fail here
    while (!list_is_empty(&o->waiting)) {
        struct wire_conn *c =
            list_entry(o->waiting.next, struct wire_conn, waiting);
        list_remove(&c->waiting);
        if (!is_known) {
            fail(c, "http.resolve", gai_strerror(status ? status : EAI_NONAME));
            continue;
        }
        if (!o->address_count) { // the one before has failed at once
            keep_addresses(o, list);
        }
        try_addresses(c);
    }
    drop_origin(o);
}

// resolve finds the addresses of the origin's name, once for all who wait.
static void resolve(struct wire_conn *c, const char *host, int port) {
    struct origin *o = c->origin;
    uint64_t age = timer_coarse_ns() - o->resolved_ns;
    if (o->address_count && age < (uint64_t)(resolved_seconds * 1e9)) {
        try_addresses(c);
        return;
    }
    if (!o->lookup) {
        o->lookup = resolve_start(c->wire->rt, host, port, on_resolved, o);
    }
    if (!o->lookup) {
        fail(c, "http.resolve", "there is no thread to be had");
        return;
    }
    list_append(&o->waiting, &c->waiting);
}

// connect_origin: the key is "host port", or a path behind an empty host.
static void connect_origin(struct wire_conn *c) {
    const char *host = c->origin->key;
    const char *service = host + strlen(host) + 1;
    if (!*host) {
        c->phase = CONN_CONNECTING;
        c->has_handle = true;
        uv_pipe_init(c->wire->rt->loop, &c->pipe, 0);
        uv_pipe_connect(&c->connect, &c->pipe, service, on_connected);
        return;
    }
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    int port = atoi(service);
    if (uv_ip4_addr(host, port, &v4) == 0) {
        connect_address(c, (struct sockaddr *)&v4);
    } else if (uv_ip6_addr(host, port, &v6) == 0) {
        connect_address(c, (struct sockaddr *)&v6);
    } else {
        resolve(c, host, port);
    }
}

// is_silent: the server has neither ended an idle connection nor said what
// would be taken for the answer to the next request.
static bool is_silent(const struct wire_conn *c) {
    uv_os_fd_t fd;
    char byte;
    return uv_fileno(&c->handle, &fd) == 0 &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

// begin_idle sends the call's request over an idle connection, if there is one.
static bool begin_idle(struct wire_call *w) {
    struct origin *o = w->origin;
    while (!list_is_empty(&o->idle)) {
        struct wire_conn *c = list_entry(o->idle.prev, struct wire_conn, idle);
        leave(c);
        if (!is_silent(c)) {
            close_conn(c);
            continue;
        }
        uv_ref(&c->handle);
        c->call = w;
        w->conn = c;
        send_request(c);
        return true;
    }
    return false;
}

static void dial(struct wire_call *w) {
    struct wire_conn *c = new_conn(w->wire, w->origin);
    pair(c, w);
    connect_origin(c);
}

// may_connect counts the connections that are begun in a turn of the loop.
static bool may_connect(struct wire *wire) {
    if (wire->turn != wire->rt->monitor.turns) {
        wire->turn = wire->rt->monitor.turns;
        wire->turn_count = 0;
    }
    return wire->turn_count++ < connects_of_turn;
}

// begin sends the call's request over an idle connection or waits for one. To
// make one costs more than most requests do, so a burst leaves the loop time
// for those that are there already: the rest are begun in later turns.
static void begin(struct wire_call *w) {
    struct wire *wire = w->wire;
    struct list *dials = &w->origin->dials;
    struct wire_conn *c = list_entry(dials->next, struct wire_conn, dial);
    w->phase = "connect";
    if (begin_idle(w)) {
        return;
    }
    list_prepend(&w->origin->calls, &w->near);
    if (!list_is_empty(dials) && !c->starter) {
        pair(c, w);
        return;
    }
    if (may_connect(wire)) {
        dial(w);
        return;
    }
    list_prepend(&wire->calls, &w->link);
    if (!timer_is_active(&wire->pace)) {
        timer_start(&wire->rt->timers, &wire->pace, timer_after(0));
    }
}

static void on_pace(struct timer *t) {
    struct wire *wire = list_entry(t, struct wire, pace);
    while (!list_is_empty(&wire->calls) && may_connect(wire)) {
        struct wire_call *w =
            list_entry(wire->calls.next, struct wire_call, link);
        leave_queue(w);
        if (!begin_idle(w)) {
            list_prepend(&w->origin->calls, &w->near);
            dial(w);
        }
    }
    if (!list_is_empty(&wire->calls)) {
        timer_start(&wire->rt->timers, &wire->pace, timer_after(0));
    }
}

// -- calls

struct wire_call *wire_start(struct wire *wire, const struct wire_options *o,
                             void (*on_done)(struct wire_call *w), void *ctx) {
    struct wire_call *w = xcalloc(1, sizeof *w);
    struct buf key = {0};
    w->wire = wire;
    w->on_done = on_done;
    w->ctx = ctx;
    w->request = o->head;
    w->request_body = o->body;
    w->answer = (struct answer){.is_head = o->is_head,
                                .is_decoding = o->is_decoding,
                                .head_max = o->head_max,
                                .body_max = o->body_max};
    w->is_repeatable = o->is_repeatable;
    w->connect_due_ns = timer_after(o->connect_timeout);
    list_init(&w->link);
    list_init(&w->near);
    if (!o->path) {
        buf_add(&key, o->host.p, o->host.len);
        buf_addc(&key, 0);
        buf_addu(&key, (uint64_t)o->port);
    } else {
        buf_addc(&key, 0);
        buf_adds(&key, o->path);
    }
    w->origin = origin_of(wire, key.data, key.len);
    w->origin->users++;
    buf_clear(&key);
    wire->call_count++;
    begin(w);
    return w;
}

const char *wire_phase(const struct wire_call *w) {
    const struct wire_conn *c = w->conn ? w->conn : w->dial;
    return c ? phase_of(c) : w->phase;
}

// end_dials: nobody is there for whom connections could be made; a loop with
// nothing else to do would have to wait for them.
static void end_dials(struct wire *wire) {
    struct list *next;
    for (struct list *n = wire->all.next; n != &wire->all; n = next) {
        struct wire_conn *c = list_entry(n, struct wire_conn, all);
        next = n->next;
        if (c->phase != CONN_OPEN) {
            close_conn(c);
        }
    }
}

void wire_free(struct wire_call *w) {
    if (w->conn) {
        close_conn(w->conn);
    }
    leave_queue(w);
    drop_origin(w->origin);
    buf_clear(&w->request);
    answer_clear(&w->answer);
    if (--w->wire->call_count == 0) {
        end_dials(w->wire);
    }
    free(w);
}

struct wire *wire_new(struct runtime *rt) {
    struct wire *wire = xcalloc(1, sizeof *wire);
    wire->rt = rt;
    wire->tell.fn = on_tell;
    list_init(&wire->all_idle);
    list_init(&wire->all);
    list_init(&wire->done);
    list_init(&wire->calls);
    timer_init(&wire->pace, on_pace);
    timer_init(&wire->reaper, on_reaper);
    wire->reaper.is_background = true;
    return wire;
}

void wire_close(struct wire *wire) {
    while (!list_is_empty(&wire->all)) {
        close_conn(list_entry(wire->all.next, struct wire_conn, all));
    }
    timer_stop(&wire->rt->timers, &wire->reaper);
    timer_stop(&wire->rt->timers, &wire->pace);
    runtime_undefer(wire->rt, &wire->tell);
    free(wire);
}
