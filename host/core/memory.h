// memory: a limit for what Lua may hold. A task that would go beyond it fails
// with "not enough memory"; what it held is collected before the next one runs.
// Between slices, where the host itself builds values, the limit does not hold.
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
    bool is_short;                 // a task was refused some
};

// memory_limit sets or changes the limit of a Lua state; 0 lifts it.
void memory_limit(struct memory *m, lua_State *L, const struct monitor *monitor,
                  size_t limit);

// memory_recover collects what a task that was refused memory has left.
void memory_recover(struct memory *m, lua_State *L);

#endif
