// lua_write: creates, saves and deletes of a model's rows, each a task's wait
// for host/model/commit.
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_model.h"
#include "lua/lua_row.h"
#include "lua/lua_write_error.h"
#include "model/batch.h"

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
    // new rows that become writes as others are done: those from `next` on
    struct row **rows;
    uint32_t count, next;
    int64_t life;
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

// set_new_id puts the id into the row, if a counter gave it.
static void set_new_id(struct model *m, struct write *w) {
    const struct schema *s = &m->schema;
    if (!w->new || row_get(w->new, (uint32_t)s->primary).p) {
        return;
    }
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
    if (code == WRITE_DONE) {
        set_new_id(c->m, w);
    }
    if (t && code == WRITE_DONE) {
        push_outcome(t->L, c->m, w);
        task_wake(t, c->wait, 3);
    } else if (t) {
        lua_write_error_push(t->L, c->m, w, code, field, error_code, error);
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
    free(many->rows);
    free(many);
}

static void push_one_result(lua_State *L, struct model *m, struct write *w) {
    set_new_id(m, w);
    if (w->new) {
        lua_row_push_shadow(L, w->new);
    } else {
        lua_pushboolean(L, true);
    }
}

static void feed(struct model *m, struct many *many);

static void on_one_of_many(struct write *w, enum write_code code, int field,
                           const char *error_code, const char *error) {
    struct call *c = w->ctx;
    struct many *many = c->many;
    lua_State *L = c->m->rt->L;
    int top = lua_gettop(L);
    if (code == WRITE_DONE) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, many->results);
        push_one_result(L, c->m, w);
    } else {
        many->has_errors = true;
        lua_rawgeti(L, LUA_REGISTRYINDEX, many->errors);
        lua_write_error_push(L, c->m, w, code, field, error_code, error);
    }
    lua_rawseti(L, -2, (int)c->index);
    lua_settop(L, top);
    many->pending--;
    feed(c->m, many);
    if (many->pending == 0) {
        end_many(many, L);
        lua_model_release(c->m);
    }
    free(c);
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
    c->wait = task_park(t, "model write", forget_call, c);
    commit_add(&m->commit, w);
    return task_yield(L);
}

static int64_t read_life(lua_State *L, int index) {
    return (int64_t)lua_tonumber(L, index);
}

// read_dirty returns the mask of the fields that the table at index names.
static uint64_t read_dirty(lua_State *L, const struct schema *s, int index) {
    uint64_t dirty = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        lua_getfield(L, index, s->fields[i].name);
        if (!lua_isnil(L, -1) && (int)i != s->primary) {
            dirty |= (uint64_t)1 << i;
        }
        lua_pop(L, 1);
    }
    return dirty;
}

// create(model, table, wrong | nil, life, attributes | nil) -> shadow, id,
// merged. With attributes it is an upsert: where the row exists, these are set.
static int l_create(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 5);
    struct row *r = lua_row_encode(L, m, 2, 3);
    struct write *w = new_write(m, WRITE_CREATE, NULL, r);
    w->life = read_life(L, 4);
    if (lua_istable(L, 5)) {
        w->kind = WRITE_UPSERT;
        w->dirty = read_dirty(L, &m->schema, 5);
    }
    return commit_and_wait(L, m, t, w);
}

// new_save returns the write that leads from old to r, NULL (and frees r) if
// there is nothing to do.
static struct write *new_save(struct model *m, const struct row *old,
                              struct row *r, int64_t life) {
    uint64_t dirty = 0;
    for (uint32_t i = 0; i < m->schema.count; i++) {
        if (!value_equals(row_get(old, i), row_get(r, i))) {
            dirty |= (uint64_t)1 << i;
        }
    }
    if (!dirty && !life) {
        free(r);
        return NULL;
    }
    r->ordinal = old->ordinal;
    struct write *w = new_write(m, WRITE_SAVE, old, r);
    w->dirty = dirty;
    w->life = life;
    w->is_optimistic = m->is_optimistic;
    return w;
}

// is_same_key says whether two rows have the same primary key; else it pushes
// the error. // [-0, +0|1]
static bool is_same_key(lua_State *L, struct model *m, const struct row *a,
                        const struct row *b) {
    const struct schema *s = &m->schema;
    uint32_t primary = (uint32_t)s->primary;
    if (value_equals(row_get(a, primary), row_get(b, primary))) {
        return true;
    }
    const char *name = s->fields[s->part_count ? s->parts[0] : primary].name;
    for (uint32_t i = 0; i < s->part_count; i++) {
        if (!value_equals(row_get(a, s->parts[i]), row_get(b, s->parts[i]))) {
            name = s->fields[s->parts[i]].name;
        }
    }
    lua_push_error(L, "model.invalid",
                   "model %s: the primary key %s cannot change", s->name, name);
    return false;
}

// save(model, table, shadow, wrong | nil, life, is_optimistic) -> shadow, id,
// merged; nothing if nothing changed
static int l_save(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = lua_row_check_shadow(L, 3);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 6);
    struct row *r = lua_row_encode(L, m, 2, 4);
    if (!is_same_key(L, m, old, r)) {
        free(r);
        return lua_error(L);
    }
    struct write *w = new_save(m, old, r, read_life(L, 5));
    if (!w) {
        return 0;
    }
    w->is_optimistic = w->is_optimistic || lua_toboolean(L, 6);
    return commit_and_wait(L, m, t, w);
}

// live(model, shadow, life) -> shadow, id, merged: stores nothing but the life,
// which is not 0
static int l_live(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = lua_row_check_shadow(L, 2);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    struct write *w = new_save(m, old, row_copy(old), read_life(L, 3));
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

// -- many writes

// What is being encoded: the rows from `next` up to `stop`.
struct encoding {
    struct row **rows;
    uint32_t next, stop;
};

// l_encode(model, tables, wrongs, encoding) encodes them; it raises what is
// wrong with the one before `next`.
static int l_encode(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct encoding *e = lua_touserdata(L, 4);
    while (e->next < e->stop) {
        uint32_t i = e->next++;
        lua_rawgeti(L, 2, (int)i + 1);
        lua_rawgeti(L, 3, (int)i + 1);
        e->rows[i] = lua_row_encode(L, m, 5, 6);
        lua_settop(L, 4);
    }
    return 0;
}

static int l_rows_gc(lua_State *L) {
    struct row **rows = lua_touserdata(L, 1);
    for (size_t i = 0; i < lua_objlen(L, 1) / sizeof rows[0]; i++) {
        free(rows[i]);
    }
    return 0;
}

// new_rows pushes a userdata that holds n rows until they are taken out.
static struct row **new_rows(lua_State *L, uint32_t n) {
    struct row **rows = lua_newuserdata(L, (n + 1) * sizeof rows[0]);
    memset(rows, 0, (n + 1) * sizeof rows[0]);
    luaL_getmetatable(L, ROWS);
    lua_setmetatable(L, -2);
    return rows;
}

static uint32_t count_rows(lua_State *L, int index) {
    return (uint32_t)(lua_objlen(L, index) / sizeof(struct row *)) - 1;
}

// hold_rows(n) -> a place for n rows that encode_rows makes
static int l_hold_rows(lua_State *L) {
    new_rows(L, (uint32_t)luaL_checkinteger(L, 1));
    return 1;
}

// encode_rows(model, tables, wrongs by place, held, errors by place, from, to)
// -> whether those are right; what is wrong with the others goes into errors
static int l_encode_rows(lua_State *L) {
    lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    struct encoding e = {.rows = luaL_checkudata(L, 4, ROWS)};
    luaL_checktype(L, 5, LUA_TTABLE);
    lua_Integer from = luaL_checkinteger(L, 6), to = luaL_checkinteger(L, 7);
    luaL_argcheck(L, from >= 1 && to <= (lua_Integer)count_rows(L, 4), 6,
                  "out of the list");
    e.next = (uint32_t)from - 1;
    e.stop = (uint32_t)to;
    bool is_right = true;
    while (e.next < e.stop) {
        lua_pushcfunction(L, l_encode);
        for (int i = 1; i <= 3; i++) {
            lua_pushvalue(L, i);
        }
        lua_pushlightuserdata(L, &e);
        if (lua_pcall(L, 4, 0, 0) != 0) {
            lua_rawseti(L, 5, (int)e.next);
            is_right = false;
        }
    }
    lua_pushboolean(L, is_right);
    return 1;
}

// begin_many takes the lists of results and errors at these indexes.
static struct many *begin_many(lua_State *L, struct task *t, int results,
                               int errors) {
    struct many *many = xcalloc(1, sizeof *many);
    many->task = t;
    lua_pushvalue(L, results);
    many->results = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, errors);
    many->errors = luaL_ref(L, LUA_REGISTRYINDEX);
    many->pending = 1; // until all are queued
    return many;
}

static void add_to_many(struct model *m, struct many *many, uint32_t index,
                        struct write *w) {
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){.m = m, .many = many, .index = index};
    w->ctx = c;
    w->done = on_one_of_many;
    many->pending++;
    commit_add(&m->commit, w);
}

// feed makes writes of the next rows, enough to have two batches under way: the
// rest is made while the server works.
static void feed(struct model *m, struct many *many) {
    while (many->next < many->count && many->pending < 2 * COMMIT_BATCH_ROWS) {
        struct row *r = many->rows[many->next++];
        struct write *w = new_write(m, WRITE_CREATE, NULL, r);
        w->life = many->life;
        add_to_many(m, many, many->next, w);
    }
}

