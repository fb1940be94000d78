// lua_upkeep: what a model's sync, verify and sweep need of host/model.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_model.h"
#include "lua/lua_row.h"
#include "model/entry.h"
#include "model/ids.h"
#include "model/key.h"

// adopt(model, stored definition) -> whether its builds could be taken over
static int l_adopt(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, schema_adopt(&m->schema, text, len));
    return 1;
}

// follow(model, stored definition) -> how many indexes are to be built, the
// list of { name, build } that are dropped; or nil and why the rows cannot stay
static int l_follow(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct buf dropped = {0};
    char error[400];
    int n = schema_follow(&m->schema, text, len, &dropped, error, sizeof error);
    if (n < 0) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    lua_pushinteger(L, n);
    lua_pushlstring(L, dropped.data ? dropped.data : "", dropped.len);
    buf_clear(&dropped);
    return 2;
}

// complete(model): what was under construction is in use
static int l_complete(lua_State *L) {
    schema_complete(&lua_model_check(L, 1)->schema);
    return 0;
}

// building(model) -> the names of the indexes under construction
static int l_building(lua_State *L) {
    const struct schema *s = &lua_model_check(L, 1)->schema;
    lua_newtable(L);
    int n = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->fields[i].is_building) {
            lua_pushstring(L, s->fields[i].name);
            lua_rawseti(L, -2, ++n);
        }
    }
    for (uint32_t i = 0; i < s->compound_count; i++) {
        if (s->compounds[i].is_building) {
            lua_pushstring(L, s->compounds[i].name);
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

// is_of_build(model, name, build, key) -> whether the key is of that index
static int l_is_of_build(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    size_t len;
    const char *key = luaL_checklstring(L, 4, &len);
    lua_pushboolean(L, key_is_of_build(&m->schema, luaL_checkstring(L, 2),
                                       (uint32_t)luaL_checkinteger(L, 3), key,
                                       len));
    return 1;
}

// match_build(model, name) -> the SCAN pattern for the keys of an index
static int l_match_build(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct buf b = {0};
    key_match_build(&b, &m->schema, luaL_checkstring(L, 2));
    lua_pushlstring(L, b.data, b.len);
    buf_clear(&b);
    return 1;
}

// entries(model, shadow) -> packed: see entry_pack
static int l_entries(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *r = lua_row_check_shadow(L, 2);
    struct buf b = {0};
    entry_pack(&m->schema, r, &b);
    lua_pushlstring(L, b.data, b.len);
    buf_clear(&b);
    return 1;
}

static struct value check_value(lua_State *L, int arg) {
    struct value v;
    v.p = luaL_checklstring(L, arg, &v.len);
    return v;
}

// is_entry(model, shadow, key, member, value) -> whether the row has that entry
static int l_is_entry(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *r = lua_row_check_shadow(L, 2);
    lua_pushboolean(L, entry_is(&m->schema, r, check_value(L, 3),
                                check_value(L, 4), check_value(L, 5)));
    return 1;
}

// classify(model, key) -> what the key holds, its segment, the column's width
static int l_classify(lua_State *L) {
    static const char *const kinds[] = {
        "other",  "unknown", "live",    "ids",     "bits",  "members",
        "packed", "scores",  "ordered", "holders", "stamps"};
    struct model *m = lua_model_check(L, 1);
    struct key_class c = entry_classify(&m->schema, check_value(L, 2));
    lua_pushstring(L, kinds[c.kind]);
    lua_pushnumber(L, c.segment);
    lua_pushinteger(L, c.width);
    return 3;
}

// ids_form(model) -> the width of @ids: 16, 8, or 0 where it is a hash; how
// many ordinals each of its keys serves
static int l_ids_form(lua_State *L) {
    const struct schema *s = &lua_model_check(L, 1)->schema;
    lua_pushinteger(L, s->id_width);
    lua_pushnumber(L, s->ids_piece);
    return 2;
}

// row_facts(shadow) -> its ordinal, version, expiry in milliseconds since 1970
// (0 for none)
static int l_row_facts(lua_State *L) {
    const struct row *r = lua_row_check_shadow(L, 1);
    lua_pushnumber(L, r->ordinal);
    lua_pushlstring(L, r->version, ROW_VERSION);
    lua_pushnumber(L, (double)r->expires_ms);
    return 3;
}

// is_sound(model, shadow, field) -> whether what is stored is a value of the
// field's type, or null
static int l_is_sound(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *r = lua_row_check_shadow(L, 2);
    size_t len;
    const char *name = luaL_checklstring(L, 3, &len);
    int field = schema_find(&m->schema, name, len);
    struct value v = row_get(r, (uint32_t)field);
    if (field < 0 || !v.p) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct field plain = m->schema.fields[field];
    plain.has_min = plain.has_max = false;
    struct buf b = {0};
    struct value again;
    lua_row_push_value(L, &plain, v);
    const char *wrong =
        lua_row_encode_value(L, lua_gettop(L), &plain, &b, &again);
    lua_pushboolean(L, !wrong && again.p && b.len == v.len &&
                           (b.len == 0 || memcmp(b.data, v.p, b.len) == 0));
    buf_clear(&b);
    return 1;
}

// bits(text, base) -> the list of the ordinals whose bits are set in a slice of
// a bitmap that begins at that ordinal
static int l_bits(lua_State *L) {
    size_t len;
    const unsigned char *s =
        (const unsigned char *)luaL_checklstring(L, 1, &len);
    double base = luaL_checknumber(L, 2);
    lua_newtable(L);
    int n = 0;
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; s[i] && bit < 8; bit++) {
            if (s[i] & 0x80 >> bit) {
                lua_pushnumber(L, base + (double)(i * 8) + bit);
                lua_rawseti(L, -2, ++n);
            }
        }
    }
    return 1;
}

