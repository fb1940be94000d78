// main: the command line, a client of neap.h. What the arguments mean is in
// lua/neap/main.lua; here are the process's own matters: signals and status.
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "cli/attach.h"
#include "cli/failure_text.h"
#include "cli/repl.h"
#include "neap.h"

static uv_signal_t on_int, on_term;

static void on_main_end(neap *n, int count, const char *error,
                        const char *trace, void *arg) {
    int *is_over = arg;
    (void)count;
    *is_over = 1;
    if (error && trace) { // it was not cancelled
        failure_print(stderr, error, trace);
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

// start_repl() -> the descriptor of the console's end of its socket, or nothing
static int l_start_repl(lua_State *L) {
    int fd = repl_start();
    if (fd < 0) {
        return 0;
    }
    lua_pushinteger(L, fd);
    return 1;
}

// run_at_exit calls what was left for the end of the process.
static void run_at_exit(neap *n) {
    lua_State *L = neap_lua(n);
    if (neap_require(n, "neap.at_exit") != 0) {
        fprintf(stderr, "neap: %s\n", neap_strerror());
        return;
    }
    lua_getfield(L, -1, "run");
    if (lua_pcall(L, 0, 0, 0) != 0) {
        fprintf(stderr, "neap: %s\n", lua_tostring(L, -1));
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "attach") == 0) {
        return attach_main(argc - 2, argv + 2);
    }
    neap *n = neap_new(NULL);
    if (!n) {
        fprintf(stderr, "neap: %s\n", neap_strerror());
        return 1;
    }
    lua_State *L = neap_lua(n);
    if (neap_require(n, "neap.main") != 0) {
        fprintf(stderr, "neap: %s\n", neap_strerror());
        return 1;
    }
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    watch_signal(n, &on_int, SIGINT);
    watch_signal(n, &on_term, SIGTERM);
    lua_pushcfunction(L, l_start_repl);
    neap_spawn(n, 2, on_main_end, &main_is_over);
    int status = neap_run(n);
    run_at_exit(n);
    neap_close(n, NULL, NULL);
    int of_lines = repl_finish();
    return status ? status : of_lines;
}