static int wait_many(lua_State *L, struct model *m, struct many *many) {
    if (--many->pending == 0) { // there was nothing to do
        lua_rawgeti(L, LUA_REGISTRYINDEX, many->results);
        luaL_unref(L, LUA_REGISTRYINDEX, many->results);
        luaL_unref(L, LUA_REGISTRYINDEX, many->errors);
        free(many->rows);
        free(many);
        return 1;
    }
    lua_model_hold(L, m, 1);
    many->wait = task_park(many->task, "model write", forget_many, many);
    return task_yield(L);
}

// create_many(model, held, life) -> shadows by place, errors by place | nil
static int l_create_many(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct row **rows = luaL_checkudata(L, 2, ROWS);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 3);
    uint32_t n = count_rows(L, 2);
    lua_createtable(L, (int)n, 0); // at 4, the results
    lua_newtable(L);               // at 5, the errors
    struct many *many = begin_many(L, t, 4, 5);
    many->rows = xmalloc((n + 1) * sizeof rows[0]);
    memcpy(many->rows, rows, n * sizeof rows[0]);
    memset(rows, 0, n * sizeof rows[0]);
    many->count = n;
    many->life = read_life(L, 3);
    feed(m, many);
    return wait_many(L, m, many);
}

// save_many(model, held, shadows, refused) -> shadows by place (none where
// nothing changed), errors by place | nil; nil and the errors if some were
// refused before any was sent: `refused` has those so far
static int l_save_many(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct row **rows = luaL_checkudata(L, 2, ROWS);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 4);
    uint32_t n = count_rows(L, 2);
    bool is_right = true;
    lua_newtable(L); // at 5, the results
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 3, (int)i + 1);
        const struct row *old = lua_row_check_shadow(L, lua_gettop(L));
        if (rows[i] && !is_same_key(L, m, old, rows[i])) {
            lua_rawseti(L, 4, (int)i + 1);
        }
        lua_rawgeti(L, 4, (int)i + 1);
        is_right = is_right && lua_isnil(L, -1);
        lua_pop(L, 2);
    }
    if (!is_right) {
        lua_pushnil(L);
        lua_pushvalue(L, 4);
        return 2;
    }
    struct many *many = begin_many(L, t, 5, 4);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 3, (int)i + 1);
        const struct row *old = lua_row_check_shadow(L, lua_gettop(L));
        struct write *w = new_save(m, old, rows[i], 0);
        rows[i] = NULL;
        lua_pop(L, 1);
        if (w) {
            add_to_many(m, many, i + 1, w);
        }
    }
    return wait_many(L, m, many);
}

// mend(model, shadows, "sweep" | "build" | "index" | "enter" | "renumber") ->
// true by place, errors by place | nil. sweep removes rows whose time is over;
// the others carry the index commands of rows out again: of the indexes under
// construction, of all; after entering the row anew, under a new ordinal.
static int l_mend(lua_State *L) {
    static const char *const ways[] = {"sweep", "build",    "index",
                                       "enter", "renumber", NULL};
    struct model *m = lua_model_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int way = luaL_checkoption(L, 3, NULL, ways);
    lua_model_pool(L, m);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_settop(L, 3);
    lua_newtable(L);
    lua_newtable(L);
    struct many *many = begin_many(L, t, 4, 5);
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        const struct row *old = lua_row_check_shadow(L, lua_gettop(L));
        enum write_kind kind = way == 0 ? WRITE_SWEEP : WRITE_INDEX;
        struct write *w = new_write(m, kind, old, NULL);
        w->is_whole = way > 1;
        w->life = way == 3 ? INDEX_ENTER : way == 4 ? INDEX_RENUMBER : 0;
        lua_pop(L, 1);
        add_to_many(m, many, i + 1, w);
    }
    return wait_many(L, m, many);
}

// -- increments

// is_in_script says whether apply.lua can keep the field's indexes by itself.
static bool is_in_script(const struct schema *s, uint32_t field) {
    for (uint32_t i = 0; i < s->compound_count; i++) {
        for (uint32_t j = 0; j < s->compounds[i].count; j++) {
            if (s->compounds[i].fields[j] == field) {
                return false;
            }
        }
    }
    return !s->fields[field].is_unique;
}

