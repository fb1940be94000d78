// main: the command line, a client of neap.h. What the arguments mean is in
// lua/neap/main.lua; here are the process's own matters: signals and status.
#include <lua.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "neap.h"

static uv_signal_t on_int, on_term;

// print_failure leaves out the frames of the command line's own Lua.
static void print_failure(const char *error, const char *traceback) {
    const char *own =
        strstr(traceback, "\n\t[C]: in function 'xpcall'\n\tneap.main");
    own = own ? own : strstr(traceback, "\n\tneap.main");
    int len = own ? (int)(own - traceback) : (int)strlen(traceback);
    fprintf(stderr, "neap: %s\n", error);
    if (strchr(traceback, '\t') && len > (int)strlen("stack traceback:")) {
        fprintf(stderr, "%.*s\n", len, traceback);
    }
}

static void on_main_end(neap *n, const char *error, const char *traceback,
                        void *arg) {
    int *is_over = arg;
    *is_over = 1;
    if (error) {
        print_failure(error, traceback);
        neap_stop(n, 1);
    }
}

static int main_is_over;

// The first signal ends in order. The next one finds the system's own handler
// again, which ends the process even if a script keeps the loop busy. A script
// that was interrupted reports so in its status; a service told to end, not.
static void on_signal(uv_signal_t *s, int signum) {
    uv_signal_stop(&on_int);
    uv_signal_stop(&on_term);
    neap_stop(s->data, main_is_over ? 0 : 128 + signum);
}

static void watch_signal(neap *n, uv_signal_t *s, int signum) {
    uv_signal_init(neap_loop(n), s);
    uv_signal_start(s, on_signal, signum);
    uv_unref((uv_handle_t *)s);
    s->data = n;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    neap *n = neap_new();
    if (!n) {
        fputs("neap: no event loop to be had\n", stderr);
        return 1;
    }
    lua_State *L = neap_lua(n);
    if (neap_require(n, "neap.main") != 0) {
        fprintf(stderr, "neap: %s\n", lua_tostring(L, -1));
        return 1;
    }
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    watch_signal(n, &on_int, SIGINT);
    watch_signal(n, &on_term, SIGTERM);
    neap_spawn(n, 1, on_main_end, &main_is_over);
    int status = neap_run(n);
    neap_close(n);
    return status;
}
