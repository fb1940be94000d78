// watchdog: a thread that finds what holds the loop up, while it does.
//
//   watchdog_start(rt, &(struct watchdog_options){.slow_ms = 100});
//
// A slice (what a task runs between two waits) that takes longer than slow_ms
// is logged with the stack of its Lua code. One that takes longer than
// max_slice_ms is ended with an error, code "task.too_long", as is a line of a
// console whose client asks for that or is gone. Code in a C function cannot be
// ended. The thread sleeps while the loop does.
#ifndef NEAP_CORE_WATCHDOG_H
#define NEAP_CORE_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct runtime;

struct watchdog_options {
    double slow_ms;      // 0: none is logged
    double max_slice_ms; // 0: none is ended
};

// watchdog_start begins to watch, or changes how; false if another runtime of
// this process is watched.
bool watchdog_start(struct runtime *rt, const struct watchdog_options *options);

// watchdog_stop ends the thread, if there is one.
void watchdog_stop(struct runtime *rt);

#endif
