// query_fixture: queries for the tests of host/model, built by calls or read
// from a text of words:
//
//   gender=f  age=18,19  age=     one of the values; of none
//   age:18..22  name:a..inf       a range, of numbers, dates or strings
//   name^Ad  name?                a prefix; no value
//   age!=18  name!?               the same, negated
//   age=18~500                    about 500 rows are said to have it
//   any( a=1 all( b=1 c=1 ) )     groups
//   by -at limit 10 offset 5      the order and so on; also: scan, count
//   tally age                     what the field has is counted
//   rows 5000 path 20             what else is known of the sizes
#ifndef SPEC_QUERY_FIXTURE_H
#define SPEC_QUERY_FIXTURE_H

#include <math.h>

#include "model_fixture.h"

#include "model/plan.h"

// -- by calls

static inline void begin_query(struct query *q, const struct schema *s) {
    *q = (struct query){.schema = s, .limit = NO_LIMIT};
    q->conditions = xcalloc(QUERY_COUNT + 1, sizeof q->conditions[0]);
    q->clauses = xcalloc(2 * QUERY_COUNT, sizeof q->clauses[0]);
}

// open_group returns the group's place, for close_group.
static inline uint32_t open_group(struct query *q, enum clause_kind kind) {
    assert_in_range(q->clause_count, 0, 2 * QUERY_COUNT - 1);
    q->clauses[q->clause_count].kind = kind;
    return q->clause_count++;
}

static inline void close_group(struct query *q, uint32_t place) {
    q->clauses[place].end = q->clause_count;
}

static inline struct condition *add_condition(struct query *q, uint32_t field,
                                              enum condition_op op) {
    uint32_t place = open_group(q, CLAUSE_CONDITION);
    assert_in_range(q->count, 0, QUERY_COUNT - 1);
    q->clauses[place].condition = q->count;
    close_group(q, place);
    struct condition *c = &q->conditions[q->count++];
    *c = (struct condition){.field = field, .op = op};
    return c;
}

static inline int compare_bytes(struct value a, struct value b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    return r ? r : (a.len > b.len) - (a.len < b.len);
}

// add_value keeps the values sorted and drops doubles.
static inline void add_value(struct condition *c, struct value v) {
    uint32_t at = 0;
    while (at < c->count && compare_bytes(c->values[at], v) < 0) {
        at++;
    }
    if (at < c->count && compare_bytes(c->values[at], v) == 0) {
        return;
    }
    c->values = xrealloc(c->values, (c->count + 1) * sizeof c->values[0]);
    memmove(c->values + at + 1, c->values + at,
            (c->count - at) * sizeof c->values[0]);
    c->values[at] = (struct value){xstrndup(v.p, v.len), v.len};
    c->count++;
}

static inline void add_order(struct query *q, uint32_t field, bool is_down) {
    q->orders[q->order_count++] =
        (struct order_key){.field = field, .is_descending = is_down};
}

// -- from text

// A query, and what is known of the sizes.
struct asked {
    struct query query;
    struct plan_sizes sizes;
    uint64_t matches[QUERY_COUNT + 1];
    bool has_sizes;
};

static inline uint32_t field_named(const struct schema *s, const char *name,
                                   size_t len) {
    int field = schema_find(s, name, len);
    if (field < 0) {
        fail_msg("there is no field %.*s", (int)len, name);
    }
    return (uint32_t)field;
}

static inline double read_number(const struct field *f, struct value v) {
    int32_t days;
    if (f->type == FIELD_DATE && value_parse_date(v.p, v.len, &days) == 0) {
        return days;
    }
    return strtod(v.p, NULL);
}

static inline void read_values(struct condition *c, struct value v) {
    while (v.len) {
        const char *comma = memchr(v.p, ',', v.len);
        size_t len = comma ? (size_t)(comma - v.p) : v.len;
        add_value(c, (struct value){v.p, len});
        len += comma != NULL;
        v = (struct value){v.p + len, v.len - len};
    }
}

