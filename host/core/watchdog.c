// watchdog: a thread that finds what holds the loop up.
#include "core/watchdog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"
#include "base/mem.h"
#include "core/probe.h"
#include "core/runtime.h"

enum { frames_shown = 10 };

static const uint64_t second = 1000000000;
static const double tick_most_ms = 25, tick_least_ms = 0.25;
static const uint64_t answer_ns = 20000000; // what Lua code takes at most
static const uint64_t heed_ns = 50000000;   // before a console is asked

struct watchdog {
    struct runtime *rt;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t wake;
    bool is_over;   // guarded by lock, as the next two
    bool is_wanted; // it was asleep, and the loop is busy
    struct watchdog_options options;
    // the slice in hand; only the thread looks at these
    uint32_t slice;
    uint64_t since_ns;  // when it was first seen
    uint64_t report_ns; // its age at the next report
    uint64_t asked_ns;  // when its stack was asked for, 0 once it is known
    _Atomic bool is_answered;
    _Atomic bool is_reported;
};

static struct monitor *monitor_of(struct watchdog *dog) {
    return &dog->rt->monitor;
}

static uint32_t current_slice(struct watchdog *dog) {
    return atomic_load_explicit(&monitor_of(dog)->slice, memory_order_seq_cst);
}

// -- what is reported

static bool is_host_frame(const char *line, size_t len) {
    return (len > 5 && memcmp(line, "neap.", 5) == 0) ||
           (len > 8 && memcmp(line, "[builtin", 8) == 0);
}

// list_frames appends the lines of a stack, with or without the host's own.
static void list_frames(struct buf *out, const char *text, size_t len,
                        bool with_host) {
    for (int shown = 0; len && shown < frames_shown;) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        if (n && (with_host || !is_host_frame(text, n))) {
            buf_printf(out, "\n\t%.*s", (int)n, text);
            shown++;
        }
        n += end != NULL;
        text += n;
        len -= n;
    }
}

static void report(struct watchdog *dog, const char *text, size_t len,
                   const char *where, const char *site) {
    double seconds = (double)(uv_hrtime() - dog->since_ns) / 1e9;
    struct buf frames = {0};
    list_frames(&frames, text, len, false);
    if (frames.len == 0) {
        list_frames(&frames, text, len, true);
    }
    log_write(&dog->rt->log, LOG_WARN,
              "a task has held the loop up for %.3f s%s, at%s\n\tspawned at %s",
              seconds, where, buf_cstr(&frames), site);
    buf_clear(&frames);
    if (!dog->is_reported) {
        dog->is_reported = true;
        monitor_of(dog)->slow++;
    }
}

// on_stack is called on the loop's thread, which is in the middle of the slice
// while the watchdog waits for just that.
static void on_stack(void *arg, const char *text, size_t len) {
    struct watchdog *dog = arg;
    char site[probe_site_max] = "?";
    if (dog->rt->current) {
        task_spawn_site(dog->rt->current, site, sizeof site);
    }
    report(dog, text, len, "", site);
    dog->is_answered = true;
}

static void report_from_c(struct watchdog *dog) {
    char frames[probe_text_max], site[probe_site_max];
    size_t len = probe_ask_frames(dog->slice, frames, site);
    if (current_slice(dog) != dog->slice) {
        return;
    }
    if (len == 0) {
        len = (size_t)snprintf(frames, sizeof frames, "(unknown)\n");
    }
    report(dog, frames, len, " in a C function, which cannot be interrupted",
           site);
}

// -- whose console it is

// is_ended_by_client says whether the slice is a console's and the next thing
// its client has to say is to cancel, or that it is gone.
static bool is_ended_by_client(struct watchdog *dog) {
    char first;
    int fd = monitor_of(dog)->client_fd;
    bool is_line = fd > 0;
    if (fd == 0) {
        return false;
    }
    fd = abs(fd) - 1;
    ssize_t n = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    return (n == 0 && is_line) || (n == 1 && first == 'C');
}

// -- the thread

static uint64_t slow_ns(const struct watchdog *dog) {
    return (uint64_t)(dog->options.slow_ms * 1e6);
}

static void begin_slice(struct watchdog *dog, uint32_t slice, uint64_t now) {
    if (dog->is_reported) {
        log_write(&dog->rt->log, LOG_WARN, "the loop goes on, after %.3f s",
                  (double)(now - dog->since_ns) / 1e9);
    }
    dog->slice = slice;
    dog->since_ns = now;
    dog->report_ns = slow_ns(dog);
    dog->asked_ns = 0;
    dog->is_reported = false;
}

