// neap_test: neap.h, as a program uses it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "neap.h"

// What an on_done was told.
struct outcome {
    int calls, count;
    bool has_trace; // a failure has, a cancellation not
    double number;
    char error[256];
    char trace[1024];
};

static void on_done(neap *n, int count, const char *error, const char *trace,
                    void *arg) {
    struct outcome *o = arg;
    o->calls++;
    o->count = count;
    o->number = count ? lua_tonumber(neap_lua(n), -count) : 0;
    snprintf(o->error, sizeof o->error, "%s", error ? error : "");
    o->has_trace = trace != NULL;
    snprintf(o->trace, sizeof o->trace, "%s", trace ? trace : "");
}

static void load(neap *n, const char *code) {
    assert_int_equal(luaL_loadstring(neap_lua(n), code), 0);
}

static struct outcome run(neap *n, const char *code) {
    struct outcome o = {0};
    load(n, code);
    assert_non_null(neap_spawn(n, 0, on_done, &o));
    assert_int_equal(o.calls, 0);
    neap_run(n);
    assert_int_equal(o.calls, 1);
    assert_int_equal(lua_gettop(neap_lua(n)), 0);
    return o;
}

static void test_results_and_errors(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    struct outcome o = run(n, "return 1, 2, 3");
    assert_int_equal(o.count, 3);
    assert_float_equal(o.number, 1, 0);
    o = run(n, "require('neap').sleep(0.01) return 42");
    assert_float_equal(o.number, 42, 0);
    o = run(n, "return");
    assert_int_equal(o.count, 0);
    o = run(n, "local function f() error('broken') end f()");
    assert_non_null(strstr(o.error, "broken"));
    assert_non_null(strstr(o.trace, "in function 'f'"));
    assert_int_equal(o.count, 1);
    o = run(n, "error(require('neap').error { code = 'a.b', message = 'c' })");
    assert_string_equal(o.error, "a.b: c");
    o = run(n, "error()");
    assert_string_equal(o.error, "nil");
    neap_close(n, NULL, NULL);
}

static void test_arguments_and_globals(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    lua_State *L = neap_lua(n);
    run(n, "function price(n, m) return n * m end");
    struct outcome o = {0};
    lua_getglobal(L, "price");
    lua_pushnumber(L, 6);
    lua_pushnumber(L, 7);
    neap_spawn(n, 2, on_done, &o);
    neap_run(n);
    assert_float_equal(o.number, 42, 0);
    neap_close(n, NULL, NULL);
}

static void test_files(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    assert_null(neap_spawn_file(n, "/no/such/file.lua", NULL, NULL));
    assert_non_null(strstr(neap_strerror(), "/no/such/file.lua"));
    assert_int_equal(neap_require(n, "no.such.module"), -1);
    assert_non_null(strstr(neap_strerror(), "no.such.module"));
    assert_int_equal(lua_gettop(neap_lua(n)), 0);
    assert_int_equal(neap_require(n, "neap"), 0);
    lua_pop(neap_lua(n), 1);
    neap_close(n, NULL, NULL);
}

static void test_cancel(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    struct outcome o = {0};
    load(n, "require('neap').sleep(1000)");
    neap_task *t = neap_spawn(n, 0, on_done, &o);
    neap_cancel(t);
    neap_cancel(t);
    neap_run(n);
    assert_int_equal(o.calls, 1);
    assert_string_equal(o.error, "cancelled");
    assert_false(o.has_trace);
    o = run(n, "error('cancelled', 0)"); // which is a failure
    assert_string_equal(o.error, "cancelled");
    assert_true(o.has_trace);
    neap_close(n, NULL, NULL);
}

static void count_call(void *arg) {
    ++*(int *)arg;
}

static void test_close_tells_those_who_wait(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    struct outcome waiting = {0}, unstarted = {0};
    int closed = 0;
    load(n, "require('neap').sleep(1000)");
    neap_spawn(n, 0, on_done, &waiting);
    load(n, "require('neap').stop(7)");
    neap_spawn(n, 0, NULL, NULL);
    assert_int_equal(neap_run(n), 7);
    assert_int_equal(waiting.calls, 1);
    load(n, "return 1");
    neap_spawn(n, 0, on_done, &unstarted);
    neap_close(n, count_call, &closed);
    assert_int_equal(unstarted.calls, 1);
    assert_string_equal(unstarted.error, "cancelled");
    assert_false(unstarted.has_trace);
    assert_int_equal(closed, 1);
}

