// lua_redis: the binding of redis/pool: clients, commands, pipelines.
#include "lua/lua_redis.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "lua/lua_error.h"
#include "lua/lua_value.h"

#define CLIENT   "neap.redis"
#define PIPELINE "neap.pipeline"

enum { depth_max = 4 };

struct pool *lua_redis_check(lua_State *L, int arg) {
    if (lua_type(L, arg) != LUA_TUSERDATA) {
        lua_misuse(L,
                   "a Redis client expected, got %s (a colon calls a "
                   "command: redis:get \"key\")",
                   luaL_typename(L, arg));
    }
    struct pool **box = luaL_checkudata(L, arg, CLIENT);
    if (!*box) {
        lua_fail(L, "redis.closed", "the client is closed");
    }
    return *box;
}

// -- arguments

// add_number: whole numbers as such, others so that they read back the same.
static const char *add_number(struct buf *b, double v) {
    if (!isfinite(v)) {
        return "is not a finite number";
    }
    char text[NUM_TEXT];
    resp_arg(b, text, num_format(text, v));
    return NULL;
}

static const char *add_arg(lua_State *L, int index, struct buf *b,
                           size_t *count, int depth);

// add_table flattens a list, or a map as key, value, key, value.
static const char *add_table(lua_State *L, int index, struct buf *b,
                             size_t *count, int depth) {
    if (depth > depth_max) {
        return "is nested too deeply";
    }
    const char *error = NULL;
    size_t n = lua_objlen(L, index);
    if (n > 0) {
        for (size_t i = 1; i <= n && !error; i++) {
            lua_rawgeti(L, index, (int)i);
            error = add_arg(L, lua_gettop(L), b, count, depth + 1);
            lua_pop(L, 1);
        }
        return error;
    }
    lua_pushnil(L);
    while (!error && lua_next(L, index)) {
        int value = lua_gettop(L);
        lua_pushvalue(L, value - 1); // lua_next must not see it converted
        error = add_arg(L, value + 1, b, count, depth + 1);
        lua_pop(L, 1);
        error = error ? error : add_arg(L, value, b, count, depth + 1);
        lua_pop(L, error ? 2 : 1);
    }
    return error;
}

// add_arg appends one argument; returns what is wrong with it, or NULL.
static const char *add_arg(lua_State *L, int index, struct buf *b,
                           size_t *count, int depth) {
    size_t len;
    const char *s;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, index, &len);
        resp_arg(b, s, len);
        break;
    case LUA_TNUMBER: {
        const char *error = add_number(b, lua_tonumber(L, index));
        if (error) {
            return error;
        }
        break;
    }
    case LUA_TTABLE: return add_table(L, index, b, count, depth);
    case LUA_TNIL: return "is nil";
    default: return "is not a string, number or table";
    }
    (*count)++;
    return NULL;
}

// add_command appends a command, its arguments from `first` to the top. On a
// bad argument nothing is appended and an error is raised.
static void add_command(lua_State *L, struct buf *b, const char *name,
                        size_t name_len, int first) {
    int top = lua_gettop(L);
    size_t start = b->len, count = 1;
    bool has_tables = false;
    for (int i = first; i <= top; i++) {
        has_tables = has_tables || lua_istable(L, i);
    }
    struct buf args = {0};
    struct buf *to = has_tables ? &args : b; // tables: the count comes last
    if (!has_tables) {
        resp_command(b, (size_t)(top - first + 2));
    }
    resp_arg(to, name, name_len);
    for (int i = first; i <= top; i++) {
        const char *error = add_arg(L, i, to, &count, 0);
        if (error) {
            b->len = start;
            buf_clear(&args);
            lua_misuse(L, "%s: argument #%d %s", name, i - first + 1, error);
        }
    }
    if (has_tables) {
        resp_command(b, count);
        buf_add(b, args.data, args.len);
        buf_clear(&args);
    }
}

// -- calls

static struct task *ready_to_call(lua_State *L, struct pool *p) {
    struct task *t = task_current(L, p->rt);
    if (t && conn_is_full(p->shared)) {
        lua_fail(L, "redis.queue_full",
                 "too many commands wait for the connection");
    }
    return t;
}

// client:<command>(...): upvalues are the name and the shape of its reply.
static int l_command(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    struct task *t = ready_to_call(L, p);
    if (!t) {
        return task_yield(L);
    }
    size_t len;
    const char *name = lua_tolstring(L, lua_upvalueindex(1), &len);
    add_command(L, conn_out(p->shared), name, len, 2);
    value_wait(p->shared, t,
               (enum value_shape)lua_tointeger(L, lua_upvalueindex(2)));
    return task_yield(L);
}

