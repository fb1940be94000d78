// borrowed_loop: an instance on a loop that the program runs itself, beside its
// own timer. Lua's tasks and the program's callbacks come by turns; neither knows
// of the other's handles.
//
//   cc borrowed_loop.c $(pkg-config --cflags --libs neap) -o borrowed_loop
#include <lauxlib.h>
#include <neap.h>
#include <stdio.h>
#include <uv.h>

static uv_timer_t timer;
static neap *n;

static void on_tick(uv_timer_t *t) {
    static int ticks;
    printf("tick %d of the program\n", ++ticks);
    if (ticks == 4) {
        uv_close((uv_handle_t *)t, NULL);
    }
}

static void on_closed(void *arg) {
    printf("%s\n", (const char *)arg);
}

static void on_done(neap *instance, int count, const char *error,
                    const char *trace, void *arg) {
    (void)trace;
    (void)arg;
    printf("Lua is done: %s\n",
           error ? error : lua_tostring(neap_lua(instance), -count));
    // its handles are closed by the loop; the program's go on
    neap_close(instance, on_closed, "the instance is gone");
}

int main(void) {
    uv_loop_t *loop = uv_default_loop();
    neap_options options = {.size = sizeof options, .loop = loop};
    n = neap_new(&options);
    if (!n) {
        fprintf(stderr, "%s\n", neap_strerror());
        return 1;
    }
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, on_tick, 50, 50);
    luaL_loadstring(neap_lua(n),
                    "local neap = require 'neap'\n"
                    "for i = 1, 2 do neap.sleep(0.06) print('Lua', i) end\n"
                    "return 'bye'");
    neap_spawn(n, 0, on_done, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop);
}
