// sync: what tasks wait for together: a FIFO of waiting tasks (on which Lua
// builds channels, semaphores and events), and groups (all, map, race).
#ifndef NEAP_CORE_SYNC_H
#define NEAP_CORE_SYNC_H

#include "core/task.h"

// waitq: tasks in the order in which they came.
struct waitq {
    struct list tasks;
    const char *what; // they wait for, a word
};

// waitq_init makes an empty queue. what is a literal, such as "event".
void waitq_init(struct waitq *q, const char *what);

// waitq_park lets the task wait in the queue.
void waitq_park(struct waitq *q, struct task *t);

// waitq_wake takes `count` values from the top of L to the task that waited
// longest; false (and the values dropped) if there is none. // [-count, +0]
bool waitq_wake(struct waitq *q, lua_State *L, int count);

// waitq_clear forgets the tasks; nobody will wake them from here.
void waitq_clear(struct waitq *q);

enum group_mode { GROUP_ALL, GROUP_RACE };

// A group: children whose results one parent waits for.
struct group {
    struct task *parent; // holds a reference: it may not wait for the end
    uint32_t wait;
    enum group_mode mode;
    int results;      // registry reference: list of first results, or the
                      // error or results that decide the group
    int functions;    // registry reference: the function, or list of them
    int items;        // registry reference: map's list, or LUA_NOREF
    uint32_t total;   // children in all
    uint32_t started; // children spawned so far
    uint32_t pending; // children that run
    bool is_decided;  // failed, won or interrupted: no more are started
    bool is_failed;
    int value_count; // results of the winner
};

// group_run parks the parent until all children are over; at most `limit` run
// at once. functions and items are registry references that the group takes;
// with items, each child is functions(item, index), else functions[index]().
void group_run(struct task *parent, enum group_mode mode, int functions,
               int items, uint32_t total, uint32_t limit);

// group_child_over is told by a child's end.
void group_child_over(struct task *child);

#endif