// -- options

struct written {
    char log[1024], print[1024];
    int level;
};

static void on_log(void *arg, int level, const char *line, size_t len) {
    struct written *w = arg;
    w->level = level;
    snprintf(w->log, sizeof w->log, "%.*s", (int)len, line);
}

static void on_print(void *arg, const char *text, size_t len) {
    struct written *w = arg;
    snprintf(w->print, sizeof w->print, "%.*s", (int)len, text);
}

static void test_options(void **state) {
    (void)state;
    struct written w = {0};
    neap_options o = {.size = sizeof o,
                      .log = on_log,
                      .print = on_print,
                      .lua_path = "/one/?.lua;/two/?.lua",
                      .redis_url = "redis://127.0.0.1:1/?timeout=0.2",
                      .arg = &w};
    neap *n = neap_new(&o);
    run(n, "print('a', 1, nil) require('neap').log.warn('careful')");
    assert_string_equal(w.print, "a\t1\tnil\n");
    assert_non_null(strstr(w.log, "warn  careful\n"));
    assert_int_equal(w.level, 2);
    struct outcome r =
        run(n, "assert(package.path:find('^/one/%?.lua;/two/%?.lua;')) "
               "require('neap').redis():get 'x'");
    assert_non_null(strstr(r.error, "redis.connect: redis://127.0.0.1:1/"));
    neap_close(n, NULL, NULL);

    o.size = sizeof o + 8;
    assert_null(neap_new(&o));
    assert_non_null(strstr(neap_strerror(), "later version"));
    o.size = offsetof(neap_options, redis_url); // an older program's
    n = neap_new(&o);
    assert_non_null(n);
    neap_close(n, NULL, NULL);
}

static void test_memory_limit(void **state) {
    (void)state;
    neap_options o = {.size = sizeof o, .memory_limit = 32 << 20};
    neap *n = neap_new(&o);
    for (int i = 0; i < 3; i++) {
        struct outcome r =
            run(n, "local t = {} for i = 1, 1e4 do t[i] = ('x'):rep(1e5) .. i "
                   "end return 1");
        assert_string_equal(r.error, "not enough memory");
        r = run(n, "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1e5) .. i "
                   "end return #t");
        assert_string_equal(r.error, "");
        assert_float_equal(r.number, 100, 0);
    }
    neap_close(n, NULL, NULL);
}

// -- functions that wait

static neap_wait *last_wait;
static int cancels;

static void on_cancel(void *arg) {
    assert_ptr_equal(arg, &cancels);
    cancels++;
    last_wait = NULL;
}

static int l_wait(lua_State *L) {
    last_wait = neap_suspend(L, on_cancel, &cancels);
    return neap_yield(L);
}

static int l_at_once(lua_State *L) {
    neap_wait *w = neap_suspend(L, NULL, NULL);
    lua_pushvalue(L, 1);
    lua_xmove(L, neap_wait_lua(w), 1);
    neap_resume(w, 1);
    return neap_yield(L);
}

static int l_plain(lua_State *L) {
    lua_pushnumber(L, luaL_checknumber(L, 1) + 1);
    return 1;
}

static void answer(uv_timer_t *timer) {
    if (!last_wait) {
        return;
    }
    neap_wait *w = last_wait;
    last_wait = NULL;
    if (timer->data) {
        neap_fail(w, "db.down", timer->data);
    } else {
        lua_pushliteral(neap_wait_lua(w), "a row");
        lua_pushnumber(neap_wait_lua(w), 7);
        neap_resume(w, 2);
    }
}

static const luaL_Reg functions[] = {
    {"wait", l_wait}, {"at_once", l_at_once}, {"plain", l_plain}, {NULL, NULL}};

