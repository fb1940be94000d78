// lua_json: the neap.json module and its encoder.
#include "lua/lua_json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/utf8.h"
#include "lua/lua_error.h"

#define HOOKS_MAX  8
#define INDENT_MAX 16
#define NAME_BYTES                                                             \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
#define SCRATCH_KEEP (1 << 20) // a larger scratch buffer is given back

// How many __tojson calls stand on the C stack, each in an encode of its own.
static _Thread_local int hooks_running;

static char null_tag;  // its address is neap.null
static char array_key; // registry: the metatable that marks an array

// What a byte is inside a string.
enum { PLAIN, SLASH, QUOTE, CONTROL, HIGH };

static const unsigned char byte_kind[256] = {
    ['"'] = QUOTE,        ['\\'] = QUOTE,       ['/'] = SLASH,
    [0 ... 31] = CONTROL, [128 ... 255] = HIGH,
};

void json_push_null(lua_State *L) {
    lua_pushlightuserdata(L, &null_tag);
}

static void push_array_mark(lua_State *L) { // [-0, +1]
    lua_pushlightuserdata(L, &array_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushlightuserdata(L, &array_key);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
}

void json_push_array(lua_State *L, int size) {
    lua_createtable(L, size, 0);
    push_array_mark(L);
    lua_setmetatable(L, -2);
}

// The value at hand is always on top of the stack and stays there.
// A function that fails returns -1 and leaves a message on top.

struct encoder {
    lua_State *L;
    struct buf *out;
    int depth;
    int hooks;  // __tojson results being encoded, which count as depth
    int indent; // 0: all on one line
    bool sort;
};

// One step of the way to a value; they are linked through the C stack.
struct path {
    const struct path *up;
    const char *key; // NULL: an element
    size_t key_len;
    int index;
};

// A message under construction, cut off when full.
struct note {
    char text[320];
    size_t len;
};

static void note_add(struct note *n, const char *s, size_t len) {
    size_t room = sizeof n->text - 1 - n->len;
    len = len < room ? len : room;
    memcpy(n->text + n->len, s, len);
    n->len += len;
    n->text[n->len] = 0;
}

// note_key adds the first 40 bytes or so of a key, fit for a log.
static void note_key(struct note *n, const char *s, size_t len) {
    const char *end = s + len;
    const char *stop = len > 40 ? s + 40 : end;
    bool is_name = len > 0 && len <= 40 && !(s[0] >= '0' && s[0] <= '9') &&
                   strspn(s, NAME_BYTES) == len;
    note_add(n, is_name ? "." : "[\"", is_name ? 1 : 2);
    while (s < stop) {
        unsigned char kind = byte_kind[(unsigned char)*s];
        size_t step = kind == HIGH ? utf8_len(s, end) : kind != CONTROL;
        note_add(n, step ? s : "?", step ? step : 1);
        s += step ? step : 1;
    }
    if (stop < end) {
        note_add(n, "...", 3);
    }
    note_add(n, "\"]", is_name ? 0 : 2);
}

static void note_path(struct note *n, const struct path *at) {
    if (at->up) {
        note_path(n, at->up);
    }
    if (at->key) {
        note_key(n, at->key, at->key_len);
    } else {
        char text[16];
        note_add(n, text,
                 (size_t)snprintf(text, sizeof text, "[%d]", at->index));
    }
}

// fail_at pushes "cannot this or that at .the.path" and returns -1. // [-0, +1]
__attribute__((format(printf, 3, 4))) static int
fail_at(struct encoder *e, const struct path *at, const char *fmt, ...) {
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    struct note n = {.len = 0};
    note_add(&n, what, strlen(what));
    if (at) {
        note_add(&n, " at ", 4);
        note_path(&n, at);
    }
    lua_pushlstring(e->L, n.text, n.len);
    return -1;
}

static int encode_value(struct encoder *e, const struct path *at);

static void put_escape(struct buf *out, char c) {
    static const char letters[] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
        ['\t'] = 't', ['"'] = '"',  ['/'] = '/',  ['\\'] = '\\'};
    unsigned char u = (unsigned char)c;
    char text[6] = {'\\', letters[u]};
    if (text[1]) {
        buf_add(out, text, 2);
        return;
    }
    memcpy(text, "\\u00", 4);
    text[4] = "0123456789abcdef"[u >> 4];
    text[5] = "0123456789abcdef"[u & 15];
    buf_add(out, text, 6);
}

