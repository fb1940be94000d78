// refuse: why a query cannot be answered, and what would help.
#include "model/refuse.h"

#include <stdio.h>

#include "model/path.h"
#include "model/steps.h"

// -- conditions

static int refuse_condition(const struct query *q, const struct condition *c,
                            char *error, size_t size) {
    const char *model = q->schema->name;
    const struct field *f = &q->schema->fields[c->field];
    if (c->op == COND_RANGE && f->type == FIELD_STRING) {
        snprintf(error, size,
                 "model %s: field %s has no index for ranges and prefixes; add "
                 "sort = true, or query with { scan = true }",
                 model, f->name);
    } else if ((int)c->field == q->schema->primary || f->is_unique) {
        bool is_primary = (int)c->field == q->schema->primary;
        snprintf(error, size,
                 "model %s: field %s is %s, which finds single values, and not "
                 "among alternatives; for others %squery with { scan = true }",
                 model, f->name, is_primary ? "the primary key" : "unique",
                 is_primary ? "" : "add index = true, or ");
    } else {
        bool has_none = f->type == FIELD_TEXT || f->type == FIELD_JSON;
        bool can_sort = schema_is_numeric(f) || f->type == FIELD_STRING;
        snprintf(error, size,
                 "model %s: field %s has no index; %s%squery with { scan = "
                 "true }",
                 model, f->name, has_none ? "" : "add index = true",
                 has_none   ? ""
                 : can_sort ? " (or sort = true), or "
                            : ", or ");
    }
    return -1;
}

static int refuse_building(const struct query *q, uint32_t field,
                           bool *is_building, char *error, size_t size) {
    snprintf(error, size,
             "model %s: the index of field %s is under construction (sync() "
             "builds it)",
             q->schema->name, q->schema->fields[field].name);
    *is_building = true;
    return -1;
}

// -- orders

static bool can_be_ordered(const struct field *f) {
    return steps_are_ranged(f) || steps_are_in_memory(f);
}

static const char *cure_of_order(const struct query *q, uint32_t field) {
    const struct field *f = &q->schema->fields[field];
    if ((int)field == q->schema->primary) {
        return "; without an order rows come as they were created";
    }
    if (f->type == FIELD_ENUM || f->type == FIELD_BOOLEAN) {
        return "; add index = true";
    }
    return schema_is_numeric(f) || f->type == FIELD_STRING ? "; add sort = true"
                                                           : "";
}

static int check_order(const struct query *q, bool *is_building, char *error,
                       size_t size) {
    for (uint32_t i = 0; i < q->order_count; i++) {
        uint32_t field = q->orders[i].field;
        const struct field *f = &q->schema->fields[field];
        bool has_compound =
            i == 0 && path_find_compound(q, (int)field, false) >= 0;
        bool is_only_way = !can_be_ordered(f) && !has_compound;
        if (f->is_building ||
            (is_only_way && path_find_compound(q, (int)field, true) >= 0)) {
            return refuse_building(q, field, is_building, error, size);
        }
        if (is_only_way) {
            snprintf(error, size, "model %s: field %s cannot be ordered by%s",
                     q->schema->name, f->name, cure_of_order(q, field));
            return -1;
        }
    }
    return 0;
}

static int check_conditions(const struct query *q, bool has_keys,
                            bool *is_building, char *error, size_t size) {
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (q->schema->fields[c->field].is_building) {
            return refuse_building(q, c->field, is_building, error, size);
        }
        if (!has_keys && !q->may_scan && !steps_can_read_condition(q, c)) {
            return refuse_condition(q, c, error, size);
        }
    }
    return 0;
}

int refuse_query(const struct query *q, bool has_keys, bool *is_building,
                 char *error, size_t size) {
    if (check_order(q, is_building, error, size) < 0) {
        return -1;
    }
    return check_conditions(q, has_keys, is_building, error, size);
}
