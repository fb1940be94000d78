// neap_callback_test: what a program's functions may do while they are called,
// and how builds with NEAP_CHECKS tell of misuse.
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

static neap *new_instance(void) {
    neap_options o = {.size = sizeof o, .redis_url = "memory:"};
    return neap_new(&o);
}

static void load(neap *n, const char *code) {
    assert_int_equal(luaL_loadstring(neap_lua(n), code), 0);
}

// -- replies

enum { many = 300 };

static const char *const ping[] = {"PING"};
static const char *const echo[] = {"ECHO", "text"};

struct seen {
    int replies, pongs, errors, refused;
    int lines; // of the log
    char error[256];
};

static void count_line(void *arg, int level, const char *line, size_t len) {
    struct seen *s = arg;
    (void)len;
    s->lines += level == 3 && strstr(line, "error in on_reply: third") != NULL;
}

// Each third raises an error, and all leave something on the stack where that
// is not checked.
static void on_reply(neap *n, const neap_reply *r, void *arg) {
    struct seen *s = arg;
    s->replies++;
    s->pongs += strcmp(neap_reply_string(r, NULL), "PONG") == 0;
#ifndef NEAP_CHECKS
    lua_pushliteral(neap_lua(n), "left");
#endif
    if (s->replies % 3 == 0) {
        luaL_error(neap_lua(n), "third");
    }
}

static void test_an_error_costs_its_own_reply_alone(void **state) {
    (void)state;
    struct seen s = {0};
    neap_options o = {
        .size = sizeof o, .redis_url = "memory:", .log = count_line, .arg = &s};
    neap *n = neap_new(&o);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < many; i++) {
            const char *const *argv = i % 2 ? ping : echo;
            neap_redis_command(n, on_reply, &s, i % 2 ? 1 : 2, argv, NULL);
        }
        neap_run(n);
        assert_int_equal(lua_gettop(neap_lua(n)), 0);
    }
    assert_int_equal(s.replies, 3 * many);
    assert_int_equal(s.pongs, 3 * many / 2);
    assert_int_equal(s.lines, many);
    neap_close(n, NULL, NULL);
}

static void ask_again(neap *n, const neap_reply *r, void *arg) {
    struct seen *s = arg;
    s->replies++;
    if (neap_reply_type(r) == NEAP_ERROR) {
        s->errors++;
        snprintf(s->error, sizeof s->error, "%s", neap_reply_string(r, NULL));
    }
    if (s->replies < 1000 || neap_reply_type(r) == NEAP_ERROR) {
        s->refused += neap_redis_command(n, ask_again, s, 1, ping, NULL) != 0;
    }
}

static void test_commands_of_on_reply(void **state) {
    (void)state;
    struct seen s = {0};
    neap *n = new_instance();
    neap_redis_command(n, ask_again, &s, 1, ping, NULL);
    neap_run(n);
    assert_int_equal(s.replies, 1000);
    assert_int_equal(s.errors, 0);
    // closed meanwhile: what cannot be sent any more is refused
    for (int i = 0; i < 10; i++) {
        neap_redis_command(n, ask_again, &s, 1, ping, NULL);
    }
    neap_close(n, NULL, NULL);
    assert_int_equal(s.replies, 1010);
    assert_int_equal(s.errors, 10);
    assert_int_equal(s.refused, 10);
    assert_non_null(strstr(s.error, "redis.closed: the client was closed"));
    assert_string_equal(neap_strerror(), "the instance is being closed");
}

