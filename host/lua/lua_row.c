// lua_row: rows as Lua tables, and what is wrong with them.
#include "lua/lua_row.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "lua/lua_error.h"
#include "lua/lua_json.h"

static const double whole_max = 9007199254740992.0; // 2^53

// What is wrong with a value; those with a limit are completed by push_wrong.
static const char too_short[] = "it is too short",
                  too_long[] = "it is too long",
                  too_low[] = "it is below the minimum",
                  too_high[] = "it is above the maximum";

static const char *encode_string(lua_State *L, int index, const struct field *f,
                                 struct buf *b) {
    if (lua_type(L, index) != LUA_TSTRING) {
        return "a string is expected";
    }
    size_t len, count = 0;
    const char *s = lua_tolstring(L, index, &len);
    if (f->has_min || f->has_max) { // length in characters
        for (const char *p = s; p < s + len; count++) {
            size_t n = (unsigned char)*p < 0x80 ? 1 : utf8_len(p, s + len);
            p += n ? n : 1;
        }
        if (f->has_min && (double)count < f->min) {
            return too_short;
        }
        if (f->has_max && (double)count > f->max) {
            return too_long;
        }
    }
    buf_add(b, s, len);
    return NULL;
}

static const char *encode_number(lua_State *L, int index, const struct field *f,
                                 struct buf *b) {
    if (lua_type(L, index) != LUA_TNUMBER) {
        return f->type == FIELD_INTEGER ? "an integer is expected"
                                        : "a number is expected";
    }
    double v = lua_tonumber(L, index) + 0.0; // -0 is 0
    if (!isfinite(v)) {
        return "a finite number is expected";
    }
    if (f->type == FIELD_INTEGER && (v != floor(v) || fabs(v) > whole_max)) {
        return "an integer (within 2^53) is expected";
    }
    if (f->has_min && v < f->min) {
        return too_low;
    }
    if (f->has_max && v > f->max) {
        return too_high;
    }
    b->len += num_format(buf_reserve(b, NUM_TEXT), v == 0 ? 0 : v);
    return NULL;
}

static const char *encode_uuid(lua_State *L, int index, struct buf *b) {
    size_t len;
    const char *s = lua_type(L, index) == LUA_TSTRING
                        ? lua_tolstring(L, index, &len)
                        : NULL;
    if (!s || len != 36) {
        return "a uuid is expected";
    }
    for (size_t i = 0; i < len; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool is_hex =
            (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');
        if (is_dash ? s[i] != '-' : !is_hex) {
            return "a uuid in lower case is expected";
        }
    }
    buf_add(b, s, len);
    return NULL;
}

static const char *encode_enum(lua_State *L, int index, const struct field *f,
                               struct buf *b) {
    if (lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, index, &len);
        for (uint32_t i = 0; i < f->choice_count; i++) {
            if (strlen(f->choices[i]) == len &&
                memcmp(f->choices[i], s, len) == 0) {
                buf_add(b, s, len);
                return NULL;
            }
        }
    }
    return "it is none of the enum's values";
}

static bool is_null(lua_State *L, int index) {
    json_push_null(L);
    bool is = lua_isnoneornil(L, index) || lua_rawequal(L, index, -1);
    lua_pop(L, 1);
    return is;
}

const char *lua_row_encode_value(lua_State *L, int index, const struct field *f,
                                 struct buf *bytes, struct value *v) {
    size_t start = bytes->len;
    const char *wrong = NULL;
    *v = (struct value){NULL, 0};
    if (lua_isnil(L, index) ||
        (lua_islightuserdata(L, index) && is_null(L, index))) {
        return NULL;
    }
    switch (f->type) {
    case FIELD_STRING: wrong = encode_string(L, index, f, bytes); break;
    case FIELD_ENUM: wrong = encode_enum(L, index, f, bytes); break;
    case FIELD_UUID: wrong = encode_uuid(L, index, bytes); break;
    case FIELD_BOOLEAN:
        if (lua_isboolean(L, index)) {
            buf_addc(bytes, lua_toboolean(L, index) ? '1' : '0');
        } else {
            wrong = "a boolean is expected";
        }
        break;
    case FIELD_JSON: wrong = json_encode(L, index, bytes); break;
    default: wrong = encode_number(L, index, f, bytes);
    }
    v->p = (const char *)(start + 1);
    v->len = bytes->len - start;
    return wrong;
}

