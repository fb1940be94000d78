// lua_query: the binding of model/plan and model/exec.
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/lua_condition.h"
#include "lua/lua_error.h"
#include "lua/lua_row.h"
#include "model/cursor.h"
#include "model/exec.h"
#include "model/tally.h"
#include "model/value.h"

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

static uint64_t read_count(lua_State *L, int index, uint64_t otherwise) {
    double n = lua_tonumber(L, index);
    if (lua_isnoneornil(L, index)) {
        return otherwise;
    }
    return n < 9007199254740992.0 ? (uint64_t)n : NO_LIMIT;
}

// read_orders reads the list of { field, is_descending } at index.
static void read_orders(lua_State *L, struct query *q, int index) {
    int n = (int)lua_objlen(L, index);
    for (int i = 1; i <= n; i++) {
        size_t len;
        lua_rawgeti(L, index, i);
        lua_rawgeti(L, -1, 1);
        const char *name = luaL_checklstring(L, -1, &len);
        int field = schema_find(q->schema, name, len);
        if (field < 0) {
            lua_fail(L, "model.invalid", "model %s: there is no field '%.60s'",
                     q->schema->name, name);
        }
        if (q->order_count == QUERY_ORDERS) {
            lua_fail(L, "model.invalid",
                     "model %s: a query has at most %d fields to order by",
                     q->schema->name, QUERY_ORDERS);
        }
        lua_rawgeti(L, -2, 2);
        q->orders[q->order_count++] = (struct order_key){
            .field = (uint32_t)field, .is_descending = lua_toboolean(L, -1)};
        lua_pop(L, 3);
    }
}

// read_position reads the cursor at index, unless that is nil.
static void read_position(lua_State *L, struct query *q, int index) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    if (!text) {
        return;
    }
    q->after = cursor_decode(q, text, len);
    if (!q->after) {
        const char *model = q->schema->name;
        query_clear(q);
        lua_fail(L, "model.cursor",
                 "model %s: that is no cursor of a page in this order", model);
    }
}