// read_range: a bound that is inf is none.
static inline void read_range(const struct field *f, struct condition *c,
                              struct value v) {
    const char *dots = strstr(v.p, "..");
    assert_non_null(dots);
    struct value low = {v.p, (size_t)(dots - v.p)};
    struct value high = {dots + 2, v.len - low.len - 2};
    if (schema_is_numeric(f)) {
        c->low = read_number(f, low);
        c->high = read_number(f, high);
        return;
    }
    low.p = strncmp(low.p, "-inf", 4) == 0 ? NULL : low.p;
    high.p = strncmp(high.p, "inf", 3) == 0 ? NULL : high.p;
    query_text_range(c, low, high, false, false);
}

static inline void read_condition(struct asked *a, const char *word) {
    struct query *q = &a->query;
    size_t len = strcspn(word, "=:^?!");
    uint32_t field = field_named(q->schema, word, len);
    const struct field *f = &q->schema->fields[field];
    word += len;
    bool is_negated = *word == '!';
    word += is_negated;
    enum condition_op op = *word == '='   ? COND_IN
                           : *word == '?' ? COND_NULL
                                          : COND_RANGE;
    struct condition *c = add_condition(q, field, op);
    struct value v = {word + 1, strcspn(word + 1, "~")};
    c->is_negated = is_negated;
    if (op == COND_IN) {
        read_values(c, v);
    } else if (*word == '^') {
        query_prefix(c, v);
    } else if (op == COND_RANGE) {
        read_range(f, c, v);
    }
    const char *matches = strchr(word, '~');
    a->matches[q->count - 1] =
        matches ? strtoull(matches + 1, NULL, 10) : PLAN_UNKNOWN;
}

// read_setting returns false if the words are none.
static inline bool read_setting(struct asked *a, const char *name,
                                const char *text) {
    struct query *q = &a->query;
    uint64_t n = strtoull(text, NULL, 10);
    if (strcmp(name, "by") == 0) {
        bool is_down = *text == '-';
        add_order(
            q, field_named(q->schema, text + is_down, strlen(text + is_down)),
            is_down);
    } else if (strcmp(name, "tally") == 0) {
        q->is_counted = q->is_tallied = true;
        q->orders[0].field = field_named(q->schema, text, strlen(text));
    } else if (strcmp(name, "limit") == 0) {
        q->limit = n;
    } else if (strcmp(name, "offset") == 0) {
        q->offset = n;
    } else if (strcmp(name, "rows") == 0) {
        a->sizes.rows = n;
        a->sizes.segments =
            (uint32_t)((n + SCHEMA_SEGMENT - 1) / SCHEMA_SEGMENT);
        a->has_sizes = true;
    } else if (strcmp(name, "path") == 0) {
        a->sizes.path = n;
    } else {
        return false;
    }
    return true;
}

static inline void read_query(struct asked *a, const struct schema *s,
                              const char *text) {
    char *words = xstrdup(text), *rest = words;
    uint32_t groups[QUERY_DEPTH], depth = 0;
    struct query *q = &a->query;
    begin_query(q, s);
    a->sizes = (struct plan_sizes){
        .segments = 1, .matches = a->matches, .path = PLAN_UNKNOWN};
    a->has_sizes = false;
    groups[depth++] = open_group(q, CLAUSE_ALL);
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        if (strcmp(word, "any(") == 0 || strcmp(word, "all(") == 0) {
            groups[depth++] =
                open_group(q, word[1] == 'n' ? CLAUSE_ANY : CLAUSE_ALL);
        } else if (strcmp(word, ")") == 0) {
            close_group(q, groups[--depth]);
        } else if (strcmp(word, "scan") == 0) {
            q->may_scan = true;
        } else if (strcmp(word, "count") == 0) {
            q->is_counted = true;
        } else if (strpbrk(word, "=:^?")) {
            read_condition(a, word);
        } else if (!read_setting(a, word, strtok_r(rest, " ", &rest))) {
            fail_msg("what is %s", word);
        }
    }
    close_group(q, groups[0]);
    query_finish(q);
    free(words);
}

#endif
