// neap.h: a host for Lua tasks on a libuv loop.
//
//   neap *n = neap_new();
//   luaL_loadfile(neap_lua(n), "app.lua");
//   neap_spawn(n, 0, on_end, NULL);      // the function on top, as a task
//   int status = neap_run(n);            // until no task or server is left
//   neap_close(n);
//
// One instance belongs to one thread. Nothing here writes to stdout, installs
// signal handlers or calls exit.
#ifndef NEAP_H
#define NEAP_H

#ifdef __cplusplus
extern "C" {
#endif

struct lua_State;
typedef struct neap neap;

// A neap_end_fn is told once of a task's end. error and traceback are NULL
// when it returned or was cancelled; they live until the function returns.
typedef void (*neap_end_fn)(neap *n, const char *error, const char *traceback,
                            void *arg);

// neap_new creates an instance with a loop of its own; NULL if the system
// has no loop to give. Close it with neap_close.
neap *neap_new(void);

// neap_lua returns the instance's main Lua state, on which functions and
// arguments for neap_spawn are pushed.
struct lua_State *neap_lua(neap *n);

// neap_spawn takes a function and nargs arguments from the top of the main
// state's stack and runs them as a task. on_end may be NULL.
void neap_spawn(neap *n, int nargs, neap_end_fn on_end, void *arg);

// neap_require leaves the module of that name on the main state's stack; it
// may be one that is compiled into the host. Returns 0, or -1 with the error
// text on the stack.
int neap_require(neap *n, const char *name);

// neap_run runs the loop until no task, server or timer is left, or until
// neap_stop. Returns the exit status: that of neap_stop, 1 when tasks were
// left that nothing could wake, else 0.
int neap_run(neap *n);

// neap_stop begins an orderly end: servers finish their requests, tasks are
// cancelled, connections are closed. May be called from loop callbacks.
void neap_stop(neap *n, int status);

// neap_loop returns the uv_loop_t of the instance.
void *neap_loop(neap *n);

// neap_close frees the instance. What is still open is closed.
void neap_close(neap *n);

// neap_version returns the version, "0.1.0".
const char *neap_version(void);

#ifdef __cplusplus
}
#endif
#endif
