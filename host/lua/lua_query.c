// lua_query: the binding of model/plan and model/exec.
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_row.h"
#include "model/exec.h"
#include "model/index.h"

#define QUERY "neap.query"

// A box holds an execution for Lua, and the task that waits for a step of it.
struct box {
    struct exec *exec;
    struct model *m;
    struct task *task;
    uint32_t wait;
    int model; // registry reference: the model lives as long
    bool is_parked;
    bool is_opening; // rows that are there already are for query_next
    // what a step ended with before the task was parked
    bool is_done;
    char code[32], error[256];
};

static struct box *check_box(lua_State *L) {
    struct box *b = luaL_checkudata(L, 1, QUERY);
    if (!b->exec) {
        lua_fail(L, "model.query", "the query was cancelled");
    }
    if (exec_is_busy(b->exec)) {
        lua_fail(L, "model.query", "another task waits for these rows");
    }
    return b;
}

// -- conditions

static int fail_condition(lua_State *L, struct query *q, const struct field *f,
                          const char *wrong, int value) {
    const char *name = q->schema->name;
    int type = lua_type(L, value);
    const char *mark = type == LUA_TSTRING ? "'" : "";
    const char *got = type == LUA_TSTRING || type == LUA_TNUMBER
                          ? lua_tostring(L, value)
                          : luaL_typename(L, value);
    char text[200];
    snprintf(text, sizeof text, "%s, got %s%s%.60s%s", wrong,
             type == LUA_TTABLE ? "a " : "", mark, got, mark);
    query_clear(q);
    lua_push_error(L, "model.invalid", "model %s: field %s: %s", name, f->name,
                   text);
    lua_newtable(L);
    lua_pushstring(L, text);
    lua_setfield(L, -2, f->name);
    lua_setfield(L, -2, "fields");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "model");
    return lua_error(L);
}

static int by_bytes(const void *a, const void *b) {
    const struct value *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int r = n ? memcmp(x->p, y->p, n) : 0;
    return r ? r : (x->len > y->len) - (x->len < y->len);
}

// read_values encodes the list at index `list`, sorted and without doubles.
static void read_values(lua_State *L, struct query *q, struct condition *c,
                        int list) {
    const struct field *f = &q->schema->fields[c->field];
    // limits are for what is stored: a value outside just matches nothing
    struct field plain = f->element ? *f->element : *f;
    plain.has_min = plain.has_max = false;
    uint32_t n = (uint32_t)lua_objlen(L, list);
    c->values = xcalloc(n + 1, sizeof c->values[0]);
    for (uint32_t i = 0; i < n; i++) {
        struct buf b = {0};
        struct value v;
        lua_rawgeti(L, list, (int)i + 1);
        const char *wrong =
            lua_row_encode_value(L, lua_gettop(L), &plain, &b, &v);
        if (!wrong && !v.p) {
            wrong = "a value is expected";
        }
        if (wrong) {
            buf_clear(&b);
            fail_condition(L, q, f, wrong, lua_gettop(L));
        }
        c->values[c->count].p = xstrndup(b.data ? b.data : "", b.len);
        c->values[c->count++].len = b.len;
        buf_clear(&b);
        lua_pop(L, 1);
    }
    qsort(c->values, c->count, sizeof c->values[0], by_bytes);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (kept && by_bytes(&c->values[kept - 1], &c->values[i]) == 0) {
            free((char *)(uintptr_t)c->values[i].p);
        } else {
            c->values[kept++] = c->values[i];
        }
    }
    c->count = kept;
}

static double read_bound(lua_State *L, struct query *q, const struct field *f,
                         int at, double otherwise) {
    if (lua_isnil(L, at)) {
        return otherwise;
    }
    if (!schema_is_numeric(f)) {
        fail_condition(L, q, f,
                       "ranges are for integers, numbers, dates and times", at);
    }
    if (lua_type(L, at) == LUA_TNUMBER && f->type != FIELD_DATE) {
        double v = lua_tonumber(L, at);
        if (isnan(v)) {
            fail_condition(L, q, f, "a range takes numbers", at);
        }
        return v;
    }
    struct field plain = {.type = f->type};
    struct buf b = {0};
    struct value v;
    const char *wrong = lua_row_encode_value(L, at, &plain, &b, &v);
    double number = 0;
    if (!wrong) {
        v.p = b.data;
        number = index_order_number(f, v);
    }
    buf_clear(&b);
    if (wrong) {
        fail_condition(L, q, f,
                       f->type == FIELD_TIME   ? "a range takes times"
                       : f->type == FIELD_DATE ? "a range takes dates"
                                               : "a range takes numbers",
                       at);
    }
    return number;
}