// read_increments reads { field = by } at index, and says whether the script
// can do them. What is wrong is raised.
static bool read_increments(lua_State *L, struct model *m, int index,
                            struct increment *list, uint32_t *count) {
    const struct schema *s = &m->schema;
    bool is_all = true;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        size_t len = 0;
        const char *name =
            lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : "";
        int field = schema_find(s, name, len);
        enum field_type type = field < 0 ? FIELD_JSON : s->fields[field].type;
        double by = lua_tonumber(L, -1);
        bool is_whole = by == floor(by) && fabs(by) <= 9007199254740992.0;
        if ((type != FIELD_INTEGER && type != FIELD_NUMBER) ||
            field == s->primary) {
            lua_fail(L, "model.invalid",
                     "model %s: %s is no integer or number field to increment",
                     s->name, name);
        }
        if (lua_type(L, -1) != LUA_TNUMBER || !isfinite(by) ||
            (type == FIELD_INTEGER && !is_whole)) {
            lua_fail(L, "model.invalid",
                     "model %s: %s is incremented by %s, got %s", s->name, name,
                     type == FIELD_INTEGER ? "an integer" : "a number",
                     lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1)
                                                    : luaL_typename(L, -1));
        }
        is_all = is_all && is_in_script(s, (uint32_t)field);
        list[(*count)++] = (struct increment){(uint32_t)field, by};
        lua_pop(L, 1);
    }
    return is_all;
}

// increment(model, id's bytes, shadow | nil, { field = by }) -> shadow, id,
// true
static int l_increment(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    size_t len;
    const char *id = luaL_checklstring(L, 2, &len);
    const struct row *old = lua_isnil(L, 3) ? NULL : lua_row_check_shadow(L, 3);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_model_pool(L, m);
    struct increment list[SCHEMA_FIELDS];
    uint32_t count = 0;
    bool is_in = read_increments(L, m, 4, list, &count);
    struct task *t = task_current(L, m->rt);
    if (!t) {
        return task_yield(L);
    }
    struct write *w = xcalloc(1, sizeof *w);
    w->kind = is_in ? WRITE_INCREMENT : WRITE_SAVE;
    w->id = xstrndup(id, len);
    w->id_len = len;
    w->old = is_in && old ? row_copy(old) : NULL;
    w->increments = xmalloc((count + 1) * sizeof list[0]);
    memcpy(w->increments, list, count * sizeof list[0]);
    w->increment_count = count;
    if (!is_in && old) { // from the row as it was loaded
        char error[64];
        int field =
            batch_merge(&m->schema, w, row_copy(old), error, sizeof error);
        if (field >= 0) { // as it was loaded: the row as it is now decides
            free(w->new);
            w->new = NULL;
            memset(w->old->version + ROW_CREATION, 0xff,
                   ROW_VERSION - ROW_CREATION);
        }
    }
    return commit_and_wait(L, m, t, w);
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

// refill(model, table, old shadow, new shadow): as fill, but fields that were
// changed in the table since it was as the old shadow stay so.
static int l_refill(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    const struct row *old = lua_row_check_shadow(L, 3);
    const struct row *new = lua_row_check_shadow(L, 4);
    for (uint32_t i = 0; i < m->schema.count; i++) {
        const struct field *f = &m->schema.fields[i];
        struct buf b = {0};
        struct value v;
        buf_reserve(&b, 1);
        lua_getfield(L, 2, f->name);
        const char *wrong = lua_row_encode_value(L, lua_gettop(L), f, &b, &v);
        v.p = v.p ? b.data : NULL;
        bool is_clean = !wrong && value_equals(v, row_get(old, i));
        buf_clear(&b);
        lua_pop(L, 1);
        if (is_clean && f->type != FIELD_KEY) {
            lua_pushstring(L, f->name);
            if (row_get(new, i).p) {
                lua_row_push_value(L, f, row_get(new, i));
            } else {
                lua_pushnil(L);
            }
            lua_rawset(L, 2);
        }
    }
    return 0;
}

// is_same_life(shadow, shadow), both of one row -> whether it was not deleted
// and created again between them (rows of one batch share what names a life)
static int l_is_same_life(lua_State *L) {
    const struct row *a = lua_row_check_shadow(L, 1);
    const struct row *b = lua_row_check_shadow(L, 2);
    lua_pushboolean(L, memcmp(a->version, b->version, ROW_CREATION) == 0);
    return 1;
}

static const luaL_Reg functions[] = {{"is_same_life", l_is_same_life},
                                     {"create", l_create},
                                     {"hold_rows", l_hold_rows},
                                     {"encode_rows", l_encode_rows},
                                     {"create_many", l_create_many},
                                     {"save", l_save},
                                     {"save_many", l_save_many},
                                     {"live", l_live},
                                     {"delete", l_delete},
                                     {"mend", l_mend},
                                     {"increment", l_increment},
                                     {"fill", l_fill},
                                     {"refill", l_refill},
                                     {NULL, NULL}};

void lua_write_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, ROWS);
    lua_pushcfunction(L, l_rows_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, LUA_ROW_SHADOW);
    lua_pop(L, 1);
}
