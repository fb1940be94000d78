// timer: deadlines in one binary heap, driven by one uv_timer_t.
//
//   struct timer t; timer_init(&t, on_due);
//   timer_start(&rt->timers, &t, timer_after(0.2));
//
// A timer is embedded in what it wakes. A background timer does not keep the
// loop alive. What came before a deadline is seen before it: when the loop is
// late it polls once more, and whoever has his answer stops his timer.
#ifndef NEAP_CORE_TIMER_H
#define NEAP_CORE_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct timer {
    uint64_t due_ns;
    uint32_t place; // 1-based place in the heap, 0 when not started
    bool is_background;
    void (*on_due)(struct timer *t);
};

struct timers {
    uv_timer_t uv;
    struct timer **heap; // heap[0] is due first
    uint32_t count, cap;
    uint32_t foreground;
    uint64_t armed_ns;  // what uv is set to, 0 when it is stopped
    uint64_t polled_ns; // when the loop came back from its last poll
    bool is_late;       // some are due, once the loop has polled
    void (*on_late)(struct timers *ts);
};

// timers_init readies the timers of a loop; on_late is to make its next poll
// return at once.
void timers_init(struct timers *ts, uv_loop_t *loop,
                 void (*on_late)(struct timers *ts));

// timers_polled is told that the loop has polled, and what it found is done.
void timers_polled(struct timers *ts);

// timers_close closes the uv handle and forgets every timer.
void timers_close(struct timers *ts);

// timer_init readies a timer; it does not run yet.
static inline void timer_init(struct timer *t, void (*on_due)(struct timer *)) {
    *t = (struct timer){.on_due = on_due};
}

// timer_after returns the uv_hrtime that lies this many seconds ahead.
uint64_t timer_after(double seconds);

// timer_coarse_ns is uv_hrtime, some ms late and cheaper to ask: good enough
// to reckon with deadlines.
uint64_t timer_coarse_ns(void);

// timer_start (re)starts t: on_due runs once, in the loop, not before due_ns.
void timer_start(struct timers *ts, struct timer *t, uint64_t due_ns);

// timer_stop makes sure that on_due does not run; it may be called twice.
void timer_stop(struct timers *ts, struct timer *t);

// timer_is_active says that on_due is still to come.
static inline bool timer_is_active(const struct timer *t) {
    return t->place != 0;
}

#endif
