// lua_row: rows as Lua tables, and what is wrong with them.
#include "lua/lua_row.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/utf8.h"
#include "lua/lua_error.h"
#include "lua/lua_json.h"
#include "model/value.h"

static const double whole_max = 9007199254740992.0; // 2^53

// What is wrong with a value; those with a limit are completed by push_wrong.
static const char too_short[] = "it is too short",
                  too_long[] = "it is too long",
                  too_low[] = "it is below the minimum",
                  too_high[] = "it is above the maximum";

static const char *check_length(const struct field *f, size_t count) {
    if (f->has_min && (double)count < f->min) {
        return too_short;
    }
    return f->has_max && (double)count > f->max ? too_long : NULL;
}

static size_t count_characters(const char *s, size_t len) {
    size_t count = 0;
    for (const char *p = s; p < s + len; count++) {
        size_t n = (unsigned char)*p < 0x80 ? 1 : utf8_len(p, s + len);
        p += n ? n : 1;
    }
    return count;
}

static const char *encode_string(lua_State *L, int index, const struct field *f,
                                 struct buf *b) {
    if (lua_type(L, index) != LUA_TSTRING) {
        return "a string is expected";
    }
    size_t len;
    const char *s = lua_tolstring(L, index, &len);
    buf_add(b, s, len);
    if (!f->has_min && !f->has_max) {
        return NULL;
    }
    return check_length(f, f->type == FIELD_BYTES ? len
                                                  : count_characters(s, len));
}

static const char *check_range(const struct field *f, double v) {
    if (f->has_min && v < f->min) {
        return too_low;
    }
    return f->has_max && v > f->max ? too_high : NULL;
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
    b->len += num_format(buf_reserve(b, NUM_TEXT), v == 0 ? 0 : v);
    return check_range(f, v);
}

// encode_time takes seconds since 1970, or a timestamp.
static const char *encode_time(lua_State *L, int index, const struct field *f,
                               struct buf *b) {
    if (lua_type(L, index) != LUA_TSTRING) {
        return lua_type(L, index) == LUA_TNUMBER
                   ? encode_number(L, index, f, b)
                   : "seconds since 1970 or an ISO 8601 time are expected";
    }
    size_t len;
    const char *s = lua_tolstring(L, index, &len);
    double v;
    if (value_parse_time(s, len, &v) < 0) {
        return "an ISO 8601 time with its zone is expected";
    }
    b->len += num_format(buf_reserve(b, NUM_TEXT), v == 0 ? 0 : v);
    return check_range(f, v);
}

static const char *encode_date(lua_State *L, int index, const struct field *f,
                               struct buf *b) {
    size_t len = 0;
    const char *s =
        lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : "";
    int32_t days;
    if (value_parse_date(s, len, &days) < 0) {
        return "a date (YYYY-MM-DD) is expected";
    }
    buf_add(b, s, len);
    return check_range(f, days);
}

static const char *encode_uuid(lua_State *L, int index, struct buf *b) {
    size_t len = 0;
    const char *s =
        lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : "";
    unsigned char bytes[VALUE_UUID_BYTES];
    if (value_parse_uuid(s, len, bytes) < 0) {
        return len == VALUE_UUID ? "a uuid in lower case is expected"
                                 : "a uuid is expected";
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

static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// sort_numbers sorts parts that are numbers, without doubles.
static void sort_numbers(struct buf *parts, size_t n) {
    double *list = xmalloc((n + 1) * sizeof list[0]);
    struct value rest = {parts->data, parts->len}, part;
    size_t count = 0;
    while (value_next_part(&rest, &part)) {
        list[count] = 0;
        num_parse(part.p, part.len, &list[count++]);
    }
    qsort(list, count, sizeof list[0], by_number);
    parts->len = 0;
    for (size_t i = 0; i < count; i++) {
        char text[NUM_TEXT];
        if (i == 0 || list[i] != list[i - 1]) {
            value_add_part(parts, text, num_format(text, list[i]));
        }
    }
    free(list);
}

static bool is_number(const struct field *f) {
    return schema_is_numeric(f) && f->type != FIELD_DATE;
}

// encode_list makes parts of the elements; those of a set are sorted.
static const char *encode_list(lua_State *L, int index, const struct field *f,
                               struct buf *b) {
    if (!lua_istable(L, index)) {
        return "a list is expected";
    }
    size_t n = lua_objlen(L, index), named = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        named++;
    }
    if (named != n) {
        return "a list without holes or names is expected";
    }
    struct buf parts = {0};
    const char *wrong = NULL;
    for (size_t i = 1; i <= n && !wrong; i++) {
        struct buf one = {0};
        struct value v;
        lua_rawgeti(L, index, (int)i);
        wrong = lua_row_encode_value(L, lua_gettop(L), f->element, &one, &v);
        wrong = wrong || v.p ? wrong : "null is no element";
        value_add_part(&parts, one.data, one.len);
        buf_clear(&one);
        lua_pop(L, 1);
    }
    if (f->type == FIELD_SET && is_number(f->element) && !wrong) {
        sort_numbers(&parts, n);
    } else if (f->type == FIELD_SET) {
        value_sort_parts(&parts);
    }
    buf_add(b, parts.data, parts.len);
    buf_clear(&parts);
    return wrong ? wrong : check_length(f, n);
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
    case FIELD_TEXT:
    case FIELD_BYTES:
    case FIELD_KEY:
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
    case FIELD_TIME: wrong = encode_time(L, index, f, bytes); break;
    case FIELD_DATE: wrong = encode_date(L, index, f, bytes); break;
    case FIELD_LIST:
    case FIELD_SET: wrong = encode_list(L, index, f, bytes); break;
    default: wrong = encode_number(L, index, f, bytes);
    }
    v->p = (const char *)(start + 1);
    v->len = bytes->len - start;
    return wrong;
}

