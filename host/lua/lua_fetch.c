// lua_fetch: the binding of http/client: whole fetches, and exchanges whose
// bodies come and go piece by piece.
#include "lua/lua_fetch.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/runtime.h"
#include "http/client.h"
#include "lua/lua_error.h"

#define EXCHANGE "neap.exchange"

enum want { WANT_NOTHING, WANT_END, WANT_HEAD, WANT_BODY, WANT_ROOM };

// An exchange, and what the task that waits for it wants of it.
struct exchange {
    struct http_fetch *fetch; // NULL once it is closed
    struct task *task;
    uint32_t wait;
    enum want want;
    int body; // registry reference of the body, which is read from
};

// What is kept for a Lua state.
struct fetching {
    struct runtime *rt;
    struct http_client *client; // made for the first fetch
    bool is_closed;             // the process ends
};

static struct fetching *fetching_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

static void on_client_end(void *arg) {
    struct fetching *f = arg;
    f->client = NULL;
    f->is_closed = true;
}

static struct http_client *client_of(lua_State *L) {
    struct fetching *f = fetching_of(L);
    if (f->is_closed) {
        lua_fail(L, "http.closed", "the process ends");
    }
    if (!f->client) {
        f->client = http_client_new(f->rt, on_client_end, f);
    }
    return f->client;
}

static void end_exchange(lua_State *L, struct exchange *x) {
    if (x->fetch) {
        http_fetch_free(x->fetch);
        luaL_unref(L, LUA_REGISTRYINDEX, x->body);
        x->fetch = NULL;
    }
}

// -- results

static int push_head(lua_State *L, const struct http_fetch *f) {
    lua_pushinteger(L, f->status);
    lua_pushlstring(L, f->head.data ? f->head.data : "", f->head.len);
    return 2;
}

static int push_body(lua_State *L, struct http_fetch *f) {
    lua_pushlstring(L, f->body.data ? f->body.data : "", f->body.len);
    return 1;
}

static void push_failure(lua_State *L, const struct http_fetch *f) {
    lua_push_error(L, f->code, "%s", f->error);
    lua_pushstring(L, f->phase);
    lua_setfield(L, -2, "phase");
}

static bool is_ready(const struct exchange *x) {
    const struct http_fetch *f = x->fetch;
    switch (x->want) {
    case WANT_END: return f->is_over;
    case WANT_HEAD: return f->is_over || f->has_head;
    case WANT_BODY: return f->is_over || f->body.len > 0;
    case WANT_ROOM: return f->is_over || f->has_head || http_fetch_has_room(f);
    default: return false;
    }
}

// push_wanted pushes what the task waits for, unless it is a failure.
static int push_wanted(lua_State *L, struct exchange *x) {
    struct http_fetch *f = x->fetch;
    switch (x->want) {
    case WANT_END: return push_head(L, f) + push_body(L, f);
    case WANT_HEAD: return push_head(L, f);
    case WANT_ROOM: lua_pushboolean(L, !f->is_over && !f->has_head); return 1;
    default: break;
    }
    if (f->body.len == 0) {
        lua_pushnil(L);
        return 1;
    }
    push_body(L, f);
    http_fetch_taken(f);
    return 1;
}

// has_failed: what has come of a body is handed out before its failure.
static bool has_failed(const struct exchange *x) {
    const struct http_fetch *f = x->fetch;
    return f->code[0] && !(x->want == WANT_BODY && f->body.len > 0) &&
           !(x->want == WANT_HEAD && f->has_head);
}

static void answer(struct exchange *x) {
    struct task *t = x->task;
    if (has_failed(x)) {
        push_failure(t->L, x->fetch);
        task_wake_error(t, x->wait);
    } else {
        task_wake(t, x->wait, push_wanted(t->L, x));
    }
    x->want = WANT_NOTHING;
}

static void on_change(struct http_fetch *f) {
    struct exchange *x = f->ctx;
    if (x->want != WANT_NOTHING && is_ready(x)) {
        answer(x);
    }
}

// on_end is on_change of a whole fetch, which nobody has a handle of.
static void on_end(struct http_fetch *f) {
    struct exchange *x = f->ctx;
    if (f->is_over) {
        lua_State *L = x->task->L;
        answer(x);
        end_exchange(L, x);
        free(x);
    }
}

static bool abandon_all(struct task *t, void *ctx) {
    struct exchange *x = ctx;
    end_exchange(t->L, x);
    free(x);
    return true;
}

static bool abandon(struct task *t, void *ctx) {
    struct exchange *x = ctx;
    (void)t;
    x->want = WANT_NOTHING;
    return true;
}

// -- starting

static double get_number(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    double v = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return v;
}

