// lua_value: replies become Lua values, straight from the reader.
#include "lua/lua_value.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_json.h"

// What a double holds exactly.
static const long long integer_max = 1LL << 53;

struct decoder {
    lua_State *L;
    struct runtime *rt;
    int anchor;
    bool has_key;      // SHAPE_MAP: a key waits on the stack for its value
    int base;          // values below the one in hand: "OK", a batch's results
    const void *batch; // whose results these are
};

// Where they are on the stack.
enum { at_ok = 1, at_results };

static void free_decoder(void *p) {
    struct decoder *d = p;
    luaL_unref(d->rt->L, LUA_REGISTRYINDEX, d->anchor);
    free(d);
}

static struct decoder *new_decoder(struct conn *c) {
    struct decoder *d = xcalloc(1, sizeof *d);
    d->rt = c->rt;
    d->L = lua_newthread(c->rt->L);
    d->anchor = luaL_ref(c->rt->L, LUA_REGISTRYINDEX);
    d->base = at_ok;
    lua_pushliteral(d->L, "OK"); // what many a reply is, made once
    c->decoder = d;
    c->free_decoder = free_decoder;
    return d;
}

static inline struct decoder *decoder_of(struct conn *c) {
    return c->decoder ? c->decoder : new_decoder(c);
}

lua_State *value_decoder(struct conn *c) {
    return decoder_of(c)->L;
}

void value_push_server_error(lua_State *L, const char *s, size_t len) {
    char code[48] = "redis.";
    size_t n = strlen(code), i = 0;
    while (i < len && s[i] != ' ' && n < sizeof code - 1) {
        code[n++] = (char)tolower((unsigned char)s[i++]);
    }
    code[n] = 0;
    lua_push_error(L, code, "%.*s", (int)(len > 900 ? 900 : len), s);
}

static void keep(struct waiter *w);
static void push_results(lua_State *L, const void *batch);

// use_batch puts the results of the batch (or NULL) at the bottom: its replies
// mostly come one after the other.
static void use_batch(struct decoder *d, const void *batch) {
    lua_settop(d->L, at_ok);
    d->batch = batch;
    d->base = batch ? at_results : at_ok;
    if (batch) {
        push_results(d->L, batch);
    }
}

// set_top is lua_settop, which mostly has nothing to do.
static inline void set_top(lua_State *L, int n) {
    if (lua_gettop(L) != n) {
        lua_settop(L, n);
    }
}

// start readies the stack for a value: a top-level one begins a reply.
static inline lua_State *start(struct waiter *w, const redisReadTask *t) {
    struct decoder *d = decoder_of(w->conn);
    if (!t->parent) {
        const void *batch = w->sink->done == keep ? w->ctx : NULL;
        if (batch != d->batch) {
            use_batch(d, batch);
        }
        set_top(d->L, d->base);
        d->has_key = false;
    }
    return d->L;
}

// place puts the value on top where it belongs: at top level it stays, else
// it goes into the table whose stack index is the parent's object.
static inline void *place(struct waiter *w, const redisReadTask *t,
                          lua_State *L) {
    if (!t->parent) {
        return w;
    }
    int table = (int)(intptr_t)t->parent->obj;
    if (w->shape == SHAPE_MAP && !t->parent->parent) {
        struct decoder *d = w->conn->decoder;
        if (d->has_key) {
            lua_rawset(L, table);
        }
        d->has_key = !d->has_key;
    } else {
        lua_rawseti(L, table, t->idx + 1);
    }
    return w;
}

static void *build_string(struct waiter *w, const redisReadTask *t,
                          const char *s, size_t len) {
    lua_State *L = start(w, t);
    if (t->type == REDIS_REPLY_ERROR) {
        value_push_server_error(L, s, len);
    } else if (len == 2 && s[0] == 'O' && s[1] == 'K') {
        lua_pushvalue(L, at_ok);
    } else {
        lua_pushlstring(L, s, len);
    }
    return place(w, t, L);
}

static void *build_integer(struct waiter *w, const redisReadTask *t,
                           long long v) {
    lua_State *L = start(w, t);
    if (v > integer_max || v < -integer_max) { // a double would round it
        char digits[24];
        int len = snprintf(digits, sizeof digits, "%lld", v);
        lua_pushlstring(L, digits, (size_t)len);
    } else {
        lua_pushnumber(L, (double)v);
    }
    return place(w, t, L);
}

static void *build_nil(struct waiter *w, const redisReadTask *t) {
    lua_State *L = start(w, t);
    if (t->parent || w->sink->done == keep) {
        lua_pushboolean(L, 0);
    } else {
        lua_pushnil(L);
    }
    return place(w, t, L);
}