static void push_list(lua_State *L, const struct field *element,
                      struct value v) {
    struct value part;
    int n = 0;
    json_push_array(L, 0);
    while (value_next_part(&v, &part)) {
        lua_row_push_value(L, element, part);
        lua_rawseti(L, -2, ++n);
    }
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
    case FIELD_LIST:
    case FIELD_SET: push_list(L, f->element, v); break;
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
        if (v.p && m->schema.fields[i].type != FIELD_KEY) {
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

// An invalid row raises one error with all that is wrong, by field. At index
// `errors` lies the table of that, or nil until something is.
static void add_wrong(lua_State *L, int errors, const char *field,
                      const char *wrong) {
    if (lua_isnil(L, errors)) {
        lua_newtable(L);
        lua_replace(L, errors);
    }
    lua_pushstring(L, wrong);
    lua_setfield(L, errors, field);
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

static void push_limit(lua_State *L, const struct field *f, double limit) {
    char text[VALUE_DATE];
    if (f->type == FIELD_DATE) {
        lua_pushlstring(L, text, value_format_date(text, (int32_t)limit));
    } else {
        lua_pushnumber(L, limit);
    }
}

// push_wrong pushes what is wrong with the value at index, with the limit that
// it passed. // [-0, +1]
static const char *push_wrong(lua_State *L, const struct field *f,
                              const char *wrong, int index) {
    push_printable(L, index);
    const char *got = lua_tostring(L, -1);
    bool is_low = wrong == too_short || wrong == too_low;
    bool is_element = f->element && lua_istable(L, index) &&
                      wrong != too_short && wrong != too_long;
    if ((is_low || wrong == too_long || wrong == too_high) && !is_element) {
        push_limit(L, f, is_low ? f->min : f->max);
        return lua_pushfstring(L, "%s (at %s %s), got %s", wrong,
                               is_low ? "least" : "most", lua_tostring(L, -1),
                               got);
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
static void check_names(lua_State *L, struct model *m, int row, int errors) {
    const struct schema *s = &m->schema;
    lua_pushnil(L);
    while (lua_next(L, row)) {
        lua_pop(L, 1);
        size_t len = 0;
        const char *name =
            lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        int field = name ? schema_find(s, name, len) : -1;
        if (field < 0 || s->fields[field].type == FIELD_KEY) {
            push_printable(L, lua_gettop(L));
            add_wrong(L, errors, "_",
                      lua_pushfstring(L, "there is no field %s",
                                      lua_tostring(L, -1)));
            lua_pop(L, 2);
        }
    }
}

// check_value returns what is wrong with a field's encoded value besides.
static const char *check_value(const struct schema *s, uint32_t i,
                               struct value v) {
    const struct field *f = &s->fields[i];
    bool is_primary = (int)i == s->primary;
    for (uint32_t j = 0; j < s->part_count; j++) {
        is_primary = is_primary || s->parts[j] == i;
    }
    if (is_primary && !v.p && !s->is_auto) {
        return "the primary key is required";
    }
    if (is_primary && v.p && v.len == 0 && s->part_count == 0) {
        return "a primary key cannot be empty";
    }
    return f->is_required && !v.p ? "it is required" : NULL;
}

// encode_key makes a composite primary key of its parts, whose values are
// offsets + 1 into the bytes.
static void encode_key(const struct schema *s, struct value *values,
                       struct buf *bytes) {
    struct buf key = {0};
    for (uint32_t i = 0; i < s->part_count; i++) {
        struct value part = values[s->parts[i]];
        value_add_part(&key, bytes->data + (size_t)part.p - 1, part.len);
    }
    values[s->primary] =
        (struct value){(const char *)(bytes->len + 1), key.len};
    buf_add(bytes, key.data, key.len);
    buf_clear(&key);
}

struct row *lua_row_encode(lua_State *L, struct model *m, int row, int wrong) {
    // true: the names were looked at, nothing is wrong so far
    bool is_checked = wrong && lua_isboolean(L, wrong);
    const struct schema *s = &m->schema;
    struct value values[SCHEMA_FIELDS];
    struct buf bytes = {0};
    buf_reserve(&bytes, 1); // "" is a value: it needs an address
    if (wrong && !is_checked) {
        lua_pushvalue(L, wrong);
    } else {
        lua_pushnil(L);
    }
    int errors = lua_gettop(L);
    if (!is_checked) {
        check_names(L, m, row, errors);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->names);
    int names = lua_gettop(L);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type == FIELD_KEY) {
            continue;
        }
        lua_rawgeti(L, names, (int)i + 1);
        lua_rawget(L, row);
        int at = lua_gettop(L);
        const char *what = lua_row_encode_value(L, at, f, &bytes, &values[i]);
        if (what) {
            add_wrong(L, errors, f->name, push_wrong(L, f, what, at));
        } else if ((what = check_value(s, i, values[i]))) {
            add_wrong(L, errors, f->name, what);
        }
        lua_settop(L, names);
    }
    if (!lua_isnil(L, errors)) {
        buf_clear(&bytes);
        raise_invalid(L, m, errors);
    }
    lua_settop(L, errors - 1);
    if (s->part_count) {
        encode_key(s, values, &bytes);
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
