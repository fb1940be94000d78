// lua_pubsub: the binding of redis/pubsub: subscriptions and their messages.
#ifndef NEAP_LUA_PUBSUB_H
#define NEAP_LUA_PUBSUB_H

#include <lua.h>

// lua_pubsub_open adds the functions subscription, listen, unlisten,
// subscribed, next_message, end_subscription and the subscription_class to the
// table on top. // [-0, +0]
void lua_pubsub_open(lua_State *L);

#endif
