// runq: the run queue, tasks that are ready, in the order in which they run.
//
//   runq_init(&q); runq_add(&q, t);
//   struct task *t = runq_take(&q);   // NULL when it is empty
//
// Tasks are linked by their own `next`: each stands in one queue at most.
#ifndef NEAP_CORE_RUNQ_H
#define NEAP_CORE_RUNQ_H

#include <stdint.h>

struct task;

struct runq {
    struct task *first, **last;
    uint32_t count;
};

// runq_init empties a queue.
void runq_init(struct runq *q);

// runq_add puts a task at the end.
void runq_add(struct runq *q, struct task *t);

// runq_take takes the first task, or returns NULL.
struct task *runq_take(struct runq *q);

// runq_take_all empties the queue and returns its first task, from which the
// others are linked.
struct task *runq_take_all(struct runq *q);

// runq_remove takes a task out, if it is there. It looks through the queue.
void runq_remove(struct runq *q, struct task *t);

#endif
