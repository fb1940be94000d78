// lua_redis: the binding of redis/pool: clients, commands, connections on loan.
#include "lua/lua_redis.h"

#include <lauxlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_command.h"
#include "lua/lua_error.h"
#include "lua/lua_pipeline.h"
#include "lua/lua_pubsub.h"
#include "lua/lua_value.h"

#define CLIENT "neap.redis"
#define LOAN   "neap.loan"

static const char again_key; // AGAIN: the call has to wait for room first

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

// -- calls

// ready_to_call returns the running task if it may queue a command; NULL if it
// has to leave at once with *results values: interrupted, or to come again.
static struct task *ready_to_call(lua_State *L, struct pool *p, int *results) {
    struct task *t = task_current(L, p->rt);
    if (!t) {
        *results = task_yield(L);
        return NULL;
    }
    if (conn_is_full(p->shared)) {
        lua_fail(L, "redis.queue_full",
                 "too many commands wait for the connection");
    }
    if (conn_is_choked(p->shared)) {
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        lua_pushlightuserdata(L, (void *)&again_key);
        *results = 2;
        return NULL;
    }
    return t;
}

// drained(client): waits until more can be sent
static int l_drained(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    struct task *t = task_current(L, p->rt);
    if (t) {
        if (!conn_is_choked(p->shared)) {
            return 0;
        }
        waitq_park(&p->choked, t);
    }
    return task_yield(L);
}

// check_client is lua_redis_check without a look into the registry.
static struct pool *check_client(lua_State *L, int class) {
    struct pool **box = lua_touserdata(L, 1);
    if (box && lua_getmetatable(L, 1)) {
        bool is = lua_rawequal(L, -1, class);
        lua_pop(L, 1);
        if (is && *box) {
            return *box;
        }
    }
    return lua_redis_check(L, 1);
}

// client:<command>(...): upvalues are the command and the clients' metatable
static int l_command(lua_State *L) {
    struct pool *p = check_client(L, lua_upvalueindex(2));
    const struct lua_command *c = lua_touserdata(L, lua_upvalueindex(1));
    int results;
    struct task *t = ready_to_call(L, p, &results);
    if (!t) {
        return results;
    }
    lua_command_add_known(L, conn_out(p->shared), c, 2, p->options.queue_bytes);
    value_wait(p->shared, t, (enum value_shape)c->shape);
    return task_yield(L);
}

// command(name, is_map) -> the function that sends it
static int l_new_command(lua_State *L) {
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    lua_settop(L, 2);
    struct lua_command *c = lua_command_push(L, name, len);
    c->shape = lua_toboolean(L, 2) ? SHAPE_MAP : SHAPE_PLAIN;
    luaL_getmetatable(L, CLIENT);
    lua_pushcclosure(L, l_command, 2);
    return 1;
}

static struct conn *take(lua_State *L, struct pool *p) {
    struct conn *c = pool_take(p);
    if (!c) {
        lua_fail(L, "redis.pool_timeout", "all %u connections are in use",
                 p->limit);
    }
    return c;
}

// call_blocking(client, seconds, name, ...): on a connection of its own; the
// reply is due after that time, 0 for never.
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
    lua_command_add(L, b, name, len, 4, p->options.queue_bytes);
    struct buf command = {0};
    buf_add(&command, b->data + start, b->len - start);
    b->len = start;
    struct conn *c = pool_take(p);
    if (c) {
        buf_add(conn_out(c), command.data, command.len);
    }
    buf_clear(&command);
    if (!c) {
        take(L, p); // it raises
    }
    value_wait_loan(c, t, seconds);
    return task_yield(L);
}

// execute(client, pipeline, is_transaction) -> list of replies
static int l_execute(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    int results;
    struct task *t = ready_to_call(L, p, &results);
    if (!t) {
        return results;
    }
    lua_pipeline_send(L, 2, p->shared, t, lua_toboolean(L, 3));
    return task_yield(L);
}

// -- loans: a connection that a task holds for several commands

struct loan {
    struct runtime *rt;
    struct conn *conn; // NULL once given back, or broken
};

// loan(client) -> loan
static int l_loan(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    struct loan *loan = lua_newuserdata(L, sizeof *loan);
    *loan = (struct loan){.rt = p->rt};
    luaL_getmetatable(L, LOAN);
    lua_setmetatable(L, -2);
    pool_hold(take(L, p), &loan->conn);
    return 1;
}

static struct loan *check_loan(lua_State *L) {
    struct loan *loan = luaL_checkudata(L, 1, LOAN);
    if (!loan->conn) {
        lua_push_error(L, "redis.connect", "the connection was lost");
        lua_pushliteral(L, "queued");
        lua_setfield(L, -2, "phase");
        lua_error(L);
    }
    return loan;
}

// loan_call(loan, name, ...)
static int l_loan_call(lua_State *L) {
    struct loan *loan = check_loan(L);
    struct task *t = task_current(L, loan->rt);
    if (!t) {
        return task_yield(L);
    }
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    lua_command_add(L, conn_out(loan->conn), name, len, 3,
                    loan->conn->options->queue_bytes);
    value_wait(loan->conn, t, SHAPE_PLAIN);
    return task_yield(L);
}

