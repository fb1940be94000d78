// lua_pubsub: the binding of redis/pubsub: subscriptions and their messages.
//
// A subscription keeps what nobody has asked for yet in a Lua table, as a ring.
// When it is full, the oldest message makes room, and the next that is asked
// for is an event that says how many were lost.
//
// What Lua allocates may run finalizers, which may close anything. So while
// those who listen are told, only on_message allocates, and it asks for the
// next one after that; the rest wakes tasks with plain values.
#include "lua/lua_pubsub.h"

#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/runtime.h"
#include "lua/lua_error.h"
#include "lua/lua_redis.h"
#include "redis/pubsub.h"

#define SUBSCRIPTION "neap.subscription"

struct subscription {
    struct subscriber subscriber;
    struct runtime *rt;
    int ring;              // registry reference of the table
    uint32_t first, count; // of what lies in it
    uint32_t limit;
    uint64_t lost;         // messages that made room
    bool is_gap_lost;      // and a reconnect's gap among them
    struct waitq asking;   // tasks that wait for a message
    struct waitq settling; // and for their subscription
    bool is_over;
    char code[64], error[512]; // why it failed
};

static struct subscription *of(struct subscriber *s) {
    return (struct subscription *)(void *)s;
}

static void update_waiting(struct subscription *s) {
    subscriber_wait(&s->subscriber, !list_is_empty(&s->asking.tasks) ||
                                        !list_is_empty(&s->settling.tasks));
}

// at returns the index in the ring of the event that is i-th from the oldest.
static int at(const struct subscription *s, uint32_t i) {
    return (int)((s->first + (uint64_t)i) % s->limit) + 1;
}

// drop_oldest makes room. The ring is on top of L. // [-0, +0]
static void drop_oldest(struct subscription *s, lua_State *L) {
    lua_rawgeti(L, -1, at(s, 0));
    bool is_gap = lua_isboolean(L, -1);
    lua_pop(L, 1);
    s->is_gap_lost = s->is_gap_lost || is_gap;
    s->lost += !is_gap;
    s->first = (s->first + 1) % s->limit;
    s->count--;
}

// put gives the event on top of L to a task that waits, or keeps it: a message,
// or true for a reconnect. // [-1, +0]
static void put(struct subscription *s, lua_State *L) {
    if (!list_is_empty(&s->asking.tasks)) {
        waitq_wake(&s->asking, L, 1);
        update_waiting(s);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ring);
    lua_insert(L, -2);
    bool is_gap = lua_isboolean(L, -1);
    if (is_gap && s->count) { // two reconnects in a row are one gap
        lua_rawgeti(L, -2, at(s, s->count - 1));
        bool is_again = lua_isboolean(L, -1);
        lua_pop(L, 1);
        if (is_again) {
            lua_pop(L, 2);
            return;
        }
    }
    if (s->count == s->limit) {
        lua_insert(L, -2);
        drop_oldest(s, L);
        lua_insert(L, -2);
    }
    lua_rawseti(L, -2, at(s, s->count++));
    lua_pop(L, 1);
}

static void on_message(struct pubsub *ps, const struct pubsub_message *m) {
    static const char *const names[] = {"channel", "payload", "pattern"};
    lua_State *L = pubsub_runtime(ps)->L;
    int fields = m->pattern ? 3 : 2, base = lua_gettop(L);
    lua_checkstack(L, 8);
    lua_pushlstring(L, m->channel, m->channel_len);
    lua_pushlstring(L, m->payload, m->payload_len);
    lua_pushlstring(L, m->pattern, m->pattern_len);
    while (pubsub_has_next(ps)) {
        lua_createtable(L, 0, fields);
        for (int i = 0; i < fields; i++) {
            lua_pushvalue(L, base + 1 + i);
            lua_setfield(L, -2, names[i]);
        }
        struct subscriber *s = pubsub_next(ps);
        if (!s) {
            break; // the last was closed just now
        }
        put(of(s), L);
    }
    lua_settop(L, base);
}

static void on_gap(struct subscriber *sub) {
    struct subscription *s = of(sub);
    lua_pushboolean(s->rt->L, true);
    put(s, s->rt->L);
}

// wake_all ends all waits; those who waited look again.
static void wake_all(struct subscription *s, struct waitq *q) {
    while (waitq_wake(q, s->rt->L, 0)) {
    }
    update_waiting(s);
}

static void on_subscribed(struct subscriber *sub) {
    wake_all(of(sub), &of(sub)->settling);
}

static void on_failed(struct subscriber *sub, const char *code,
                      const char *text) {
    struct subscription *s = of(sub);
    snprintf(s->code, sizeof s->code, "%s", code);
    snprintf(s->error, sizeof s->error, "%s", text);
    s->is_over = true;
    wake_all(s, &s->settling);
    wake_all(s, &s->asking);
}

static const struct pubsub_events events = {.message = on_message,
                                            .subscribed = on_subscribed,
                                            .gap = on_gap,
                                            .failed = on_failed};

// -- for Lua

// subscription(client, limit) -> subscription, to nothing yet
static int l_subscription(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    lua_Integer limit = luaL_checkinteger(L, 2);
    luaL_argcheck(L, limit >= 1 && limit <= INT32_MAX, 2, "from 1 expected");
    lua_newtable(L);
    struct subscription **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, SUBSCRIPTION);
    lua_setmetatable(L, -2);
    lua_insert(L, -2);
    int ring = luaL_ref(L, LUA_REGISTRYINDEX);
    p = lua_redis_check(L, 1); // a finalizer may have closed it
    struct subscription *s = *box = xcalloc(1, sizeof *s);
    s->rt = p->rt;
    s->ring = ring;
    s->limit = (uint32_t)limit;
    waitq_init(&s->asking, "message");
    waitq_init(&s->settling, "subscription");
    if (!p->pubsub) {
        p->pubsub = pubsub_new(p->rt, &p->options, &events);
    }
    subscriber_open(&s->subscriber, p->pubsub);
    return 1;
}