// -- ids of ordinals

struct ask {
    struct task *task; // NULL once nobody waits
    uint32_t wait;
    struct model *m;
};

static bool forget_ask(struct task *t, void *ctx) {
    (void)t;
    ((struct ask *)ctx)->task = NULL;
    return true;
}

static void on_ids(struct ids *ids, const char *code, const char *error) {
    struct ask *a = ids->ctx;
    struct task *t = a->task;
    if (t && code) {
        lua_push_error(t->L, code, "%s", error);
        task_wake_error(t, a->wait);
    } else if (t) {
        lua_createtable(t->L, (int)ids->count, 0);
        for (uint32_t i = 0; i < ids->count; i++) {
            if (ids->values[i].p) {
                lua_pushlstring(t->L, ids->values[i].p, ids->values[i].len);
            } else {
                lua_pushboolean(t->L, 0);
            }
            lua_rawseti(t->L, -2, (int)i + 1);
        }
        task_wake(t, a->wait, 1);
    }
    lua_model_release(a->m);
    free(a);
}

// ids(model, list of ordinals, at least one) -> the primary keys by place,
// false where there is none
static int l_ids(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct pool *p = lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    uint32_t *ordinals = xmalloc((n + 1) * sizeof ordinals[0]);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        ordinals[i] = (uint32_t)lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    struct ask *a = xcalloc(1, sizeof *a);
    lua_model_hold(L, m, 1);
    a->m = m;
    a->task = t;
    a->wait = task_park(t, "model load", forget_ask, a);
    ids_of_ordinals(p->shared, &m->schema, ordinals, n, on_ids, a);
    free(ordinals);
    return task_yield(L);
}

static const luaL_Reg functions[] = {{"adopt", l_adopt},
                                     {"follow", l_follow},
                                     {"complete", l_complete},
                                     {"building", l_building},
                                     {"match_build", l_match_build},
                                     {"is_of_build", l_is_of_build},
                                     {"entries", l_entries},
                                     {"is_entry", l_is_entry},
                                     {"classify", l_classify},
                                     {"ids_form", l_ids_form},
                                     {"row_facts", l_row_facts},
                                     {"is_sound", l_is_sound},
                                     {"bits", l_bits},
                                     {"ids", l_ids},
                                     {NULL, NULL}};

void lua_upkeep_open(lua_State *L) {
    luaL_register(L, NULL, functions);
}