// An array stands on the stack while its elements come; its own place in its
// parent is taken at once. What a finished sibling left above is dropped.
static void *build_array(struct waiter *w, const redisReadTask *t,
                         size_t count) {
    lua_State *L = start(w, t);
    struct decoder *d = w->conn->decoder;
    bool is_map = w->shape == SHAPE_MAP && !t->parent;
    bool is_map_value =
        w->shape == SHAPE_MAP && t->parent && !t->parent->parent && d->has_key;
    size_t room = count < 65536 ? count : 65536; // a length is only a claim
    if (t->parent) {
        lua_settop(L, (int)(intptr_t)t->parent->obj + is_map_value);
    }
    if (count == 0 && !is_map) {
        json_push_array(L, 0); // or JSON would take it for an object
    } else {
        lua_createtable(L, is_map ? 0 : (int)room, is_map ? (int)room / 2 : 0);
    }
    int index = lua_gettop(L);
    if (t->parent) {
        lua_pushvalue(L, -1);
        if (is_map_value) { // table, key, value, value
            lua_insert(L, -3);
            index--;
        }
        place(w, t, L);
    }
    return (void *)(intptr_t)index;
}

// -- one task, one reply

// complete adds to the error on top of L how far its command had come, and
// where. // [-0, +0]
static void complete(lua_State *L, struct waiter *w, const char *phase) {
    char address[256];
    lua_pushstring(L, phase);
    lua_setfield(L, -2, "phase");
    lua_pushstring(L, conn_address(w->conn, address, sizeof address));
    lua_setfield(L, -2, "address");
}

static const char *phase_name(const struct waiter *w) {
    return w->phase == PHASE_SENT ? "sent" : "queued";
}

// What a call cost, for those who trace calls or look for slow ones.
struct cost {
    uint64_t start_ns, bytes_out, bytes_in;
};

// wake_with ends the wait with the value, or error object, on top of the
// task's stack, and with nil and the call's cost if it is to be reported.
static void wake_with(struct task *t, uint32_t wait, bool is_error,
                      struct conn *c, const struct cost *cost) {
    uint64_t took = c->active_ns - cost->start_ns;
    bool is_told = (int64_t)took >= 0 && took >= c->options->slow_ns;
    lua_State *L = t->L;
    if (!is_told) {
        if (is_error) {
            task_wake_error(t, wait);
        } else {
            task_wake(t, wait, 1);
        }
        return;
    }
    if (is_error) {
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        lua_insert(L, -2);
    } else {
        lua_pushboolean(L, true); // no error, but something to be told
    }
    lua_pushnumber(L, (double)took / 1e9);
    lua_pushnumber(L, (double)cost->bytes_out);
    lua_pushnumber(L, (double)cost->bytes_in);
    task_wake(t, wait, 5);
}

static void wake(struct waiter *w) {
    struct task *t = w->ctx;
    lua_State *L = value_decoder(w->conn);
    lua_settop(L, at_ok + 1); // nested tables were left above
    if (w->is_error) {
        complete(L, w, "reply");
    }
    lua_xmove(L, t->L, 1);
    struct cost cost = {w->start_ns, w->end, w->conn->reply_size};
    wake_with(t, w->wait, w->is_error, w->conn, &cost);
}

static void *build_top_string(struct waiter *w, const redisReadTask *t,
                              const char *s, size_t len) {
    if (t->type == REDIS_REPLY_ERROR && !t->parent) {
        w->is_error = true;
    }
    return build_string(w, t, s, len);
}

static void wake_failed(struct waiter *w, const char *code, const char *text) {
    struct task *t = w->ctx;
    lua_push_error(t->L, code, "%s", text);
    complete(t->L, w, phase_name(w));
    task_wake_error(t, w->wait);
}

const struct sink value_sink = {build_top_string, build_array, build_integer,
                                build_nil,        wake,        wake_failed};

// A cancelled call keeps its place in the queue; a connection on loan, whose
// server may go on waiting, is closed instead by its owner.
static bool forget_call(struct task *t, void *ctx) {
    conn_forget(ctx, t->wait_place, 1);
    return true;
}

void value_wait(struct conn *c, struct task *t, enum value_shape shape) {
    t->wait_place = conn_place(c);
    struct waiter *w = conn_wait(c, &value_sink, t);
    w->shape = (uint16_t)shape;
    w->wait = task_park(t, "redis", forget_call, c);
}

static bool discard_loan(struct task *t, void *ctx) {
    conn_forget(ctx, t->wait_place, 1);
    pool_discard(ctx);
    return true;
}