static void test_functions_that_wait(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    uv_timer_t timer;
    neap_register(n, "app", functions);
    uv_timer_init(neap_loop(n), &timer);
    timer.data = NULL;
    uv_timer_start(&timer, answer, 1, 1);
    uv_unref((uv_handle_t *)&timer);
    struct outcome o = run(n, "local a, b = app.wait() assert(a == 'a row') "
                              "return b + app.plain(1) + app.at_once(33)");
    assert_string_equal(o.error, "");
    assert_float_equal(o.number, 42, 0);
    o = run(n, "assert(require('app') == app) local neap = require 'neap' "
               "neap.all { app.wait, function() neap.sleep(0.01) end } "
               "return coroutine.wrap(function() return select(2, app.wait()) "
               "end)()");
    assert_float_equal(o.number, 7, 0);
    timer.data = "no route to the database";
    o = run(n, "local ok, e = pcall(app.wait) assert(not ok) "
               "assert(e.code == 'db.down' and "
               "e.message == 'no route to the database') return 1");
    assert_string_equal(o.error, "");
    o = run(n, "app.wait()");
    assert_string_equal(o.error, "db.down: no route to the database");
    o = run(n, "table.sort({ 1, 2 }, function() app.wait() end)");
    assert_non_null(strstr(o.error, "task.cannot_wait"));
    o = run(n, "app.plain 'x'");
    assert_non_null(strstr(o.error, "number expected, got string"));
    uv_close((uv_handle_t *)&timer, NULL);
    neap_close(n, NULL, NULL);
}

static void test_cancelled_waits(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    neap_register(n, "app", functions);
    cancels = 0;
    struct outcome o =
        run(n, "local neap = require 'neap' "
               "local ok, e = pcall(neap.timeout, 0.01, app.wait) "
               "assert(e.code == 'timeout') "
               "local t = neap.spawn(function() pcall(app.wait) "
               "  pcall(app.wait) return app.wait() end) "
               "neap.sleep(0) t:cancel() "
               "ok, e = pcall(t.join, t) assert(e.code == 'cancelled') "
               "return 1");
    assert_string_equal(o.error, "");
    assert_int_equal(cancels, 2);
    load(n, "app.wait()");
    struct outcome left = {0};
    neap_spawn(n, 0, on_done, &left);
    load(n, "require('neap').sleep(0.01) require('neap').stop(0)");
    neap_spawn(n, 0, NULL, NULL);
    neap_run(n);
    assert_int_equal(left.calls, 1);
    assert_int_equal(cancels, 3);
    neap_close(n, NULL, NULL);
}

// -- a borrowed loop

static void test_borrowed_loop(void **state) {
    (void)state;
    uv_loop_t loop;
    uv_timer_t own;
    int closed = 0;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &own);
    own.data = NULL;
    uv_timer_start(&own, answer, 1, 1);
    uv_unref((uv_handle_t *)&own);
    neap_options o = {.size = sizeof o, .loop = &loop};
    neap *a = neap_new(&o), *b = neap_new(&o);
    assert_ptr_equal(neap_loop(a), &loop);
    assert_int_equal(neap_run(a), -1);
    neap_register(a, "app", functions);
    struct outcome one = {0}, two = {0};
    load(a, "local neap = require 'neap' neap.sleep(0.01) app.wait() "
            "local http = require 'neap.http' local app = http.app() "
            "app:get('/', function() neap.sleep(0.001) return 'x' end) "
            "local server = app:listen(0) "
            "for i = 1, 20 do assert(http.fetch(server.url).body == 'x') end "
            "server:stop() return 1");
    neap_spawn(a, 0, on_done, &one);
    load(b, "for i = 1, 100 do require('neap').sleep(0) end return 2");
    neap_spawn(b, 0, on_done, &two);
    uv_run(&loop, UV_RUN_DEFAULT); // ends when neither has anything to do
    assert_string_equal(one.error, "");
    assert_float_equal(one.number, 1, 0);
    assert_float_equal(two.number, 2, 0);
    // what is spawned later makes it live again
    load(a, "require('neap').sleep(0.001) return 3");
    neap_spawn(a, 0, on_done, &one);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_float_equal(one.number, 3, 0);
    // closed in the middle of everything
    load(a, "local http = require 'neap.http' local app = http.app() "
            "app:get('/', function() require('neap').sleep(100) end) "
            "local server = app:listen(0) http.fetch(server.url)");
    neap_spawn(a, 0, on_done, &one);
    load(b, "require('luv').new_timer():start(1, 1, function() end)");
    neap_spawn(b, 0, NULL, NULL);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    neap_close(a, count_call, &closed);
    neap_close(b, count_call, &closed);
    assert_int_equal(closed, 0);
    assert_int_equal(one.calls, 2); // it may be called from what is closed
    uv_close((uv_handle_t *)&own, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(one.calls, 3);
    assert_int_equal(closed, 2);
    assert_int_equal(uv_loop_close(&loop), 0);
}