static bool get_flag(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    bool v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

// get_text leaves the string on the stack, so that it stays.
static const char *get_text(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    return lua_tostring(L, -1);
}

// read_settings reads the table at index, unless it is nil.
static void read_settings(lua_State *L, int index,
                          struct http_fetch_options *o) {
    if (lua_isnil(L, index)) {
        return;
    }
    o->body_max = (uint64_t)get_number(L, index, "max_body");
    o->head_max = (size_t)get_number(L, index, "max_head");
    o->is_unverified = get_flag(L, index, "unverified");
    o->is_encoded = get_flag(L, index, "encoded");
    o->is_upload = get_flag(L, index, "upload");
    o->is_timed = get_flag(L, index, "timed");
    o->proxy = get_text(L, index, "proxy");
    o->socket = get_text(L, index, "socket");
    o->ca = get_text(L, index, "ca");
    o->cert = get_text(L, index, "cert");
    o->key = get_text(L, index, "key");
}

// start takes url, method, fields | nil, body | nil, timeout (0: none),
// connect_timeout, settings | nil from the stack's bottom.
static void start(lua_State *L, struct exchange *x, bool is_streamed,
                  void (*change)(struct http_fetch *f)) {
    struct http_client *c = client_of(L);
    struct http_fetch_options o = {
        .url = luaL_checkstring(L, 1),
        .method = luaL_checkstring(L, 2),
        .timeout = lua_tonumber(L, 5),
        .connect_timeout = lua_tonumber(L, 6),
        .is_streamed = is_streamed,
        .has_body = !lua_isnil(L, 4),
    };
    o.body.p = lua_tolstring(L, 4, &o.body.len);
    read_settings(L, 7, &o);
    o.fields.p = lua_tolstring(L, 3, &o.fields.len);
    lua_pushvalue(L, 4);
    x->body = luaL_ref(L, LUA_REGISTRYINDEX);
    x->fetch = http_fetch_start(c, &o, change, x);
}

// fetch(url, method, fields, body, timeout, connect_timeout, settings) ->
// status, head, body
static int l_fetch(lua_State *L) {
    struct fetching *f = fetching_of(L);
    struct task *t = task_current(L, f->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 7);
    client_of(L);
    struct exchange *x = xcalloc(1, sizeof *x);
    x->task = t;
    x->want = WANT_END;
    start(L, x, false, on_end);
    x->wait = task_park(t, "fetch", abandon_all, x);
    return task_yield(L);
}

static struct exchange *check_exchange(lua_State *L) {
    struct exchange *x = luaL_checkudata(L, 1, EXCHANGE);
    if (!x->fetch) {
        lua_fail(L, "http.over", "the response was closed");
    }
    if (x->want != WANT_NOTHING) {
        lua_fail(L, "http.busy", "another task waits for this response");
    }
    return x;
}

// open(as fetch) -> exchange
static int l_open(lua_State *L) {
    lua_settop(L, 7);
    client_of(L);
    struct exchange *x = lua_newuserdata(L, sizeof *x);
    *x = (struct exchange){.body = LUA_NOREF};
    luaL_getmetatable(L, EXCHANGE);
    lua_setmetatable(L, -2);
    int self = lua_gettop(L);
    start(L, x, true, on_change);
    lua_pushvalue(L, self);
    return 1;
}

static int wait_for(lua_State *L, enum want want) {
    struct exchange *x = check_exchange(L);
    struct task *t = task_current(L, fetching_of(L)->rt);
    if (!t) {
        return task_yield(L);
    }
    struct exchange now = *x; // as if the task waited
    now.want = want;
    if (is_ready(&now) && has_failed(&now)) {
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        push_failure(L, x->fetch);
        return 2;
    }
    if (is_ready(&now)) {
        return push_wanted(L, &now);
    }
    x->want = want;
    x->task = t;
    x->wait = task_park(t, "fetch", abandon, x);
    return task_yield(L);
}

// head(exchange) -> status, head
static int l_head(lua_State *L) {
    return wait_for(L, WANT_HEAD);
}

// read(exchange) -> the bytes that came; nil at the end
static int l_read(lua_State *L) {
    return wait_for(L, WANT_BODY);
}

// send(exchange, bytes | nil at the end) -> whether more may be sent: false
// once the response is there
static int l_send(lua_State *L) {
    struct exchange *x = check_exchange(L);
    size_t len;
    const char *s = lua_tolstring(L, 2, &len);
    http_fetch_send(x->fetch, s, len);
    return wait_for(L, WANT_ROOM);
}

// close(exchange): it is given up if it is not over.
static int l_close(lua_State *L) {
    struct exchange *x = luaL_checkudata(L, 1, EXCHANGE);
    if (x->want != WANT_NOTHING) {
        return lua_fail(L, "http.busy", "another task waits for this response");
    }
    end_exchange(L, x);
    return 0;
}

static int l_exchange_gc(lua_State *L) {
    end_exchange(L, luaL_checkudata(L, 1, EXCHANGE));
    return 0;
}

// url_fault(url) -> nil; "character" if it has a space or a control
// character in it, "scheme" if it is none of http or https
static int l_url_fault(lua_State *L) {
    size_t len;
    const char *url = luaL_checklstring(L, 1, &len);
    lua_pushstring(L, http_url_fault(url, len));
    return 1;
}

// resolve(url, reference) -> the URL that it means there; nil and why
static int l_resolve(lua_State *L) {
    char error[256];
    const struct curl *curl = curl_load(error, sizeof error);
    if (!curl) {
        return lua_fail(L, "http.library", "%s", error);
    }
    const char *base = luaL_checkstring(L, 1);
    const char *reference = luaL_checkstring(L, 2);
    CURLU *url = curl->url();
    char *text = NULL;
    CURLUcode code = curl->url_set(url, CURLUPART_URL, base, 0);
    code = code ? code : curl->url_set(url, CURLUPART_URL, reference, 0);
    code = code ? code : curl->url_get(url, CURLUPART_URL, &text, 0);
    if (code) {
        lua_pushnil(L);
        lua_pushstring(L, curl->url_strerror(code));
    } else {
        lua_pushstring(L, text);
    }
    curl->free(text);
    curl->url_cleanup(url);
    return code ? 2 : 1;
}

int luaopen_neap_fetch(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"fetch", l_fetch},     {"open", l_open},          {"head", l_head},
        {"read", l_read},       {"send", l_send},          {"close", l_close},
        {"resolve", l_resolve}, {"url_fault", l_url_fault}};
    luaL_newmetatable(L, EXCHANGE);
    lua_pushcfunction(L, l_exchange_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    struct fetching *f = lua_newuserdata(L, sizeof *f);
    *f = (struct fetching){.rt = runtime_of(L)};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -3, functions[i].name);
    }
    lua_pop(L, 1);
    return 1;
}