// read_text reads a bound that is a string, or nil.
static struct value read_text(lua_State *L, struct query *q,
                              const struct field *f, int at) {
    struct value v = {NULL, 0};
    if (lua_type(L, at) == LUA_TSTRING) {
        v.p = lua_tolstring(L, at, &v.len);
    } else if (!lua_isnil(L, at)) {
        fail_condition(L, q, f, "a range takes strings", at);
    }
    return v;
}

// read_range reads low, high, whether these are left out themselves, and
// whether low is a prefix, from index on.
static void read_range(lua_State *L, struct query *q, const struct field *f,
                       struct condition *c, int at) {
    bool is_above = lua_toboolean(L, at + 2),
         is_below = lua_toboolean(L, at + 3);
    bool is_text = f->type == FIELD_STRING;
    if (lua_toboolean(L, at + 4)) {
        if (!is_text) {
            fail_condition(L, q, f, "prefixes are for strings", at);
        }
        plan_prefix(c, read_text(L, q, f, at));
    } else if (is_text) {
        plan_text_range(c, read_text(L, q, f, at), read_text(L, q, f, at + 1),
                        is_above, is_below);
    } else {
        c->low = read_bound(L, q, f, at, -INFINITY);
        c->high = read_bound(L, q, f, at + 1, INFINITY);
        c->low = is_above ? nextafter(c->low, INFINITY) : c->low;
        c->high = is_below ? nextafter(c->high, -INFINITY) : c->high;
    }
}

// read_condition reads { field, "in", list }, { field, "range", low, high,
// is_above, is_below, is_prefix } or { field, "null" } at the top of the stack.
static void read_condition(lua_State *L, struct query *q, struct condition *c) {
    int at = lua_gettop(L);
    size_t len;
    lua_rawgeti(L, at, 1);
    const char *name = luaL_checklstring(L, -1, &len);
    int field = schema_find(q->schema, name, len);
    if (field < 0) {
        const char *model = q->schema->name;
        query_clear(q);
        lua_fail(L, "model.invalid", "model %s: there is no field '%.60s'",
                 model, name);
    }
    c->field = (uint32_t)field;
    const struct field *f = &q->schema->fields[field];
    lua_rawgeti(L, at, 2);
    const char *op = luaL_checkstring(L, -1);
    if (op[0] == 'i') {
        c->op = COND_IN;
        lua_rawgeti(L, at, 3);
        read_values(L, q, c, lua_gettop(L));
    } else if (op[0] == 'r') {
        c->op = COND_RANGE;
        for (int i = 3; i <= 7; i++) {
            lua_rawgeti(L, at, i);
        }
        read_range(L, q, f, c, lua_gettop(L) - 4);
    } else {
        c->op = COND_NULL;
    }
    lua_settop(L, at);
}

static uint64_t read_count(lua_State *L, int index, uint64_t otherwise) {
    double n = lua_tonumber(L, index);
    if (lua_isnoneornil(L, index)) {
        return otherwise;
    }
    return n < 9007199254740992.0 ? (uint64_t)n : NO_LIMIT;
}

// query(model, conditions, order | nil, is_descending, limit | nil, offset |
// nil) -> query
static int l_query(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct pool *p = lua_model_pool(L, m);
    lua_settop(L, 6);
    struct query q = {.schema = &m->schema,
                      .order = -1,
                      .is_descending = lua_toboolean(L, 4),
                      .limit = read_count(L, 5, NO_LIMIT),
                      .offset = read_count(L, 6, 0)};
    if (!lua_isnil(L, 3)) {
        size_t len;
        const char *name = luaL_checklstring(L, 3, &len);
        q.order = schema_find(&m->schema, name, len);
        if (q.order < 0) {
            return lua_fail(L, "model.invalid",
                            "model %s: there is no field '%.60s'",
                            m->schema.name, name);
        }
    }
    uint32_t n = (uint32_t)lua_objlen(L, 2);
    q.conditions = xcalloc(n + 1, sizeof q.conditions[0]);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        q.count++;
        read_condition(L, &q, &q.conditions[i]);
        lua_pop(L, 1);
    }
    char error[256];
    bool is_building = false;
    struct exec *e =
        exec_new(p->shared, &q, &m->memory, &is_building, error, sizeof error);
    if (!e) {
        query_clear(&q);
        return lua_fail(L, is_building ? "model.building" : "model.unindexed",
                        "%s", error);
    }
    struct box *b = lua_newuserdata(L, sizeof *b);
    *b = (struct box){.exec = e, .m = m, .model = LUA_NOREF};
    luaL_getmetatable(L, QUERY);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, 1);
    b->model = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

