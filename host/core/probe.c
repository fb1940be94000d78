// probe: looks into the Lua code that the loop's thread runs.
#include "core/probe.h"

#include <luajit.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/runtime.h"
#include "lua/lua_error.h"

// What the loop's thread is asked for.
enum wanted {
    WANT_NOTHING,
    WANT_STACK,  // by the profiler's callback
    WANT_FRAMES, // by the signal handler, as the code is in C
    WANT_STOP,   // the callback turns the JIT off, then
    WANT_HOOK,   // the next signal's handler sets a hook: LuaJIT overwrites one
                 // that is set in the callback
};

enum {
    never_ms = 1000000, // between samples that nobody wants
    frames_max = 24,
    cleanup_instructions = 1000000, // that a stopped slice may take to unwind
};

// One a process, as LuaJIT's profiler and the signal are.
static struct probe {
    struct runtime *_Atomic rt; // NULL: free
    pthread_t thread;           // the loop's
    struct sigaction of_lua, before;
    _Atomic int wanted;
    uint32_t slice; // the question is about
    probe_stack_fn *on_stack;
    void *stack_arg;
    const char *code, *message;
    int raises, raises_left; // errors in a row, in one slice
    char frames[probe_text_max];
    size_t frames_len;
    char site[probe_site_max]; // where the task of the frames was spawned
    _Atomic bool has_frames;
    sigjmp_buf bad_frame;
    probe_sample_fn *on_sample;
    void *sample_arg;
} probe;

static uint32_t running_slice(void) {
    return atomic_load_explicit(&probe.rt->monitor.slice, memory_order_relaxed);
}

static bool is_about_now(void) {
    return (probe.slice & 1) && probe.slice == running_slice();
}

// -- on the loop's thread, in the middle of Lua code

static void on_hook(lua_State *L, lua_Debug *ar) {
    if (!is_about_now()) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    // it may clean up for a while; who catches the error and goes on gets two
    // more, at once, then three: so many pcalls are left behind
    if (probe.raises_left == 0) {
        probe.raises_left = ++probe.raises;
    }
    bool is_last = --probe.raises_left == 0;
    lua_sethook(L, on_hook, LUA_MASKCOUNT, is_last ? cleanup_instructions : 1);
    lua_getinfo(L, "Sl", ar);
    lua_fail(L, probe.code, "%s (at %s:%d)", probe.message, ar->short_src,
             ar->currentline);
}

static void on_profile(void *data, lua_State *L, int count, int vmstate) {
    (void)data;
    int wanted = probe.wanted;
    if (wanted == WANT_STACK) {
        probe.wanted = WANT_NOTHING;
        if (is_about_now()) {
            size_t len;
            const char *text =
                luaJIT_profile_dumpstack(L, "pl\n", frames_max, &len);
            probe.on_stack(probe.stack_arg, text, len);
        }
    } else if (wanted == WANT_STOP && is_about_now()) {
        probe.rt->monitor.is_stopping = true;
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
        probe.wanted = WANT_HOOK;
    }
    if (probe.on_sample) {
        probe.on_sample(probe.sample_arg, L, count, vmstate);
    }
}

// -- in the signal handler

static void on_bad_frame(int signum) {
    (void)signum;
    siglongjmp(probe.bad_frame, 1);
}

// read_frames walks the stack of the running task without changing it. In a C
// function LuaJIT has left it in order; in one long operation of compiled code
// it is as of some moment before. Should that lead nowhere, it ends there.
static void read_frames(void) {
    struct sigaction catch = {.sa_handler = on_bad_frame}, segv, bus;
    lua_State *L = probe.rt->current ? probe.rt->current->L : NULL;
    lua_Debug ar;
    probe.frames_len = 0;
    snprintf(probe.site, sizeof probe.site, "?");
    sigaction(SIGSEGV, &catch, &segv);
    sigaction(SIGBUS, &catch, &bus);
    if (L && sigsetjmp(probe.bad_frame, 1) == 0) {
        task_spawn_site(probe.rt->current, probe.site, sizeof probe.site);
        for (int i = 0; i < frames_max && lua_getstack(L, i, &ar) &&
                        lua_getinfo(L, "Sl", &ar);
             i++) {
            size_t room = sizeof probe.frames - probe.frames_len;
            if (ar.currentline < 0 || room < sizeof ar.short_src + 16) {
                continue;
            }
            int n = snprintf(probe.frames + probe.frames_len, room, "%s:%d\n",
                             ar.short_src, ar.currentline);
            probe.frames_len += (size_t)n;
        }
    }
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
}

