// lua_http_text: the texts around HTTP: response headers from Lua tables,
// escaping, decoding.
#ifndef NEAP_LUA_HTTP_TEXT_H
#define NEAP_LUA_HTTP_TEXT_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/response.h"

// text_lower copies n bytes to out, A-Z in lower case.
void text_lower(char *out, const char *s, size_t n);

// text_is_token says whether s is an RFC 9110 §5.6.2 token.
bool text_is_token(struct slice s);

// text_add_fields writes the headers table at index (an absolute one) to
// fields, and takes note of it in r; a content type there replaces r's.
// Returns NULL, or an error: text that lies on the stack.
const char *text_add_fields(lua_State *L, int index, struct buf *fields,
                            struct response *r);

// text_register adds reason, escape, url_encode, url_decode, params and
// params_all to the table on top. // [-0, +0]
void text_register(lua_State *L);

#endif
