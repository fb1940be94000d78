// lua_model: definitions and loads of host/model.
#include "lua/lua_model.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "lua/lua_error.h"
#include "lua/lua_redis.h"
#include "lua/lua_row.h"
#include "model/fetch.h"
#include "model/key.h"
#include "model/value.h"

#define MODEL "neap.model"

static const double whole_max = 9007199254740992.0; // 2^53

struct model *lua_model_check(lua_State *L, int arg) {
    return luaL_checkudata(L, arg, MODEL);
}

struct pool *lua_model_pool(lua_State *L, struct model *m) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->client);
    struct pool *p = lua_redis_check(L, lua_gettop(L));
    struct pool *const *box = lua_touserdata(L, -1); // m->client keeps it
    lua_pop(L, 1);
    if (!m->has_commit) {
        m->has_commit = true;
        commit_init(&m->commit, m->rt, &m->schema, box);
    }
    return p;
}

void lua_model_hold(lua_State *L, struct model *m, int index) {
    if (m->holds++ == 0) {
        lua_pushvalue(L, index);
        m->self = luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

void lua_model_release(struct model *m) {
    if (--m->holds == 0) {
        luaL_unref(m->rt->L, LUA_REGISTRYINDEX, m->self);
    }
}

// -- loads

struct load {
    struct task *task; // NULL once nobody waits
    uint32_t wait;
    struct model *m;
    bool is_list, is_shadows;
};

static bool forget_load(struct task *t, void *ctx) {
    (void)t;
    ((struct load *)ctx)->task = NULL;
    return true;
}

static void on_loaded(struct fetch *f, const char *code, const char *error) {
    struct load *l = f->ctx;
    struct task *t = l->task;
    if (!t) {
        // nobody waits any more
    } else if (code) {
        lua_push_error(t->L, code, "model %s: %s", l->m->schema.name, error);
        task_wake_error(t, l->wait);
    } else if (l->is_list) {
        lua_createtable(t->L, (int)f->count, 0);
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->rows[i] && l->is_shadows) {
                lua_row_push_shadow(t->L, f->rows[i]);
            } else if (f->rows[i]) {
                lua_row_push(t->L, l->m, f->rows[i]);
            } else {
                lua_pushboolean(t->L, 0);
            }
            lua_rawseti(t->L, -2, (int)i + 1);
        }
        task_wake(t, l->wait, 1);
    } else {
        if (f->rows[0]) {
            lua_row_push(t->L, l->m, f->rows[0]);
        } else {
            lua_pushnil(t->L);
        }
        task_wake(t, l->wait, 1);
    }
    lua_model_release(l->m);
    free(l);
}

// canonical_text says whether a text is how a field's value stands in a key.
static bool canonical_text(const struct field *f, const char *s, size_t len) {
    double d;
    char text[NUM_TEXT];
    unsigned char uuid[VALUE_UUID_BYTES];
    int32_t days;
    switch (f->type) {
    case FIELD_INTEGER:
        return num_parse(s, len, &d) == 0 && d == floor(d) &&
               fabs(d) <= whole_max && num_format(text, d) == len &&
               memcmp(text, s, len) == 0;
    case FIELD_UUID: return value_parse_uuid(s, len, uuid) == 0;
    case FIELD_DATE: return value_parse_date(s, len, &days) == 0;
    default: return true;
    }
}

static bool canonical_parts(const struct schema *s, const char *p, size_t len) {
    struct value rest = {p, len}, part;
    uint32_t n = 0;
    while (value_next_part(&rest, &part)) {
        if (n == s->part_count ||
            !canonical_text(&s->fields[s->parts[n]], part.p, part.len)) {
            return false;
        }
        n++;
    }
    return rest.len == 0 && n == s->part_count;
}

// encode_parts appends the key of { x = ..., y = ... } at index.
static bool encode_parts(lua_State *L, const struct schema *s, int index,
                         struct buf *b) {
    bool is_key = true;
    uint32_t given = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        given++;
    }
    for (uint32_t i = 0; i < s->part_count && is_key; i++) {
        const struct field *f = &s->fields[s->parts[i]];
        struct field plain = {.type = f->type,
                              .choices = f->choices,
                              .choice_count = f->choice_count};
        struct buf text = {0};
        struct value v;
        lua_getfield(L, index, f->name);
        is_key =
            !lua_row_encode_value(L, lua_gettop(L), &plain, &text, &v) && v.p;
        value_add_part(b, text.data, text.len);
        buf_clear(&text);
        lua_pop(L, 1);
    }
    return is_key && given == s->part_count;
}

