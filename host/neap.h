// neap.h: a host for Lua tasks, with Redis, models and HTTP, in your program.
//
//   neap *n = neap_new(NULL);
//   neap_spawn_file(n, "rules.lua", NULL, NULL);
//   int status = neap_run(n);               // until no task or server is left
//   neap_close(n, NULL, NULL);
//
// Threads: an instance belongs to the thread that made it; all functions but
// neap_post, neap_strerror and neap_version are for that thread alone. Any
// number of instances may be in a process. After a fork the child must not use
// those of its parent.
//
// Errors: functions that return int return 0, or -1 (pointers: NULL) with a
// text in neap_strerror. Nothing here writes to stdout (but Lua's print, unless
// options.print is set), installs signal handlers or calls exit.
//
// A Lua error that the program's functions let through is logged: on_done,
// on_cancel, on_reply and what is posted are called under protection.
//
// Misuse: a library built with -DNEAP_CHECKS aborts, naming the function, when
// one is called by another thread or after neap_close, or when the program
// leaves the stack other than it should.
//
// Compatibility: structs are opaque but for neap_options, which says its size;
// functions are only added. C++ may include this.
#ifndef NEAP_H
#define NEAP_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lua_State;
struct luaL_Reg;
struct uv_loop_s;

typedef struct neap neap;             // an instance
typedef struct neap_task neap_task;   // what neap_spawn started
typedef struct neap_wait neap_wait;   // a C function that waits
typedef struct neap_reply neap_reply; // of Redis

// neap_options: what neap_new is told. Start from {.size = sizeof options};
// what is 0 is left at its default.
typedef struct neap_options {
    size_t size;
    struct uv_loop_s
        *loop;             // a loop that your program runs; NULL: neap_run does
    const char *redis_url; // NULL: $NEAP_REDIS_URL, or an embedded server
    const char *lua_path;  // put in front of package.path: "rules/?.lua"
    size_t memory_limit;   // bytes that Lua may hold; a task that wants more
                           // fails with "not enough memory", a reply of Redis
                           // with the code "memory"
    // log gets each line, a NUL behind it, with its level: 0 debug, 1 info, 2
    // warn, 3 error;
    // NULL: standard error. print gets what Lua prints; NULL: standard output.
    void (*log)(void *arg, int level, const char *line, size_t len);
    void (*print)(void *arg, const char *text, size_t len);
    void *arg; // for both
} neap_options;

// -- life

// neap_new makes an instance; options may be NULL.
neap *neap_new(const neap_options *options);

// neap_run runs an instance's own loop until no task, server or timer is left,
// or until neap_stop. Returns the exit status: that of neap_stop, 1 when tasks
// were left that nothing could wake, else 0. With a borrowed loop it is not
// used: uv_run(loop) runs the instance with everything else.
int neap_run(neap *n);

// neap_stop begins an orderly end: servers finish their requests, tasks are
// cancelled, connections are closed; then neap_run returns the status.
void neap_stop(neap *n, int status);

// neap_close ends the instance. Tasks that have not ended run no more
// (neap_stop first lets them clean up); each on_done is called, then on_closed,
// and n is gone. With a loop of its own it waits for that, and must not be
// called from what neap_run calls. With a borrowed one it may be called from
// anywhere and returns at once; all that is told by the loop, on_closed when
// none of the instance's handles is left.
void neap_close(neap *n, void (*on_closed)(void *arg), void *arg);

// neap_loop returns the loop: the borrowed one, or the instance's own, on which
// a program may have handles too (to be closed before neap_close).
struct uv_loop_s *neap_loop(neap *n);

// neap_lua returns the main Lua state: functions and arguments are pushed onto
// its stack, which is to be left as it was found.
struct lua_State *neap_lua(neap *n);

// neap_strerror returns why the last call of this thread failed.
const char *neap_strerror(void);

// neap_version returns the version, "0.1.0".
const char *neap_version(void);

// -- Lua

// neap_done is told once of a task's end. It returned: error is NULL, and its
// `count` results are on top of the main state's stack. It failed: error is the
// text of what it raised, which itself is on top (count is 1); trace says
// where. It was cancelled, or the instance was closed: error is "cancelled",
// and trace NULL.
// What is on the stack is taken off afterwards; the texts live until then.
typedef void (*neap_done)(neap *n, int count, const char *error,
                          const char *trace, void *arg);

