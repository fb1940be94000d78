// lua_pubsub: the binding of redis/pubsub: subscriptions and their messages.
//
// A subscription keeps what nobody has asked for yet in a Lua table, as a ring.
// When it is full, the oldest message makes room, and the next that is asked
// for is an event that says how many were lost.
#include "lua/lua_pubsub.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/runtime.h"
#include "lua/lua_error.h"
#include "lua/lua_redis.h"
#include "lua/lua_value.h"
#include "redis/pubsub.h"

#define SUBSCRIPTION "neap.subscription"

struct subscription {
    struct subscriber subscriber;
    struct runtime *rt;
    int ring;              // registry reference of the table
    uint32_t first, count; // of what lies in it
    uint32_t limit;
    uint64_t lost;       // messages that made room
    struct waitq asking; // tasks that wait for a message
    struct waitq settling; // and for their subscription
    bool is_over;
    char code[64], error[512]; // why it failed
};

// What lies on the decoder while a message is given out: the names of the
// fields, then their values.
enum { AT_CHANNEL = 1, AT_PAYLOAD, AT_PATTERN, AT_VALUES = 3, AT_TOP = 6 };

static struct subscription *of(struct subscriber *s) {
    return (struct subscription *)(void *)s;
}

static void begin(struct conn *c, const struct pubsub_message *m) {
    lua_State *L = value_decoder(c);
    if (lua_gettop(L) < AT_PATTERN) {
        lua_settop(L, 0);
        lua_pushliteral(L, "channel");
        lua_pushliteral(L, "payload");
        lua_pushliteral(L, "pattern");
    }
    lua_settop(L, AT_PATTERN);
    lua_pushlstring(L, m->channel, m->channel_len);
    lua_pushlstring(L, m->payload, m->payload_len);
    if (m->pattern) {
        lua_pushlstring(L, m->pattern, m->pattern_len);
    }
}

static void update_waiting(struct subscription *s) {
    subscriber_wait(&s->subscriber, !list_is_empty(&s->asking.tasks) ||
                                        !list_is_empty(&s->settling.tasks));
}

// put gives the event on top of L to a task that waits, or keeps it.
// // [-1, +0]
static void put(struct subscription *s, lua_State *L) {
    if (!list_is_empty(&s->asking.tasks)) {
        waitq_wake(&s->asking, L, 1);
        if (list_is_empty(&s->asking.tasks)) {
            update_waiting(s);
        }
        return;
    }
    if (s->count == s->limit) {
        s->first = (s->first + 1) % s->limit;
        s->count--;
        s->lost++;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ring);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (int)((s->first + s->count++) % s->limit) + 1);
    lua_pop(L, 1);
}