// command(name, is_map) -> the function that sends it
static int l_new_command(lua_State *L) {
    luaL_checkstring(L, 1);
    bool is_map = lua_toboolean(L, 2);
    lua_settop(L, 1);
    lua_pushinteger(L, is_map ? SHAPE_MAP : SHAPE_PLAIN);
    lua_pushcclosure(L, l_command, 2);
    return 1;
}

// call(client, name, ...)
static int l_call(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    struct task *t = ready_to_call(L, p);
    if (!t) {
        return task_yield(L);
    }
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    add_command(L, conn_out(p->shared), name, len, 3);
    value_wait(p->shared, t, SHAPE_PLAIN);
    return task_yield(L);
}

// call_blocking(client, seconds, name, ...): on a connection of its own; the
// reply is due after that time, 0 for never. nil if the pool is exhausted.
static int l_call_blocking(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    double seconds = luaL_checknumber(L, 2);
    struct task *t = task_current(L, p->rt);
    if (!t) {
        return task_yield(L);
    }
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    // the arguments are checked before a connection is taken: into the shared
    // one's buffer, from where they move
    struct buf *b = conn_out(p->shared);
    size_t start = b->len;
    add_command(L, b, name, len, 4);
    struct conn *c = pool_take(p);
    if (c) {
        buf_add(conn_out(c), b->data + start, b->len - start);
    }
    b->len = start;
    if (!c) {
        return lua_fail(L, "redis.pool", "all %u connections are in use",
                        p->limit);
    }
    value_wait_loan(c, t, seconds);
    return task_yield(L);
}

// -- pipelines

struct pipeline {
    struct buf bytes;
    struct buf ends;   // of size_t, one a command
    struct buf shapes; // of uint16_t
    uint32_t count;
};

static struct pipeline *check_pipeline(lua_State *L, int arg) {
    return luaL_checkudata(L, arg, PIPELINE);
}

static int l_pipeline(lua_State *L) {
    struct pipeline *p = lua_newuserdata(L, sizeof *p);
    *p = (struct pipeline){0};
    luaL_getmetatable(L, PIPELINE);
    lua_setmetatable(L, -2);
    return 1;
}

static void end_command(struct pipeline *p, uint16_t shape) {
    size_t end = p->bytes.len;
    buf_add(&p->ends, &end, sizeof end);
    buf_add(&p->shapes, &shape, sizeof shape);
    p->count++;
}

// pipeline:<command>(...)
static int l_pipeline_command(lua_State *L) {
    struct pipeline *p = check_pipeline(L, 1);
    size_t len;
    const char *name = lua_tolstring(L, lua_upvalueindex(1), &len);
    add_command(L, &p->bytes, name, len, 2);
    end_command(p, (uint16_t)lua_tointeger(L, lua_upvalueindex(2)));
    return 0;
}

// pipeline_command(name, is_map) -> the function that records it
static int l_new_pipeline_command(lua_State *L) {
    luaL_checkstring(L, 1);
    bool is_map = lua_toboolean(L, 2);
    lua_settop(L, 1);
    lua_pushinteger(L, is_map ? SHAPE_MAP : SHAPE_PLAIN);
    lua_pushcclosure(L, l_pipeline_command, 2);
    return 1;
}

// pipeline:call(name, ...)
static int l_pipeline_call(lua_State *L) {
    struct pipeline *p = check_pipeline(L, 1);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    add_command(L, &p->bytes, name, len, 3);
    end_command(p, SHAPE_PLAIN);
    return 0;
}

static int l_pipeline_count(lua_State *L) {
    lua_pushinteger(L, check_pipeline(L, 1)->count);
    return 1;
}

static int l_pipeline_gc(lua_State *L) {
    struct pipeline *p = lua_touserdata(L, 1);
    buf_clear(&p->bytes);
    buf_clear(&p->ends);
    buf_clear(&p->shapes);
    return 0;
}