// neap_spawn takes a function and nargs arguments from the top of the main
// state's stack and runs them as a task, from the next turn of the loop on.
// on_done may be NULL: then a failure is logged, and NULL returned. The task is
// valid until on_done returns. NULL, too, while the instance is being closed:
// then on_done is not called.
neap_task *neap_spawn(neap *n, int nargs, neap_done on_done, void *arg);

// neap_spawn_file spawns a file's chunk. NULL if it cannot be read or compiled.
neap_task *neap_spawn_file(neap *n, const char *path, neap_done on_done,
                           void *arg);

// neap_cancel makes the wait that the task is in, and each later one, raise
// "cancelled".
void neap_cancel(neap_task *t);

// neap_require leaves the module of that name on the main state's stack; it may
// be one of the host's own: "neap", "neap.http", "models.user". -1: nothing is
// left there.
int neap_require(neap *n, const char *name);

// -- C functions for Lua

// neap_register makes functions that may wait callable as name.function(...):
// as a global table, and by require. The list ends with {NULL, NULL}. A
// function that does not wait is as any other of Lua's.
void neap_register(neap *n, const char *name, const struct luaL_Reg *functions);

// neap_suspend makes the running task wait, from within such a function:
//
//   static int l_query(lua_State *L) {
//       struct query *q = query_new(lua_tostring(L, 1));
//       q->wait = neap_suspend(L, on_cancel, q);
//       query_start(q);                    // may even resume at once
//       return neap_yield(L);              // the last statement
//   }
//   ...later: lua_pushstring(neap_wait_lua(q->wait), row);
//             neap_resume(q->wait, 1);     // or neap_fail(...)
//
// on_cancel (or NULL) is told when the task does not want the answer any more:
// it was cancelled, is out of time, or the instance is closed. The wait is gone
// then, and must not be resumed. It raises an error where nothing can wait.
neap_wait *neap_suspend(struct lua_State *L, void (*on_cancel)(void *arg),
                        void *arg);

// neap_yield is how such a function returns.
int neap_yield(struct lua_State *L);

// neap_wait_lua returns the stack onto which the results are pushed.
struct lua_State *neap_wait_lua(neap_wait *w);

// neap_resume ends the wait: the function returns the `count` values on top.
void neap_resume(neap_wait *w, int count);

// neap_fail ends the wait: the function raises an error object of that code
// ("db.down") and message.
void neap_fail(neap_wait *w, const char *code, const char *message);

// -- Redis

enum neap_reply_type {
    NEAP_NIL,
    NEAP_STRING,
    NEAP_INTEGER,
    NEAP_ARRAY,
    NEAP_ERROR, // the server's, or that of a connection
};

// neap_redis_command sends a command by the client that Lua's neap.redis() is;
// what is sent in one turn of the loop leaves in one write. on_reply (or NULL)
// is called once, later; the reply lives until it returns. Arguments are
// copied. -1 if so much is queued that no more is taken, if the command would
// block or change the connection, or while the instance is being closed.
int neap_redis_command(
    neap *n, void (*on_reply)(neap *n, const neap_reply *r, void *arg),
    void *arg, int argc, const char *const *argv, const size_t *argvlen);

// neap_reply_type says what a reply is.
enum neap_reply_type neap_reply_type(const neap_reply *r);

// neap_reply_string returns the bytes of a string, or the text of an error
// ("redis.wrongtype: ..."), with a NUL behind them; NULL of any other. len may
// be NULL.
const char *neap_reply_string(const neap_reply *r, size_t *len);

// neap_reply_integer returns an integer, 0 of any other.
long long neap_reply_integer(const neap_reply *r);

// neap_reply_count returns how many elements an array has, 0 of any other;
// neap_reply_at one of them, from 0 on, or NULL.
size_t neap_reply_count(const neap_reply *r);
const neap_reply *neap_reply_at(const neap_reply *r, size_t i);

// -- threads

// neap_post runs fn(n, arg) on the loop, soon: from any thread, in the order of
// the calls of each. It does not keep the loop alive; a task that waits in
// neap_suspend does. -1 if the instance is being closed: then fn is not called.
// n itself has to be there still.
int neap_post(neap *n, void (*fn)(neap *n, void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif
