// memory: a limit for what Lua may hold. A task that takes a good part in one
// slice and would go beyond it fails with "not enough memory"; what it held is
// collected before the next one runs. Those that take little, and who handles
// the failure, find a quarter more. Between slices, where the host itself
// builds values, the limit does not hold.
#ifndef NEAP_CORE_MEMORY_H
#define NEAP_CORE_MEMORY_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct monitor;

struct memory {
    lua_Alloc alloc; // LuaJIT's own
    void *ud;
    const struct monitor *monitor; // says whether a task runs
    size_t used, limit;            // bytes; no limit is 0
    size_t at_begin;               // of the slice: what was used
    bool is_short;                 // a task was refused some
};

// memory_limit sets or changes the limit of a Lua state; 0 lifts it.
void memory_limit(struct memory *m, lua_State *L, const struct monitor *monitor,
                  size_t limit);

// memory_begin is told that a slice begins.
static inline void memory_begin(struct memory *m) {
    m->at_begin = m->used;
}

// memory_lift gives LuaJIT its own allocator back: lua_close frees its arena
// only then.
void memory_lift(struct memory *m, lua_State *L);

// memory_recover collects what a task that was refused memory has left.
void memory_recover(struct memory *m, lua_State *L);

#endif