static void test_a_reply_beyond_the_memory_limit(void **state) {
    (void)state;
    struct seen s = {0};
    neap_options o = {
        .size = sizeof o, .redis_url = "memory:", .memory_limit = 16 << 20};
    neap *n = neap_new(&o);
    char *value = calloc(1, 40 << 20);
    const char *const set[] = {"SET", "big", value};
    const size_t len[] = {3, 3, 40 << 20};
    const char *const code = "local redis = require('neap').redis() "
                             "local ok, e = pcall(redis.get, redis, 'big') "
                             "collected = collectgarbage 'count' < 4000 "
                             "return not ok and e.code == 'memory' and "
                             "#redis:get 'small' or tostring(e)";
    neap_redis_command(n, NULL, NULL, 3, set, len);
    const char *const small[] = {"SET", "small", "1234567"};
    neap_redis_command(n, NULL, NULL, 3, small, NULL);
    neap_run(n);
    free(value);
    for (int i = 0; i < 3; i++) {
        load(n, code);
        load(n, "assert(collected, 'garbage') seven = ... ");
        load(n, "local a, b = ... a = a() b(a)");
        lua_insert(neap_lua(n), -3);
        neap_spawn(n, 2, NULL, NULL);
        neap_run(n);
        lua_getglobal(neap_lua(n), "seven");
        assert_string_equal(lua_tostring(neap_lua(n), -1), "7");
        lua_pushnil(neap_lua(n));
        lua_setglobal(neap_lua(n), "seven");
        lua_pop(neap_lua(n), 1);
    }
    // C's trees are no part of Lua's memory
    const char *const get[] = {"GET", "big"};
    neap_redis_command(n, ask_again, &s, 2, get, NULL);
    s.replies = 1000;
    neap_run(n);
    assert_int_equal(s.replies, 1001);
    assert_int_equal(s.errors, 0);
    neap_close(n, NULL, NULL);
}

// -- tasks

static int ends, refused;

static void start_again(neap *n, int count, const char *error,
                        const char *trace, void *arg) {
    (void)count, (void)trace;
    ends++;
    assert_string_equal(error, "cancelled");
    load(n, "require('neap').sleep(10)");
    refused += neap_spawn(n, 0, start_again, arg) == NULL;
}

static void test_tasks_of_on_done(void **state) {
    (void)state;
    neap *n = new_instance();
    for (int i = 0; i < 5; i++) {
        load(n, "require('neap').sleep(10)");
        neap_spawn(n, 0, start_again, NULL);
    }
    neap_close(n, NULL, NULL);
    assert_int_equal(ends, 5);
    assert_int_equal(refused, 5);
}

// -- closed by what is called, on a loop of the program's

struct closing {
    neap *n;
    int closed, calls;
    bool is_raising;
};

static void on_closed(void *arg) {
    struct closing *c = arg;
    c->closed++;
}

static void close_now(struct closing *c) {
    if (c->calls++ == 0) {
        neap_close(c->n, on_closed, c);
    }
}

static void close_in_reply(neap *n, const neap_reply *r, void *arg) {
    struct closing *c = arg;
    (void)r;
    close_now(c);
    if (c->is_raising) {
        luaL_error(neap_lua(n), "and more");
    }
}

static void close_in_done(neap *n, int count, const char *error,
                          const char *trace, void *arg) {
    (void)n, (void)count, (void)error, (void)trace;
    close_now(arg);
}

static void close_in_post(neap *n, void *arg) {
    (void)n;
    close_now(arg);
}

static void close_in_cancel(void *arg) {
    close_now(arg);
}

static struct closing *waited_for;

static int l_wait(lua_State *L) {
    neap_suspend(L, close_in_cancel, waited_for);
    return neap_yield(L);
}

enum closer { BY_REPLY, BY_ERROR, BY_LOSS, BY_DONE, BY_POST, BY_CANCEL };

