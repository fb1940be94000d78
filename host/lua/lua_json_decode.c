// lua_json_decode: JSON text to Lua values.
#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "lua/lua_json.h"

// A decoder that fails returns -1, with p at the byte that is wrong. What it
// left on the Lua stack is cleared away in json_decode.
struct decoder {
    lua_State *L;
    const char *p;
    const char *end;
    int depth;
    const char *what; // what is wrong
};

enum { PLAIN, QUOTE, BACKSLASH, CONTROL, HIGH };

static const unsigned char byte_kind[256] = {
    [0 ... 31] = CONTROL,
    ['"'] = QUOTE,
    ['\\'] = BACKSLASH,
    [128 ... 255] = HIGH,
};

static int decode_value(struct decoder *d);

static int fail(struct decoder *d, const char *what) {
    d->what = what;
    return -1;
}

// peek returns the next byte that is not white space, -1 at the end.
static int peek(struct decoder *d) {
    while (d->p < d->end) {
        char c = *d->p;
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return (unsigned char)c;
        }
        d->p++;
    }
    return -1;
}

// scan_run moves to the next quote or backslash of a string.
static int scan_run(struct decoder *d) {
    const char *p = d->p;
    for (; p < d->end; p++) {
        unsigned char kind = byte_kind[(unsigned char)*p];
        if (kind == PLAIN) {
            continue;
        }
        d->p = p;
        if (kind == QUOTE || kind == BACKSLASH) {
            return 0;
        }
        if (kind == CONTROL) {
            return fail(d, "control character in a string");
        }
        size_t n = utf8_len(p, d->end);
        if (!n) {
            return fail(d, "invalid UTF-8");
        }
        p += n - 1;
    }
    d->p = p;
    return fail(d, "unfinished string");
}

// read_hex4 returns the value of the \uXXXX at p, or -1.
static int read_hex4(const char *p, const char *end) {
    int v = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    for (int i = 2; i < 6; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        v = v * 16 + digit;
    }
    return v;
}