static struct subscription *check(lua_State *L) {
    struct subscription **box = luaL_checkudata(L, 1, SUBSCRIPTION);
    if (!*box) { // only another finalizer can still have it
        lua_fail(L, "redis.closed", "the subscription is closed");
    }
    return *box;
}

static void push_failure(lua_State *L, const struct subscription *s) {
    lua_push_error(L, s->code, "%s", s->error);
}

static struct subscription *check_open(lua_State *L) {
    struct subscription *s = check(L);
    if (s->code[0]) {
        push_failure(L, s);
        lua_error(L);
    }
    if (s->is_over) {
        lua_fail(L, "redis.closed", "the subscription is closed");
    }
    return s;
}

// listen(subscription, is_pattern, name) -> whether it did not yet
static int l_listen(lua_State *L) {
    struct subscription *s = check_open(L);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    bool is = subscriber_add(
        &s->subscriber, lua_toboolean(L, 2) ? TOPIC_PATTERN : TOPIC_CHANNEL,
        name, len);
    lua_pushboolean(L, is);
    return 1;
}

// unlisten(subscription, is_pattern, name) -> whether it listened
static int l_unlisten(lua_State *L) {
    struct subscription *s = check_open(L);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    bool is = subscriber_remove(
        &s->subscriber, lua_toboolean(L, 2) ? TOPIC_PATTERN : TOPIC_CHANNEL,
        name, len);
    lua_pushboolean(L, is);
    return 1;
}

// leave is a wait's cancel function.
static bool leave(struct task *t, void *ctx) {
    list_remove(&t->link);
    update_waiting(ctx);
    return true;
}

static int wait_in(lua_State *L, struct subscription *s, struct waitq *q) {
    struct task *t = task_current(L, s->rt);
    if (t) {
        waitq_park(q, t);
        t->cancel = leave;
        t->cancel_ctx = s;
        update_waiting(s);
    }
    return task_yield(L);
}

// subscribed(subscription) -> true if Redis has confirmed all; else it waits,
// and the caller looks again
static int l_subscribed(lua_State *L) {
    struct subscription *s = check_open(L);
    if (s->subscriber.unconfirmed) {
        return wait_in(L, s, &s->settling);
    }
    lua_pushboolean(L, true);
    return 1;
}

// push_gap pushes an event that is no message. // [-0, +1]
static void push_gap(lua_State *L, const char *why, uint64_t lost) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, why);
    lua_setfield(L, -2, "gap");
    if (lost) {
        lua_pushnumber(L, (double)lost);
        lua_setfield(L, -2, "lost");
    }
}

static void push_oldest(lua_State *L, struct subscription *s) {
    int place = at(s, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ring);
    lua_rawgeti(L, -1, place);
    lua_pushnil(L);
    lua_rawseti(L, -3, place);
    s->count--;
    s->first = s->count ? (s->first + 1) % s->limit : 0;
}

// next_message(subscription) -> the next event, true for a reconnect's gap;
// false at the end, FAIL and the error after a failure. Without either it
// waits; woken with nothing the caller looks again.
static int l_next_message(lua_State *L) {
    struct subscription *s = check(L);
    if (s->lost) {
        uint64_t lost = s->lost;
        s->lost = 0;
        push_gap(L, "overflow", lost);
    } else if (s->is_gap_lost) {
        s->is_gap_lost = false;
        lua_pushboolean(L, true);
    } else if (s->count) {
        push_oldest(L, s);
    } else if (s->code[0]) {
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        push_failure(L, s);
        return 2;
    } else if (s->is_over) {
        lua_pushboolean(L, false);
    } else {
        return wait_in(L, s, &s->asking);
    }
    return 1;
}

// forget_events empties the ring: nobody is to get any more.
static void forget_events(lua_State *L, struct subscription *s) {
    s->count = s->first = 0;
    s->lost = 0;
    s->is_gap_lost = false;
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->ring);
}

// end_subscription(subscription)
static int l_end(lua_State *L) {
    struct subscription *s = check(L);
    s->is_over = true;
    s->code[0] = 0;
    subscriber_close(&s->subscriber);
    wake_all(s, &s->settling);
    wake_all(s, &s->asking);
    forget_events(L, s);
    return 0;
}

static int l_gc(lua_State *L) {
    struct subscription **box = luaL_checkudata(L, 1, SUBSCRIPTION), *s = *box;
    *box = NULL;
    if (s) {
        subscriber_close(&s->subscriber);
        waitq_clear(&s->asking);
        waitq_clear(&s->settling);
        luaL_unref(L, LUA_REGISTRYINDEX, s->ring);
        free(s);
    }
    return 0;
}

static const luaL_Reg functions[] = {{"subscription", l_subscription},
                                     {"listen", l_listen},
                                     {"unlisten", l_unlisten},
                                     {"subscribed", l_subscribed},
                                     {"next_message", l_next_message},
                                     {"end_subscription", l_end},
                                     {NULL, NULL}};

void lua_pubsub_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, SUBSCRIPTION);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_setfield(L, -2, "subscription_class");
}
