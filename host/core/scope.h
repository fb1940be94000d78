// scope: a deadline around what a task calls.
//
//   struct scope s;
//   scope_open(t, &s, 0.5); ...waits... bool is_over = scope_close(&s);
//
// Scopes nest within a task. When the time is up, the wait that the task is in
// ends, and each later one within the scope.
#ifndef NEAP_CORE_SCOPE_H
#define NEAP_CORE_SCOPE_H

#include <stdbool.h>

#include "core/timer.h"

struct task;

struct scope {
    struct timer timer;
    struct task *task;
    struct scope *outer;
    double seconds;
    int shield; // the task's shield depth when the scope was opened
    bool is_expired;
    bool is_raised; // some wait was ended by it
};

// scope_open begins a deadline (none when seconds < 0).
void scope_open(struct task *t, struct scope *s, double seconds);

// scope_close ends it and says whether it ended a wait. It may be called twice.
bool scope_close(struct scope *s);

// scope_expire ends the scope's waits now. It may be closed already.
void scope_expire(struct scope *s);

#endif
