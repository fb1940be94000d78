// lua_command: a command's arguments, from the Lua stack to the wire.
#include "lua/lua_command.h"

#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/num.h"
#include "lua/lua_error.h"
#include "redis/resp.h"

enum { depth_max = 4, type_cdata = 10 }; // LuaJIT's, in no header
enum { count_len = 4 };                  // of a count of one digit: "*3\r\n"

// add_number: whole numbers as such, others so that they read back the same.
static const char *add_number(struct buf *b, double v) {
    if (!isfinite(v)) {
        return "is not a finite number";
    }
    char text[NUM_TEXT];
    resp_arg(b, text, num_format(text, v));
    return NULL;
}

static int call_tostring(lua_State *L) {
    return luaL_callmeta(L, 1, "__tostring");
}

// add_int64: LuaJIT's 64-bit integers, which print as 42LL or 42ULL.
static const char *add_int64(lua_State *L, int index, struct buf *b,
                             size_t *count) {
    lua_pushcfunction(L, call_tostring);
    lua_pushvalue(L, index);
    lua_pcall(L, 1, 1, 0);
    const char *s = lua_tostring(L, -1);
    size_t digits = s ? strspn(s, "-0123456789") : 0;
    bool is_int = digits && (strcmp(s + digits, "LL") == 0 ||
                             strcmp(s + digits, "ULL") == 0);
    if (is_int) {
        resp_arg(b, s, digits);
        (*count)++;
    }
    lua_pop(L, 1);
    return is_int ? NULL : "is not a string, number or table";
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
        lua_pushinteger(L, (lua_Integer)n); // what lies outside of the list
        while (!error && lua_next(L, index)) {
            lua_pop(L, 1);
            bool is_number = lua_type(L, -1) == LUA_TNUMBER;
            double key = is_number ? lua_tonumber(L, -1) : 0;
            if (!(key >= 1 && key <= (double)n)) {
                error = "is a list with a hole or with named elements";
                lua_pop(L, 1);
            }
        }
        return error;
    }
    lua_pushnil(L);
    while (!error && lua_next(L, index)) {
        int value = lua_gettop(L);
        lua_pushvalue(L, value - 1); // lua_next must not see it converted
        error = add_arg(L, value + 1, b, count, depth + 1);
        lua_pop(L, 1);
        size_t before = *count;
        error = error ? error : add_arg(L, value, b, count, depth + 1);
        if (!error && *count == before) { // what follows would move up
            error = "has an empty table as the value of a name";
        }
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
    case type_cdata: return add_int64(L, index, b, count);
    case LUA_TTABLE: return add_table(L, index, b, count, depth);
    case LUA_TNIL: return "is nil";
    default: return "is not a string, number or table";
    }
    (*count)++;
    return NULL;
}

// add_size adds to *size about how many bytes the value at an index will have,
// tables' contents too; it stops above max.
static void add_size(lua_State *L, int index, int depth, size_t *size,
                     size_t max) {
    int type = lua_type(L, index);
    *size += type == LUA_TNUMBER || type == type_cdata ? 24 : 6;
    if (type == LUA_TSTRING) {
        *size += lua_objlen(L, index);
    } else if (lua_istable(L, index) && depth <= depth_max) {
        lua_pushnil(L);
        while (lua_next(L, index)) {
            int value = lua_gettop(L);
            add_size(L, value, depth + 1, size, max);
            if (lua_type(L, value - 1) == LUA_TSTRING) {
                *size += lua_objlen(L, value - 1);
            }
            lua_pop(L, 1);
            if (*size > max) {
                lua_pop(L, 1);
                return;
            }
        }
    }
}

// A command's name, which need not end with a NUL.
struct name {
    const char *s;
    size_t len;
};

static void fail_size(lua_State *L, struct name name, size_t size, size_t max) {
    lua_fail(L, "redis.too_large",
             "%.*s: its arguments have %.0f bytes, more than the %.0f that "
             "may be queued (queue_bytes)",
             (int)name.len, name.s, (double)size, (double)max);
}

static void fail_arg(lua_State *L, struct name name, int place,
                     const char *error) {
    lua_misuse(L, "%.*s: argument #%d %s", (int)name.len, name.s, place, error);
}

// add_flattened appends a command among whose arguments are tables: how many
// there are is known only at the end.
static void add_flattened(lua_State *L, struct buf *b, struct name name,
                          int first, size_t max) {
    int top = lua_gettop(L);
    size_t count = 1, size = 0;
    for (int i = first; i <= top; i++) {
        add_size(L, i, 0, &size, max);
    }
    if (size > max) { // before any memory is taken
        fail_size(L, name, size, max);
    }
    struct buf args = {0};
    resp_arg(&args, name.s, name.len);
    for (int i = first; i <= top; i++) {
        const char *error = add_arg(L, i, &args, &count, 0);
        if (error) {
            buf_clear(&args);
            fail_arg(L, name, i - first + 1, error);
        }
    }
    resp_command(b, count);
    buf_add(b, args.data, args.len);
    buf_clear(&args);
}

// add_args appends the arguments to the command that began at `start`.
static void add_args(lua_State *L, struct buf *b, size_t start,
                     struct name name, int first, size_t max) {
    int top = lua_gettop(L);
    size_t count = 0;
    for (int i = first; i <= top; i++) {
        size_t len;
        int type = lua_type(L, i);
        if (type == LUA_TSTRING) {
            const char *s = lua_tolstring(L, i, &len);
            size_t size = b->len - start + len;
            if (size > max) {
                b->len = start;
                fail_size(L, name, size, max);
            }
            resp_arg(b, s, len);
        } else if (type == LUA_TTABLE) {
            b->len = start;
            add_flattened(L, b, name, first, max);
            return;
        } else {
            const char *error = add_arg(L, i, b, &count, 0);
            if (error) {
                b->len = start;
                fail_arg(L, name, i - first + 1, error);
            }
        }
    }
}

void lua_command_add(lua_State *L, struct buf *b, const char *name,
                     size_t name_len, int first, size_t max) {
    size_t start = b->len;
    resp_command(b, (size_t)(lua_gettop(L) - first + 2));
    resp_arg(b, name, name_len);
    add_args(L, b, start, (struct name){name, name_len}, first, max);
}

void lua_command_add_known(lua_State *L, struct buf *b,
                           const struct lua_command *c, int first, size_t max) {
    size_t start = b->len, argc = (size_t)(lua_gettop(L) - first + 2);
    if (argc < 10) {
        buf_add(b, c->head, c->head_len);
        b->data[start + 1] = (char)('0' + argc);
    } else {
        resp_command(b, argc);
        buf_add(b, c->head + count_len, c->head_len - count_len);
    }
    struct name name = {c->head + c->head_len - 2 - c->name_len, c->name_len};
    add_args(L, b, start, name, first, max);
}

struct lua_command *lua_command_push(lua_State *L, const char *name,
                                     size_t len) {
    struct buf head = {0};
    resp_command(&head, 0);
    resp_arg(&head, name, len);
    struct lua_command *c = lua_newuserdata(L, sizeof *c + head.len);
    *c = (struct lua_command){.name_len = len, .head_len = head.len};
    memcpy(c->head, head.data, head.len);
    buf_clear(&head);
    return c;
}
