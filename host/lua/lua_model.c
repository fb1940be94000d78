// lua_model: definitions, rows and writes of host/model.
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
#include "base/utf8.h"
#include "lua/lua_error.h"
#include "lua/lua_json.h"
#include "lua/lua_redis.h"
#include "model/fetch.h"
#include "model/key.h"

#define MODEL  "neap.model"
#define SHADOW "neap.shadow"

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

// -- values

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
            return "it is too short";
        }
        if (f->has_max && (double)count > f->max) {
            return "it is too long";
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
        return "it is below the minimum";
    }
    if (f->has_max && v > f->max) {
        return "it is above the maximum";
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

const char *lua_model_encode(lua_State *L, int index, const struct field *f,
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

static void push_value(lua_State *L, const struct field *f, struct value v) {
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

static void push_shadow(lua_State *L, const struct row *r) {
    memcpy(lua_newuserdata(L, r->size), r, r->size);
    luaL_getmetatable(L, SHADOW);
    lua_setmetatable(L, -2);
}

// fill sets the table's fields from the row. The table is at `index`.
static void fill(lua_State *L, struct model *m, const struct row *r,
                 int index) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->names);
    for (uint32_t i = 0; i < m->schema.count; i++) {
        struct value v = row_get(r, i);
        if (v.p) {
            lua_rawgeti(L, -1, (int)i + 1);
            push_value(L, &m->schema.fields[i], v);
            lua_rawset(L, index);
        }
    }
    lua_pop(L, 1);
}

void lua_model_push_row(lua_State *L, struct model *m, const struct row *r) {
    lua_createtable(L, 0, (int)m->schema.count);
    int table = lua_gettop(L);
    fill(L, m, r, table);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->class);
    lua_setmetatable(L, table);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->shadows);
    lua_pushvalue(L, table);
    push_shadow(L, r);
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
static struct row *encode_row(lua_State *L, struct model *m, int row) {
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
        const char *wrong = lua_model_encode(L, at, f, &bytes, &values[i]);
        if (wrong) {
            push_printable(L, at);
            wrong =
                lua_pushfstring(L, "%s, got %s", wrong, lua_tostring(L, -1));
            add_wrong(L, &errors, f->name, wrong);
        } else if (!values[i].p && f->is_required) {
            add_wrong(L, &errors, f->name, "it is required");
        } else if (!values[i].p && (int)i == s->primary && !s->is_auto) {
            add_wrong(L, &errors, f->name, "the primary key is required");
        } else if ((int)i == s->primary && values[i].p && values[i].len == 0) {
            add_wrong(L, &errors, f->name, "a primary key cannot be empty");
        }
        if (!errors) {
            lua_settop(L, names);
        } else if (errors < names) {
            lua_settop(L, names);
        } else { // the table of errors stays where it is
            lua_settop(L, errors);
        }
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

// -- writes

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
        push_shadow(L, w->new);
    } else {
        lua_pushboolean(L, 1);
    }
    const struct field *f = &m->schema.fields[m->schema.primary];
    push_value(L, f, (struct value){w->id, w->id_len});
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
        lua_model_push_row(L, c->m, w->new);
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
    struct row *r = encode_row(L, m, 2);
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
    luaL_getmetatable(L, "neap.rows");
    lua_setmetatable(L, -2);
    for (uint32_t i = 0; i < n; i++) {
        lua_settop(L, 3);
        lua_rawgeti(L, 2, (int)i + 1);
        rows[i] = encode_row(L, m, 4);
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

static const struct row *check_shadow(lua_State *L, int arg) {
    return luaL_checkudata(L, arg, SHADOW);
}

// save(model, table, shadow) -> shadow, id, merged; nothing if nothing changed
static int l_save(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = check_shadow(L, 3);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 3);
    struct row *r = encode_row(L, m, 2);
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
    const struct row *old = check_shadow(L, 2);
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
    const struct row *r = check_shadow(L, 3);
    for (uint32_t i = 0; i < m->schema.count; i++) {
        lua_pushstring(L, m->schema.fields[i].name);
        lua_pushnil(L);
        lua_rawset(L, 2);
    }
    fill(L, m, r, 2);
    return 0;
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
                lua_model_push_row(t->L, l->m, f->rows[i]);
            } else {
                lua_pushboolean(t->L, 0);
            }
            lua_rawseti(t->L, -2, (int)i + 1);
        }
        task_wake(t, l->wait, 1);
    } else {
        if (f->rows[0]) {
            lua_model_push_row(t->L, l->m, f->rows[0]);
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
    const char *wrong = lua_model_encode(L, index, &plain, b, &v);
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

static const luaL_Reg functions[] = {{"define", l_define},
                                     {"create", l_create},
                                     {"create_many", l_create_many},
                                     {"save", l_save},
                                     {"delete", l_delete},
                                     {"fill", l_fill},
                                     {"load", l_load},
                                     {"load_many", l_load_many},
                                     {"row_key", l_row_key},
                                     {"keys", l_keys},
                                     {"schema", l_schema},
                                     {"uuid", l_uuid},
                                     {NULL, NULL}};

int luaopen_neap_model(lua_State *L) {
    static const struct {
        const char *name;
        lua_CFunction gc;
    } classes[] = {
        {MODEL, l_model_gc}, {SHADOW, NULL}, {"neap.rows", l_rows_gc}};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        luaL_newmetatable(L, classes[i].name);
        if (classes[i].gc) {
            lua_pushcfunction(L, classes[i].gc);
            lua_setfield(L, -2, "__gc");
        }
        lua_pop(L, 1);
    }
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_query_open(L);
    return 1;
}