// wrap_transaction puts MULTI in front and EXEC behind.
static void wrap_transaction(struct pipeline *p) {
    struct pipeline tx = {0};
    resp_command(&tx.bytes, 1);
    resp_arg_s(&tx.bytes, "MULTI");
    end_command(&tx, SHAPE_PLAIN);
    size_t shift = tx.bytes.len;
    buf_add(&tx.bytes, p->bytes.data, p->bytes.len);
    for (uint32_t i = 0; i < p->count; i++) {
        size_t end = ((size_t *)(void *)p->ends.data)[i] + shift;
        buf_add(&tx.ends, &end, sizeof end);
        uint16_t shape = SHAPE_PLAIN;
        buf_add(&tx.shapes, &shape, sizeof shape);
    }
    tx.count += p->count;
    resp_command(&tx.bytes, 1);
    resp_arg_s(&tx.bytes, "EXEC");
    end_command(&tx, SHAPE_PLAIN);
    buf_clear(&p->bytes);
    buf_clear(&p->ends);
    buf_clear(&p->shapes);
    *p = tx;
}

// execute(client, pipeline, is_transaction) -> list of replies
static int l_execute(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    struct pipeline *pl = check_pipeline(L, 2);
    bool is_transaction = lua_toboolean(L, 3);
    struct task *t = ready_to_call(L, p);
    if (!t) {
        return task_yield(L);
    }
    if (is_transaction) {
        wrap_transaction(pl);
    }
    struct conn *c = p->shared;
    uint64_t base = c->out_base + c->out.len;
    buf_add(&c->out, pl->bytes.data, pl->bytes.len);
    uint64_t *ends = xmalloc(pl->count * sizeof ends[0]);
    for (uint32_t i = 0; i < pl->count; i++) {
        ends[i] = base + ((size_t *)(void *)pl->ends.data)[i];
    }
    value_wait_batch(c, t, pl->count, (uint16_t *)(void *)pl->shapes.data, ends,
                     is_transaction);
    free(ends);
    return task_yield(L);
}

// -- clients

// open(url | nil, dir | nil) -> client; without a URL the embedded server of
// that directory, without a directory one in memory
static int l_open(lua_State *L) {
    struct redis_url url;
    lua_settop(L, 2);
    bool has_url = !lua_isnoneornil(L, 1);
    char error[REDIS_URL_ERROR];
    if (has_url &&
        redis_url_parse(&url, luaL_checkstring(L, 1), error, sizeof error)) {
        return lua_fail(L, "redis.url", "%s", error);
    }
    struct pool **box = lua_newuserdata(L, sizeof *box);
    *box = pool_new(runtime_of(L), has_url ? &url : NULL,
                    luaL_optstring(L, 2, NULL));
    luaL_getmetatable(L, CLIENT);
    lua_setmetatable(L, -2);
    return 1;
}

// close(client)
static int l_close(lua_State *L) {
    struct pool **box = luaL_checkudata(L, 1, CLIENT);
    struct pool *p = *box;
    *box = NULL; // before: models look here whether they may still send
    if (p) {
        pool_close(p);
    }
    return 0;
}

static void set_number(lua_State *L, const char *name, double v) {
    lua_pushnumber(L, v);
    lua_setfield(L, -2, name);
}

// stats(client) -> table of counters
static int l_stats(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    lua_createtable(L, 0, 8);
    set_number(L, "created", (double)p->created);
    set_number(L, "in_use", p->busy_count);
    set_number(L, "idle", p->idle_count);
    set_number(L, "limit", p->limit);
    set_number(L, "pending", conn_pending(p->shared));
    set_number(L, "reconnects", (double)p->shared->reconnects);
    set_number(L, "timeouts", (double)p->shared->timeouts);
    lua_pushboolean(L, p->shared->state == CONN_READY);
    lua_setfield(L, -2, "connected");
    return 1;
}

// limit(client) -> the pool's size
static int l_limit(lua_State *L) {
    lua_pushinteger(L, lua_redis_check(L, 1)->limit);
    return 1;
}

static const luaL_Reg functions[] = {
    {"open", l_open},
    {"close", l_close},
    {"stats", l_stats},
    {"limit", l_limit},
    {"command", l_new_command},
    {"call", l_call},
    {"call_blocking", l_call_blocking},
    {"pipeline", l_pipeline},
    {"pipeline_command", l_new_pipeline_command},
    {"pipeline_call", l_pipeline_call},
    {"pipeline_count", l_pipeline_count},
    {"execute", l_execute},
    {NULL, NULL}};

// A client that nobody holds stays open, since calls may be under way: it has
// no __gc, and is closed with the runtime.
int luaopen_neap_redis(lua_State *L) {
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, CLIENT);
    lua_setfield(L, -2, "client_class");
    luaL_newmetatable(L, PIPELINE);
    lua_pushcfunction(L, l_pipeline_gc);
    lua_setfield(L, -2, "__gc");
    lua_setfield(L, -2, "pipeline_class");
    return 1;
}
