// lua_write: creates, saves and deletes of a model's rows, each a task's wait
// for host/model/commit.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_model.h"
#include "lua/lua_row.h"

#define ROWS "neap.rows"

// A call is a Lua task's interest in one write, or in one of many.
struct call {
    struct task *task; // NULL once nobody waits
    uint32_t wait;
    struct model *m;
    struct many *many;
    uint32_t index;
};

struct many {
    uint32_t pending;
    struct task *task;
    uint32_t wait;
    int results, errors; // registry references of lists
    bool has_errors;
};

static bool forget_call(struct task *t, void *ctx) {
    (void)t;
    ((struct call *)ctx)->task = NULL; // the write itself goes on
    return true;
}

static bool forget_many(struct task *t, void *ctx) {
    (void)t;
    ((struct many *)ctx)->task = NULL;
    return true;
}

static void push_write_error(lua_State *L, struct model *m, struct write *w,
                             enum write_code code, int field,
                             const char *error_code, const char *error) {
    const char *name = m->schema.name;
    int id_len = (int)(w->id_len > 80 ? 80 : w->id_len);
    switch (code) {
    case WRITE_EXISTS:
        lua_push_error(L, "model.exists", "model %s: %.*s exists already", name,
                       id_len, w->id);
        break;
    case WRITE_GONE:
        lua_push_error(L, "model.gone",
                       "model %s: %.*s does not exist (any more)", name, id_len,
                       w->id);
        break;
    case WRITE_UNIQUE: {
        struct value v = row_get(w->new, (uint32_t)field);
        int len = (int)(v.len > 80 ? 80 : v.len);
        const char *f = m->schema.fields[field].name;
        lua_push_error(L, "model.unique", "model %s: field %s: '%.*s' is taken",
                       name, f, len, v.p);
        lua_pushstring(L, f);
        lua_setfield(L, -2, "field");
        break;
    }
    default: lua_push_error(L, error_code, "%s", error);
    }
    lua_pushstring(L, name);
    lua_setfield(L, -2, "model");
}

// push_outcome pushes the shadow and the id of what was written, and whether
// another's write was merged in. // [-0, +3]
static void push_outcome(lua_State *L, struct model *m, struct write *w) {
    if (w->new) {
        lua_row_push_shadow(L, w->new);
    } else {
        lua_pushboolean(L, 1);
    }
    const struct field *f = &m->schema.fields[m->schema.primary];
    lua_row_push_value(L, f, (struct value){w->id, w->id_len});
    lua_pushboolean(L, w->is_merged);
}

// set_new_id puts the id that a counter gave into the row.
static void set_new_id(struct model *m, struct write *w) {
    const struct schema *s = &m->schema;
    struct value values[SCHEMA_FIELDS];
    for (uint32_t i = 0; i < s->count; i++) {
        values[i] = row_get(w->new, i);
    }
    values[s->primary] = (struct value){w->id, w->id_len};
    struct row *r = row_new(values, s->count);
    memcpy(r->version, w->new->version, ROW_VERSION);
    r->ordinal = w->new->ordinal;
    free(w->new);
    w->new = r;
}

static void on_call_done(struct write *w, enum write_code code, int field,
                         const char *error_code, const char *error) {
    struct call *c = w->ctx;
    struct task *t = c->task;
    if (code == WRITE_DONE && w->kind == WRITE_CREATE && c->m->schema.is_auto) {
        set_new_id(c->m, w);
    }
    if (t && code == WRITE_DONE) {
        push_outcome(t->L, c->m, w);
        task_wake(t, c->wait, 3);
    } else if (t) {
        push_write_error(t->L, c->m, w, code, field, error_code, error);
        task_wake_error(t, c->wait);
    }
    lua_model_release(c->m);
    free(c);
}

static void end_many(struct many *many, lua_State *L) {
    struct task *t = many->task;
    if (t) {
        lua_rawgeti(t->L, LUA_REGISTRYINDEX, many->results);
        if (many->has_errors) {
            lua_rawgeti(t->L, LUA_REGISTRYINDEX, many->errors);
        } else {
            lua_pushnil(t->L);
        }
        task_wake(t, many->wait, 2);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, many->results);
    luaL_unref(L, LUA_REGISTRYINDEX, many->errors);
    free(many);
}

static void on_one_of_many(struct write *w, enum write_code code, int field,
                           const char *error_code, const char *error) {
    struct call *c = w->ctx;
    struct many *many = c->many;
    lua_State *L = c->m->rt->L;
    int top = lua_gettop(L);
    if (code == WRITE_DONE) {
        if (c->m->schema.is_auto) {
            set_new_id(c->m, w);
        }
        lua_rawgeti(L, LUA_REGISTRYINDEX, many->results);
        lua_row_push(L, c->m, w->new);
    } else {
        many->has_errors = true;
        lua_rawgeti(L, LUA_REGISTRYINDEX, many->errors);
        push_write_error(L, c->m, w, code, field, error_code, error);
    }
    lua_rawseti(L, -2, (int)c->index);
    lua_settop(L, top);
    if (--many->pending == 0) {
        end_many(many, L);
        lua_model_release(c->m);
    }
    free(c);
}

