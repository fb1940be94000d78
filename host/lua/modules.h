// modules: the Lua files that are compiled into the binary (lua/, models/).
#ifndef NEAP_LUA_MODULES_H
#define NEAP_LUA_MODULES_H

struct module {
    const char *name; // as require takes it: "neap.redis", "models.user"
    const char *start, *end;
};

extern const struct module modules[]; // ends with a NULL name

#endif