static void add_utf8(luaL_Buffer *b, uint32_t c) {
    char text[4];
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; i--) {
        text[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    text[0] = (char)(lead[len] | c);
    luaL_addlstring(b, text, len);
}

static int decode_unicode(struct decoder *d, luaL_Buffer *b) {
    int unit = read_hex4(d->p, d->end);
    if (unit < 0) {
        return fail(d, "\\u without four hex digits");
    }
    uint32_t c = (uint32_t)unit;
    size_t len = 6;
    if (unit >= 0xd800 && unit <= 0xdfff) {
        int low = read_hex4(d->p + 6, d->end);
        if (unit >= 0xdc00 || low < 0xdc00 || low > 0xdfff) {
            return fail(d, "lone surrogate");
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
        len = 12;
    }
    add_utf8(b, c);
    d->p += len;
    return 0;
}

static int decode_escape(struct decoder *d, luaL_Buffer *b) {
    char c = d->end - d->p > 1 ? d->p[1] : 0;
    switch (c) {
    case 'u': return decode_unicode(d, b);
    case '"':
    case '\\':
    case '/': break;
    case 'b': c = '\b'; break;
    case 'f': c = '\f'; break;
    case 'n': c = '\n'; break;
    case 'r': c = '\r'; break;
    case 't': c = '\t'; break;
    default: return fail(d, "unknown escape");
    }
    luaL_addchar(b, c);
    d->p += 2;
    return 0;
}

// decode_escaped goes on with a string whose first backslash is at p.
static int decode_escaped(struct decoder *d, const char *run) {
    luaL_Buffer b;
    luaL_buffinit(d->L, &b);
    while (*d->p != '"') {
        luaL_addlstring(&b, run, (size_t)(d->p - run));
        if (decode_escape(d, &b)) {
            return -1;
        }
        run = d->p;
        if (scan_run(d)) {
            return -1;
        }
    }
    luaL_addlstring(&b, run, (size_t)(d->p - run));
    d->p++;
    luaL_pushresult(&b);
    return 0;
}

static int decode_string(struct decoder *d) {
    const char *run = ++d->p;
    if (scan_run(d)) {
        return -1;
    }
    if (*d->p == '\\') {
        return decode_escaped(d, run);
    }
    lua_pushlstring(d->L, run, (size_t)(d->p - run));
    d->p++;
    return 0;
}

static int decode_number(struct decoder *d) {
    const char *p = d->p;
    double v;
    while (p < d->end && ((*p >= '0' && *p <= '9') || *p == '-' || *p == '+' ||
                          *p == '.' || *p == 'e' || *p == 'E')) {
        p++;
    }
    if (num_parse(d->p, (size_t)(p - d->p), &v)) {
        return fail(d, "bad number");
    }
    d->p = p;
    lua_pushnumber(d->L, v);
    return 0;
}

static int decode_word(struct decoder *d, const char *word, size_t len) {
    if ((size_t)(d->end - d->p) < len || memcmp(d->p, word, len) != 0) {
        return fail(d, "expected a value");
    }
    d->p += len;
    return 0;
}

// enter steps over an opening bracket.
static int enter(struct decoder *d) {
    if (d->depth >= JSON_DEPTH || !lua_checkstack(d->L, LUA_MINSTACK)) {
        return fail(d, "nested too deeply");
    }
    d->depth++;
    d->p++;
    return 0;
}

// leave steps over a closing bracket.
static int leave(struct decoder *d) {
    d->depth--;
    d->p++;
    return 0;
}

static int decode_array(struct decoder *d) {
    if (enter(d)) {
        return -1;
    }
    json_push_array(d->L, 0);
    if (peek(d) == ']') {
        return leave(d);
    }
    for (int i = 1;; i++) {
        if (decode_value(d)) {
            return -1;
        }
        lua_rawseti(d->L, -2, i);
        int c = peek(d);
        if (c == ']') {
            return leave(d);
        }
        if (c != ',') {
            return fail(d, "expected ',' or ']'");
        }
        d->p++;
    }
}

static int decode_member(struct decoder *d) {
    if (peek(d) != '"') {
        return fail(d, "expected a string as the key");
    }
    if (decode_string(d)) {
        return -1;
    }
    if (peek(d) != ':') {
        return fail(d, "expected ':'");
    }
    d->p++;
    if (decode_value(d)) {
        return -1;
    }
    lua_rawset(d->L, -3);
    return 0;
}

static int decode_object(struct decoder *d) {
    if (enter(d)) {
        return -1;
    }
    lua_newtable(d->L);
    if (peek(d) == '}') {
        return leave(d);
    }
    for (;;) {
        if (decode_member(d)) {
            return -1;
        }
        int c = peek(d);
        if (c == '}') {
            return leave(d);
        }
        if (c != ',') {
            return fail(d, "expected ',' or '}'");
        }
        d->p++;
    }
}

static int decode_value(struct decoder *d) {
    switch (peek(d)) {
    case '{': return decode_object(d);
    case '[': return decode_array(d);
    case '"': return decode_string(d);
    case 't': lua_pushboolean(d->L, 1); return decode_word(d, "true", 4);
    case 'f': lua_pushboolean(d->L, 0); return decode_word(d, "false", 5);
    case 'n': json_push_null(d->L); return decode_word(d, "null", 4);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return decode_number(d);
    default: return fail(d, "expected a value");
    }
}

int json_decode(lua_State *L, const char *s, size_t len) {
    struct decoder d = {.L = L, .p = s, .end = s + len};
    int base = lua_gettop(L);
    int status = decode_value(&d);
    if (!status && peek(&d) != -1) {
        status = fail(&d, "expected the end");
    }
    if (status) {
        char text[80];
        snprintf(text, sizeof text, "json: %s at byte %zu", d.what,
                 (size_t)(d.p - s) + 1);
        lua_settop(L, base);
        lua_pushstring(L, text);
    }
    return status;
}
