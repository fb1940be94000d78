// lua_http_text: response headers from Lua tables, escaping, decoding.
#include "lua/lua_http_text.h"

#include <lauxlib.h>
#include <string.h>

enum { params_max = 1000 };

void text_lower(char *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 0x20) : s[i];
    }
}

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z');
}

bool text_is_token(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!is_alnum(c) && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c))) {
            return false;
        }
    }
    return s.len > 0;
}

// -- a response's headers

static const char *field_error(lua_State *L, enum response_field rc,
                               struct slice name) {
    static const char *const reasons[] = {
        [FIELD_BAD_NAME] = "is not a header name",
        [FIELD_BAD_VALUE] = "has a value with a control character in it",
        [FIELD_RESERVED] = "is the server's own and cannot be set",
    };
    lua_pushlstring(L, name.p, name.len);
    return lua_pushfstring(L, "header '%s' %s", lua_tostring(L, -1),
                           reasons[rc]);
}

// add_value appends the field whose value is on top; the error or NULL.
static const char *add_value(lua_State *L, struct buf *fields,
                             struct slice name, bool *close) {
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        return lua_pushfstring(L, "header '%s' is a %s, not a string", name.p,
                               lua_typename(L, type));
    }
    struct slice value;
    value.p = lua_tolstring(L, -1, &value.len);
    enum response_field rc = response_add_field(fields, name, value);
    *close = *close || rc == FIELD_CLOSE;
    return rc == FIELD_OK || rc == FIELD_CLOSE ? NULL
                                               : field_error(L, rc, name);
}

// add_field appends a field, or several from a list on top.
static const char *add_field(lua_State *L, struct buf *fields,
                             struct slice name, bool *close) {
    if (!lua_istable(L, -1)) {
        return add_value(L, fields, name, close);
    }
    int count = (int)lua_objlen(L, -1);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        const char *error = add_value(L, fields, name, close);
        if (error) {
            return error;
        }
        lua_pop(L, 1);
    }
    return NULL;
}

const char *text_add_fields(lua_State *L, int index, struct buf *fields,
                            struct response *r) {
    fields->len = 0;
    if (!lua_istable(L, index)) {
        return lua_isnoneornil(L, index) ? NULL : "headers is not a table";
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        struct slice name;
        if (lua_type(L, -2) != LUA_TSTRING) {
            return "headers has a name that is not a string";
        }
        name.p = lua_tolstring(L, -2, &name.len);
        const char *error = add_field(L, fields, name, &r->close);
        if (error) {
            return error;
        }
        if (slice_equals(name, "content-type")) {
            r->type.len = 0;
        }
        lua_pop(L, 1);
    }
    r->fields = (struct slice){fields->data, fields->len};
    return NULL;
}

// -- for Lua

// reason(status) -> its phrase, "" if it has none
static int l_reason(lua_State *L) {
    lua_pushstring(L, http_reason((int)luaL_checkinteger(L, 1)));
    return 1;
}

// escape(text) -> the text fit for HTML, also between quotes
static int l_escape(lua_State *L) {
    size_t n, plain = 0;
    const char *s = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;
    while (plain < n && !strchr("&<>\"'", s[plain])) {
        plain++;
    }
    if (plain == n) {
        lua_settop(L, 1);
        return 1;
    }
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        switch (s[i]) {
        case '&': luaL_addstring(&b, "&amp;"); break;
        case '<': luaL_addstring(&b, "&lt;"); break;
        case '>': luaL_addstring(&b, "&gt;"); break;
        case '"': luaL_addstring(&b, "&quot;"); break;
        case '\'': luaL_addstring(&b, "&#39;"); break;
        default: luaL_addchar(&b, s[i]);
        }
    }
    luaL_pushresult(&b);
    return 1;
}

// url_encode(text): all but RFC 3986 §2.3's unreserved as %XX
static int l_url_encode(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (is_alnum(s[i]) || (c && strchr("-._~", c))) {
            luaL_addchar(&b, s[i]);
        } else {
            luaL_addchar(&b, '%');
            luaL_addchar(&b, "0123456789ABCDEF"[c >> 4]);
            luaL_addchar(&b, "0123456789ABCDEF"[c & 15]);
        }
    }
    luaL_pushresult(&b);
    return 1;
}

// push_decoded pushes in with its escapes resolved; false for a bad one, with
// nothing pushed. // [-0, +(0|1)]
static bool push_decoded(lua_State *L, struct slice in, bool plus_is_space) {
    if (!memchr(in.p, '%', in.len) &&
        !(plus_is_space && memchr(in.p, '+', in.len))) {
        lua_pushlstring(L, in.p, in.len);
        return true;
    }
    char small[512];
    char *out = in.len <= sizeof small ? small : lua_newuserdata(L, in.len);
    int n = http_url_decode(out, in, plus_is_space);
    if (n >= 0) {
        lua_pushlstring(L, out, (size_t)n);
    }
    if (out != small) {
        lua_remove(L, n >= 0 ? -2 : -1);
    }
    return n >= 0;
}

// url_decode(text, plus_is_space) -> text, or nil for a bad escape
static int l_url_decode(lua_State *L) {
    struct slice in;
    in.p = luaL_checklstring(L, 1, &in.len);
    return push_decoded(L, in, lua_toboolean(L, 2)) ? 1 : 0;
}

// params(text) -> { key = last value } of a query or a form; or nil, reason
static int l_params(lua_State *L) {
    struct slice rest, key, value;
    rest.p = luaL_checklstring(L, 1, &rest.len);
    lua_newtable(L);
    for (int i = 0; http_next_param(&rest, &key, &value); i++) {
        if (i == params_max) {
            lua_pushnil(L);
            lua_pushfstring(L, "more than %d fields", params_max);
            return 2;
        }
        if (!push_decoded(L, key, true) || !push_decoded(L, value, true)) {
            lua_pushnil(L);
            lua_pushliteral(L, "a bad % escape");
            return 2;
        }
        lua_rawset(L, 2);
    }
    return 1;
}

// params_all(text, name) -> the list of that key's values; bad ones left out
static int l_params_all(lua_State *L) {
    struct slice rest, key, value;
    rest.p = luaL_checklstring(L, 1, &rest.len);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_newtable(L);
    int count = 0;
    for (int i = 0; i < params_max && http_next_param(&rest, &key, &value);
         i++) {
        if (push_decoded(L, key, true) && lua_rawequal(L, -1, 2) &&
            push_decoded(L, value, true)) {
            lua_rawseti(L, 3, ++count);
        }
        lua_settop(L, 3);
    }
    return 1;
}

static const luaL_Reg functions[] = {{"reason", l_reason},
                                     {"escape", l_escape},
                                     {"url_encode", l_url_encode},
                                     {"url_decode", l_url_decode},
                                     {"params", l_params},
                                     {"params_all", l_params_all},
                                     {NULL, NULL}};

void text_register(lua_State *L) {
    luaL_register(L, NULL, functions);
}
