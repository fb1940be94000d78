// protect: the host's own work under protection, where a Lua error may come up:
// memory is refused, or a finalizer or a function of the program's raises one.
#ifndef NEAP_CORE_PROTECT_H
#define NEAP_CORE_PROTECT_H

#include <stddef.h>

struct runtime;

enum protect_result {
    PROTECT_RETURNED,
    PROTECT_RAISED,    // a Lua error
    PROTECT_NO_MEMORY, // Lua was refused memory
};

// protect_call calls fn(arg) with the `count` values from the top of the main
// state's stack on top of a stack of its own. An error leaves fn's frames as
// longjmp does, and its text is written to `text`. // [-count, +0]
enum protect_result protect_call(struct runtime *rt, void (*fn)(void *arg),
                                 void *arg, int count, char *text, size_t size);

// protect_open readies that.
void protect_open(struct runtime *rt);

#endif
