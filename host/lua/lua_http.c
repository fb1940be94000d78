// lua_http: the binding of http/server.
//
// Lua knows a request by a number, its handle: making one costs nothing, and
// one that is over is an error, not a crash. A handle stands for a slot and
// the generation of its use.
#include "lua/lua_http.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/runtime.h"
#include "http/server.h"
#include "lua/lua_error.h"
#include "lua/lua_http_text.h"
#include "lua/lua_json.h"

#define SERVER "neap.http.server"

enum {
    slot_bits = 20, // a handle is generation and index in a double's 53 bits
    slots_max = 1 << slot_bits,
    scratch_keep = 1 << 20, // a larger scratch buffer is given back
};

struct slot {
    struct http *http;
    struct http_request *request; // NULL when answered
    struct task *task;            // NULL in process
    struct buf sink;              // takes the answer, in process
    struct slot *next;            // in the free list
    uint32_t index, generation;
};

// One for each Lua state.
struct http {
    struct runtime *rt;
    struct slot **slots;
    struct slot *free_slots;
    uint32_t count, cap;
    uint64_t served;
    struct buf fields, body; // scratch
};

// What a server's requests call.
struct listener {
    struct http *http;
    int serve; // registry reference
};

// -- slots

static struct http *http_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

static struct slot *take_slot(struct http *h, struct http_request *r) {
    struct slot *s = h->free_slots;
    if (s) {
        h->free_slots = s->next;
    } else if (h->count == slots_max) {
        return NULL;
    } else {
        if (h->count == h->cap) {
            h->cap = h->cap ? h->cap * 2 : 64;
            h->slots = xrealloc(h->slots, h->cap * sizeof h->slots[0]);
        }
        s = xcalloc(1, sizeof *s);
        s->http = h;
        s->index = h->count;
        h->slots[h->count++] = s;
    }
    s->request = r;
    r->data = s;
    return s;
}

static void give_slot(struct slot *s) {
    s->generation++;
    s->task = NULL;
    s->next = s->http->free_slots;
    s->http->free_slots = s;
}

static void push_handle(lua_State *L, const struct slot *s) {
    uint64_t handle = (uint64_t)s->generation << slot_bits | s->index;
    lua_pushnumber(L, (lua_Number)handle);
}

static struct slot *find_slot(lua_State *L, int arg) {
    struct http *h = http_of(L);
    uint64_t handle = (uint64_t)luaL_checknumber(L, arg);
    uint32_t index = handle & (slots_max - 1);
    if (index >= h->count ||
        h->slots[index]->generation != (uint32_t)(handle >> slot_bits)) {
        return NULL;
    }
    return h->slots[index];
}

static struct slot *check_slot(lua_State *L, int arg) {
    struct slot *s = find_slot(L, arg);
    if (!s || !s->request) {
        lua_fail(L, "http.over",
                 "the request is over: read what a later "
                 "task needs of it before the answer");
    }
    return s;
}

static struct http_request *check_request(lua_State *L, int arg) {
    return check_slot(L, arg)->request;
}

static int push_slice(lua_State *L, struct slice s) {
    lua_pushlstring(L, s.p ? s.p : "", s.len);
    return 1;
}

// -- answers

static void trim(struct buf *b) {
    b->len = 0;
    if (b->cap > scratch_keep) {
        buf_clear(b);
    }
}