// -- posts

enum { posts_each = 20000, posters = 8 };
static int posted[posters];

struct poster {
    neap *n;
    int number;
    int next; // of the post that is to be run next
};

static void on_post(neap *n, void *arg) {
    struct poster *p = arg;
    p->next++;
    posted[p->number]++;
    if (posted[p->number] == posts_each) {
        int total = 0;
        for (int i = 0; i < posters; i++) {
            total += posted[i];
        }
        if (total == posts_each * posters) {
            neap_stop(n, 5);
        }
    }
}

static void *post_many(void *arg) {
    struct poster *p = arg;
    for (int i = 0; i < posts_each; i++) {
        assert_int_equal(neap_post(p->n, on_post, p), 0);
    }
    return NULL;
}

static void test_posts_from_threads(void **state) {
    (void)state;
    neap *n = neap_new(NULL);
    struct poster list[posters];
    pthread_t threads[posters];
    memset(posted, 0, sizeof posted);
    load(n, "require('neap').sleep(1000)");
    neap_spawn(n, 0, NULL, NULL);
    for (int i = 0; i < posters; i++) {
        list[i] = (struct poster){n, i, 0};
        pthread_create(&threads[i], NULL, post_many, &list[i]);
    }
    assert_int_equal(neap_run(n), 5);
    for (int i = 0; i < posters; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(posted[i], posts_each);
    }
    neap_close(n, NULL, NULL);
}

// a function that waits, answered by a thread
static void resume_posted(neap *n, void *arg) {
    (void)n;
    lua_pushnumber(neap_wait_lua(arg), 42);
    neap_resume(arg, 1);
}

struct work {
    neap *n;
    neap_wait *wait;
};

static void *do_work(void *arg) {
    struct work *w = arg;
    uv_sleep(20);
    neap_post(w->n, resume_posted, w->wait);
    free(w);
    return NULL;
}

static neap *instance;

static int l_work(lua_State *L) {
    struct work *w = malloc(sizeof *w);
    *w = (struct work){instance, neap_suspend(L, NULL, NULL)};
    pthread_t thread;
    pthread_create(&thread, NULL, do_work, w);
    pthread_detach(thread);
    return neap_yield(L);
}

static void test_a_thread_answers(void **state) {
    (void)state;
    instance = neap_new(NULL);
    const luaL_Reg list[] = {{"work", l_work}, {NULL, NULL}};
    neap_register(instance, "app", list);
    struct outcome o = run(instance, "return app.work()");
    assert_string_equal(o.error, "");
    assert_float_equal(o.number, 42, 0);
    neap_close(instance, NULL, NULL);
}

// -- Redis

static int replies_seen;

static void on_reply(neap *n, const neap_reply *r, void *arg) {
    (void)n;
    const char *what = arg;
    size_t len;
    replies_seen++;
    if (strcmp(what, "OK") == 0 || strcmp(what, "bytes") == 0) {
        assert_int_equal(neap_reply_type(r), NEAP_STRING);
        const char *s = neap_reply_string(r, &len);
        assert_int_equal(len, strlen(what) == 2 ? 2 : 4);
        assert_memory_equal(s, strlen(what) == 2 ? "OK" : "a\0:b", len);
    } else if (strcmp(what, "nil") == 0) {
        assert_int_equal(neap_reply_type(r), NEAP_NIL);
    } else if (strcmp(what, "wrong") == 0) {
        assert_int_equal(neap_reply_type(r), NEAP_ERROR);
        assert_non_null(strstr(neap_reply_string(r, NULL),
                               "redis.wrongtype: WRONGTYPE Operation"));
    } else if (strcmp(what, "array") == 0) {
        assert_int_equal(neap_reply_type(r), NEAP_ARRAY);
        assert_int_equal(neap_reply_count(r), 3000);
        for (size_t i = 0; i < 3000; i++) {
            char expected[16];
            snprintf(expected, sizeof expected, "%zu", i);
            assert_string_equal(neap_reply_string(neap_reply_at(r, i), NULL),
                                expected);
        }
        assert_null(neap_reply_at(r, 3000));
    } else if (strcmp(what, "nested") == 0) {
        assert_int_equal(neap_reply_count(r), 3);
        const neap_reply *inner = neap_reply_at(neap_reply_at(r, 1), 0);
        assert_int_equal(neap_reply_integer(inner), 7);
        assert_int_equal(neap_reply_count(neap_reply_at(r, 2)), 0);
        assert_int_equal(neap_reply_integer(neap_reply_at(r, 0)), 1);
    }
}

