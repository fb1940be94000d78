// lua_monitor: the binding of core/monitor, watchdog and profile, and of what
// tasks are doing.
#ifndef NEAP_LUA_MONITOR_H
#define NEAP_LUA_MONITOR_H

#include <lua.h>

// luaopen_neap_monitor makes the module neap.core.monitor.
int luaopen_neap_monitor(lua_State *L);

#endif
