// lua_condition: a query's conditions, from Lua tables to clauses.
#include "lua/lua_condition.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lua/lua_error.h"
#include "lua/lua_row.h"
#include "model/index.h"

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
    if (n > QUERY_VALUES) {
        lua_pushfstring(L, "list of %d values", (int)n);
        fail_condition(L, q, f, "at most 10,000 values are taken",
                       lua_gettop(L));
    }
    c->values = xcalloc(n + 1, sizeof c->values[0]);
    for (uint32_t i = 0; i < n; i++) {
        struct buf b = {0};
        struct value v;
        lua_rawgeti(L, list, (int)i + 1);
        int at = lua_gettop(L);
        const char *wrong = lua_row_encode_value(L, at, &plain, &b, &v);
        if (!wrong && !v.p) {
            wrong = "neap.null cannot stand in a list (model.any has it "
                    "beside one)";
        }
        if (wrong) {
            buf_clear(&b);
            fail_condition(L, q, f, wrong, at);
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
                       "ranges are for integers, numbers, dates, times, and "
                       "strings with sort = true",
                       at);
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
        query_prefix(c, read_text(L, q, f, at));
    } else if (is_text) {
        query_text_range(c, read_text(L, q, f, at), read_text(L, q, f, at + 1),
                         is_above, is_below);
    } else {
        c->low = read_bound(L, q, f, at, -INFINITY);
        c->high = read_bound(L, q, f, at + 1, INFINITY);
        c->is_above = is_above;
        c->is_below = is_below;
        c->low = is_above ? nextafter(c->low, INFINITY) : c->low;
        c->high = is_below ? nextafter(c->high, -INFINITY) : c->high;
    }
}

// Both lists grow by doubling; behind the conditions there is always room for
// query_finish.
static struct condition *add_condition(struct query *q) {
    uint32_t n = q->count + 1;
    if ((n & (n - 1)) == 0) {
        q->conditions =
            xrealloc(q->conditions, 2 * n * sizeof q->conditions[0]);
    }
    return &q->conditions[q->count++];
}

static struct clause *add_clause(struct query *q) {
    uint32_t n = q->clause_count;
    if ((n & (n - 1)) == 0) {
        q->clauses = xrealloc(q->clauses, (2 * n + 1) * sizeof q->clauses[0]);
    }
    q->clauses[n] = (struct clause){0};
    return &q->clauses[q->clause_count++];
}

// read_condition reads { field, "in", list }, { field, "range", low, high,
// is_above, is_below, is_prefix } or { field, "null" } at index `at`.
static void read_condition(lua_State *L, struct query *q, int at,
                           bool is_negated) {
    size_t len;
    lua_rawgeti(L, at, 1);
    const char *name = lua_tolstring(L, -1, &len);
    int field = name ? schema_find(q->schema, name, len) : -1;
    if (field < 0) {
        const char *model = q->schema->name;
        query_clear(q);
        lua_fail(L, "model.invalid", "model %s: there is no field '%.60s'",
                 model, name ? name : "?");
    }
    struct condition *c = add_condition(q);
    *c = (struct condition){.field = (uint32_t)field};
    const struct field *f = &q->schema->fields[field];
    lua_getfield(L, at, "negated");
    c->is_negated = (bool)lua_toboolean(L, -1) != is_negated;
    lua_rawgeti(L, at, 2);
    const char *op = lua_tostring(L, -1);
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

static void fail_size(lua_State *L, struct query *q, const char *what,
                      int most) {
    const char *model = q->schema->name;
    query_clear(q);
    lua_fail(L, "model.invalid", "model %s: the query has more than %d %s",
             model, most, what);
}

// read_clause reads the condition or group at index `at`.
static void read_clause(lua_State *L, struct query *q, int at, bool is_negated,
                        int depth) {
    if (q->clause_count >= 4 * QUERY_COUNT || q->count >= QUERY_COUNT) {
        fail_size(L, q, "conditions", QUERY_COUNT);
    }
    if (depth > QUERY_DEPTH || !lua_checkstack(L, 16)) {
        fail_size(L, q, "levels of conditions", QUERY_DEPTH);
    }
    lua_getfield(L, at, "group");
    const char *group = lua_tostring(L, -1);
    if (group && depth > 0 && lua_objlen(L, at) == 1) { // it is its element
        lua_rawgeti(L, at, 1);
        bool is_none = strcmp(group, "none") == 0;
        read_clause(L, q, lua_gettop(L), is_negated != is_none, depth + 1);
        lua_settop(L, at);
        return;
    }
    uint32_t place = q->clause_count;
    struct clause *c = add_clause(q);
    if (!group) {
        c->kind = CLAUSE_CONDITION;
        c->condition = q->count;
        read_condition(L, q, at, is_negated);
    } else {
        bool is_none = strcmp(group, "none") == 0;
        bool is_any = is_none || strcmp(group, "any") == 0;
        is_negated = is_negated != is_none;
        c->kind = is_any != is_negated ? CLAUSE_ANY : CLAUSE_ALL;
        int n = (int)lua_objlen(L, at);
        for (int i = 1; i <= n; i++) {
            lua_rawgeti(L, at, i);
            read_clause(L, q, lua_gettop(L), is_negated, depth + 1);
            lua_settop(L, at);
        }
    }
    lua_settop(L, at);
    q->clauses[place].end = q->clause_count;
}

void lua_condition_read(lua_State *L, struct query *q, int index) {
    q->conditions = xmalloc(2 * sizeof q->conditions[0]);
    lua_pushvalue(L, index);
    read_clause(L, q, lua_gettop(L), false, 0);
    lua_pop(L, 1);
}