void value_wait_loan(struct conn *c, struct task *t, double seconds) {
    t->wait_place = conn_place(c);
    conn_limit(c, seconds);
    struct waiter *w = conn_wait(c, &value_sink, t);
    w->wait = task_park(t, "redis, blocking", discard_loan, c);
}

// -- one task, several replies

// A batch collects the replies of several commands, one slot each; an error
// stays in its slot.
struct value_batch {
    struct task *task;
    struct conn *conn;
    struct waiter waiter; // each command's
    uint32_t wait;
    uint32_t count, queued, pending; // commands, MULTI and EXEC too
    int results;                     // registry reference of the list
    bool is_transaction;             // EXEC's reply is the result
    bool is_error;
    struct cost cost;
    char error[256]; // the first error before EXEC
};

static void push_results(lua_State *L, const void *batch) {
    const struct value_batch *b = batch;
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->results);
}

// leave_decoder: the address of a batch may be another's soon.
static void leave_decoder(struct value_batch *b) {
    struct decoder *d = b->conn->decoder;
    if (d && d->batch == b) {
        use_batch(d, NULL);
    }
}

static void end_batch(struct value_batch *b) {
    struct task *t = b->task;
    lua_State *L = t->L;
    leave_decoder(b);
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->results);
    luaL_unref(t->rt->L, LUA_REGISTRYINDEX, b->results);
    if (b->is_transaction) { // EXEC's reply: a list, or an error object
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
        if (b->is_error && b->error[0]) { // EXECABORT says less than its cause
            lua_pushstring(L, b->error);
            lua_setfield(L, -2, "message");
        }
    }
    bool is_error = b->is_transaction && b->is_error;
    wake_with(t, b->wait, is_error, b->conn, &b->cost);
    free(b);
}

static void keep(struct waiter *w) {
    struct value_batch *b = w->ctx;
    lua_State *L = value_decoder(w->conn);
    set_top(L, at_results + 1); // the reply
    b->cost.bytes_out += w->end;
    b->cost.bytes_in += w->conn->reply_size;
    if (w->is_error) {
        complete(L, w, "reply");
    }
    if (w->wait) { // its slot; 0 is MULTI or a QUEUED
        b->is_error = b->is_error || w->is_error;
        lua_rawseti(L, at_results, (int)w->wait);
    } else if (lua_istable(L, -1) && !b->error[0]) {
        lua_getfield(L, -1, "message");
        const char *text = lua_tostring(L, -1);
        snprintf(b->error, sizeof b->error, "%s", text ? text : "");
    }
    if (--b->pending == 0) {
        end_batch(b);
    }
}

static void keep_failed(struct waiter *w, const char *code, const char *text) {
    struct value_batch *b = w->ctx;
    b->is_error = true;
    if (w->wait) {
        struct decoder *d = decoder_of(w->conn);
        lua_State *L = d->L;
        use_batch(d, b);
        lua_push_error(L, code, "%s", text);
        complete(L, w, phase_name(w));
        lua_rawseti(L, -2, (int)w->wait);
    }
    if (--b->pending == 0) {
        end_batch(b);
    }
}

static const struct sink batch_sink = {
    build_top_string, build_array, build_integer, build_nil, keep, keep_failed};

static bool forget_batch(struct task *t, void *ctx) {
    struct value_batch *b = ctx;
    leave_decoder(b);
    conn_forget(b->conn, t->wait_place, b->count);
    luaL_unref(t->rt->L, LUA_REGISTRYINDEX, b->results);
    free(b);
    return true;
}

struct value_batch *value_batch_begin(struct conn *c, struct task *t,
                                      uint32_t count, bool is_transaction) {
    struct value_batch *b = xcalloc(1, sizeof *b);
    lua_State *L = c->rt->L;
    lua_createtable(L, is_transaction ? 1 : (int)count, 0);
    b->results = luaL_ref(L, LUA_REGISTRYINDEX);
    b->task = t;
    b->conn = c;
    b->pending = b->count = count + (is_transaction ? 2 : 0);
    b->is_transaction = is_transaction;
    b->cost.start_ns = uv_hrtime();
    b->waiter = conn_waiter(c, &batch_sink, b, b->cost.start_ns);
    t->wait_place = conn_place(c);
    return b;
}

void value_batch_wait(struct value_batch *b, uint16_t shape, uint64_t end) {
    struct waiter *w = queue_add(&b->conn->queue, &b->waiter);
    b->queued++;
    w->end = end;
    w->shape = shape;
    w->wait = b->is_transaction ? b->queued == b->count : b->queued;
    w->is_joined = b->is_transaction && b->queued > 1;
}

void value_batch_park(struct value_batch *b) {
    b->wait = task_park(b->task, "redis", forget_batch, b);
    conn_wait_all(b->conn, b->queued);
}
