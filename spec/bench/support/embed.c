// embed: what the functions of neap.h cost. spec/bench/embed.lua builds and runs
// it with the path of a Redis server's socket; it prints a line each.
#include <hiredis/hiredis.h>
#include <lauxlib.h>
#include <neap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

static double now(void) {
    return (double)uv_hrtime() / 1e9;
}

static double resident_mib(void) {
    size_t bytes = 0;
    uv_resident_set_memory(&bytes);
    return (double)bytes / 1048576;
}

// -- new to the first line of Lua, and what an instance weighs

static void instances(void) {
    enum { count = 50 };
    neap *list[count];
    double before = resident_mib(), start = now();
    for (int i = 0; i < count; i++) {
        list[i] = neap_new(NULL);
        luaL_loadstring(neap_lua(list[i]), "local neap = require 'neap'");
        neap_spawn(list[i], 0, NULL, NULL);
        neap_run(list[i]);
    }
    printf("neap_new to the first line of Lua: %.2f ms; an instance: %.2f MiB\n",
           (now() - start) / count * 1e3, (resident_mib() - before) / count);
    start = now();
    for (int i = 0; i < count; i++) {
        neap_close(list[i], NULL, NULL);
    }
    printf("neap_close: %.2f ms\n", (now() - start) / count * 1e3);
}

// -- tasks

static int left;

static void on_done(neap *n, int count, const char *error, const char *trace,
                    void *arg) {
    (void)n, (void)count, (void)error, (void)trace, (void)arg;
    left--;
}

static void tasks(neap *n) {
    enum { batch = 1000, total = 2000000 };
    lua_State *L = neap_lua(n);
    luaL_loadstring(L, "return ...");
    double start = now();
    for (int done = 0; done < total; done += batch) {
        left = batch;
        for (int i = 0; i < batch; i++) {
            lua_pushvalue(L, -1);
            lua_pushinteger(L, i);
            neap_spawn(n, 1, on_done, NULL);
        }
        neap_run(n);
        if (left) {
            abort();
        }
    }
    lua_pop(L, 1);
    printf("neap_spawn with an argument, result to C: %.2f million/s\n",
           total / (now() - start) / 1e6);
}

// -- posts

enum { posts = 4000000 };
static int posted;

static void on_post(neap *n, void *arg) {
    (void)arg;
    if (++posted == posts) {
        neap_stop(n, 0);
    }
}

static void post_all(void *arg) {
    for (int i = 0; i < posts; i++) {
        neap_post(arg, on_post, NULL);
    }
}

static void post(void) {
    neap *n = neap_new(NULL);
    uv_thread_t thread;
    luaL_loadstring(neap_lua(n), "require('neap').sleep(1e9)");
    neap_spawn(n, 0, NULL, NULL);
    double start = now();
    uv_thread_create(&thread, post_all, n);
    neap_run(n);
    uv_thread_join(&thread);
    printf("neap_post from one thread: %.2f million/s\n",
           posts / (now() - start) / 1e6);
    neap_close(n, NULL, NULL);
}

// -- Redis: pairs of SET and GET, in batches of 100

enum { pairs_of_batch = 100, pairs_total = 400000 };

static int replies;

static void on_reply(neap *n, const neap_reply *r, void *arg) {
    (void)n, (void)arg;
    if (neap_reply_type(r) != NEAP_STRING) {
        fprintf(stderr, "%s\n", neap_reply_string(r, NULL));
        abort();
    }
    replies++;
}

static const char *const set_argv[] = {"SET", "bench:key", "xxx"};
static const char *const get_argv[] = {"GET", "bench:key"};
static const size_t set_len[] = {3, 9, 3}, get_len[] = {3, 9};

static double by_neap(neap *n) {
    double start = now();
    for (int i = 0; i < pairs_total; i += pairs_of_batch) {
        for (int k = 0; k < pairs_of_batch; k++) {
            neap_redis_command(n, on_reply, NULL, 3, set_argv, set_len);
            neap_redis_command(n, on_reply, NULL, 2, get_argv, get_len);
        }
        neap_run(n); // until the replies are there
    }
    return pairs_total / (now() - start);
}

// by_hand does the same with a blocking socket and hiredis's own reader.
static double by_hand(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    redisReader *reader = redisReaderCreate();
    static char out[65536], in[65536];
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        return 0;
    }
    double start = now();
    for (int i = 0; i < pairs_total; i += pairs_of_batch) {
        size_t len = 0;
        for (int k = 0; k < pairs_of_batch; k++) {
            len += (size_t)sprintf(out + len,
                                   "*3\r\n$3\r\nSET\r\n$9\r\nbench:key\r\n$3\r\n"
                                   "xxx\r\n*2\r\n$3\r\nGET\r\n$9\r\nbench:key\r\n");
        }
        if (write(fd, out, len) != (ssize_t)len) {
            return 0;
        }
        for (int got = 0; got < 2 * pairs_of_batch;) {
            ssize_t n = read(fd, in, sizeof in);
            void *reply;
            redisReaderFeed(reader, in, (size_t)n);
            while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
                freeReplyObject(reply);
                got++;
            }
        }
    }
    double rate = pairs_total / (now() - start);
    redisReaderFree(reader);
    close(fd);
    return rate;
}

static void redis(const char *path) {
    char url[256];
    snprintf(url, sizeof url, "unix://%s", path);
    neap_options o = {.size = sizeof o, .redis_url = url};
    neap *n = neap_new(&o);
    by_neap(n);
    for (int i = 0; i < 5; i++) {
        double ours = by_neap(n), bare = by_hand(path);
        printf("neap_redis_command: %.0f pairs/s, a bare loop of C and hiredis: "
               "%.0f: %.2f of it\n",
               ours, bare, ours / bare);
    }
    if (replies != 6 * 2 * pairs_total) {
        abort();
    }
    neap_close(n, NULL, NULL);
}

int main(int argc, char **argv) {
    instances();
    neap *n = neap_new(NULL);
    tasks(n);
    neap_close(n, NULL, NULL);
    post();
    if (argc > 1) {
        redis(argv[1]);
    }
    return 0;
}
