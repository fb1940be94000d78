// minimal: the smallest program that runs Lua tasks.
//
//   cc minimal.c $(pkg-config --cflags --libs neap) -o minimal && ./minimal
#include <lauxlib.h>
#include <neap.h>
#include <stdio.h>

int main(void) {
    neap *n = neap_new(NULL);
    luaL_loadstring(neap_lua(n), "local neap = require 'neap'\n"
                                 "neap.sleep(0.1)\n"
                                 "print('hello from a task')");
    neap_spawn(n, 0, NULL, NULL);
    int status = neap_run(n);
    neap_close(n, NULL, NULL);
    return status;
}
