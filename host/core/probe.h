// probe: looks into the Lua code that the loop's thread runs, and stops it,
// from another thread. It holds LuaJIT's profiler, of which a process has one,
// and SIGPROF.
//
// A thread cannot look at a running Lua state: it asks, and a signal brings the
// question to the loop's thread. LuaJIT's profiler answers it at the next line,
// also in compiled loops (its mode `l`), where hooks never fire. Code that is
// in a C function, a collection or one long operation answers only when it is
// through; then the handler itself reads what frames there are.
#ifndef NEAP_CORE_PROBE_H
#define NEAP_CORE_PROBE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct runtime;

enum { probe_text_max = 4096, probe_site_max = 256 };

// A probe_stack_fn gets a stack, innermost first, a line each. Like a
// probe_sample_fn it is called on the loop's thread.
typedef void probe_stack_fn(void *arg, const char *text, size_t len);

// A probe_sample_fn gets a sample: L may only be given to
// luaJIT_profile_dumpstack, and is NULL where no task ran. vmstate is one of
// LuaJIT's letters: N, I, C, G, J.
typedef void probe_sample_fn(void *arg, lua_State *L, int count, int vmstate);

// probe_open takes hold of the profiler; false if another runtime has it. To be
// called on the loop's thread.
bool probe_open(struct runtime *rt);

// probe_close gives it back.
void probe_close(struct runtime *rt);

// probe_ask_stack asks where slice number `slice` is; from any other thread. fn
// is told unless the slice ends before.
void probe_ask_stack(uint32_t slice, probe_stack_fn *fn, void *arg);

// probe_ask_frames reads its frames while it is in C, and where its task was
// spawned; from any other thread. It returns the length of out, or 0 if there
// is no telling.
size_t probe_ask_frames(uint32_t slice, char *out, char *site);

// probe_stop makes that slice raise an error of that code at its next
// instruction. It has to be repeated until the slice is over; code and message
// are literals or live as long.
void probe_stop(uint32_t slice, const char *code, const char *message);

// probe_slice_over takes back what probe_stop did; on the loop's thread.
void probe_slice_over(struct runtime *rt);

// probe_sample calls fn each interval_ms of processor time, until it is called
// with NULL.
void probe_sample(struct runtime *rt, int interval_ms, probe_sample_fn *fn,
                  void *arg);

#endif