static void on_signal(int signum) {
    if (!probe.rt) {
        return;
    }
    if (!pthread_equal(pthread_self(), probe.thread)) {
        pthread_kill(probe.thread, signum); // the timer's go to any thread
        return;
    }
    int wanted = probe.wanted;
    if (wanted == WANT_FRAMES) {
        probe.wanted = WANT_NOTHING;
        if (is_about_now()) {
            read_frames();
        }
        probe.has_frames = true;
    } else if (wanted == WANT_HOOK) {
        probe.wanted = WANT_NOTHING;
        if (is_about_now()) {
            lua_sethook(probe.rt->L, on_hook,
                        LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
        }
    } else if (running_slice() & 1) {
        probe.of_lua.sa_handler(signum);
    } else if (probe.on_sample) {
        probe.on_sample(probe.sample_arg, NULL, 1, 'H');
    }
}

// -- from other threads

void probe_ask_stack(uint32_t slice, probe_stack_fn *fn, void *arg) {
    probe.wanted = WANT_NOTHING; // what was asked of another slice
    probe.slice = slice;
    probe.on_stack = fn;
    probe.stack_arg = arg;
    probe.wanted = WANT_STACK;
    pthread_kill(probe.thread, SIGPROF);
}

size_t probe_ask_frames(uint32_t slice, char *out, char *site) {
    const int tries = 100; // of a millisecond
    probe.wanted = WANT_NOTHING;
    probe.slice = slice;
    probe.has_frames = false;
    probe.frames_len = 0;
    probe.wanted = WANT_FRAMES;
    pthread_kill(probe.thread, SIGPROF);
    for (int i = 0; i < tries && !probe.has_frames; i++) {
        uv_sleep(1);
    }
    snprintf(site, probe_site_max, "%s", probe.has_frames ? probe.site : "?");
    if (!probe.has_frames) {
        return 0;
    }
    memcpy(out, probe.frames, probe.frames_len);
    return probe.frames_len;
}

void probe_stop(uint32_t slice, const char *code, const char *message) {
    if (probe.slice != slice) {
        probe.wanted = WANT_NOTHING;
    }
    probe.slice = slice;
    probe.code = code;
    probe.message = message;
    if (probe.wanted != WANT_HOOK) {
        probe.wanted = WANT_STOP;
    }
    pthread_kill(probe.thread, SIGPROF);
}

// -- between slices

void probe_slice_over(struct runtime *rt) {
    probe.raises = probe.raises_left = 0;
    probe.wanted = WANT_NOTHING;
    lua_sethook(rt->L, NULL, 0, 0);
    if (!rt->monitor.is_jit_off) {
        luaJIT_setmode(rt->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    }
}

// start begins to profile anew: each line is a place to stop at.
static void start(struct runtime *rt, int interval_ms) {
    char mode[32];
    snprintf(mode, sizeof mode, "li%d", interval_ms);
    luaJIT_profile_start(rt->L, mode, on_profile, NULL);
    struct sigaction own = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGPROF, &own, &probe.of_lua);
}

void probe_sample(struct runtime *rt, int interval_ms, probe_sample_fn *fn,
                  void *arg) {
    luaJIT_profile_stop(rt->L);
    probe.on_sample = fn;
    probe.sample_arg = arg;
    start(rt, fn ? interval_ms : never_ms);
}

bool probe_open(struct runtime *rt) {
    struct runtime *none = NULL;
    if (!atomic_compare_exchange_strong(&probe.rt, &none, rt)) {
        return false;
    }
    probe.thread = pthread_self();
    probe.wanted = WANT_NOTHING;
    // what LuaJIT finds it leaves behind: a late signal must not end us
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPROF, &ignore, &probe.before);
    start(rt, never_ms);
    return true;
}

void probe_close(struct runtime *rt) {
    if (probe.rt == rt) {
        luaJIT_profile_stop(rt->L); // and SIGPROF is ignored again
        if (probe.before.sa_handler != SIG_DFL) {
            sigaction(SIGPROF, &probe.before, NULL);
        }
        probe.rt = NULL;
    }
}