static void make_version(struct row *r) {
    // ROW_CREATION random bytes, then a count of writes from 0
    if (getrandom(r->version, ROW_CREATION, 0) != ROW_CREATION) {
        uint64_t now = uv_hrtime();
        memcpy(r->version, &now, ROW_CREATION);
    }
}

static struct write *new_write(struct model *m, enum write_kind kind,
                               const struct row *old, struct row *new) {
    struct write *w = xcalloc(1, sizeof *w);
    const struct row *named = new ? new : old;
    struct value id = row_get(named, (uint32_t)m->schema.primary);
    w->kind = kind;
    w->old = old ? row_copy(old) : NULL;
    w->new = new;
    w->id = xstrndup(id.p ? id.p : "", id.len);
    w->id_len = id.len;
    return w;
}

static int commit_and_wait(lua_State *L, struct model *m, struct task *t,
                           struct write *w) {
    struct call *c = xcalloc(1, sizeof *c);
    lua_model_hold(L, m, 1);
    c->m = m;
    c->task = t;
    w->ctx = c;
    w->done = on_call_done;
    c->wait = task_park(t, forget_call, c);
    commit_add(&m->commit, w);
    return task_yield(L);
}

// create(model, table) -> shadow, id, merged
static int l_create(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 2);
    struct row *r = lua_row_encode(L, m, 2);
    make_version(r);
    return commit_and_wait(L, m, t, new_write(m, WRITE_CREATE, NULL, r));
}

// create_many(model, list of tables) -> rows by place, errors by place | nil
static int l_create_many(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    // rows live in a userdata while others are encoded, as that may raise
    struct row **rows = lua_newuserdata(L, (n + 1) * sizeof rows[0]);
    memset(rows, 0, (n + 1) * sizeof rows[0]);
    luaL_getmetatable(L, ROWS);
    lua_setmetatable(L, -2);
    for (uint32_t i = 0; i < n; i++) {
        lua_settop(L, 3);
        lua_rawgeti(L, 2, (int)i + 1);
        rows[i] = lua_row_encode(L, m, 4);
        make_version(rows[i]);
    }
    struct many *many = xcalloc(1, sizeof *many);
    many->pending = n;
    many->task = t;
    lua_createtable(L, (int)n, 0);
    many->results = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    many->errors = luaL_ref(L, LUA_REGISTRYINDEX);
    for (uint32_t i = 0; i < n; i++) {
        struct call *c = xcalloc(1, sizeof *c);
        *c = (struct call){.m = m, .many = many, .index = i + 1};
        struct write *w = new_write(m, WRITE_CREATE, NULL, rows[i]);
        rows[i] = NULL;
        w->ctx = c;
        w->done = on_one_of_many;
        commit_add(&m->commit, w);
    }
    lua_model_hold(L, m, 1);
    many->wait = task_park(t, forget_many, many);
    return task_yield(L);
}

static int l_rows_gc(lua_State *L) {
    struct row **rows = lua_touserdata(L, 1);
    for (size_t i = 0; i < lua_objlen(L, 1) / sizeof rows[0]; i++) {
        free(rows[i]);
    }
    return 0;
}

// save(model, table, shadow) -> shadow, id, merged; nothing if nothing changed
static int l_save(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = lua_row_check_shadow(L, 3);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 3);
    struct row *r = lua_row_encode(L, m, 2);
    uint64_t dirty = 0;
    for (uint32_t i = 0; i < m->schema.count; i++) {
        if (!value_equals(row_get(old, i), row_get(r, i))) {
            dirty |= (uint64_t)1 << i;
        }
    }
    if (dirty >> m->schema.primary & 1) {
        free(r);
        return lua_fail(
            L, "model.invalid", "model %s: the primary key %s cannot change",
            m->schema.name, m->schema.fields[m->schema.primary].name);
    }
    if (!dirty) {
        free(r);
        return 0;
    }
    r->ordinal = old->ordinal;
    struct write *w = new_write(m, WRITE_SAVE, old, r);
    w->dirty = dirty;
    return commit_and_wait(L, m, t, w);
}

// delete(model, shadow)
static int l_delete(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = lua_row_check_shadow(L, 2);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    return commit_and_wait(L, m, t, new_write(m, WRITE_DELETE, old, NULL));
}

// fill(model, table, shadow): sets the fields to what the shadow holds
static int l_fill(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *r = lua_row_check_shadow(L, 3);
    for (uint32_t i = 0; i < m->schema.count; i++) {
        lua_pushstring(L, m->schema.fields[i].name);
        lua_pushnil(L);
        lua_rawset(L, 2);
    }
    lua_row_fill(L, m, r, 2);
    return 0;
}

static const luaL_Reg functions[] = {
    {"create", l_create}, {"create_many", l_create_many},
    {"save", l_save},     {"delete", l_delete},
    {"fill", l_fill},     {NULL, NULL}};

void lua_write_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, ROWS);
    lua_pushcfunction(L, l_rows_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, LUA_ROW_SHADOW);
    lua_pop(L, 1);
}
