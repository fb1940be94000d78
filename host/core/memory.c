// memory: a limit for what Lua may hold.
#include "core/memory.h"

#include "core/protect.h"
#include "core/runtime.h"

// Under a limit garbage is collected sooner: at LuaJIT's 200 percent a state
// whose live data fill half of the limit would never be.
enum { pause_at_limit = 120, pause_before = 200 };

// is_too_much says whether a slice, or a reply that is decoded, may not have so
// much more.
static bool is_too_much(const struct memory *m, size_t more) {
    const size_t little = m->limit / 32;
    size_t sum = m->used + more;
    bool is_culprit = sum > m->at_begin && sum - m->at_begin > little;
    bool is_held = (m->rt->monitor.slice & 1) || m->rt->decoding;
    if (!m->limit || sum <= m->limit || !is_held) {
        return false;
    }
    return sum > m->limit + m->limit / 4 || (is_culprit && !m->is_short);
}

static void *limited(void *ud, void *p, size_t old, size_t size) {
    struct memory *m = ud;
    if (size > old && is_too_much(m, size - old)) {
        m->is_short = true;
        return NULL;
    }
    void *q = m->alloc(m->ud, p, old, size);
    if (q || size == 0) {
        m->used += size - old; // may wrap and come back
    }
    return q;
}

void memory_limit(struct runtime *rt, size_t limit) {
    struct memory *m = &rt->memory;
    lua_State *L = rt->L;
    m->rt = rt;
    m->limit = limit;
    if (limit && !m->alloc) {
        m->alloc = lua_getallocf(L, &m->ud);
        m->used = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 +
                  (size_t)lua_gc(L, LUA_GCCOUNTB, 0);
        lua_setallocf(L, limited, m);
    }
    lua_gc(L, LUA_GCSETPAUSE, limit ? pause_at_limit : pause_before);
}

void memory_lift(struct memory *m, lua_State *L) {
    if (m->alloc) {
        lua_setallocf(L, m->alloc, m->ud);
        m->alloc = NULL;
    }
}

static void collect(void *arg) {
    struct runtime *rt = arg;
    lua_gc(rt->L, LUA_GCCOLLECT, 0);
}

// Beyond the limit a collection is tried each time some more was taken.
void memory_collect(struct runtime *rt) {
    struct memory *m = &rt->memory;
    const size_t some = m->limit / 32;
    char text[256];
    if (!m->is_short && (!m->limit || m->used <= m->collected + some)) {
        return;
    }
    m->is_short = false;
    if (protect_call(rt, collect, rt, 0, text, sizeof text) !=
        PROTECT_RETURNED) {
        log_write(&rt->log, LOG_ERROR, "an error in a finalizer: %s", text);
    }
    m->collected = m->used;
}