static int refuse(lua_State *L, const char *error) {
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

static int send_answer(lua_State *L, struct slot *s, struct response *r) {
    struct http *h = s->http;
    struct http_request *request = s->request;
    s->request = NULL;
    http_respond(request, r);
    trim(&h->body);
    trim(&h->fields);
    lua_pushboolean(L, true);
    return 1;
}

static int check_status(lua_State *L, int arg) {
    lua_Number status = lua_tonumber(L, arg);
    return status >= 200 && status <= 599 && status == (int)status ? (int)status
                                                                   : 0;
}

// respond(handle, status, type | nil, body | nil, headers | nil) -> true, or
// nil and why these can't be sent
static int l_respond(lua_State *L) {
    struct slot *s = check_slot(L, 1);
    struct response r = {.status = check_status(L, 2)};
    lua_settop(L, 5);
    r.type.p = lua_tolstring(L, 3, &r.type.len);
    r.body.p = lua_tolstring(L, 4, &r.body.len);
    if (!r.status) {
        return refuse(L, "the status is not a number from 200 to 599");
    }
    const char *error = text_add_fields(L, 5, &s->http->fields, &r);
    return error ? refuse(L, error) : send_answer(L, s, &r);
}

// respond_json(handle, status, value, headers | nil) -> as respond
static int l_respond_json(lua_State *L) {
    struct slot *s = check_slot(L, 1);
    struct buf *body = &s->http->body;
    struct response r = {.status = check_status(L, 2),
                         .type = SLICE("application/json")};
    lua_settop(L, 4);
    if (!r.status) {
        return refuse(L, "the status is not a number from 200 to 599");
    }
    body->len = 0;
    const char *error = json_encode(L, 3, body);
    // a __tojson may have answered this very request, or grown the slots
    if (find_slot(L, 1) != s || !s->request) {
        return refuse(L, "the request was answered while its JSON was made");
    }
    error = error ? error : text_add_fields(L, 4, &s->http->fields, &r);
    r.body = (struct slice){body->data, body->len};
    return error ? refuse(L, error) : send_answer(L, s, &r);
}

// -- what a request holds

// header(handle, name) -> value or nil; several are joined (RFC 9110 §5.3)
static int l_header(lua_State *L) {
    struct http_request *r = check_request(L, 1);
    char lower[128];
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    if (len >= sizeof lower) {
        return 0;
    }
    text_lower(lower, name, len);
    lower[len] = 0;
    int found = 0;
    for (int i = 0; i < r->head.header_count; i++) {
        if (slice_equals(r->head.headers[i].name, lower)) {
            if (found++) {
                lua_pushstring(L, strcmp(lower, "cookie") ? ", " : "; ");
            }
            push_slice(L, r->head.headers[i].value);
        }
    }
    lua_concat(L, found ? 2 * found - 1 : 0);
    return found ? 1 : 0;
}

// headers(handle) -> { lower-case name = value }
static int l_headers(lua_State *L) {
    struct http_request *r = check_request(L, 1);
    lua_createtable(L, 0, r->head.header_count);
    for (int i = 0; i < r->head.header_count; i++) {
        struct slice name = r->head.headers[i].name;
        char *lower = lua_newuserdata(L, name.len + 1);
        text_lower(lower, name.p, name.len);
        lua_pushlstring(L, lower, name.len);
        lua_replace(L, -2);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            push_slice(L, r->head.headers[i].value);
        } else {
            bool is_cookie = strcmp(lua_tostring(L, -2), "cookie") == 0;
            lua_pushstring(L, is_cookie ? "; " : ", ");
            push_slice(L, r->head.headers[i].value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
    return 1;
}

static int l_target(lua_State *L) {
    return push_slice(L, check_request(L, 1)->head.target);
}

static int l_host(lua_State *L) {
    return push_slice(L, check_request(L, 1)->head.host);
}

// query(handle) -> what follows '?', still encoded
static int l_query(lua_State *L) {
    return push_slice(L, check_request(L, 1)->head.query);
}

static int l_body(lua_State *L) {
    struct http_request *r = check_request(L, 1);
    return push_slice(L, (struct slice){r->body.data, r->body.len});
}

// remote(handle) -> the client's address, "" on a unix socket
static int l_remote(lua_State *L) {
    char text[64];
    http_request_remote(check_request(L, 1), text, sizeof text);
    lua_pushstring(L, text);
    return 1;
}

// is_gone(handle) -> whether nobody waits for the answer any more
static int l_is_gone(lua_State *L) {
    struct slot *s = find_slot(L, 1);
    lua_pushboolean(L, !s || !s->request ||
                           (!s->request->conn && !s->request->sink));
    return 1;
}

// -- requests become tasks

// on_task_end answers for a task that did not: one that was cancelled.
static void on_task_end(struct task *t, void *arg) {
    struct slot *s = arg;
    if (s->request) {
        struct http_request *r = s->request;
        s->request = NULL;
        int status = t->is_cancelled ? 503 : 500;
        http_respond(r, &(struct response){.status = status, .close = true});
    }
    give_slot(s);
}

// keep_request_id puts the id that the client sent into the task's context,
// if it is a tame one. Without it the id is the task's number.
static void keep_request_id(lua_State *L, struct task *t,
                            const struct slice *id) {
    if (!text_is_token(*id) || id->len > 64) {
        return;
    }
    lua_createtable(L, 0, 1);
    push_slice(L, *id);
    lua_setfield(L, -2, "request_id");
    t->context = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void on_request(struct http_request *r, void *arg) {
    struct listener *l = arg;
    struct http *h = l->http;
    lua_State *L = h->rt->L;
    struct slot *s = take_slot(h, r);
    if (!s) {
        http_respond(r, &(struct response){.status = 503, .close = true});
        return;
    }
    lua_checkstack(L, 8);
    lua_rawgeti(L, LUA_REGISTRYINDEX, l->serve);
    push_handle(L, s);
    push_slice(L, r->head.method);
    push_slice(L, r->head.path);
    struct task *t = task_spawn_arrival(h->rt, L, 3);
    t->request = ++h->served;
    t->on_end = on_task_end;
    t->on_end_arg = s;
    s->task = t;
    const struct slice *id = http_header(&r->head, "x-request-id");
    if (id) {
        keep_request_id(L, t, id);
    }
    task_release(t);
}

static void on_gone(struct http_request *r) {
    struct slot *s = r->data;
    if (s->task) {
        task_cancel(s->task);
    }
}

static void on_server_end(void *arg) {
    struct listener *l = arg;
    luaL_unref(l->http->rt->L, LUA_REGISTRYINDEX, l->serve);
    free(l);
}

// open(head, body) -> handle, method, path; or nil, status: a request that
// came from nowhere. It is to be ended by close(handle).
static int l_open(lua_State *L) {
    struct http *h = http_of(L);
    struct slice head, body;
    head.p = luaL_checklstring(L, 1, &head.len);
    body.p = luaL_checklstring(L, 2, &body.len);
    int status;
    struct http_request *r =
        http_request_local(head.p, head.len, body, NULL, &status);
    struct slot *s = r ? take_slot(h, r) : NULL;
    if (!s) {
        if (r) {
            http_abandon(r);
        }
        lua_pushnil(L);
        lua_pushinteger(L, r ? 503 : status);
        return 2;
    }
    r->sink = &s->sink;
    push_handle(L, s);
    push_slice(L, r->head.method);
    push_slice(L, r->head.path);
    return 3;
}

// close(handle) -> the bytes of the answer
static int l_close(lua_State *L) {
    struct slot *s = find_slot(L, 1);
    if (!s) {
        return 0;
    }
    if (s->request) {
        http_abandon(s->request);
        s->request = NULL;
    }
    lua_pushlstring(L, s->sink.data ? s->sink.data : "", s->sink.len);
    buf_clear(&s->sink);
    give_slot(s);
    return 1;
}

// -- servers

static double opt_seconds(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    double v = lua_tonumber(L, -1);
    if (!lua_isnil(L, -1) && !(lua_isnumber(L, -1) && v > 0 && v < 1e9)) {
        luaL_error(L, "option '%s': seconds above 0 expected", name);
    }
    lua_pop(L, 1);
    return v;
}

static uint32_t opt_count(lua_State *L, const char *name, double min,
                          double max) {
    lua_getfield(L, 2, name);
    double v = lua_tonumber(L, -1);
    if (!lua_isnil(L, -1) && !(lua_isnumber(L, -1) && v >= min && v <= max &&
                               v == (double)(uint32_t)v)) {
        luaL_error(L, "option '%s': a whole number from %f to %f expected",
                   name, min, max);
    }
    lua_pop(L, 1);
    return (uint32_t)v;
}

// The string stays referenced by the options table.
static const char *opt_string(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING) {
        luaL_error(L, "option '%s': a string expected", name);
    }
    const char *v = lua_tostring(L, -1);
    lua_pop(L, 1);
    return v;
}

static struct http_server_options check_options(lua_State *L) {
    struct http_server_options o = {
        .host = opt_string(L, "host"),
        .port = (int)opt_count(L, "port", 0, 65535),
        .path = opt_string(L, "path"),
        .backlog = (int)opt_count(L, "backlog", 1, 65535),
        .max_connections = opt_count(L, "max_connections", 1, 1e6),
        .head_max = opt_count(L, "max_head", 64, HTTP_HEAD_MAX),
        .headers_max = (int)opt_count(L, "max_headers", 1, HTTP_HEADERS_MAX),
        .body_max = opt_count(L, "max_body", 1, 1 << 30),
        .header_timeout = opt_seconds(L, "header_timeout"),
        .body_timeout = opt_seconds(L, "body_timeout"),
        .idle_timeout = opt_seconds(L, "idle_timeout"),
        .write_timeout = opt_seconds(L, "write_timeout"),
    };
    lua_getfield(L, 2, "half_close");
    o.half_close = lua_isnil(L, -1)       ? HALF_CLOSE_BRIEF
                   : lua_toboolean(L, -1) ? HALF_CLOSE_KEPT
                                          : HALF_CLOSE_GONE;
    lua_pop(L, 1);
    return o;
}

static struct http_server **check_server(lua_State *L) {
    return luaL_checkudata(L, 1, SERVER);
}

// listen(serve, options) -> server; raises "http.listen"
static int l_listen(lua_State *L) {
    struct http *h = http_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct http_server_options o = check_options(L);
    struct http_server **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, SERVER);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    struct listener *l = xmalloc(sizeof *l);
    *l = (struct listener){h, luaL_ref(L, LUA_REGISTRYINDEX)};
    struct http_handler handler = {on_request, on_gone, on_server_end, l};
    char error[256];
    *box = http_server_open(h->rt, &o, &handler, error, sizeof error);
    if (*box) {
        return 1;
    }
    on_server_end(l);
    if (o.path) {
        return lua_fail(L, "http.listen", "cannot listen on %s: %s", o.path,
                        error);
    }
    return lua_fail(L, "http.listen", "cannot listen on %s port %d: %s",
                    o.host ? o.host : "127.0.0.1", o.port, error);
}

static int l_server_port(lua_State *L) {
    lua_pushinteger(L, http_server_port(*check_server(L)));
    return 1;
}

static int l_server_requests(lua_State *L) {
    lua_pushnumber(L, (double)http_server_requests(*check_server(L)));
    return 1;
}

static int l_server_connections(lua_State *L) {
    lua_pushinteger(L, (int)http_server_connections(*check_server(L)));
    return 1;
}

static int l_server_stop(lua_State *L) {
    http_server_stop(*check_server(L));
    return 0;
}

static int l_server_close(lua_State *L) {
    http_server_close(*check_server(L));
    return 0;
}

static int l_server_gc(lua_State *L) {
    struct http_server **box = lua_touserdata(L, 1);
    if (*box) {
        http_server_release(*box);
        *box = NULL;
    }
    return 0;
}

static int l_http_gc(lua_State *L) {
    struct http *h = lua_touserdata(L, 1);
    for (uint32_t i = 0; i < h->count; i++) {
        struct slot *s = h->slots[i];
        if (s->request) {
            http_abandon(s->request);
        }
        buf_clear(&s->sink);
        free(s);
    }
    free(h->slots);
    buf_clear(&h->fields);
    buf_clear(&h->body);
    return 0;
}

static const luaL_Reg functions[] = {{"listen", l_listen},
                                     {"respond", l_respond},
                                     {"respond_json", l_respond_json},
                                     {"header", l_header},
                                     {"headers", l_headers},
                                     {"target", l_target},
                                     {"host", l_host},
                                     {"query", l_query},
                                     {"body", l_body},
                                     {"remote", l_remote},
                                     {"is_gone", l_is_gone},
                                     {"open", l_open},
                                     {"close", l_close},
                                     {NULL, NULL}};

static const luaL_Reg server_methods[] = {
    {"port", l_server_port},         {"connections", l_server_connections},
    {"requests", l_server_requests}, {"stop", l_server_stop},
    {"close", l_server_close},       {NULL, NULL}};

int luaopen_neap_http(lua_State *L) {
    luaL_newmetatable(L, SERVER);
    lua_newtable(L);
    luaL_register(L, NULL, server_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_server_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    struct http *h = lua_newuserdata(L, sizeof *h);
    *h = (struct http){.rt = runtime_of(L)};
    lua_newtable(L);
    lua_pushcfunction(L, l_http_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    text_register(L);
    return 1;
}