// canonical_id appends the key's bytes of the id at index, as a row's key has
// it; false if it cannot be one.
static bool canonical_id(lua_State *L, struct model *m, int index,
                         struct buf *b) {
    const struct schema *s = &m->schema;
    const struct field *f = &s->fields[s->primary];
    size_t start = b->len, len;
    bool is_key;
    if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, index, &len);
        is_key = s->part_count ? canonical_parts(s, text, len)
                               : canonical_text(f, text, len);
        buf_add(b, text, len);
    } else if (s->part_count && lua_istable(L, index)) {
        is_key = encode_parts(L, s, index, b);
    } else {
        // limits of length or size don't matter: what was stored is found
        struct field plain = {.type = f->type};
        struct value v;
        is_key = !lua_row_encode_value(L, index, &plain, b, &v) && v.p;
    }
    if (!is_key || b->len == start) {
        b->len = start;
        return false;
    }
    return true;
}

// load(model, id) -> row or nil
static int l_load(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct pool *p = lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    struct buf id = {0};
    if (!canonical_id(L, m, 2, &id)) {
        buf_clear(&id);
        lua_pushnil(L);
        return 1;
    }
    struct load *l = xcalloc(1, sizeof *l);
    struct value v = {id.data, id.len};
    lua_model_hold(L, m, 1);
    l->m = m;
    l->task = t;
    l->wait = task_park(t, "model load", forget_load, l);
    fetch_rows(p->shared, &m->schema, &v, 1, on_loaded, l);
    buf_clear(&id);
    return task_yield(L);
}

static int load_list(lua_State *L, bool is_shadows) {
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct pool *p = lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    struct buf bytes = {0};
    struct value *ids = xcalloc(n + 1, sizeof ids[0]);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        size_t start = bytes.len;
        canonical_id(L, m, lua_gettop(L), &bytes); // what is none is empty
        ids[i] = (struct value){(const char *)start, bytes.len - start};
        lua_pop(L, 1);
    }
    for (uint32_t i = 0; i < n; i++) {
        ids[i].p = bytes.data ? bytes.data + (size_t)ids[i].p : "";
    }
    struct load *l = xcalloc(1, sizeof *l);
    lua_model_hold(L, m, 1);
    l->m = m;
    l->task = t;
    l->is_list = true;
    l->is_shadows = is_shadows;
    l->wait = task_park(t, "model load", forget_load, l);
    fetch_rows(p->shared, &m->schema, ids, n, on_loaded, l)->with_expired =
        is_shadows;
    free(ids);
    buf_clear(&bytes);
    return task_yield(L);
}

// load_many(model, list of ids) -> list of rows, false where there is none
static int l_load_many(lua_State *L) {
    return load_list(L, false);
}

// load_shadows(model, list of ids) -> list of what rows are stored as, also of
// those whose time is over; false where there is none
static int l_load_shadows(lua_State *L) {
    return load_list(L, true);
}

// row_key(model, id) -> its key in Redis, or nil if it cannot be an id
static int l_row_key(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct buf id = {0}, key = {0};
    bool is_id = canonical_id(L, m, 2, &id);
    if (is_id) {
        key_row(&key, &m->schema, (struct value){id.data, id.len});
        lua_pushlstring(L, key.data, key.len);
    }
    buf_clear(&id);
    buf_clear(&key);
    return is_id;
}

// row_id(model, id) -> the canonical text of a key, or nil if it cannot be one
static int l_row_id(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct buf id = {0};
    bool is_id = canonical_id(L, m, 2, &id);
    if (is_id) {
        lua_pushlstring(L, id.data, id.len);
    }
    buf_clear(&id);
    return is_id;
}

// keys(model) -> { meta, schema, expires, stamps, row, live, ids, rows, rest }:
// keys, what keys begin with, and SCAN patterns
static int l_keys(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    static const struct {
        const char *name;
        void (*key)(struct buf *, const struct schema *);
    } list[] = {{"meta", key_meta},        {"schema", key_schema},
                {"live", key_rows_prefix}, {"ids", key_ids_prefix},
                {"row", key_row_prefix},   {"expires", key_expires},
                {"rows", key_match_rows},  {"rest", key_match_rest},
                {"stamps", key_stamps}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct buf b = {0};
        list[i].key(&b, &m->schema);
        lua_pushlstring(L, b.data, b.len);
        lua_setfield(L, -2, list[i].name);
        buf_clear(&b);
    }
    return 1;
}

// -- definitions