// put_string appends s as JSON and returns 0, or the position, from 1, of the
// first byte that is not UTF-8. A "</" is written "<\/", so that a script
// element can hold the text.
static size_t put_string(struct buf *out, const char *s, size_t len) {
    const char *p = s, *end = s + len, *run = s;
    buf_addc(out, '"');
    while (p < end) {
        unsigned char kind = byte_kind[(unsigned char)*p];
        if (kind == PLAIN || (kind == SLASH && (p == s || p[-1] != '<'))) {
            p++;
        } else if (kind == HIGH) {
            size_t n = utf8_len(p, end);
            if (!n) {
                return (size_t)(p - s) + 1;
            }
            p += n;
        } else {
            buf_add(out, run, (size_t)(p - run));
            put_escape(out, *p);
            run = ++p;
        }
    }
    buf_add(out, run, (size_t)(p - run));
    buf_addc(out, '"');
    return 0;
}

static int encode_string(struct encoder *e, const char *s, size_t len,
                         const struct path *at) {
    size_t bad = put_string(e->out, s, len);
    return !bad ? 0
                : fail_at(e, at, "invalid UTF-8 at byte %zu of the %s", bad,
                          at && at->key == s ? "key" : "string");
}

static int encode_number(struct encoder *e, const struct path *at) {
    double v = lua_tonumber(e->L, -1);
    if (!isfinite(v)) {
        return fail_at(e, at, "cannot encode %s",
                       isnan(v) ? "nan"
                       : v > 0  ? "inf"
                                : "-inf");
    }
    char *text = buf_reserve(e->out, NUM_TEXT);
    e->out->len += num_format(text, v);
    return 0;
}

static void put_newline(struct encoder *e) {
    if (e->indent) {
        size_t n = (size_t)(e->indent * e->depth);
        char *p = buf_reserve(e->out, n + 1);
        p[0] = '\n';
        memset(p + 1, ' ', n);
        e->out->len += n + 1;
    }
}

// A table: opened by one of the two brackets, closed by the other. Whether
// there were members is seen from what was written since.
static size_t put_open(struct encoder *e, char bracket) {
    buf_addc(e->out, bracket);
    e->depth++;
    return e->out->len;
}

static void put_next(struct encoder *e, size_t opened) {
    if (e->out->len > opened) {
        buf_addc(e->out, ',');
    }
    put_newline(e);
}

static void put_close(struct encoder *e, size_t opened, char bracket) {
    e->depth--;
    if (e->out->len > opened) {
        put_newline(e);
    }
    buf_addc(e->out, bracket);
}

// check_array tells whether the keys are just 1..n.
static int check_array(struct encoder *e, int n, const struct path *at) {
    lua_State *L = e->L;
    int count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TNUMBER) {
            return fail_at(e, at, "cannot encode array with other keys");
        }
        double key = lua_tonumber(L, -1);
        if (!(key >= 1 && key <= n && key == (int)key)) {
            return fail_at(e, at, "cannot encode sparse array");
        }
        count++;
    }
    return count == n ? 0 : fail_at(e, at, "cannot encode sparse array");
}

static int encode_array(struct encoder *e, int n, const struct path *at) {
    if (check_array(e, n, at)) {
        return -1;
    }
    size_t opened = put_open(e, '[');
    for (int i = 1; i <= n; i++) {
        struct path here = {.up = at, .index = i};
        put_next(e, opened);
        lua_rawgeti(e->L, -1, i);
        if (encode_value(e, &here)) {
            return -1;
        }
        lua_pop(e->L, 1);
    }
    put_close(e, opened, ']');
    return 0;
}

// encode_member takes its key below the value on top.
static int encode_member(struct encoder *e, size_t opened,
                         const struct path *at) {
    struct path here = {.up = at};
    here.key = lua_tolstring(e->L, -2, &here.key_len);
    put_next(e, opened);
    if (encode_string(e, here.key, here.key_len, &here)) {
        return -1;
    }
    buf_add(e->out, ": ", e->indent ? 2 : 1);
    return encode_value(e, &here);
}

static int check_key(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    if (lua_type(L, -2) == LUA_TSTRING) {
        return 0;
    }
    lua_pushvalue(L, -2); // lua_tostring would change the key itself
    const char *text = lua_tostring(L, -1);
    return fail_at(e, at, "cannot encode %s%s%s as a key", luaL_typename(L, -3),
                   text ? " " : "", text ? text : "");
}

