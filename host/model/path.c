// path: the ordered index that a walk follows.
#include "model/path.h"

#include "model/key.h"
#include "model/steps.h"

static bool has_equal_fields(const struct query *q, const struct compound *c) {
    for (uint32_t i = 0; i + 1 < c->count; i++) {
        if (query_find_equal(q, c->fields[i]) < 0) {
            return false;
        }
    }
    return true;
}

int path_find_compound(const struct query *q, int field, bool is_building) {
    int found = -1;
    for (uint32_t i = 0; i < q->schema->compound_count; i++) {
        const struct compound *c = &q->schema->compounds[i];
        bool is_last = field < 0 || c->fields[c->count - 1] == field;
        if (is_last && c->is_building == is_building &&
            has_equal_fields(q, c) &&
            (found < 0 || c->count > q->schema->compounds[found].count)) {
            found = (int)i;
        }
    }
    return found;
}

// find_ranged returns the field of a range that an ordered index has, or -1.
static int find_ranged(const struct query *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        uint32_t field = q->conditions[i].field;
        if (query_find_range(q, field) == (int)i &&
            steps_are_ranged(&q->schema->fields[field])) {
            return (int)field;
        }
    }
    return -1;
}

bool path_find(const struct query *q, struct path *path) {
    int field = q->order_count ? (int)q->orders[0].field : -1;
    path->compound = path_find_compound(q, field, false);
    if (path->compound >= 0) {
        const struct compound *c = &q->schema->compounds[path->compound];
        field = c->fields[c->count - 1];
    } else if (field < 0) {
        field = find_ranged(q);
    }
    bool is_indexed =
        path->compound >= 0 ||
        (field >= 0 && steps_are_ranged(&q->schema->fields[field]));
    if (!is_indexed || query_is_null(q, (uint32_t)field)) {
        return false;
    }
    path->field = (uint32_t)field;
    path->bounds = query_find_range(q, path->field);
    return true;
}

bool path_covers(const struct query *q, const struct path *path,
                 uint32_t clause) {
    if (q->clauses[clause].kind != CLAUSE_CONDITION) {
        return false;
    }
    int condition = (int)q->clauses[clause].condition;
    const struct condition *has = &q->conditions[condition];
    bool has_value = has->op == COND_NULL && has->is_negated;
    if (condition == path->bounds || (has_value && has->field == path->field)) {
        return true;
    }
    if (path->compound < 0) {
        return false;
    }
    const struct compound *c = &q->schema->compounds[path->compound];
    for (uint32_t j = 0; j + 1 < c->count; j++) {
        if (query_find_equal(q, c->fields[j]) == condition) {
            return true;
        }
    }
    return false;
}

bool path_has_all(const struct query *q, uint32_t field) {
    if (q->schema->fields[field].is_required) {
        return true;
    }
    for (uint32_t i = 0; i < q->count; i++) {
        const struct condition *c = &q->conditions[i];
        if (c->field == field && c->is_top &&
            (c->op != COND_NULL || c->is_negated)) {
            return true;
        }
    }
    return false;
}

void path_key(const struct query *q, const struct path *path, struct buf *key) {
    const struct schema *s = q->schema;
    if (path->compound >= 0) {
        struct value values[SCHEMA_PARTS];
        const struct compound *c = &s->compounds[path->compound];
        for (uint32_t i = 0; i + 1 < c->count; i++) {
            int equal = query_find_equal(q, c->fields[i]);
            values[i] = q->conditions[equal].values[0];
        }
        key_compound_prefix(key, s, (uint32_t)path->compound);
        key_compound_suffix(key, values, c->count - 1);
    } else if (s->fields[path->field].has_lex) {
        key_lex(key, s, path->field);
    } else {
        key_zset(key, s, path->field);
    }
}
