// timer: deadlines in one binary heap, driven by one uv_timer_t.
#include "core/timer.h"

#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

uint64_t timer_coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t timer_after(double seconds) {
    const double longest = 1e9; // some thirty years: infinity for a timer
    if (!(seconds > 0)) {
        seconds = 0;
    }
    return uv_hrtime() +
           (uint64_t)((seconds < longest ? seconds : longest) * 1e9);
}

static void put(struct timers *ts, uint32_t i, struct timer *t) {
    ts->heap[i] = t;
    t->place = i + 1;
}

static void sift_up(struct timers *ts, uint32_t i, struct timer *t) {
    while (i > 0) {
        uint32_t up = (i - 1) / 2;
        if (ts->heap[up]->due_ns <= t->due_ns) {
            break;
        }
        put(ts, i, ts->heap[up]);
        i = up;
    }
    put(ts, i, t);
}

static void sift_down(struct timers *ts, uint32_t i, struct timer *t) {
    for (;;) {
        uint32_t kid = 2 * i + 1;
        if (kid >= ts->count) {
            break;
        }
        if (kid + 1 < ts->count &&
            ts->heap[kid + 1]->due_ns < ts->heap[kid]->due_ns) {
            kid++;
        }
        if (ts->heap[kid]->due_ns >= t->due_ns) {
            break;
        }
        put(ts, i, ts->heap[kid]);
        i = kid;
    }
    put(ts, i, t);
}

static const uint64_t ms = 1000000;

static void on_uv_timer(uv_timer_t *uv);

// The uv timer is moved only when the first deadline comes nearer: one that
// went away costs a needless wake-up, which is cheaper than re-arming. uv
// counts from the loop's time, which is left as it is: that of the last poll.
static void arm(struct timers *ts) {
    if (ts->count == 0 || ts->is_late) {
        return;
    }
    uint64_t due = ts->heap[0]->due_ns, now_ms = uv_now(ts->uv.loop);
    if (ts->armed_ns && ts->armed_ns <= due) {
        return;
    }
    uint64_t due_ms = (due + ms - 1) / ms;
    ts->armed_ns = due;
    uv_timer_start(&ts->uv, on_uv_timer, due_ms > now_ms ? due_ms - now_ms : 0,
                   0);
}

static void count_foreground(struct timers *ts, int change) {
    uint32_t before = ts->foreground;
    ts->foreground += (uint32_t)change;
    if (before == 0 && ts->foreground) {
        uv_ref((uv_handle_t *)&ts->uv);
    } else if (before && ts->foreground == 0) {
        uv_unref((uv_handle_t *)&ts->uv);
    }
}

// expire calls those that were due when the loop last came back from its poll.
static void expire(struct timers *ts) {
    while (ts->count && ts->heap[0]->due_ns <= ts->polled_ns) {
        struct timer *t = ts->heap[0];
        timer_stop(ts, t);
        t->on_due(t);
    }
}

static void on_uv_timer(uv_timer_t *uv) {
    struct timers *ts = uv->data;
    ts->armed_ns = 0;
    expire(ts);
    if (ts->count && ts->heap[0]->due_ns <= uv_hrtime()) {
        ts->is_late = true;
        ts->on_late(ts);
    }
    arm(ts);
}

void timers_polled(struct timers *ts) {
    ts->polled_ns = uv_now(ts->uv.loop) * ms;
    if (ts->is_late) {
        ts->is_late = false;
        expire(ts);
        arm(ts);
    }
}

void timers_init(struct timers *ts, uv_loop_t *loop,
                 void (*on_late)(struct timers *ts)) {
    *ts = (struct timers){.on_late = on_late};
    uv_timer_init(loop, &ts->uv);
    uv_unref((uv_handle_t *)&ts->uv);
    ts->uv.data = ts;
}

void timers_close(struct timers *ts) {
    for (uint32_t i = 0; i < ts->count; i++) {
        ts->heap[i]->place = 0;
    }
    free(ts->heap);
    ts->heap = NULL;
    ts->count = ts->cap = 0;
    uv_close((uv_handle_t *)&ts->uv, NULL);
}

void timer_start(struct timers *ts, struct timer *t, uint64_t due_ns) {
    timer_stop(ts, t);
    if (ts->count == ts->cap) {
        ts->cap = ts->cap ? ts->cap * 2 : 64;
        ts->heap = xrealloc(ts->heap, ts->cap * sizeof ts->heap[0]);
    }
    t->due_ns = due_ns;
    sift_up(ts, ts->count++, t);
    if (!t->is_background) {
        count_foreground(ts, +1);
    }
    arm(ts);
}

void timer_stop(struct timers *ts, struct timer *t) {
    if (!t->place) {
        return;
    }
    uint32_t i = t->place - 1;
    struct timer *last = ts->heap[--ts->count];
    t->place = 0;
    if (last != t) {
        if (i > 0 && ts->heap[(i - 1) / 2]->due_ns > last->due_ns) {
            sift_up(ts, i, last);
        } else {
            sift_down(ts, i, last);
        }
    }
    if (!t->is_background) {
        count_foreground(ts, -1);
    }
}
