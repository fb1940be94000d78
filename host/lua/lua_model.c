// lua_model: definitions and loads of host/model.
#include "lua/lua_model.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "base/num.h"
#include "lua/lua_error.h"
#include "lua/lua_redis.h"
#include "lua/lua_row.h"
#include "model/fetch.h"
#include "model/key.h"

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
    bool is_list;
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
            if (f->rows[i]) {
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

// canonical_id appends the key's bytes of the id at index, as a row's key has
// it; false if it cannot be one.
static bool canonical_id(lua_State *L, struct model *m, int index,
                         struct buf *b) {
    const struct field *f = &m->schema.fields[m->schema.primary];
    struct value v;
    size_t start = b->len;
    if (f->type == FIELD_INTEGER && lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        double d;
        char text[NUM_TEXT];
        const char *s = lua_tolstring(L, index, &len);
        bool is_same = num_parse(s, len, &d) == 0 && d == floor(d) &&
                       fabs(d) <= whole_max && num_format(text, d) == len &&
                       memcmp(text, s, len) == 0;
        if (is_same) {
            buf_add(b, s, len);
        }
        return is_same;
    }
    // limits of length or size don't matter here: what was stored is found
    struct field plain = {.type = f->type};
    const char *wrong = lua_row_encode_value(L, index, &plain, b, &v);
    if (wrong || !v.p || v.len == 0) {
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
        lua_pushnil(L);
        return 1;
    }
    struct load *l = xcalloc(1, sizeof *l);
    struct value v = {id.data, id.len};
    lua_model_hold(L, m, 1);
    l->m = m;
    l->task = t;
    l->wait = task_park(t, forget_load, l);
    fetch_rows(p->shared, &m->schema, &v, 1, on_loaded, l);
    buf_clear(&id);
    return task_yield(L);
}

// load_many(model, list of ids) -> list of rows, false where there is none
static int l_load_many(lua_State *L) {
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
    l->wait = task_park(t, forget_load, l);
    fetch_rows(p->shared, &m->schema, ids, n, on_loaded, l);
    free(ids);
    buf_clear(&bytes);
    return task_yield(L);
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

// keys(model) -> { meta, schema, rows, rest }: keys, and SCAN patterns
static int l_keys(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    static const struct {
        const char *name;
        void (*key)(struct buf *, const struct schema *);
    } list[] = {{"meta", key_meta},
                {"schema", key_schema},
                {"rows", key_match_rows},
                {"rest", key_match_rest}};
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

// read_field fills f from { name, type, index, sort, ... } on top.
static void read_field(lua_State *L, struct schema *s, struct field *f) {
    int at = lua_gettop(L);
    lua_getfield(L, at, "name");
    f->name = xstrdup(luaL_checkstring(L, -1));
    lua_getfield(L, at, "type");
    f->type = (enum field_type)schema_type_find(luaL_checkstring(L, -1));
    f->is_required = get_flag(L, at, "required");
    f->is_indexed = get_flag(L, at, "index");
    f->is_sorted = get_flag(L, at, "sort");
    f->is_unique = get_flag(L, at, "unique");
    f->has_min = get_number(L, at, "min", &f->min);
    f->has_max = get_number(L, at, "max", &f->max);
    if (get_flag(L, at, "primary_key")) {
        s->primary = (int)(f - s->fields);
        s->is_auto = get_flag(L, at, "auto");
    }
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
    lua_settop(L, at);
}

static void push_names(lua_State *L, const struct schema *s) {
    lua_createtable(L, (int)s->count, 0);
    for (uint32_t i = 0; i < s->count; i++) {
        lua_pushstring(L, s->fields[i].name);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

// define(name, list of fields, client, class, shadows) -> model
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
    schema_clear(&m->schema);
    return 0;
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
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != sizeof b) {
        return lua_fail(L, "os.random", "no random bytes");
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    for (int i = 5; i >= 0; i--) {
        b[i] = ms & 0xff;
        ms >>= 8;
    }
    b[6] = (b[6] & 0x0f) | 0x70;
    b[8] = (b[8] & 0x3f) | 0x80;
    char text[36];
    int at = 0;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            text[at++] = '-';
        }
        text[at++] = "0123456789abcdef"[b[i] >> 4];
        text[at++] = "0123456789abcdef"[b[i] & 15];
    }
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static const luaL_Reg functions[] = {
    {"define", l_define},   {"load", l_load}, {"load_many", l_load_many},
    {"row_key", l_row_key}, {"keys", l_keys}, {"schema", l_schema},
    {"uuid", l_uuid},       {NULL, NULL}};

int luaopen_neap_model(lua_State *L) {
    luaL_newmetatable(L, MODEL);
    lua_pushcfunction(L, l_model_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_write_open(L);
    lua_query_open(L);
    return 1;
}
