// scope: a deadline around what a task calls.
#include "core/scope.h"

#include <stddef.h>

#include "core/runtime.h"

static void on_scope_due(struct timer *timer) {
    struct scope *s =
        (struct scope *)(void *)((char *)timer - offsetof(struct scope, timer));
    scope_expire(s);
}

void scope_expire(struct scope *s) {
    s->is_expired = true;
    if (s->task) {
        task_interrupt(s->task);
    }
}

void scope_open(struct task *t, struct scope *s, double seconds) {
    *s = (struct scope){
        .task = t, .outer = t->scopes, .seconds = seconds, .shield = t->shield};
    timer_init(&s->timer, on_scope_due);
    if (seconds >= 0) {
        timer_start(&t->rt->timers, &s->timer, timer_after(seconds));
    }
    t->scopes = s;
}

bool scope_close(struct scope *s) {
    struct task *t = s->task;
    if (!t) {
        return s->is_raised;
    }
    s->task = NULL;
    timer_stop(&t->rt->timers, &s->timer);
    struct scope **at = &t->scopes;
    while (*at && *at != s) {
        at = &(*at)->outer;
    }
    if (*at) {
        *at = s->outer;
    }
    bool is_expired = false;
    for (struct scope *o = t->scopes; o; o = o->outer) {
        is_expired = is_expired || o->is_expired;
    }
    t->is_interrupted = t->is_cancelled || is_expired;
    return s->is_raised;
}