static void on_message(struct subscriber *sub, bool has_pattern) {
    lua_State *L = value_decoder(pubsub_conn(sub->pubsub));
    int fields = has_pattern ? 3 : 2;
    lua_createtable(L, 0, fields);
    for (int i = 1; i <= fields; i++) {
        lua_pushvalue(L, i);
        lua_pushvalue(L, AT_VALUES + i);
        lua_rawset(L, -3);
    }
    put(of(sub), L);
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

static void on_gap(struct subscriber *sub) {
    struct subscription *s = of(sub);
    push_gap(s->rt->L, "reconnect", 0);
    put(s, s->rt->L);
}

static void on_subscribed(struct subscriber *sub) {
    struct subscription *s = of(sub);
    while (waitq_wake(&s->settling, s->rt->L, 0)) {
    }
    update_waiting(s);
}

static void push_failure(lua_State *L, const struct subscription *s) {
    lua_pushlightuserdata(L, (void *)&task_fail_key);
    lua_push_error(L, s->code, "%s", s->error);
}

// wake_all ends all waits: with the failure, or else with nothing.
static void wake_all(struct subscription *s) {
    struct waitq *queues[] = {&s->asking, &s->settling};
    for (int i = 0; i < 2; i++) {
        while (!list_is_empty(&queues[i]->tasks)) {
            if (s->code[0]) {
                push_failure(s->rt->L, s);
            }
            waitq_wake(queues[i], s->rt->L, s->code[0] ? 2 : 0);
        }
    }
}

static void on_failed(struct subscriber *sub, const char *code,
                      const char *text) {
    struct subscription *s = of(sub);
    snprintf(s->code, sizeof s->code, "%s", code);
    snprintf(s->error, sizeof s->error, "%s", text);
    s->is_over = true;
    wake_all(s);
    update_waiting(s);
}

static const struct pubsub_events events = {.begin = begin,
                                            .message = on_message,
                                            .subscribed = on_subscribed,
                                            .gap = on_gap,
                                            .failed = on_failed};

// -- for Lua

// subscription(client, limit) -> subscription, to nothing yet
static int l_subscription(lua_State *L) {
    struct pool *p = lua_redis_check(L, 1);
    lua_Integer limit = luaL_checkinteger(L, 2);
    struct subscription *s = lua_newuserdata(L, sizeof *s);
    *s = (struct subscription){.rt = p->rt, .limit = (uint32_t)limit};
    lua_newtable(L);
    s->ring = luaL_ref(L, LUA_REGISTRYINDEX);
    waitq_init(&s->asking);
    waitq_init(&s->settling);
    if (!p->pubsub) {
        p->pubsub = pubsub_new(p->rt, &p->options, &events);
    }
    subscriber_open(&s->subscriber, p->pubsub);
    luaL_getmetatable(L, SUBSCRIPTION);
    lua_setmetatable(L, -2);
    return 1;
}

static struct subscription *check(lua_State *L) {
    return luaL_checkudata(L, 1, SUBSCRIPTION);
}

static struct subscription *check_open(lua_State *L) {
    struct subscription *s = check(L);
    if (s->code[0]) {
        lua_fail(L, s->code, "%s", s->error);
    }
    if (s->is_over) {
        lua_fail(L, "redis.closed", "the subscription is closed");
    }
    return s;
}

// listen(subscription, is_pattern, name)
static int l_listen(lua_State *L) {
    struct subscription *s = check_open(L);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    subscriber_add(&s->subscriber,
                   lua_toboolean(L, 2) ? TOPIC_PATTERN : TOPIC_CHANNEL, name,
                   len);
    return 0;
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

// subscribed(subscription): waits until Redis has confirmed all
static int l_subscribed(lua_State *L) {
    struct subscription *s = check_open(L);
    return s->subscriber.unconfirmed ? wait_in(L, s, &s->settling) : 0;
}

// next_message(subscription) -> the next event, or nil at the end
static int l_next_message(lua_State *L) {
    struct subscription *s = check(L);
    if (s->lost) {
        push_gap(L, "overflow", s->lost);
        s->lost = 0;
        return 1;
    }
    if (s->count) {
        int at = (int)s->first + 1;
        lua_rawgeti(L, LUA_REGISTRYINDEX, s->ring);
        lua_rawgeti(L, -1, at);
        lua_pushnil(L);
        lua_rawseti(L, -3, at);
        s->first = (s->first + 1) % s->limit;
        s->count--;
        return 1;
    }
    if (s->code[0]) {
        push_failure(L, s);
        return 2;
    }
    return s->is_over ? 0 : wait_in(L, s, &s->asking);
}

// end_subscription(subscription)
static int l_end(lua_State *L) {
    struct subscription *s = check(L);
    s->is_over = true;
    wake_all(s);
    subscriber_close(&s->subscriber);
    return 0;
}

static int l_gc(lua_State *L) {
    struct subscription *s = check(L);
    subscriber_close(&s->subscriber);
    waitq_clear(&s->asking);
    waitq_clear(&s->settling);
    luaL_unref(L, LUA_REGISTRYINDEX, s->ring);
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
