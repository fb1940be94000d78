// memory: a limit for what Lua may hold.
#include "core/memory.h"

#include "core/monitor.h"

// Under a limit garbage is collected sooner: at LuaJIT's 200 percent a state
// whose live data fill half of the limit would never be.
enum { pause_at_limit = 120, pause_before = 200 };

static void *limited(void *ud, void *p, size_t old, size_t size) {
    struct memory *m = ud;
    if (m->limit && size > old && m->used + (size - old) > m->limit &&
        (m->monitor->slice & 1)) {
        m->is_short = true;
        return NULL;
    }
    void *q = m->alloc(m->ud, p, old, size);
    if (q || size == 0) {
        m->used += size - old; // may wrap and come back
    }
    return q;
}

void memory_limit(struct memory *m, lua_State *L, const struct monitor *monitor,
                  size_t limit) {
    m->limit = limit;
    m->monitor = monitor;
    if (limit && !m->alloc) {
        m->alloc = lua_getallocf(L, &m->ud);
        m->used = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 +
                  (size_t)lua_gc(L, LUA_GCCOUNTB, 0);
        lua_setallocf(L, limited, m);
    }
    lua_gc(L, LUA_GCSETPAUSE, limit ? pause_at_limit : pause_before);
}

void memory_recover(struct memory *m, lua_State *L) {
    m->is_short = false;
    lua_gc(L, LUA_GCCOLLECT, 0);
}
