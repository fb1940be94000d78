// monitor: how long the loop keeps others waiting. A turn's latency is the
// time between two polls: who became ready just after the first waited so
// long. A slice is what one task runs between two waits.
#ifndef NEAP_CORE_MONITOR_H
#define NEAP_CORE_MONITOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/histogram.h"
#include "core/timer.h"

struct watchdog;

struct monitor {
    uv_loop_t *loop;
    struct histogram latency[2]; // this minute's, and the one's before
    uint64_t minute_ns;          // when this minute began
    uint64_t polled_ns, idle_ns; // when the loop last went to poll; in all
    uint64_t start_ns, turns, busy_ns, slices;
    uint64_t slice_ns, longest_ns; // to 4 ms, which is what a glance costs
    _Atomic uint64_t slow;         // slices that the watchdog reported
    _Atomic uint32_t slice;        // odd while a task runs
    _Atomic bool is_asleep;        // the watchdog, until something runs
    _Atomic int client_fd;         // of the console that runs it, plus 1; < 0:
                                   // of the console that spawned it
    bool is_stopping;              // the watchdog has stopped this slice
    bool is_jit_off;               // the program has switched it off
    struct watchdog *dog;          // NULL: nobody watches
};

// monitor_init begins to measure a loop.
void monitor_init(struct monitor *m, uv_loop_t *loop);

// monitor_poll is told that the loop is about to poll.
void monitor_poll(struct monitor *m);

// monitor_latency puts the last one to two minutes together.
void monitor_latency(const struct monitor *m, struct histogram *sum);

// What the watchdog does when the loop is busy again, and when a slice that it
// stopped is over (core/watchdog.c).
void watchdog_wake(struct watchdog *dog);
void watchdog_slice_over(struct watchdog *dog);

// monitor_turn is told that the loop is back from its poll.
static inline void monitor_turn(struct monitor *m) {
    m->slice_ns = timer_coarse_ns();
}

// monitor_begin and _end bracket a slice; client_fd as above.
static inline void monitor_begin(struct monitor *m, int client_fd) {
    atomic_store_explicit(&m->client_fd, client_fd, memory_order_relaxed);
    uint32_t n = atomic_load_explicit(&m->slice, memory_order_relaxed);
    atomic_store_explicit(&m->slice, n + 1, memory_order_relaxed);
    if (atomic_load_explicit(&m->is_asleep, memory_order_relaxed)) {
        watchdog_wake(m->dog);
    }
}

// monitor_end also keeps the longest slice.
static inline void monitor_end(struct monitor *m) {
    uint32_t n = atomic_load_explicit(&m->slice, memory_order_relaxed);
    atomic_store_explicit(&m->slice, n + 1, memory_order_relaxed);
    if (m->is_stopping) {
        watchdog_slice_over(m->dog);
    }
    uint64_t now = timer_coarse_ns();
    if (now - m->slice_ns > m->longest_ns) {
        m->longest_ns = now - m->slice_ns;
    }
    m->slice_ns = now;
    m->slices++;
}

#endif
