// failure: the error that ended a task, and the way that it took.
#include "core/failure.h"

#include <lauxlib.h>
#include <string.h>

#include "base/buf.h"
#include "core/runtime.h"
#include "lua/lua_error.h"

static bool is_host_frame(const char *line) {
    return strncmp(line, "\t[C]:", 5) == 0 ||
           strncmp(line, "\tneap.", 6) == 0 ||
           strncmp(line, "\t[builtin", 9) == 0;
}

// add_frames appends the lines of a traceback, but for its head and for the
// frames of C and of the host's own Lua.
static void add_frames(struct buf *out, const char *text) {
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (*text == '\t' && !is_host_frame(text)) {
            if (out->len) {
                buf_addc(out, '\n');
            }
            buf_add(out, text, n);
        }
        text += n + (text[n] == '\n');
    }
}

// push_frames pushes a traceback. LuaJIT no longer knows the line of a frame
// whose own instruction failed, but it put "file:line:" in front of the
// message.
static void push_frames(lua_State *L, lua_State *from, int level,
                        const char *message) {
    luaL_traceback(L, from, NULL, level);
    lua_Debug ar;
    if (!message || !lua_getstack(from, level, &ar) ||
        !lua_getinfo(from, "Sl", &ar) || ar.currentline >= 0 ||
        *ar.what == 'C') {
        return;
    }
    size_t n = strlen(ar.short_src);
    const char *text = lua_tostring(L, -1), *frame = strstr(text, "\n\t");
    if (!frame || strncmp(message, ar.short_src, n) != 0 || message[n] != ':') {
        return;
    }
    frame += 2 + n;
    size_t digits = strspn(message + n + 1, "0123456789");
    lua_pushlstring(L, text, (size_t)(frame - text));
    lua_pushlstring(L, message + n, digits + 1);
    lua_pushstring(L, frame);
    lua_concat(L, 3);
    lua_remove(L, -2);
}

// is_cause says whether the error at `index` is the one that t was given; its
// record {error, trace, site} is left on the stack then. // [-0, +1 or +0]
static bool is_cause(lua_State *L, int index, const struct task *t) {
    if (!t || !t->cause) {
        return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->cause);
    lua_rawgeti(L, -1, 1);
    bool is = lua_rawequal(L, index, -1);
    lua_pop(L, is ? 1 : 2);
    return is;
}

void failure_push_trace(lua_State *L, int index, struct task *t,
                        lua_State *from, int level) {
    const char *message =
        lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
    struct buf b = {0};
    lua_checkstack(L, 8);
    if (is_cause(L, index, t)) {
        lua_rawgeti(L, -1, 2);
        lua_rawgeti(L, -2, 3);
        add_frames(&b, lua_tostring(L, -2));
        buf_printf(&b, "%s\tin a task spawned at %s, joined at",
                   b.len ? "\n" : "", lua_tostring(L, -1));
        lua_pop(L, 3);
        message = NULL;
    }
    push_frames(L, from, level, message);
    add_frames(&b, lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_pushlstring(L, b.data ? b.data : "", b.len);
    buf_clear(&b);
}

// The coroutine's stack is still there: LuaJIT unwinds only the C side of a
// dead coroutine. It may be full, so the work is done on another.
void failure_keep(struct task *t) {
    lua_State *L = t->rt->L;
    char site[256];
    lua_checkstack(L, 8);
    task_spawn_site(t, site, sizeof site); // while its spawner is on the stack
    lua_xmove(t->L, L, 1);
    lua_settop(t->L, 0);
    int error = lua_gettop(L);
    failure_push_trace(L, error, t, t->L, 0);
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, error);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, error + 1);
    lua_rawseti(L, -2, 2);
    lua_pushstring(L, site);
    lua_rawseti(L, -2, 3);
    t->failure = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, error - 1);
}

void failure_note(struct task *joiner, struct task *failed) {
    lua_State *L = joiner->rt->L;
    if (joiner->cause) {
        luaL_unref(L, LUA_REGISTRYINDEX, joiner->cause);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, failed->failure);
    joiner->cause = luaL_ref(L, LUA_REGISTRYINDEX);
}

void failure_push(const struct task *t, lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
    lua_rawgeti(L, -1, 1);
    lua_describe_error(L, lua_gettop(L));
    lua_rawgeti(L, -3, 2);
    lua_replace(L, -4);
    lua_replace(L, -2);
    lua_insert(L, -2);
}

void failure_log(const struct task *t) {
    lua_State *L = t->rt->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
    lua_rawgeti(L, -1, 3);
    failure_push(t, L);
    const char *trace = lua_tostring(L, -1);
    log_write(&t->rt->log, LOG_ERROR, "a task failed: %s\n%s%sspawned at %s",
              lua_tostring(L, -2), trace, *trace ? "\n" : "",
              lua_tostring(L, -3));
    lua_pop(L, 4);
}
