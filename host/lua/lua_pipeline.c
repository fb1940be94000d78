// lua_pipeline: commands recorded in Lua, to be sent together.
#include "lua/lua_pipeline.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "lua/lua_command.h"
#include "lua/lua_error.h"
#include "lua/lua_value.h"
#include "redis/resp.h"

#define PIPELINE "neap.pipeline"

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";

static const char tag; // tells a pipeline from other userdata

enum { first_size = 1024 }; // of the buffers

struct command {
    size_t end; // offset in bytes
    uint16_t shape;
};

struct pipeline {
    const char *tag;
    struct buf bytes;
    struct buf commands; // of struct command
    uint32_t count;
    size_t max;     // bytes
    bool is_closed; // nothing more is recorded
    bool is_write;  // some command may change something
};

// check_pipeline: a look at the tag costs less than one at the metatable.
static struct pipeline *check_pipeline(lua_State *L, int arg) {
    struct pipeline *p = lua_touserdata(L, arg);
    if (!p || lua_objlen(L, arg) != sizeof *p || p->tag != &tag) {
        luaL_checkudata(L, arg, PIPELINE); // raises
    }
    return p;
}

// pipeline(max) -> an empty one, for so many bytes
static int l_pipeline(lua_State *L) {
    size_t max = (size_t)luaL_checknumber(L, 1);
    struct pipeline *p = lua_newuserdata(L, sizeof *p);
    *p = (struct pipeline){.tag = &tag, .max = max};
    buf_reserve(&p->bytes, first_size);
    buf_reserve(&p->commands, first_size);
    luaL_getmetatable(L, PIPELINE);
    lua_setmetatable(L, -2);
    return 1;
}

// check_room returns how many bytes may still be recorded.
static size_t check_room(lua_State *L, const struct pipeline *p) {
    if (p->is_closed) {
        lua_misuse(L, "the pipeline was sent already");
    }
    return p->max > p->bytes.len ? p->max - p->bytes.len : 0;
}

static void end_command(struct pipeline *p, uint16_t shape, bool is_read) {
    struct command c = {p->bytes.len, shape};
    buf_add(&p->commands, &c, sizeof c);
    p->count++;
    p->is_write = p->is_write || !is_read;
}

// pipeline:<command>(...): the upvalue is the command
static int l_pipeline_command(lua_State *L) {
    struct pipeline *p = check_pipeline(L, 1);
    const struct lua_command *c = lua_touserdata(L, lua_upvalueindex(1));
    lua_command_add_known(L, &p->bytes, c, 2, check_room(L, p));
    end_command(p, c->shape, c->is_read);
    return 0;
}

// pipeline_command(name, is_map, is_read) -> the function that records it
static int l_new_pipeline_command(lua_State *L) {
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    lua_settop(L, 3);
    struct lua_command *c = lua_command_push(L, name, len);
    c->shape = lua_toboolean(L, 2) ? SHAPE_MAP : SHAPE_PLAIN;
    c->is_read = lua_toboolean(L, 3);
    lua_pushcclosure(L, l_pipeline_command, 1);
    return 1;
}

// pipeline_call(pipeline, is_read, name, ...)
static int l_pipeline_call(lua_State *L) {
    struct pipeline *p = check_pipeline(L, 1);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    lua_command_add(L, &p->bytes, name, len, 4, check_room(L, p));
    end_command(p, SHAPE_PLAIN, lua_toboolean(L, 2));
    return 0;
}

static int l_pipeline_count(lua_State *L) {
    lua_pushinteger(L, check_pipeline(L, 1)->count);
    return 1;
}

// pipeline_close(pipeline) -> the number of commands, whether all only read
static int l_pipeline_close(lua_State *L) {
    struct pipeline *p = check_pipeline(L, 1);
    p->is_closed = true;
    lua_pushinteger(L, p->count);
    lua_pushboolean(L, !p->is_write);
    return 2;
}

static int l_pipeline_gc(lua_State *L) {
    struct pipeline *p = lua_touserdata(L, 1);
    buf_clear(&p->bytes);
    buf_clear(&p->commands);
    return 0;
}

void lua_pipeline_send(lua_State *L, int arg, struct conn *c, struct task *t,
                       bool is_transaction) {
    struct pipeline *p = check_pipeline(L, arg);
    const struct command *commands = (void *)p->commands.data;
    struct buf *out = conn_out(c);
    struct value_batch *b = value_batch_begin(c, t, p->count, is_transaction);
    uint64_t begin = conn_end(c);
    if (is_transaction) {
        buf_add(out, multi, sizeof multi - 1);
        begin = conn_end(c);
    }
    buf_add(out, p->bytes.data, p->bytes.len);
    if (is_transaction) {
        buf_add(out, exec, sizeof exec - 1);
    }
    uint64_t end = conn_end(c);
    conn_push(c); // the server may begin while the waiters are queued
    if (is_transaction) {
        value_batch_wait(b, SHAPE_PLAIN, begin);
    }
    for (uint32_t i = 0; i < p->count; i++) {
        value_batch_wait(b, commands[i].shape, begin + commands[i].end);
    }
    if (is_transaction) {
        value_batch_wait(b, SHAPE_PLAIN, end);
    }
    value_batch_park(b);
}

static const luaL_Reg functions[] = {
    {"pipeline", l_pipeline},
    {"pipeline_command", l_new_pipeline_command},
    {"pipeline_call", l_pipeline_call},
    {"pipeline_count", l_pipeline_count},
    {"pipeline_close", l_pipeline_close},
    {NULL, NULL}};

void lua_pipeline_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, PIPELINE);
    lua_pushcfunction(L, l_pipeline_gc);
    lua_setfield(L, -2, "__gc");
    lua_setfield(L, -2, "pipeline_class");
}