static bool get_flag(lua_State *L, int options, const char *name) {
    lua_getfield(L, options, name);
    bool is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

static bool get_number(lua_State *L, int options, const char *name,
                       double *out) {
    lua_getfield(L, options, name);
    bool has = lua_isnumber(L, -1);
    *out = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return has;
}

static void read_choices(lua_State *L, struct field *f, int at) {
    lua_getfield(L, at, "values");
    if (lua_istable(L, -1)) {
        f->choice_count = (uint32_t)lua_objlen(L, -1);
        f->choices = xcalloc(f->choice_count + 1, sizeof f->choices[0]);
        for (uint32_t i = 0; i < f->choice_count; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            f->choices[i] = xstrdup(luaL_checkstring(L, -1));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

// get_limit is get_number, or the days of a date.
static bool get_limit(lua_State *L, int options, const char *name,
                      const struct field *f, double *out) {
    if (f->type != FIELD_DATE) {
        return get_number(L, options, name, out);
    }
    lua_getfield(L, options, name);
    size_t len = 0;
    const char *s = lua_tolstring(L, -1, &len);
    int32_t days;
    bool has = s && value_parse_date(s, len, &days) == 0;
    *out = has ? days : 0;
    lua_pop(L, 1);
    return has;
}

// read_field fills f from { name, type, index, sort, ... } on top.
static void read_field(lua_State *L, struct schema *s, struct field *f) {
    int at = lua_gettop(L);
    lua_getfield(L, at, "name");
    f->name = xstrdup(luaL_optstring(L, -1, "element"));
    lua_getfield(L, at, "type");
    f->type = (enum field_type)schema_type_find(luaL_checkstring(L, -1));
    f->is_required = get_flag(L, at, "required");
    f->is_indexed = get_flag(L, at, "index");
    f->is_sorted = get_flag(L, at, "sort");
    f->is_unique = get_flag(L, at, "unique");
    f->is_ref = get_flag(L, at, "ref");
    f->has_min = get_limit(L, at, "min", f, &f->min);
    f->has_max = get_limit(L, at, "max", f, &f->max);
    if (get_flag(L, at, "primary_key")) {
        s->primary = (int)(f - s->fields);
        s->is_auto = get_flag(L, at, "auto");
    }
    read_choices(L, f, at);
    lua_getfield(L, at, "element");
    if (lua_istable(L, -1)) {
        f->element = xcalloc(1, sizeof *f->element);
        read_field(L, s, f->element);
    }
    lua_settop(L, at);
}

static uint8_t find_field(lua_State *L, const struct schema *s, int index) {
    size_t len;
    const char *name = luaL_checklstring(L, index, &len);
    int field = schema_find(s, name, len);
    if (field < 0) {
        luaL_error(L, "model %s: there is no field '%s'", s->name, name);
    }
    return (uint8_t)field;
}

// read_parts makes the primary key of the fields named by the list on top.
static void read_parts(lua_State *L, struct schema *s) {
    int at = lua_gettop(L);
    for (uint32_t i = 0; i < lua_objlen(L, at) && i < SCHEMA_PARTS; i++) {
        lua_rawgeti(L, at, (int)i + 1);
        s->parts[s->part_count++] = find_field(L, s, -1);
        lua_pop(L, 1);
    }
    if (s->part_count && s->count == SCHEMA_FIELDS) {
        luaL_error(L, "model %s: at most %d fields, as the key is one more",
                   s->name, SCHEMA_FIELDS - 1);
    }
    if (s->part_count) {
        s->primary = (int)s->count;
        struct field *f = &s->fields[s->count++];
        f->name = xstrdup("_key");
        f->type = FIELD_KEY;
    }
}

// read_compound adds the compound index of the fields named by the list on top.
static void read_compound(lua_State *L, struct schema *s) {
    int at = lua_gettop(L);
    struct compound *c = &s->compounds[s->compound_count++];
    struct buf name = {0};
    for (uint32_t i = 0; i < lua_objlen(L, at) && i < SCHEMA_PARTS; i++) {
        lua_rawgeti(L, at, (int)i + 1);
        c->fields[c->count++] = find_field(L, s, -1);
        buf_printf(&name, "%s%s", i ? "," : "", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    c->name = xstrdup(buf_cstr(&name));
    buf_clear(&name);
}

// read_options fills the schema from { ttl, primary_key, indexes } at index.
static void read_options(lua_State *L, struct schema *s, int index) {
    s->has_ttl = get_flag(L, index, "ttl");
    lua_getfield(L, index, "primary_key");
    if (lua_istable(L, -1)) {
        read_parts(L, s);
    }
    lua_getfield(L, index, "indexes");
    for (uint32_t i = 0;
         lua_istable(L, -1) && i < lua_objlen(L, -1) && i < SCHEMA_COMPOUNDS;
         i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        read_compound(L, s);
        lua_pop(L, 1);
    }
    lua_settop(L, index);
}

static void push_names(lua_State *L, const struct schema *s) {
    lua_createtable(L, (int)s->count, 0);
    for (uint32_t i = 0; i < s->count; i++) {
        lua_pushstring(L, s->fields[i].name);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

// define(name, list of fields, client, class, shadows, options) -> model
static int l_define(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_redis_check(L, 3);
    struct model *m = lua_newuserdata(L, sizeof *m);
    *m = (struct model){.rt = runtime_of(L)};
    luaL_getmetatable(L, MODEL);
    lua_setmetatable(L, -2);
    m->schema.name = xstrdup(name);
    m->schema.primary = -1;
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    if (n > SCHEMA_FIELDS) {
        return lua_fail(L, "model.definition", "model %s: at most %d fields",
                        name, SCHEMA_FIELDS);
    }
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        m->schema.count++;
        read_field(L, &m->schema, &m->schema.fields[i]);
        lua_pop(L, 1);
    }
    int model = lua_gettop(L);
    lua_pushvalue(L, 6);
    read_options(L, &m->schema, model + 1);
    m->is_optimistic = get_flag(L, model + 1, "optimistic");
    lua_settop(L, model);
    char error[256];
    if (schema_finish(&m->schema, error, sizeof error) < 0) {
        return lua_fail(L, "model.definition", "%s", error);
    }
    push_names(L, &m->schema);
    m->names = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 3);
    m->client = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 4);
    m->class = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 5);
    m->shadows = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int l_model_gc(lua_State *L) {
    struct model *m = lua_touserdata(L, 1);
    if (m->has_commit) {
        commit_clear(&m->commit);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, m->names);
    luaL_unref(L, LUA_REGISTRYINDEX, m->client);
    luaL_unref(L, LUA_REGISTRYINDEX, m->class);
    luaL_unref(L, LUA_REGISTRYINDEX, m->shadows);
    exec_memory_clear(&m->memory);
    schema_clear(&m->schema);
    return 0;
}

// row(model, shadow) -> an object of the model
static int l_row(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    lua_row_push(L, m, lua_row_check_shadow(L, 2));
    return 1;
}

// stored(model, shadow, field) -> its value as it was loaded, or nil
static int l_stored(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *r = lua_row_check_shadow(L, 2);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    int field = schema_find(&m->schema, name, len);
    struct value v = row_get(r, (uint32_t)field);
    if (field < 0 || !v.p) {
        return 0;
    }
    lua_row_push_value(L, &m->schema.fields[field], v);
    return 1;
}

// schema(model) -> the stored definition's text, its generation
static int l_schema(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    lua_pushlstring(L, m->schema.text.data, m->schema.text.len);
    lua_pushstring(L, m->schema.generation);
    return 2;
}

// uuid() -> a version 7 uuid (RFC 9562 §5.7): time first, then chance
static int l_uuid(lua_State *L) {
    char text[VALUE_UUID];
    value_uuid7(text);
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

// parse_time(text) -> seconds since 1970, or nil
static int l_parse_time(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    double seconds;
    if (value_parse_time(s, len, &seconds) < 0) {
        return 0;
    }
    lua_pushnumber(L, seconds);
    return 1;
}

// format_time(seconds) -> ISO 8601 text in UTC, or nil
static int l_format_time(lua_State *L) {
    char text[VALUE_TIME];
    size_t len = value_format_time(text, luaL_checknumber(L, 1));
    if (!len) {
        return 0;
    }
    lua_pushlstring(L, text, len);
    return 1;
}

static const luaL_Reg functions[] = {{"define", l_define},
                                     {"load", l_load},
                                     {"load_many", l_load_many},
                                     {"load_shadows", l_load_shadows},
                                     {"row_key", l_row_key},
                                     {"row_id", l_row_id},
                                     {"row", l_row},
                                     {"stored", l_stored},
                                     {"keys", l_keys},
                                     {"schema", l_schema},
                                     {"uuid", l_uuid},
                                     {"parse_time", l_parse_time},
                                     {"format_time", l_format_time},
                                     {NULL, NULL}};

int luaopen_neap_model(lua_State *L) {
    luaL_newmetatable(L, MODEL);
    lua_pushcfunction(L, l_model_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_write_open(L);
    lua_upkeep_open(L);
    lua_query_open(L);
    return 1;
}