static void look_at_slow(struct watchdog *dog, uint64_t now, uint64_t age) {
    if (dog->asked_ns) {
        if (dog->is_answered) {
            dog->asked_ns = 0;
        } else if (now - dog->asked_ns >= answer_ns) {
            dog->asked_ns = 0;
            report_from_c(dog);
        }
    } else if (dog->report_ns && age >= dog->report_ns) {
        dog->report_ns *= 10; // and once more when it is ten times as old
        dog->asked_ns = now;
        dog->is_answered = false;
        probe_ask_stack(dog->slice, on_stack, dog);
    }
}

static void look(struct watchdog *dog) {
    uint64_t now = uv_hrtime();
    uint32_t slice = current_slice(dog);
    if (slice != dog->slice) {
        begin_slice(dog, slice, now);
        return;
    }
    if (!(slice & 1)) {
        return;
    }
    uint64_t age = now - dog->since_ns;
    double max_ms = dog->options.max_slice_ms;
    if (max_ms > 0 && (double)age >= max_ms * 1e6) {
        probe_stop(slice, "task.too_long",
                   "stopped: it ran for longer than a slice may");
    } else if (age >= heed_ns && is_ended_by_client(dog)) {
        probe_stop(slice, "cancelled", "the line was cancelled");
    } else {
        look_at_slow(dog, now, age);
    }
}

static uint64_t tick_ns(const struct watchdog_options *o) {
    double least = o->slow_ms > 0 ? o->slow_ms : tick_most_ms * 4;
    if (o->max_slice_ms > 0 && o->max_slice_ms < least) {
        least = o->max_slice_ms;
    }
    double tick = least / 4;
    tick = tick > tick_most_ms ? tick_most_ms : tick;
    tick = tick < tick_least_ms ? tick_least_ms : tick;
    return (uint64_t)(tick * 1e6);
}

// rest waits for the next look. When nothing ran since the last one it sleeps
// until something does; a second at most, in case it missed the moment.
static void rest(struct watchdog *dog, bool is_idle) {
    struct monitor *m = monitor_of(dog);
    if (!is_idle) {
        uv_cond_timedwait(&dog->wake, &dog->lock, tick_ns(&dog->options));
        return;
    }
    atomic_store(&m->is_asleep, true);
    if (current_slice(dog) == dog->slice && !dog->is_wanted) {
        uv_cond_timedwait(&dog->wake, &dog->lock, second);
    }
    atomic_store(&m->is_asleep, false);
    dog->is_wanted = false;
}

static void run(void *arg) {
    struct watchdog *dog = arg;
    uv_mutex_lock(&dog->lock);
    while (!dog->is_over) {
        uint32_t before = dog->slice;
        look(dog);
        rest(dog, dog->slice == before && !(before & 1));
    }
    uv_mutex_unlock(&dog->lock);
}

// -- on the loop's thread

void watchdog_wake(struct watchdog *dog) {
    monitor_of(dog)->is_asleep = false;
    uv_mutex_lock(&dog->lock);
    dog->is_wanted = true;
    uv_cond_signal(&dog->wake);
    uv_mutex_unlock(&dog->lock);
}

void watchdog_slice_over(struct watchdog *dog) {
    monitor_of(dog)->is_stopping = false;
    probe_slice_over(dog->rt);
}

bool watchdog_start(struct runtime *rt,
                    const struct watchdog_options *options) {
    struct watchdog *dog = rt->monitor.dog;
    if (dog) {
        uv_mutex_lock(&dog->lock);
        dog->options = *options;
        if (!dog->is_reported) { // it holds for the slice in hand
            dog->report_ns = slow_ns(dog);
        }
        uv_cond_signal(&dog->wake);
        uv_mutex_unlock(&dog->lock);
        return true;
    }
    if (!probe_open(rt)) {
        return false;
    }
    dog = xcalloc(1, sizeof *dog);
    dog->rt = rt;
    dog->options = *options;
    uv_mutex_init(&dog->lock);
    uv_cond_init(&dog->wake);
    rt->monitor.dog = dog;
    uv_thread_create(&dog->thread, run, dog);
    return true;
}

void watchdog_stop(struct runtime *rt) {
    struct watchdog *dog = rt->monitor.dog;
    if (!dog) {
        return;
    }
    uv_mutex_lock(&dog->lock);
    dog->is_over = true;
    uv_cond_signal(&dog->wake);
    uv_mutex_unlock(&dog->lock);
    uv_thread_join(&dog->thread);
    if (rt->monitor.is_stopping) { // from within the slice that it was stopping
        watchdog_slice_over(dog);
    }
    rt->monitor.dog = NULL;
    rt->monitor.is_asleep = false;
    probe_close(rt);
    uv_cond_destroy(&dog->wake);
    uv_mutex_destroy(&dog->lock);
    free(dog);
}