static int command(neap *n, char *what, int argc, ...) {
    const char *argv[8];
    size_t len[8];
    va_list ap;
    va_start(ap, argc);
    for (int i = 0; i < argc; i++) {
        argv[i] = va_arg(ap, const char *);
        len[i] = strcmp(argv[i], "a") == 0 ? 4 : strlen(argv[i]);
    }
    va_end(ap);
    return neap_redis_command(n, on_reply, what, argc, argv, len);
}

static void test_redis_commands(void **state) {
    (void)state;
    neap_options o = {.size = sizeof o, .redis_url = "memory:"};
    neap *n = neap_new(&o);
    replies_seen = 0;
    assert_int_equal(command(n, "OK", 3, "SET", "k", "a\0:b"), 0);
    assert_int_equal(command(n, "bytes", 2, "GET", "k"), 0);
    assert_int_equal(command(n, "nil", 2, "GET", "none"), 0);
    assert_int_equal(command(n, "wrong", 3, "LPUSH", "k", "x"), 0);
    assert_int_equal(
        command(n, "nested", 3, "EVAL", "return { 1, { 7 }, {} }", "0"), 0);
    assert_int_equal(
        command(n, "array", 3, "EVAL",
                "local t = {} for i = 0, 2999 do t[i + 1] = tostring(i) end "
                "return t",
                "0"),
        0);
    load(n, "return require('neap').redis():strlen 'k'");
    struct outcome r = {0};
    neap_spawn(n, 0, on_done, &r);
    neap_run(n);
    assert_int_equal(replies_seen, 6);
    assert_float_equal(r.number, 4, 0);
    // those that would change the connection are refused, in any case
    const char *const refused[] = {"SELECT", "subscribe", "Multi", "BLPOP",
                                   "quit"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(command(n, "", 2, refused[i], "x"), -1);
        assert_non_null(strstr(neap_strerror(), refused[i]));
    }
    assert_int_equal(neap_redis_command(n, NULL, NULL, 0, NULL, NULL), -1);
    assert_int_equal(command(n, "any", 3, "SET", "k", "v"), 0);
    neap_close(n, NULL, NULL); // with a command under way
    assert_int_equal(replies_seen, 7);
}

static void note_reply(neap *n, const neap_reply *r, void *arg) {
    (void)n;
    snprintf(arg, 64, "%s", neap_reply_string(r, NULL));
}

static void test_two_servers(void **state) {
    (void)state;
    neap_options o = {.size = sizeof o, .redis_url = "memory:"};
    neap *a = neap_new(&o), *b = neap_new(&o);
    char of_a[64], of_b[64];
    const char *const set_a[] = {"SET", "who", "a"};
    const char *const set_b[] = {"SET", "who", "b"};
    const char *const get[] = {"GET", "who"};
    neap_redis_command(a, NULL, NULL, 3, set_a, NULL);
    neap_redis_command(b, NULL, NULL, 3, set_b, NULL);
    neap_redis_command(a, note_reply, of_a, 2, get, NULL);
    neap_redis_command(b, note_reply, of_b, 2, get, NULL);
    neap_run(a);
    neap_run(b);
    assert_string_equal(of_a, "a");
    assert_string_equal(of_b, "b");
    neap_close(a, NULL, NULL);
    neap_close(b, NULL, NULL);
}

// -- faults of the program's

static void raise_in_done(neap *n, int count, const char *error,
                          const char *trace, void *arg) {
    (void)count, (void)error, (void)trace, (void)arg;
    luaL_error(neap_lua(n), "in on_done");
}

static void raise_in_post(neap *n, void *arg) {
    (void)arg;
    luaL_error(neap_lua(n), "in a post");
}

static void raise_in_reply(neap *n, const neap_reply *r, void *arg) {
    (void)r, (void)arg;
    luaL_error(neap_lua(n), "in on_reply");
}

static void raise_in_cancel(void *arg) {
    luaL_error(neap_lua(arg), "in on_cancel");
}

static int l_wait_badly(lua_State *L) {
    neap_suspend(L, raise_in_cancel, instance);
    return neap_yield(L);
}