// query(model, { conditions =, orders =, limit =, offset =, after =, scan =,
// counted =, tally = field }) -> query
static int l_query(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    struct pool *p = lua_model_pool(L, m);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    static const char *const names[] = {"conditions", "orders", "limit",
                                        "offset",     "after",  "scan",
                                        "counted",    "tally"};
    for (int i = 0; i < 8; i++) {
        lua_getfield(L, 2, names[i]);
    }
    struct query q = {.schema = &m->schema,
                      .limit = read_count(L, 5, NO_LIMIT),
                      .offset = read_count(L, 6, 0),
                      .may_scan = lua_toboolean(L, 8),
                      .is_counted = lua_toboolean(L, 9)};
    if (!lua_isnil(L, 4)) {
        read_orders(L, &q, 4);
    }
    if (!lua_isnil(L, 10)) { // in the place of an order
        q.is_tallied = true;
        q.orders[0].field = (uint32_t)schema_find(q.schema, lua_tostring(L, 10),
                                                  lua_objlen(L, 10));
    }
    lua_condition_read(L, &q, 3);
    query_finish(&q);
    read_position(L, &q, 7);
    char error[320];
    bool is_building = false;
    struct exec *e =
        exec_new(p, &q, &m->memory, &is_building, error, sizeof error);
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
    if (exec_is_running(b->exec)) {
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

// push_rows pushes the list of the rows in hand, and lets the next ones be
// read.
// [-0, +1]
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
    exec_read_ahead(e);
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
    b->wait = task_park(t, "query", abandon, b);
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

// query_plan(query) -> {}: only plans it.
static int l_query_plan(lua_State *L) {
    struct box *b = check_box(L);
    struct task *t = task_current(L, b->m->rt);
    if (!t) {
        return task_yield(L);
    }
    lua_model_pool(L, b->m);
    exec_plan(b->exec, on_step, b);
    b->is_opening = !b->is_done;
    return finish_step(L, b, t);
}

// query_count(query) -> how many match; nil if that is not known without
// looking at them
static int l_query_count(lua_State *L) {
    uint64_t count;
    if (!exec_count(check_box(L)->exec, &count)) {
        return 0;
    }
    lua_pushnumber(L, (double)count);
    return 1;
}

// push_choice pushes the value that is stored as v. // [-0, +1]
static void push_choice(lua_State *L, const struct tally *t, uint64_t v) {
    const struct field *f = t->field;
    if (f->type == FIELD_BOOLEAN) {
        lua_pushboolean(L, v == 2);
    } else if (f->type == FIELD_ENUM) {
        lua_pushstring(L, f->choices[v - 1]);
    } else if (f->type == FIELD_DATE) {
        char text[VALUE_DATE];
        size_t len = value_format_date(text, (int32_t)tally_number(t, v));
        lua_pushlstring(L, text, len);
    } else {
        lua_pushnumber(L, tally_number(t, v));
    }
}

// query_tally(query) -> { count =, nulls =, sum =, min =, max =, values = {
// { value, count }... } }; nil if the plan has none
static int l_query_tally(lua_State *L) {
    struct exec *e = check_box(L)->exec;
    const struct tally *t = e->source.tally;
    if (!t) {
        return 0;
    }
    lua_createtable(L, 0, 6);
    lua_pushnumber(L, (double)t->count);
    lua_setfield(L, -2, "count");
    lua_pushnumber(L, (double)t->nulls);
    lua_setfield(L, -2, "nulls");
    lua_pushnumber(L, (double)t->sum);
    lua_setfield(L, -2, "sum");
    if (t->count) {
        push_choice(L, t, t->least);
        lua_setfield(L, -2, "min");
        push_choice(L, t, t->most);
        lua_setfield(L, -2, "max");
    }
    if (t->by_value) {
        int n = 0;
        lua_newtable(L);
        for (uint32_t v = 1; v < t->values; v++) {
            if (t->by_value[v]) {
                lua_createtable(L, 2, 0);
                push_choice(L, t, v);
                lua_rawseti(L, -2, 1);
                lua_pushnumber(L, (double)t->by_value[v]);
                lua_rawseti(L, -2, 2);
                lua_rawseti(L, -2, ++n);
            }
        }
        lua_setfield(L, -2, "values");
    }
    return 1;
}

// query_cursor(query) -> the position of the last row that was handed out
static int l_query_cursor(lua_State *L) {
    struct exec *e = check_box(L)->exec;
    struct buf text = {0};
    if (!e->last) {
        return 0;
    }
    cursor_encode(&e->query, e->last, &text);
    lua_pushlstring(L, text.data, text.len);
    buf_clear(&text);
    return 1;
}

// query_explain(query) -> text
static int l_query_explain(lua_State *L) {
    const struct exec *e = check_box(L)->exec;
    struct buf text = {0};
    plan_explain(&e->query, e->sizes ? &e->sizes->plan : NULL, &e->plan, &text);
    lua_pushlstring(L, text.data, text.len);
    buf_clear(&text);
    return 1;
}

// query_gone(query) -> the ordinals of rows that were found and then were not
// there, a few of them; nil if there are none
static int l_query_gone(lua_State *L) {
    struct exec *e = check_box(L)->exec;
    if (e->gone_count == 0) {
        return 0;
    }
    lua_createtable(L, (int)e->gone_count, 0);
    for (uint32_t i = 0; i < e->gone_count; i++) {
        lua_pushnumber(L, e->gone[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    e->gone_count = 0;
    return 1;
}

// query_costs(query) -> what it has done so far
static int l_query_costs(lua_State *L) {
    const struct exec *e = check_box(L)->exec;
    const struct source_costs *s = &e->source.costs;
    const struct {
        const char *name;
        uint64_t n;
    } costs[] = {{"round_trips", e->round_trips + s->round_trips},
                 {"cached", s->cached},
                 {"column_bytes", s->bytes},
                 {"entries", s->entries},
                 {"fetched", e->fetched},
                 {"matched", e->matched},
                 {"lost", e->lost}};
    lua_createtable(L, 0, 6);
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        lua_pushnumber(L, (double)costs[i].n);
        lua_setfield(L, -2, costs[i].name);
    }
    return 1;
}

// wrong_value(model, field, value) -> what is wrong with a value of the field,
// or nil
static int l_wrong_value(lua_State *L) {
    struct model *m = lua_model_check(L, 1);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    int field = schema_find(&m->schema, name, len);
    struct buf bytes = {0};
    struct value v;
    lua_settop(L, 3);
    const char *wrong =
        field < 0
            ? "there is no such field"
            : lua_row_encode_value(L, 3, &m->schema.fields[field], &bytes, &v);
    lua_pushstring(L, wrong); // nil for NULL
    buf_clear(&bytes);
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
                                     {"query_plan", l_query_plan},
                                     {"query_cursor", l_query_cursor},
                                     {"query_tally", l_query_tally},
                                     {"wrong_value", l_wrong_value},
                                     {"query_costs", l_query_costs},
                                     {"query_gone", l_query_gone},
                                     {NULL, NULL}};

void lua_query_open(lua_State *L) {
    luaL_register(L, NULL, functions);
    luaL_newmetatable(L, QUERY);
    lua_pushcfunction(L, l_query_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
