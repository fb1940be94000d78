// profile: samples of where Lua code spends its time, as folded stacks: a line
// each, "main;parse;trim 42", outermost first, as flamegraph.pl and speedscope
// read them.
//
//   struct profile *p = profile_start(rt, 1);
//   ...
//   struct buf text = {0};
//   profile_stop(p, &text);
//
// The host's own work, while no task runs, is counted as "[host]"; a collection
// as "[GC]" on top of what ran. Needs the watchdog's hold on LuaJIT's profiler.
#ifndef NEAP_CORE_PROFILE_H
#define NEAP_CORE_PROFILE_H

#include "base/buf.h"

struct runtime;
struct profile;

// profile_start takes a sample each interval_ms of processor time; NULL when
// one is running already, or when the profiler is not ours.
struct profile *profile_start(struct runtime *rt, int interval_ms);

// profile_stop ends it, appends the stacks to out and frees the profile.
// Returns the number of samples.
uint64_t profile_stop(struct profile *p, struct buf *out);

#endif