static void count_log(void *arg, int level, const char *line, size_t len) {
    int *counts = arg;
    static const char *const texts[] = {
        "an error in on_done: in on_done", "an error in a posted function",
        "an error in on_reply: in on_reply", "an error in on_cancel"};
    (void)len;
    for (int i = 0; i < 4; i++) {
        counts[i] += level == 3 && strstr(line, texts[i]) != NULL;
    }
}

static void test_errors_in_callbacks(void **state) {
    (void)state;
    int counts[4] = {0};
    neap_options o = {.size = sizeof o,
                      .log = count_log,
                      .arg = counts,
                      .redis_url = "memory:"};
    neap *n = instance = neap_new(&o);
    const luaL_Reg list[] = {{"wait", l_wait_badly}, {NULL, NULL}};
    const char *const ping[] = {"PING"};
    neap_register(n, "app", list);
    load(n, "return 1, 2");
    neap_spawn(n, 0, raise_in_done, NULL);
    load(n, "error 'x'");
    neap_spawn(n, 0, raise_in_done, NULL);
    neap_post(n, raise_in_post, NULL);
    neap_redis_command(n, raise_in_reply, NULL, 1, ping, NULL);
    load(n, "pcall(require('neap').timeout, 0.01, app.wait)");
    neap_spawn(n, 0, NULL, NULL);
    neap_run(n);
    assert_int_equal(lua_gettop(neap_lua(n)), 0);
    struct outcome r = run(n, "return 42");
    assert_float_equal(r.number, 42, 0);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
    assert_int_equal(counts[2], 1);
    assert_int_equal(counts[3], 1);
    neap_close(n, NULL, NULL);
}

static void test_a_loop_stopped_from_outside(void **state) {
    (void)state;
    uv_loop_t loop;
    struct outcome o = {0};
    uv_loop_init(&loop);
    neap_options options = {.size = sizeof options, .loop = &loop};
    neap *n = neap_new(&options);
    load(n, "for i = 1, 20 do require('neap').sleep(0.001) end return 42");
    neap_spawn(n, 0, on_done, &o);
    int runs = 0;
    while (o.calls == 0) {
        uv_stop(&loop);
        uv_run(&loop, UV_RUN_DEFAULT);
        uv_run(&loop, UV_RUN_ONCE);
        runs++;
    }
    assert_true(runs > 1);
    assert_float_equal(o.number, 42, 0);
    neap_close(n, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);

    n = neap_new(NULL); // its own goes on
    load(n, "require('neap').sleep(0.01) return 42");
    neap_spawn(n, 0, on_done, &o);
    uv_stop(neap_loop(n));
    neap_run(n);
    assert_int_equal(o.calls, 2);
    neap_close(n, NULL, NULL);
}

static void test_fork(void **state) {
    (void)state;
    neap *n = instance = neap_new(NULL); // the child has it, too, at its end
    struct outcome o = {0};
    load(n, "require('neap').sleep(0.02) "
            "return require('neap').model.uuid() and 42");
    neap_spawn(n, 0, on_done, &o);
    pid_t child = fork();
    if (child == 0) {
        neap *own = neap_new(NULL); // the child has instances of its own
        struct outcome p = {0};
        load(own, "require('neap').sleep(0.01) return 7");
        neap_spawn(own, 0, on_done, &p);
        neap_run(own);
        _exit(p.number == 7 ? 0 : 1);
    }
    neap_run(n);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_float_equal(o.number, 42, 0);
    neap_close(n, NULL, NULL);
}

// -- closed at every moment

