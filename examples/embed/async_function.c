// async_function: a C function that Lua calls and that waits, here for the
// answer of a slow library that runs in libuv's thread pool. Lua sees an ordinary
// call; other tasks go on meanwhile.
//
//   cc async_function.c $(pkg-config --cflags --libs neap) -o async_function
#include <lauxlib.h>
#include <neap.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

struct sum {
    uv_work_t work;
    neap_wait *wait; // NULL once nobody wants the answer
    double to, result;
};

static void work(uv_work_t *w) {
    struct sum *s = w->data;
    usleep(50000); // so slow is the library
    s->result = s->to * (s->to + 1) / 2;
}

static void after_work(uv_work_t *w, int status) {
    struct sum *s = w->data;
    if (s->wait && status == 0) {
        lua_pushnumber(neap_wait_lua(s->wait), s->result);
        neap_resume(s->wait, 1);
    } else if (s->wait) {
        neap_fail(s->wait, "sum.failed", uv_strerror(status));
    }
    free(s);
}

static void on_cancel(void *arg) {
    struct sum *s = arg;
    s->wait = NULL; // the work goes on, and is then forgotten
}

static neap *n;

// sum(to) -> 1 + 2 + ... + to
static int l_sum(lua_State *L) {
    double to = luaL_checknumber(L, 1);
    struct sum *s = calloc(1, sizeof *s);
    s->to = to;
    s->work.data = s;
    s->wait = neap_suspend(L, on_cancel, s);
    uv_queue_work(neap_loop(n), &s->work, work, after_work);
    return neap_yield(L);
}

static const luaL_Reg slow[] = {{"sum", l_sum}, {NULL, NULL}};

int main(void) {
    n = neap_new(NULL);
    neap_register(n, "slow", slow);
    luaL_loadstring(neap_lua(n),
                    "local neap, slow = require 'neap', require 'slow'\n"
                    "local ticks = 0\n"
                    "local ticker = neap.every(0.01, function() ticks = ticks + 1 end)\n"
                    "local sums = neap.map(slow.sum, { 10, 100, 1000 })\n"
                    "ticker:stop()\n"
                    "print(table.concat(sums, ' '), ticks > 1)\n"
                    "print(pcall(neap.timeout, 0.01, slow.sum, 1))");
    neap_spawn(n, 0, NULL, NULL);
    int status = neap_run(n);
    neap_close(n, NULL, NULL);
    return status;
}