void lua_row_push_value(lua_State *L, const struct field *f, struct value v) {
    switch (f->type) {
    case FIELD_INTEGER:
    case FIELD_NUMBER:
    case FIELD_TIME: {
        double d = 0;
        num_parse(v.p, v.len, &d);
        lua_pushnumber(L, d);
        break;
    }
    case FIELD_BOOLEAN: lua_pushboolean(L, v.len == 1 && v.p[0] == '1'); break;
    case FIELD_JSON:
        if (json_decode(L, v.p, v.len) < 0) {
            lua_pop(L, 1);
            lua_pushnil(L);
        }
        break;
    default: lua_pushlstring(L, v.p, v.len);
    }
}

void lua_row_push_shadow(lua_State *L, const struct row *r) {
    memcpy(lua_newuserdata(L, r->size), r, r->size);
    luaL_getmetatable(L, LUA_ROW_SHADOW);
    lua_setmetatable(L, -2);
}

// fill sets the table's fields from the row. The table is at `index`.
void lua_row_fill(lua_State *L, struct model *m, const struct row *r,
                  int index) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->names);
    for (uint32_t i = 0; i < m->schema.count; i++) {
        struct value v = row_get(r, i);
        if (v.p) {
            lua_rawgeti(L, -1, (int)i + 1);
            lua_row_push_value(L, &m->schema.fields[i], v);
            lua_rawset(L, index);
        }
    }
    lua_pop(L, 1);
}

const struct row *lua_row_check_shadow(lua_State *L, int arg) {
    return luaL_checkudata(L, arg, LUA_ROW_SHADOW);
}

void lua_row_push(lua_State *L, struct model *m, const struct row *r) {
    lua_createtable(L, 0, (int)m->schema.count);
    int table = lua_gettop(L);
    lua_row_fill(L, m, r, table);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->class);
    lua_setmetatable(L, table);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->shadows);
    lua_pushvalue(L, table);
    lua_row_push_shadow(L, r);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

// -- invalid rows

// An invalid row raises one error with all that is wrong, by field.
static void add_wrong(lua_State *L, int *errors, const char *field,
                      const char *wrong) {
    if (!*errors) {
        lua_newtable(L);
        *errors = lua_gettop(L);
    }
    lua_pushstring(L, wrong);
    lua_setfield(L, *errors, field);
}

// push_printable pushes a short text of the value at index.
static void push_printable(lua_State *L, int index) {
    size_t len;
    switch (lua_type(L, index)) {
    case LUA_TSTRING: {
        const char *s = lua_tolstring(L, index, &len);
        lua_pushlstring(L, s, len > 40 ? 40 : len);
        lua_pushfstring(L, "'%s%s'", lua_tostring(L, -1),
                        len > 40 ? "..." : "");
        lua_remove(L, -2);
        break;
    }
    case LUA_TNUMBER:
        lua_pushvalue(L, index);
        lua_tostring(L, -1);
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        break;
    default: lua_pushfstring(L, "a %s", luaL_typename(L, index));
    }
}

// push_wrong pushes what is wrong with the value at index, with the limit that
// it passed. // [-0, +1]
static const char *push_wrong(lua_State *L, const struct field *f,
                              const char *wrong, int index) {
    push_printable(L, index);
    const char *got = lua_tostring(L, -1);
    if (wrong == too_short || wrong == too_low) {
        lua_pushnumber(L, f->min);
        return lua_pushfstring(L, "%s (at least %s), got %s", wrong,
                               lua_tostring(L, -1), got);
    }
    if (wrong == too_long || wrong == too_high) {
        lua_pushnumber(L, f->max);
        return lua_pushfstring(L, "%s (at most %s), got %s", wrong,
                               lua_tostring(L, -1), got);
    }
    return lua_pushfstring(L, "%s, got %s", wrong, got);
}