static void run_until_closed(neap *n, uv_loop_t *loop, const char *code,
                             int turns, struct outcome *o, int *closed) {
    lua_getglobal(neap_lua(n), "app");
    lua_getfield(neap_lua(n), -1, "wait");
    lua_setglobal(neap_lua(n), "app_wait");
    lua_pop(neap_lua(n), 1);
    load(n, code);
    neap_spawn(n, 0, on_done, o);
    for (int i = 0; i < turns; i++) {
        uv_run(loop, UV_RUN_ONCE);
    }
    neap_close(n, count_call, closed);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void note_setting(neap *n, const neap_reply *r, void *arg) {
    note_reply(n, neap_reply_at(r, 1), arg);
}

static void test_closed_after_any_number_of_turns(void **state) {
    (void)state;
    const char *const code =
        "local neap, http = require 'neap', require 'neap.http' "
        "local redis = neap.redis() "
        "local model, field = neap.model, neap.field "
        "local Cup = model.define('cup', { id = field.uuid { primary_key = true"
        " }, n = field.integer { index = true, min = 0, max = 9 } }) "
        "local app = http.app() "
        "app:get('/', function() return { json = { n = redis:incr 'n' } } end) "
        "local server = app:listen(0) "
        "while true do neap.all { "
        "function() http.fetch(server.url) end, "
        "function() redis:set('k', ('x'):rep(1000)) redis:get 'k' end, "
        "function() pcall(neap.timeout, 0.01, redis.blpop, redis, 'q', 1) end, "
        "function() Cup:create { n = 3 } Cup:where { n = 3 }:limit(5):all() "
        "end, "
        "function() pcall(neap.timeout, 0.001, app_wait) end } end";
    neap_options server_options = {.size = sizeof server_options,
                                   .redis_url = "memory:"};
    neap *server = neap_new(&server_options);
    char path[64] = "", dir[64] = "", url[160];
    const char *const get_dir[] = {"CONFIG", "GET", "dir"};
    const char *const get_path[] = {"CONFIG", "GET", "unixsocket"};
    neap_redis_command(server, note_setting, dir, 3, get_dir, NULL);
    neap_redis_command(server, note_setting, path, 3, get_path, NULL);
    neap_run(server);
    snprintf(url, sizeof url, "unix://%s/%s", dir, path);
    for (int turns = 0; turns < 120; turns++) {
        uv_loop_t loop;
        uv_loop_init(&loop);
        int closed = 0;
        struct outcome o = {0};
        neap_options options = {
            .size = sizeof options, .loop = &loop, .redis_url = url};
        neap *n = neap_new(&options);
        neap_register(n, "app", functions);
        run_until_closed(n, &loop, code, turns, &o, &closed);
        assert_int_equal(o.calls, 1);
        assert_string_equal(o.error, "cancelled");
        assert_int_equal(closed, 1);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
    neap_close(server, NULL, NULL);
}

// -- many

static void test_many_instances_with_work_in_flight(void **state) {
    (void)state;
    const char *given = getenv("NEAP_CYCLES");
    int cycles = given ? atoi(given) : 300;
    for (int i = 0; i < cycles; i++) {
        neap *n = neap_new(NULL);
        struct outcome o = {0}, p = {0};
        neap_register(n, "app", functions);
        load(n, "require('neap').sleep(i and 0 or 1)");
        neap_spawn(n, 0, on_done, &o);
        load(n, "app.wait()");
        neap_spawn(n, 0, on_done, &p);
        if (i % 3) {
            load(n, "require('neap').sleep(0) require('neap').stop(0)");
            neap_spawn(n, 0, NULL, NULL);
            neap_run(n);
        }
        neap_close(n, NULL, NULL);
        assert_int_equal(o.calls, 1);
        assert_int_equal(p.calls, 1);
    }
}

static void *live_in_thread(void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) {
        neap *n = neap_new(NULL);
        struct outcome o = {0};
        load(n, "local neap = require 'neap' local t = {} "
                "for i = 1, 100 do t[i] = function() neap.sleep(0.0001) "
                "return require('neap').model.uuid() end end "
                "return #neap.all(t)");
        neap_spawn(n, 0, on_done, &o);
        neap_run(n);
        assert_float_equal(o.number, 100, 0);
        neap_close(n, NULL, NULL);
    }
    return NULL;
}

static void test_instances_in_threads(void **state) {
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, live_in_thread, NULL);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_and_errors),
        cmocka_unit_test(test_arguments_and_globals),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close_tells_those_who_wait),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_functions_that_wait),
        cmocka_unit_test(test_cancelled_waits),
        cmocka_unit_test(test_borrowed_loop),
        cmocka_unit_test(test_posts_from_threads),
        cmocka_unit_test(test_a_thread_answers),
        cmocka_unit_test(test_redis_commands),
        cmocka_unit_test(test_two_servers),
        cmocka_unit_test(test_errors_in_callbacks),
        cmocka_unit_test(test_a_loop_stopped_from_outside),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_closed_after_any_number_of_turns),
        cmocka_unit_test(test_many_instances_with_work_in_flight),
        cmocka_unit_test(test_instances_in_threads),
    };
    return cmocka_run_group_tests_name("neap", tests, NULL, NULL);
}
