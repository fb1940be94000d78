// lua_write_error: what became of a write, as error objects.
#include "lua/lua_write_error.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "lua/lua_error.h"
#include "lua/lua_row.h"

static void push_unique_error(lua_State *L, struct model *m, struct write *w,
                              int field) {
    const struct row *r = w->new ? w->new : w->old;
    struct value v = row_get(r, (uint32_t)field);
    int len = (int)(v.len > 80 ? 80 : v.len);
    const char *f = m->schema.fields[field].name;
    lua_push_error(L, "model.unique", "model %s: field %s: '%.*s' is taken",
                   m->schema.name, f, len, v.p);
    lua_pushstring(L, f);
    lua_setfield(L, -2, "field");
}

static void push_range_error(lua_State *L, struct model *m, int field,
                             const char *value) {
    const struct field *f = &m->schema.fields[field];
    double v = strtod(value, NULL);
    bool is_low = f->has_min && v < f->min, is_high = f->has_max && v > f->max;
    char wrong[120] = "it would be no number that fits";
    if (is_low || is_high) {
        snprintf(wrong, sizeof wrong, "it would be %s (%s %.17g), got %s",
                 is_low ? "below the minimum" : "above the maximum",
                 is_low ? "at least" : "at most", is_low ? f->min : f->max,
                 value);
    }
    lua_push_error(L, "model.invalid", "model %s: %s: %s", m->schema.name,
                   f->name, wrong);
    lua_newtable(L);
    lua_pushstring(L, wrong);
    lua_setfield(L, -2, f->name);
    lua_setfield(L, -2, "fields");
}

static void push_conflict_error(lua_State *L, struct model *m,
                                struct write *w) {
    lua_push_error(
        L, "model.conflict", "model %s: %.*s was changed since it was loaded",
        m->schema.name, (int)(w->id_len > 80 ? 80 : w->id_len), w->id);
    lua_row_push(L, m, w->old);
    lua_setfield(L, -2, "stored");
}

void lua_write_error_push(lua_State *L, struct model *m, struct write *w,
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
    case WRITE_UNIQUE: push_unique_error(L, m, w, field); break;
    case WRITE_RANGE: push_range_error(L, m, field, error); break;
    case WRITE_CONFLICT: push_conflict_error(L, m, w); break;
    default: lua_push_error(L, error_code, "%s", error);
    }
    lua_pushstring(L, name);
    lua_setfield(L, -2, "model");
    if (w->expired) { // whose time is over stands in the way
        lua_pushlstring(L, w->expired, w->expired_len);
        lua_setfield(L, -2, "expired");
    }
}