static int raise_invalid(lua_State *L, struct model *m, int errors) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    lua_pushfstring(L, "model %s", m->schema.name);
    luaL_addvalue(&b);
    const char *sep = ": ";
    // in the order of the fields, so that the text does not vary
    for (int i = -1; i < (int)m->schema.count; i++) {
        const char *name = i < 0 ? "_" : m->schema.fields[i].name;
        lua_getfield(L, errors, name);
        const char *text = lua_tostring(L, -1);
        if (text) {
            lua_pushfstring(L, "%s%s%s%s", sep, i < 0 ? "" : name,
                            i < 0 ? "" : ": ", text);
            lua_remove(L, -2);
            luaL_addvalue(&b);
            sep = "; ";
        } else {
            lua_pop(L, 1);
        }
    }
    luaL_pushresult(&b);
    lua_push_error(L, "model.invalid", "%s", lua_tostring(L, -1));
    lua_pushvalue(L, errors);
    lua_setfield(L, -2, "fields");
    lua_pushstring(L, m->schema.name);
    lua_setfield(L, -2, "model");
    return lua_error(L);
}

// check_names finds attributes that are no fields.
static void check_names(lua_State *L, struct model *m, int row, int *errors) {
    lua_pushnil(L);
    while (lua_next(L, row)) {
        lua_pop(L, 1);
        size_t len = 0;
        const char *name =
            lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (!name || schema_find(&m->schema, name, len) < 0) {
            push_printable(L, lua_gettop(L));
            const char *text =
                lua_pushfstring(L, "there is no field %s", lua_tostring(L, -1));
            lua_replace(L, -2);
            int keep = *errors;
            if (!keep) { // below the key that lua_next needs
                lua_newtable(L);
                lua_insert(L, row + 1);
                *errors = row + 1;
            }
            lua_pushstring(L, text);
            lua_setfield(L, *errors, "_");
            lua_pop(L, 1);
        }
    }
}

// encode_row makes a row of the table at index `row`, or raises. The result is
// anchored in a userdata that is pushed. // [-0, +1]
struct row *lua_row_encode(lua_State *L, struct model *m, int row) {
    const struct schema *s = &m->schema;
    struct value values[SCHEMA_FIELDS];
    struct buf bytes = {0};
    int errors = 0;
    buf_reserve(&bytes, 1); // "" is a value: it needs an address
    check_names(L, m, row, &errors);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->names);
    int names = lua_gettop(L);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        lua_rawgeti(L, names, (int)i + 1);
        lua_rawget(L, row);
        int at = lua_gettop(L);
        const char *wrong = lua_row_encode_value(L, at, f, &bytes, &values[i]);
        if (wrong) {
            add_wrong(L, &errors, f->name, push_wrong(L, f, wrong, at));
        } else if (!values[i].p && f->is_required) {
            add_wrong(L, &errors, f->name, "it is required");
        } else if (!values[i].p && (int)i == s->primary && !s->is_auto) {
            add_wrong(L, &errors, f->name, "the primary key is required");
        } else if ((int)i == s->primary && values[i].p && values[i].len == 0) {
            add_wrong(L, &errors, f->name, "a primary key cannot be empty");
        }
        // the table of errors, if it came up here, stays where it is
        lua_settop(L, errors > names ? errors : names);
    }
    if (errors) {
        buf_clear(&bytes);
        raise_invalid(L, m, errors);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (values[i].p) {
            values[i].p = bytes.data + (size_t)values[i].p - 1;
        }
    }
    struct row *r = row_new(values, s->count);
    buf_clear(&bytes);
    return r;
}
