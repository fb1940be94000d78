// runq: the run queue, tasks that are ready, in the order in which they run.
#include "core/runq.h"

#include <stddef.h>

#include "core/task.h"

void runq_init(struct runq *q) {
    *q = (struct runq){NULL, &q->first, 0};
}

void runq_add(struct runq *q, struct task *t) {
    t->next = NULL;
    *q->last = t;
    q->last = &t->next;
    q->count++;
}

struct task *runq_take(struct runq *q) {
    struct task *t = q->first;
    if (t) {
        runq_remove(q, t);
    }
    return t;
}

struct task *runq_take_all(struct runq *q) {
    struct task *first = q->first;
    runq_init(q);
    return first;
}

void runq_remove(struct runq *q, struct task *t) {
    struct task **at = &q->first;
    while (*at && *at != t) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = t->next;
        q->count--;
        if (!*at) {
            q->last = at;
        }
    }
}