static void ask(struct closing *c, enum closer closer) {
    const luaL_Reg list[] = {{"wait", l_wait}, {NULL, NULL}};
    neap *n = c->n;
    for (int i = 0; i < 5; i++) {
        load(n, "require('neap').sleep(0.001) late = true "
                "require('neap').sleep(100)");
        neap_spawn(n, 0, NULL, NULL);
    }
    c->is_raising = closer == BY_ERROR;
    if (closer <= BY_LOSS) {
        for (int i = 0; i < 5; i++) {
            neap_redis_command(n, close_in_reply, c, 1, ping, NULL);
        }
    } else if (closer == BY_POST) {
        neap_post(n, close_in_post, c);
        neap_post(n, close_in_post, c);
    } else if (closer == BY_CANCEL) {
        waited_for = c;
        neap_register(n, "app", list);
        load(n, "require('neap').timeout(0.001, app.wait)");
        neap_spawn(n, 0, NULL, NULL);
    } else {
        for (int i = 0; i < 5; i++) {
            load(n, "return is_closed and error('it runs')");
            neap_spawn(n, 0, close_in_done, c);
        }
    }
}

static void test_closed_by_what_is_called(void **state) {
    (void)state;
    const int calls[] = {5, 5, 5, 5, 2, 1};
    for (enum closer i = BY_REPLY; i <= BY_CANCEL; i++) {
        uv_loop_t loop;
        struct closing c = {0};
        uv_loop_init(&loop);
        neap_options o = {.size = sizeof o,
                          .loop = &loop,
                          .redis_url = i == BY_LOSS
                                           ? "redis://127.0.0.1:1/?timeout=0.1"
                                           : "memory:"};
        c.n = neap_new(&o);
        ask(&c, i);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(c.closed, 1);
        assert_int_equal(c.calls, calls[i]);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
}

static void note_order(uv_timer_t *timer);

// begin() starts a timer of the program's, of a second.
static int l_begin(lua_State *L) {
    uv_timer_t *timer = lua_touserdata(L, lua_upvalueindex(1));
    uv_update_time(timer->loop);
    uv_timer_start(timer, note_order, 1000, 0);
    return 0;
}

static void note_order(uv_timer_t *timer) {
    lua_State *L = neap_lua(timer->data);
    lua_getglobal(L, "is_awake");
    lua_setglobal(L, "was_awake");
    uv_close((uv_handle_t *)timer, NULL);
}

// What a task waits for is reckoned from when it began to, not from when its
// slice did.
static void test_a_deadline_behind_a_long_slice(void **state) {
    (void)state;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_loop_init(&loop);
    neap_options o = {.size = sizeof o, .loop = &loop};
    neap *n = neap_new(&o);
    load(n, "local neap = require 'neap' neap.sleep(0.001) "
            "local start = neap.monotonic() "
            "repeat until neap.monotonic() - start > 2 begin() "
            "neap.sleep(0.01) is_awake = true");
    timer.data = n;
    lua_pushlightuserdata(neap_lua(n), &timer);
    lua_pushcclosure(neap_lua(n), l_begin, 1);
    lua_setglobal(neap_lua(n), "begin");
    uv_timer_init(&loop, &timer);
    neap_spawn(n, 0, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    lua_getglobal(neap_lua(n), "was_awake");
    assert_true(lua_toboolean(neap_lua(n), -1));
    lua_pop(neap_lua(n), 1);
    neap_close(n, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_a_client_that_lua_closed(void **state) {
    (void)state;
    struct seen s = {0};
    neap *n = new_instance();
    for (int i = 0; i < 3; i++) {
        neap_redis_command(n, on_reply, &s, 1, ping, NULL);
        neap_run(n);
        load(n, "require('neap').redis():close()");
        neap_spawn(n, 0, NULL, NULL);
        neap_run(n);
    }
    assert_int_equal(s.pongs, 3);
    neap_close(n, NULL, NULL);
}

// -- misuse

#ifdef NEAP_CHECKS
static void after_close(neap *n) {
    neap_close(n, NULL, NULL);
    neap_lua(n);
}

static void post_after_close(neap *n) {
    neap_close(n, NULL, NULL);
    neap_post(n, NULL, NULL);
}

static void close_twice(neap *n) {
    neap_close(n, NULL, NULL);
    neap_close(n, NULL, NULL);
}

static void spawn_after_close(neap *n) {
    neap_close(n, NULL, NULL);
    neap_spawn(n, 0, NULL, NULL);
}

static void *stop(void *n) {
    neap_stop(n, 0);
    return NULL;
}

static void by_another_thread(neap *n) {
    pthread_t thread;
    pthread_create(&thread, NULL, stop, n);
    pthread_join(thread, NULL);
}

static void lacks_an_argument(neap *n) {
    load(n, "return");
    neap_spawn(n, 1, NULL, NULL);
}

static void leave_a_value(neap *n, void *arg) {
    (void)arg;
    lua_pushinteger(neap_lua(n), 1);
}

static void in_a_post(neap *n) {
    neap_post(n, leave_a_value, NULL);
    load(n, "require('neap').sleep(0.1)");
    neap_spawn(n, 0, NULL, NULL);
    neap_run(n);
}

static void leave_after_reply(neap *n, const neap_reply *r, void *arg) {
    (void)r;
    leave_a_value(n, arg);
}

static void in_a_reply(neap *n) {
    neap_redis_command(n, leave_after_reply, NULL, 1, ping, NULL);
    neap_run(n);
}

static int l_answer(lua_State *L) {
    neap_resume(neap_suspend(L, NULL, NULL), 9);
    return neap_yield(L);
}

static void lacks_a_result(neap *n) {
    const luaL_Reg list[] = {{"answer", l_answer}, {NULL, NULL}};
    neap_register(n, "app", list);
    load(n, "app.answer()");
    neap_spawn(n, 0, NULL, NULL);
    neap_run(n);
}

static void closed_within(neap *n, void *arg) {
    neap_close(n, NULL, arg);
}

static void in_what_run_calls(neap *n) {
    neap_post(n, closed_within, NULL);
    load(n, "require('neap').sleep(0.1)");
    neap_spawn(n, 0, NULL, NULL);
    neap_run(n);
}

// diagnosis returns what a child that misuses an instance says as it aborts.
static void diagnosis(void (*misuse)(neap *n), char *text, size_t size) {
    int pipes[2], status;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], 2);
        signal(SIGABRT, SIG_DFL);
        misuse(new_instance());
        _exit(0);
    }
    close(pipes[1]);
    size_t len = 0;
    ssize_t got;
    while ((got = read(pipes[0], text + len, size - len - 1)) > 0) {
        len += (size_t)got;
    }
    text[len] = '\0';
    close(pipes[0]);
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_misuse_is_told(void **state) {
    (void)state;
    const struct {
        void (*misuse)(neap *n);
        const char *text;
    } cases[] = {
        {after_close, "neap: neap_lua: the instance was closed\n"},
        {post_after_close, "neap: neap_post: the instance was closed\n"},
        {spawn_after_close, "neap: neap_spawn: the instance was closed\n"},
        {close_twice, "neap: neap_close: the instance was closed\n"},
        {by_another_thread, "neap: neap_stop: called by another thread\n"},
        {lacks_an_argument, "neap: neap_spawn: the stack lacks the function or "
                            "an argument\n"},
        {in_a_post, "neap: a posted function: the main state's stack is not "
                    "left as it was found\n"},
        {in_a_reply, "neap: on_reply: the main state's stack is not left as it "
                     "was found\n"},
        {lacks_a_result,
         "neap: neap_resume: the wait's stack lacks a result\n"},
        {in_what_run_calls, "neap: neap_close: called from what neap_run "
                            "calls\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        diagnosis(cases[i].misuse, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_error_costs_its_own_reply_alone),
        cmocka_unit_test(test_commands_of_on_reply),
        cmocka_unit_test(test_a_reply_beyond_the_memory_limit),
        cmocka_unit_test(test_tasks_of_on_done),
        cmocka_unit_test(test_closed_by_what_is_called),
        cmocka_unit_test(test_a_client_that_lua_closed),
        cmocka_unit_test(test_a_deadline_behind_a_long_slice),
#ifdef NEAP_CHECKS
        cmocka_unit_test(test_misuse_is_told),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