struct sort_key {
    const char *s;
    size_t len;
    int index; // where it stands in the table that holds the keys
};

static int compare_keys(const void *left, const void *right) {
    const struct sort_key *a = left, *b = right;
    size_t len = a->len < b->len ? a->len : b->len;
    int order = memcmp(a->s, b->s, len);
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

// push_sorted pushes a table of the object's keys and a userdata with their
// order, and returns how many, or -1. // [-0, +2]
static int push_sorted(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    int object = lua_gettop(L), count = 0;
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, object)) {
        if (check_key(e, at)) {
            return -1;
        }
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, object + 1, ++count);
    }
    struct sort_key *keys = lua_newuserdata(L, (size_t)count * sizeof *keys);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, object + 1, i + 1);
        keys[i].s = lua_tolstring(L, -1, &keys[i].len);
        keys[i].index = i + 1;
        lua_pop(L, 1);
    }
    if (count) {
        qsort(keys, (size_t)count, sizeof *keys, compare_keys);
    }
    return count;
}

static int encode_sorted(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    int object = lua_gettop(L);
    int count = push_sorted(e, at);
    if (count < 0) {
        return -1;
    }
    const struct sort_key *keys = lua_touserdata(L, -1);
    size_t opened = put_open(e, '{');
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, object + 1, keys[i].index);
        lua_pushvalue(L, -1);
        lua_rawget(L, object);
        if (encode_member(e, opened, at)) {
            return -1;
        }
        lua_pop(L, 2);
    }
    put_close(e, opened, '}');
    lua_pop(L, 2);
    return 0;
}

static int encode_object(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    size_t opened = put_open(e, '{');
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (check_key(e, at) || encode_member(e, opened, at)) {
            return -1;
        }
        lua_pop(L, 1);
    }
    put_close(e, opened, '}');
    return 0;
}

// encode_tojson calls the __tojson on top with the table below it, and encodes
// what it returns. A wait inside it fails: a C frame stands in between.
static int encode_tojson(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    lua_pushvalue(L, -2);
    hooks_running++;
    int status = lua_pcall(L, 1, 1, 0);
    hooks_running--;
    if (status) {
        if (lua_istable(L, -1)) {
            lua_pushliteral(L, "message");
            lua_rawget(L, -2);
        }
        const char *why = lua_tostring(L, -1);
        return fail_at(e, at, "__tojson failed (%s)",
                       why ? why : luaL_typename(L, -1));
    }
    e->hooks++;
    if (encode_value(e, at)) {
        return -1;
    }
    e->hooks--;
    lua_pop(L, 1);
    return 0;
}

static int encode_table(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    if (e->depth + e->hooks >= JSON_DEPTH || hooks_running >= HOOKS_MAX ||
        !lua_checkstack(L, LUA_MINSTACK)) {
        return fail_at(e, at, "nested too deeply");
    }
    bool is_marked = false;
    if (lua_getmetatable(L, -1)) {
        push_array_mark(L);
        is_marked = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
        lua_pushliteral(L, "__tojson");
        lua_rawget(L, -2);
        lua_remove(L, -2);
        if (!lua_isnil(L, -1)) {
            return encode_tojson(e, at);
        }
        lua_pop(L, 1);
    }
    int n = (int)lua_objlen(L, -1);
    if (n > 0 || is_marked) {
        return encode_array(e, n, at);
    }
    return e->sort ? encode_sorted(e, at) : encode_object(e, at);
}

static int encode_value(struct encoder *e, const struct path *at) {
    lua_State *L = e->L;
    size_t len;
    int type = lua_type(L, -1);
    switch (type) {
    case LUA_TSTRING: {
        const char *s = lua_tolstring(L, -1, &len);
        return encode_string(e, s, len, at);
    }
    case LUA_TNUMBER: return encode_number(e, at);
    case LUA_TBOOLEAN:
        buf_adds(e->out, lua_toboolean(L, -1) ? "true" : "false");
        return 0;
    case LUA_TTABLE: return encode_table(e, at);
    }
    bool is_null = type == LUA_TNIL ? !at : lua_touserdata(L, -1) == &null_tag;
    if (!is_null) {
        return fail_at(e, at, "cannot encode %s", lua_typename(L, type));
    }
    buf_add(e->out, "null", 4);
    return 0;
}

