// threads: four instances, each on a thread of its own with a Lua state of its
// own, hand a number round the ring by neap_post until it is 0.
//
//   cc threads.c $(pkg-config --cflags --libs neap) -lpthread -o threads
#include <lauxlib.h>
#include <neap.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { members = 4 };

struct member {
    int number, received;
    neap *n;
    pthread_t thread;
};

static struct member ring[members];
static pthread_barrier_t all_there;

static struct member *member_of(neap *n) {
    for (int i = 0; i < members; i++) {
        if (ring[i].n == n) {
            return &ring[i];
        }
    }
    return NULL;
}

static void receive(neap *n, void *number);

static void on_next(neap *n, int count, const char *error, const char *trace,
                    void *arg) {
    (void)trace;
    (void)arg;
    intptr_t left = error || !count ? 0 : lua_tointeger(neap_lua(n), -1);
    struct member *m = member_of(n);
    if (left > 0) {
        neap_post(ring[(m->number + 1) % members].n, receive, (void *)left);
    } else {
        for (int i = 0; i < members; i++) { // 0: everybody may go
            neap_post(ring[i].n, receive, (void *)(intptr_t)-1);
        }
    }
}

// receive runs on the loop of the instance that it was posted to.
static void receive(neap *n, void *number) {
    if ((intptr_t)number < 0) {
        neap_stop(n, 0);
        return;
    }
    lua_State *L = neap_lua(n);
    member_of(n)->received++;
    lua_getglobal(L, "take_one");
    lua_pushinteger(L, (lua_Integer)(intptr_t)number);
    neap_spawn(n, 1, on_next, NULL);
}

static void *live(void *arg) {
    struct member *m = arg;
    m->n = neap_new(NULL);
    luaL_loadstring(neap_lua(m->n),
                    "function take_one(n) return n - 1 end\n"
                    "require('neap').sleep(1e9)"); // until it is stopped
    neap_spawn(m->n, 0, NULL, NULL);
    pthread_barrier_wait(&all_there);
    if (m->number == 0) {
        neap_post(m->n, receive, (void *)(intptr_t)10000);
    }
    neap_run(m->n);
    pthread_barrier_wait(&all_there); // nobody posts to one that is closed
    neap_close(m->n, NULL, NULL);
    return NULL;
}

int main(void) {
    pthread_barrier_init(&all_there, NULL, members);
    for (int i = 0; i < members; i++) {
        ring[i].number = i;
        pthread_create(&ring[i].thread, NULL, live, &ring[i]);
    }
    for (int i = 0; i < members; i++) {
        pthread_join(ring[i].thread, NULL);
        printf("member %d received %d numbers\n", i, ring[i].received);
    }
    return 0;
}