// loan_execute(loan, pipeline) -> list of replies, of a transaction
static int l_loan_execute(lua_State *L) {
    struct loan *loan = check_loan(L);
    struct task *t = task_current(L, loan->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_pipeline_send(L, 2, loan->conn, t, true);
    return task_yield(L);
}

// give(loan, is_clean)
static int l_give(lua_State *L) {
    struct loan *loan = luaL_checkudata(L, 1, LOAN);
    struct conn *c = loan->conn;
    loan->conn = NULL;
    if (c) {
        pool_give(c, lua_toboolean(L, 2));
    }
    return 0;
}

static int l_loan_gc(lua_State *L) {
    lua_settop(L, 1);
    return l_give(L);
}

// -- clients

// set_option takes one entry of the options table, at the top with its key
// below. // [-0, +0]
static void set_option(lua_State *L, struct redis_url *u, char *err,
                       size_t errlen) {
    size_t len = 0;
    const char *value = NULL;
    if (lua_isboolean(L, -1)) {
        value = lua_toboolean(L, -1) ? "yes" : "no";
        len = strlen(value);
    } else if (lua_isstring(L, -1)) {
        lua_pushvalue(L, -1); // lua_next must not see a number converted
        value = lua_tolstring(L, -1, &len);
        lua_remove(L, -2);
    }
    size_t key_len;
    bool is_name = lua_type(L, -2) == LUA_TSTRING &&
                   strlen(lua_tolstring(L, -2, &key_len)) == key_len;
    if (!is_name || !value) {
        redis_url_clear(u);
        lua_fail(L, "redis.url", "option %s: a string or number expected",
                 is_name ? lua_tostring(L, -2) : luaL_typename(L, -2));
    }
    if (redis_url_set(u, lua_tostring(L, -2), value, len, err, errlen) < 0) {
        redis_url_clear(u);
        lua_fail(L, "redis.url", "%s", err);
    }
}

// open(url | nil, options | nil, dir | nil) -> client; without a URL the
// embedded server of that directory, without a directory one in memory
static int l_open(lua_State *L) {
    struct redis_url url = {0};
    lua_settop(L, 3);
    bool has_url = !lua_isnil(L, 1);
    const char *dir = luaL_optstring(L, 3, NULL);
    char err[REDIS_URL_ERROR];
    size_t len = 0;
    const char *text = luaL_optlstring(L, 1, "", &len);
    redis_url_clear(&url);
    if (strlen(text) != len) {
        return lua_fail(L, "redis.url", "a NUL in the URL");
    }
    if (has_url && redis_url_parse(&url, text, err, sizeof err)) {
        return lua_fail(L, "redis.url", "%s", err);
    }
    if (!lua_isnil(L, 2)) {
        lua_pushnil(L);
        while (lua_next(L, 2)) {
            set_option(L, &url, err, sizeof err);
            lua_pop(L, 1);
        }
        if (redis_url_check(&url, err, sizeof err) < 0) {
            redis_url_clear(&url);
            return lua_fail(L, "redis.url", "%s", err);
        }
    }
    struct pool **box = lua_newuserdata(L, sizeof *box);
    *box = pool_new(runtime_of(L), &url, !has_url, dir, err, sizeof err);
    if (!*box) {
        return lua_fail(L, "redis.tls", "%s", err);
    }
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
    struct pool_totals t = pool_totals_now(p);
    lua_createtable(L, 0, 12);
    set_number(L, "created", (double)p->created);
    set_number(L, "in_use", p->busy_count);
    set_number(L, "idle", p->idle_count);
    set_number(L, "limit", p->limit);
    set_number(L, "pending", conn_pending(p->shared));
    set_number(L, "sent", (double)t.sent);
    set_number(L, "received", (double)t.received);
    set_number(L, "reconnects", (double)t.reconnects);
    set_number(L, "timeouts", (double)t.timeouts);
    lua_pushboolean(L, p->shared->state == CONN_READY);
    lua_setfield(L, -2, "connected");
    return 1;
}

// settings(client) -> those that the Lua side goes by
static int l_settings(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    lua_createtable(L, 0, 8);
    set_number(L, "limit", p->limit);
    set_number(L, "timeout", p->options.timeout);
    set_number(L, "pool_timeout", p->pool_timeout);
    set_number(L, "queue_bytes", (double)p->options.queue_bytes);
    if (p->options.slow_ns != UINT64_MAX) {
        set_number(L, "slow", (double)p->options.slow_ns / 1e9);
    }
    lua_pushboolean(L, p->sentinel != NULL);
    lua_setfield(L, -2, "has_sentinel");
    char where[256];
    lua_pushstring(L, link_describe(&p->options, where, sizeof where));
    lua_setfield(L, -2, "address");
    return 1;
}

// report_from(client, seconds | nil): calls that take longer return their cost
static int l_report_from(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    p->options.slow_ns = lua_isnoneornil(L, 2)
                             ? UINT64_MAX
                             : (uint64_t)(luaL_checknumber(L, 2) * 1e9);
    return 0;
}

// renew(client, why): all connections are given up
static int l_renew(lua_State *L) {
    pool_renew(lua_redis_check(L, 1), luaL_checkstring(L, 2));
    return 0;
}

static const luaL_Reg functions[] = {{"open", l_open},
                                     {"close", l_close},
                                     {"stats", l_stats},
                                     {"settings", l_settings},
                                     {"report_from", l_report_from},
                                     {"renew", l_renew},
                                     {"drained", l_drained},
                                     {"command", l_new_command},
                                     {"call_blocking", l_call_blocking},
                                     {"execute", l_execute},
                                     {"loan", l_loan},
                                     {"loan_call", l_loan_call},
                                     {"loan_execute", l_loan_execute},
                                     {"give", l_give},
                                     {NULL, NULL}};

// A client that nobody holds stays open, since calls may be under way: it has
// no __gc, and is closed with the runtime.
int luaopen_neap_redis(lua_State *L) {
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pipeline_open(L);
    lua_pubsub_open(L);
    lua_pushlightuserdata(L, (void *)&again_key);
    lua_setfield(L, -2, "AGAIN");
    luaL_newmetatable(L, CLIENT);
    lua_setfield(L, -2, "client_class");
    luaL_newmetatable(L, LOAN);
    lua_pushcfunction(L, l_loan_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    return 1;
}