// -- steps

static void on_orphan(struct exec *e, const char *code, const char *error) {
    (void)code, (void)error;
    lua_model_release(e->ctx);
}

// let_go: the execution ends by itself, the box is of no use from then on.
static void let_go(struct box *b) {
    if (exec_is_busy(b->exec)) {
        lua_State *L = b->m->rt->L;
        lua_rawgeti(L, LUA_REGISTRYINDEX, b->model);
        lua_model_hold(L, b->m, lua_gettop(L));
        lua_pop(L, 1);
        exec_forget(b->exec, on_orphan, b->m);
    }
    exec_release(b->exec);
    b->exec = NULL;
}

// abandon: the task that waited does so no more.
static bool abandon(struct task *t, void *ctx) {
    (void)t;
    let_go(ctx);
    return true;
}

// push_rows pushes the list of the rows in hand. // [-0, +1]
static void push_rows(lua_State *L, struct box *b) {
    struct exec *e = b->exec;
    lua_createtable(L, (int)e->row_count, 0);
    for (uint32_t i = 0; i < e->row_count; i++) {
        lua_row_push(L, b->m, e->rows[i]);
        lua_rawseti(L, -2, (int)i + 1);
        free(e->rows[i]);
        e->rows[i] = NULL;
    }
    e->row_count = 0;
}

static void on_step(struct exec *e, const char *code, const char *error) {
    struct box *b = e->ctx;
    if (!b->is_parked) {
        b->is_done = true;
        snprintf(b->code, sizeof b->code, "%s", code ? code : "");
        snprintf(b->error, sizeof b->error, "%s", error ? error : "");
        return;
    }
    b->is_parked = false;
    struct task *t = b->task;
    if (code) {
        lua_push_error(t->L, code, "%s", error);
        task_wake_error(t, b->wait);
    } else {
        if (b->is_opening) {
            lua_newtable(t->L);
        } else {
            push_rows(t->L, b);
        }
        task_wake(t, b->wait, 1);
    }
    b->is_opening = false;
}

static int finish_step(lua_State *L, struct box *b, struct task *t) {
    if (b->is_done) {
        b->is_done = false;
        if (b->code[0]) {
            return lua_fail(L, b->code, "%s", b->error);
        }
        push_rows(L, b);
        return 1;
    }
    b->task = t;
    b->is_parked = true;
    b->wait = task_park(t, abandon, b);
    return task_yield(L);
}

// query_open(query) -> {}
static int l_query_open(lua_State *L) {
    struct box *b = check_box(L);
    struct task *t = task_current(L, b->m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_model_pool(L, b->m);
    exec_open(b->exec, on_step, b);
    b->is_opening = !b->is_done;
    return finish_step(L, b, t);
}

// query_next(query, max) -> list of rows; empty at the end
static int l_query_next(lua_State *L) {
    struct box *b = check_box(L);
    uint32_t max = (uint32_t)luaL_checkinteger(L, 2);
    struct task *t = task_current(L, b->m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_model_pool(L, b->m);
    exec_next(b->exec, max, on_step, b);
    return finish_step(L, b, t);
}

// query_count(query) -> how many match, nil if the plan names rows
static int l_query_count(lua_State *L) {
    struct box *b = check_box(L);
    if (b->exec->plan.way == PLAN_NOTHING) {
        lua_pushinteger(L, 0);
        return 1;
    }
    if (b->exec->plan.way != PLAN_COLUMNS) {
        return 0;
    }
    lua_pushnumber(L, (double)exec_count(b->exec));
    return 1;
}

// query_explain(query) -> text
static int l_query_explain(lua_State *L) {
    struct box *b = check_box(L);
    struct buf text = {0};
    plan_explain(&b->exec->query, &b->exec->plan, &text);
    lua_pushlstring(L, text.data, text.len);
    buf_clear(&text);
    return 1;
}

static int l_query_gc(lua_State *L) {
    struct box *b = lua_touserdata(L, 1);
    if (b->exec) {
        let_go(b);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, b->model);
    return 0;
}

static const luaL_Reg functions[] = {{"query", l_query},
                                     {"query_open", l_query_open},
                                     {"query_next", l_query_next},
                                     {"query_count", l_query_count},
                                     {"query_explain", l_query_explain},
                                     {NULL, NULL}};

void lua_query_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, QUERY);
    lua_pushcfunction(L, l_query_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
