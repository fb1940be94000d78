// memory: a limit for what Lua may hold. A task that takes a good part in one
// slice and would go beyond it fails with "not enough memory"; what it held is
// collected before the next one runs. Those that take little, and who handles
// the failure, find a quarter more. It holds for replies of Redis while they
// are decoded, too; not where the host builds other values between slices.
#ifndef NEAP_CORE_MEMORY_H
#define NEAP_CORE_MEMORY_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct runtime;

struct memory {
    lua_Alloc alloc; // LuaJIT's own
    void *ud;
    const struct runtime *rt; // says what runs
    size_t used, limit;       // bytes; no limit is 0
    size_t at_begin;          // of the slice: what was used
    size_t collected;         // what was left by the last collection for want
    bool is_short;            // some was refused
};

// memory_limit sets or changes the limit of a runtime; 0 lifts it.
void memory_limit(struct runtime *rt, size_t limit);

// memory_collect collects garbage if memory is short.
void memory_collect(struct runtime *rt);

// memory_lift gives LuaJIT its own allocator back: lua_close frees its arena
// only then.
void memory_lift(struct memory *m, lua_State *L);

#endif
