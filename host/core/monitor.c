// monitor: how long the loop keeps others waiting.
#include "core/monitor.h"

static const uint64_t minute = 60ull * 1000 * 1000 * 1000;

void monitor_init(struct monitor *m, uv_loop_t *loop) {
    m->loop = loop;
    // libuv says how long its polls waited; what is left of a turn was work
    uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
    m->start_ns = m->minute_ns = m->polled_ns = uv_hrtime();
    m->slice_ns = timer_coarse_ns();
}

// begin_minute forgets what is more than a minute old.
static void begin_minute(struct monitor *m, uint64_t now) {
    bool is_next = now - m->minute_ns < 2 * minute;
    m->latency[1] = is_next ? m->latency[0] : (struct histogram){0};
    m->latency[0] = (struct histogram){0};
    m->minute_ns = now;
}

void monitor_poll(struct monitor *m) {
    uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(m->loop);
    uint64_t passed = now - m->polled_ns, waited = idle - m->idle_ns;
    uint64_t busy = passed > waited ? passed - waited : 0;
    m->polled_ns = now;
    m->idle_ns = idle;
    m->turns++;
    m->busy_ns += busy;
    if (now - m->minute_ns >= minute) {
        begin_minute(m, now);
    }
    histogram_add(&m->latency[0], busy);
}

void monitor_latency(const struct monitor *m, struct histogram *sum) {
    *sum = m->latency[1];
    histogram_merge(sum, &m->latency[0]);
}
