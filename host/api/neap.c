// neap: the life of an instance.
#include "neap.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/instance.h"
#include "base/mem.h"
#include "core/protect.h"
#include "lua/lua_util.h"

static const char instance_key;
static _Thread_local char error_text[512];

int instance_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(error_text, sizeof error_text, fmt, ap);
    va_end(ap);
    return -1;
}

const char *neap_strerror(void) {
    return error_text;
}

const char *neap_version(void) {
    return NEAP_VERSION;
}

#ifdef NEAP_CHECKS
// Instances that were closed are kept, so that a call with one is known.
static neap *_Atomic closed;

void instance_check(bool is_well, const char *what, const char *text) {
    if (!is_well) {
        fprintf(stderr, "neap: %s: %s\n", what, text);
        abort();
    }
}

static void give_up(neap *n) {
    n->is_closed = true;
    n->next_closed = atomic_exchange(&closed, n);
}
#else
static void give_up(neap *n) {
    free(n);
}
#endif

// check_caller is for all functions but neap_post.
static void check_caller(neap *n, const char *what) {
    (void)n;
    instance_check(!n->is_closed, what, "the instance was closed");
    instance_check(pthread_equal(pthread_self(), n->thread), what,
                   "called by another thread");
}

void instance_enter(neap *n, const char *what) {
    check_caller(n, what);
    if (n->nest) {
        nest_wake(n);
    }
}

void instance_leave(neap *n, const char *what, int top) {
    lua_State *L = n->rt->L;
    instance_check(lua_gettop(L) == top, what,
                   "the main state's stack is not left as it was found");
    lua_settop(L, top);
}

neap *instance_of(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&instance_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    neap *n = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return n;
}

// What instance_call calls.
struct call {
    neap *n;
    const char *what;
    void (*fn)(void *ud);
    void *ud;
};

static void call(void *arg) {
    struct call *c = arg;
    int top = lua_gettop(c->n->rt->L);
    c->fn(c->ud);
    instance_leave(c->n, c->what, top);
}

void instance_call(neap *n, const char *what, void (*fn)(void *ud), void *ud,
                   int count) {
    struct call c = {n, what, fn, ud};
    char text[512];
    if (protect_call(n->rt, call, &c, count, text, sizeof text) !=
        PROTECT_RETURNED) {
        log_write(&n->rt->log, LOG_ERROR, "an error in %s: %s", what, text);
    }
}

lua_State *neap_lua(neap *n) {
    check_caller(n, "neap_lua");
    return n->rt->L;
}

uv_loop_t *neap_loop(neap *n) {
    check_caller(n, "neap_loop");
    return n->nest ? nest_outer(n) : &n->loop;
}

// -- options

static void on_log(void *arg, enum log_level level, const char *line,
                   size_t len) {
    neap *n = arg;
    n->log(n->arg, (int)level, line, len);
}

// print(text): where Lua's print goes
static int l_print(lua_State *L) {
    neap *n = instance_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    n->print(n->arg, text, len);
    lua_pushboolean(L, 1);
    return 1;
}

// set_up lets the Lua side know what the options say.
static void set_up(neap *n, const neap_options *o) {
    lua_State *L = n->rt->L;
    lua_pushlightuserdata(L, (void *)&instance_key);
    lua_pushlightuserdata(L, n);
    lua_rawset(L, LUA_REGISTRYINDEX);
    if (o->log) {
        n->rt->log.write = on_log;
        n->rt->log.arg = n;
    }
    if (o->lua_path) {
        lua_getglobal(L, "package");
        lua_getfield(L, -1, "path");
        lua_pushfstring(L, "%s;%s", o->lua_path, lua_tostring(L, -1));
        lua_setfield(L, -3, "path");
        lua_pop(L, 2);
    }
    neap_require(n, "neap.embed");
    lua_getfield(L, -1, "set_up");
    if (o->print) {
        lua_pushcfunction(L, l_print);
    } else {
        lua_pushnil(L);
    }
    lua_pushstring(L, o->redis_url);
    lua_call(L, 2, 0);
    lua_pop(L, 1);
    if (o->memory_limit) {
        memory_limit(n->rt, o->memory_limit);
    }
}

// promote makes LuaJIT's symbols known to all: a program that loaded this
// library by itself (dlopen, ctypes) keeps them from C modules such as lpeg
// otherwise.
static void promote(void) {
    dlopen("libluajit-5.1.so.2", RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

// -- life

neap *neap_new(const neap_options *options) {
    neap_options o = {0};
    if (options && options->size > sizeof o) {
        instance_fail("the options are of a later version than the library");
        return NULL;
    }
    if (options) {
        memcpy(&o, options, options->size);
    }
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, promote);
    neap *n = xcalloc(1, sizeof *n);
    int rc = uv_loop_init(&n->loop);
    if (rc != 0) {
        instance_fail("no event loop is to be had: %s", uv_strerror(rc));
        free(n);
        return NULL;
    }
    n->thread = pthread_self();
    n->log = o.log;
    n->print = o.print;
    n->arg = o.arg;
    list_init(&n->ends);
    list_init(&n->waits);
    n->rt = runtime_new(&n->loop);
    lua_open_runtime(n->rt->L);
    post_open(n);
    set_up(n, &o);
    if (o.loop && nest_open(n, o.loop) != 0) {
        neap_close(n, NULL, NULL);
        return NULL;
    }
    return n;
}

int neap_require(neap *n, const char *name) {
    instance_enter(n, "neap_require");
    lua_State *L = n->rt->L;
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    if (lua_pcall(L, 1, 1, 0) == 0) {
        return 0;
    }
    const char *text = lua_tostring(L, -1);
    instance_fail("%s", text ? text : "(the error is no text)");
    lua_pop(L, 1);
    return -1;
}

int neap_run(neap *n) {
    instance_enter(n, "neap_run");
    if (n->nest) {
        return instance_fail("the loop is borrowed: uv_run it");
    }
    n->is_running = true;
    int status = runtime_run(n->rt);
    n->is_running = false;
    return status;
}

void neap_stop(neap *n, int status) {
    instance_enter(n, "neap_stop");
    if (!n->is_closing) {
        runtime_stop(n->rt, status);
    }
}

// -- the end

static void finish(neap *n) {
    void (*on_closed)(void *arg) = n->on_closed;
    void *arg = n->closed_arg;
    command_close(n);
    runtime_close_end(n->rt);
    uv_loop_close(&n->loop);
    pthread_mutex_destroy(&n->lock);
    give_up(n);
    if (on_closed) {
        on_closed(arg);
    }
}

static void begin_to_close(neap *n) {
    post_close(n);
    wait_close(n);
    runtime_close_begin(n->rt);
    spawn_close(n);
}

void neap_close(neap *n, void (*on_closed)(void *arg), void *arg) {
    instance_enter(n, "neap_close");
    instance_check(!n->is_running, "neap_close",
                   "called from what neap_run calls");
    instance_check(!n->is_closing, "neap_close", "called twice");
    n->on_closed = on_closed;
    n->closed_arg = arg;
    n->rt->is_closing = true; // no task runs any more
    post_refuse(n);
    if (n->nest) { // it may have been called by what is to be closed
        nest_close(n, begin_to_close, finish);
        return;
    }
    begin_to_close(n);
    runtime_close_wait(n->rt);
    finish(n);
}