static int l_encode_protected(lua_State *L) {
    struct encoder *e = lua_touserdata(L, 2);
    e->L = L;
    lua_settop(L, 1);
    return encode_value(e, NULL) ? 1 : 0;
}

const char *json_encode(lua_State *L, int index, struct buf *out) {
    struct encoder e = {.out = out};
    size_t start = out->len;
    lua_pushvalue(L, index);
    lua_pushcfunction(L, l_encode_protected);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, &e);
    // A __tojson that changes the table it came from upsets lua_next.
    lua_pcall(L, 2, 1, 0);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return NULL;
    }
    out->len = start;
    return lua_tostring(L, -1);
}

// The scratch buffer of encode is the userdata in its upvalue. A call takes
// it out and puts it back, so an encode inside a __tojson gets another, and
// one that is lost to an error is collected.

static int l_scratch_gc(lua_State *L) {
    buf_clear(lua_touserdata(L, 1));
    return 0;
}

static struct buf *take_scratch(lua_State *L) { // [-0, +1]
    lua_pushvalue(L, lua_upvalueindex(1));
    struct buf *b = lua_touserdata(L, -1);
    if (b) {
        lua_pushnil(L);
        lua_replace(L, lua_upvalueindex(1));
        b->len = 0;
        return b;
    }
    lua_pop(L, 1);
    b = lua_newuserdata(L, sizeof *b);
    *b = (struct buf){0};
    if (luaL_newmetatable(L, "neap.json.scratch")) {
        lua_pushcfunction(L, l_scratch_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

static void give_scratch(lua_State *L, int index) {
    struct buf *b = lua_touserdata(L, index);
    if (b->cap > SCRATCH_KEEP) {
        buf_clear(b);
    }
    lua_pushvalue(L, index);
    lua_replace(L, lua_upvalueindex(1));
}

static void check_options(lua_State *L, int arg, struct encoder *e) {
    if (lua_isnoneornil(L, arg)) {
        return;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_getfield(L, arg, "sort");
    e->sort = lua_toboolean(L, -1);
    lua_getfield(L, arg, "indent");
    double indent = lua_tonumber(L, -1);
    bool is_ok = lua_isnil(L, -1) || lua_type(L, -1) == LUA_TNUMBER;
    is_ok = is_ok && indent >= 0 && indent <= INDENT_MAX;
    luaL_argcheck(L, is_ok, arg, "indent must be a number from 0 to 16");
    e->indent = (int)indent;
    lua_pop(L, 2);
}

// json.encode(value)                          text of value
// json.encode(value, { sort = true })         keys in byte order
// json.encode(value, { indent = 2 })          a line for each member
// A metatable's __tojson(value) returns what to encode in its place.
static int l_encode(lua_State *L) {
    struct encoder e = {.L = L};
    lua_settop(L, 2);
    check_options(L, 2, &e);
    e.out = take_scratch(L);
    lua_pushvalue(L, 1);
    int status = encode_value(&e, NULL);
    if (!status) {
        lua_pushlstring(L, e.out->data, e.out->len);
    }
    give_scratch(L, 3);
    if (status) {
        return lua_fail(L, "json.encode", "%s", lua_tostring(L, -1));
    }
    return 1;
}

// json.decode(text)                           the value, null as json.null
static int l_decode(lua_State *L) {
    size_t len;
    luaL_checktype(L, 1, LUA_TSTRING);
    const char *s = lua_tolstring(L, 1, &len);
    if (json_decode(L, s, len)) {
        return lua_fail(L, "json.decode", "%s", lua_tostring(L, -1));
    }
    return 1;
}

// json.array(t)                               t, marked: empty it is []
// json.array()                                a new one
static int l_array(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        json_push_array(L, 0);
        return 1;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    push_array_mark(L);
    if (lua_getmetatable(L, 1)) {
        luaL_argcheck(L, lua_rawequal(L, -1, -2), 1,
                      "the table has a metatable already");
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

int luaopen_neap_json(lua_State *L) {
    lua_createtable(L, 0, 4);
    lua_pushnil(L); // the scratch buffer, once there is one
    lua_pushcclosure(L, l_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, l_decode);
    lua_setfield(L, -2, "decode");
    lua_pushcfunction(L, l_array);
    lua_setfield(L, -2, "array");
    json_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
