// query_random: random rows and conditions over a model with each kind of
// index, and what the conditions have to find, written down as plainly as it
// can be: values are places in a list, logic is three-valued.
#ifndef SPEC_QUERY_RANDOM_H
#define SPEC_QUERY_RANDOM_H

#include "query_fixture.h"

static uint64_t random_seed = UINT64_C(0x9e3779b97f4a7c15);

// chance returns a number below n.
static inline uint32_t chance(uint32_t n) {
    random_seed ^= random_seed << 13;
    random_seed ^= random_seed >> 7;
    random_seed ^= random_seed << 17;
    return (uint32_t)(random_seed >> 32) % n;
}

// -- the model

// A value that a field may have: its bytes, and what they stand for.
struct sample {
    const char *p;
    size_t len;
    double number;
};

#define NUMBER(n)                                                              \
    { #n, sizeof #n - 1, n }
#define TEXT(s)                                                                \
    { s, sizeof s - 1, 0 }

// Rows have the first ones of a list, conditions ask for all of them.
static const struct sample bytes_samples[] = {
    NUMBER(-3),  NUMBER(0),  NUMBER(2),   NUMBER(5),
    NUMBER(251), NUMBER(-4), NUMBER(252), NUMBER(-9007199254740992)};
static const struct sample shorts_samples[] = {
    NUMBER(0),     NUMBER(1),  NUMBER(255),   NUMBER(256),
    NUMBER(40000), NUMBER(-1), NUMBER(65535), NUMBER(65536)};
static const struct sample words_samples[] = {
    NUMBER(0),  NUMBER(70000),      NUMBER(2147483648),      NUMBER(3000000000),
    NUMBER(-1), NUMBER(4294967295), NUMBER(9007199254740992)};
static const struct sample longs_samples[] = {
    NUMBER(-9007199254740992), NUMBER(-1),         NUMBER(0), NUMBER(1),
    NUMBER(9007199254740992),  NUMBER(4294967296), NUMBER(77)};
static const struct sample number_samples[] = {
    NUMBER(-0.5),  NUMBER(0),      NUMBER(0.1), NUMBER(1.5),
    NUMBER(1e300), NUMBER(-1e300), NUMBER(7)};
static const struct sample date_samples[] = {
    {"0001-01-01", 10, -719162}, {"1969-12-31", 10, -1},
    {"1970-01-01", 10, 0},       {"2000-02-29", 10, 11016},
    {"9999-12-31", 10, 2932896}, {"1970-01-02", 10, 1},
    {"2024-01-01", 10, 19723}};
static const struct sample boolean_samples[] = {TEXT("0"), TEXT("1")};
static const struct sample enum_samples[] = {TEXT("z"), TEXT("f"), TEXT("m")};
static const struct sample text_samples[] = {TEXT(""),
                                             TEXT("a"),
                                             TEXT("a\0"),
                                             TEXT("a\0b"),
                                             TEXT("ab"),
                                             TEXT("a\377"),
                                             TEXT("a\377\377\377\377"),
                                             TEXT("\377"),
                                             TEXT("\0"),
                                             TEXT("b"),
                                             TEXT("a\377\376"),
                                             TEXT("\0\0"),
                                             TEXT("c")};

enum {
    R_ID,
    R_AT,
    R_AUTHOR,
    R_BORN,
    R_BOTH,
    R_BYTES,
    R_CITY,
    R_FREE,
    R_GAP,
    R_GENDER,
    R_LONGS,
    R_MARKS,
    R_NAME,
    R_NOTE,
    R_OPEN,
    R_RANK,
    R_SCORE,
    R_SHORTS,
    R_TAGS,
    R_WORDS,
    R_COUNT
};

#define OF(list, stored)                                                       \
    { list##_samples, COUNT(list##_samples), stored }

static const struct domain {
    const struct sample *samples;
    uint32_t count, stored;
} domains[R_COUNT] = {
    [R_ID] = OF(longs, 7),     [R_AT] = OF(number, 5),
    [R_AUTHOR] = OF(longs, 5), [R_BORN] = OF(date, 5),
    [R_BOTH] = OF(text, 9),    [R_BYTES] = OF(bytes, 5),
    [R_CITY] = OF(text, 9),    [R_FREE] = OF(longs, 5),
    [R_GAP] = OF(longs, 5),    [R_GENDER] = OF(enum, 3),
    [R_LONGS] = OF(longs, 5),  [R_MARKS] = OF(shorts, 4),
    [R_NAME] = OF(text, 9),    [R_NOTE] = OF(text, 9),
    [R_OPEN] = OF(boolean, 2), [R_RANK] = OF(number, 5),
    [R_SCORE] = OF(words, 4),  [R_SHORTS] = OF(shorts, 5),
    [R_TAGS] = OF(text, 9),    [R_WORDS] = OF(words, 4),
};

static inline void add_packed(struct schema *s, const char *name, double min,
                              double max) {
    struct field *f = add_field(s, name, FIELD_INTEGER);
    f->has_min = f->has_max = f->is_indexed = true;
    f->min = min;
    f->max = max;
}

// random_schema fills in the model whose fields are named above.
static inline void random_schema(struct schema *s) {
    begin_schema(s, "r", FIELD_INTEGER);
    struct field *at = add_field(s, "at", FIELD_TIME);
    at->is_sorted = at->is_required = true;
    struct field *author = add_field(s, "author", FIELD_INTEGER);
    author->is_ref = author->is_indexed = true;
    add_field(s, "born", FIELD_DATE)->is_indexed = true;
    struct field *both = add_field(s, "both", FIELD_STRING);
    both->is_indexed = both->is_sorted = true;
    add_packed(s, "bytes", -3, 251);
    add_field(s, "city", FIELD_STRING)->is_sorted = true;
    add_field(s, "free", FIELD_INTEGER); // ordered by its compound index only
    add_field(s, "gap", FIELD_INTEGER)->is_indexed = true;
    struct field *gender = add_field(s, "gender", FIELD_ENUM);
    gender->is_indexed = true;
    gender->choices = xcalloc(3, sizeof gender->choices[0]);
    for (size_t i = 0; i < COUNT(enum_samples); i++) {
        gender->choices[i] = xstrdup(enum_samples[i].p);
    }
    gender->choice_count = COUNT(enum_samples);
    add_packed(s, "longs", -9007199254740992, 9007199254740992);
    add_list(s, "marks", FIELD_SET, FIELD_INTEGER);
    add_field(s, "name", FIELD_STRING)->is_indexed = true;
    add_field(s, "note", FIELD_STRING);
    struct field *open = add_field(s, "open", FIELD_BOOLEAN);
    open->is_indexed = open->is_required = true;
    add_field(s, "rank", FIELD_NUMBER)->is_sorted = true;
    add_packed(s, "score", 0, 3000000000);
    s->fields[R_SCORE].is_sorted = true;
    add_packed(s, "shorts", 0, 40000);
    add_list(s, "tags", FIELD_LIST, FIELD_STRING);
    add_packed(s, "words", 0, 3000000000);
    add_compound(s, "gender,born");
    add_compound(s, "gender,free");
    add_compound(s, "open,name,rank");
    finish_schema(s);
    assert_int_equal(s->count, R_COUNT);
}

// -- rows

// What a row has in a field: places in the field's samples.
struct cell {
    bool is_null;
    uint32_t count; // 1, or that of a list
    uint32_t places[3];
};

struct random_row {
    struct cell cells[R_COUNT];
    struct row *row;
};

static inline struct value sample_value(uint32_t field, uint32_t place) {
    const struct sample *s = &domains[field].samples[place];
    return (struct value){s->p, s->len};
}

static inline struct cell random_cell(const struct field *f, uint32_t field) {
    struct cell c = {.count = f->element ? chance(4) : 1};
    c.is_null = !f->is_required && field != R_ID && chance(4) == 0;
    for (uint32_t i = 0; i < c.count; i++) {
        c.places[i] = chance(domains[field].stored);
    }
    return c;
}

// random_row is freed by its row's free.
static inline struct random_row random_row(const struct schema *s,
                                           uint32_t ordinal) {
    struct random_row r;
    struct value values[R_COUNT];
    struct buf lists[R_COUNT] = {{0}};
    for (uint32_t i = 0; i < R_COUNT; i++) {
        const struct cell *c = &r.cells[i];
        r.cells[i] = random_cell(&s->fields[i], i);
        for (uint32_t k = 0; k < c->count; k++) {
            values[i] = sample_value(i, c->places[k]);
            value_add_part(&lists[i], values[i].p, values[i].len);
        }
        if (s->fields[i].element) {
            values[i] =
                (struct value){c->count ? lists[i].data : "", lists[i].len};
        }
        values[i] = c->is_null ? (struct value){NULL, 0} : values[i];
    }
    r.row = row_new(values, R_COUNT);
    r.row->ordinal = ordinal;
    for (uint32_t i = 0; i < R_COUNT; i++) {
        buf_clear(&lists[i]);
    }
    return r;
}

// -- conditions

enum test {
    IS_ONE_OF,
    IS_BETWEEN,
    BEGINS_WITH,
    IS_NULL,
    ALL_OF,
    ANY_OF,
    NONE_OF
};

// A condition, or a group that holds those behind it.
struct node {
    enum test test;
    uint32_t end; // behind what it holds
    uint32_t field;
    bool is_negated;
    uint32_t places[4], count; // IS_ONE_OF; BEGINS_WITH: the first
    bool has_low, has_high;    // IS_BETWEEN places[0] and places[1],
    bool is_above, is_below;   // which are left out themselves
};

struct tree {
    struct node nodes[80];
    uint32_t count;
};

static inline void random_condition(const struct schema *s, struct node *n) {
    n->field = chance(R_COUNT);
    const struct field *f = &s->fields[n->field];
    bool is_text = f->type == FIELD_STRING;
    bool has_ranges = is_text || schema_is_numeric(f);
    uint32_t kind = chance(10);
    n->test = kind == 0                ? IS_NULL
              : kind < 4 && has_ranges ? IS_BETWEEN
              : kind == 4 && is_text   ? BEGINS_WITH
                                       : IS_ONE_OF;
    n->is_negated = chance(3) == 0;
    n->count = n->test == IS_ONE_OF ? (chance(2) ? 1 : chance(5)) : 2;
    for (uint32_t i = 0; i < n->count; i++) {
        n->places[i] = chance(domains[n->field].count);
    }
    n->has_low = chance(4) != 0;
    n->has_high = chance(4) != 0 || !n->has_low;
    n->is_above = chance(3) == 0;
    n->is_below = chance(3) == 0;
}

// random_tree adds a group to the tree, or with enough of them a condition.
static inline void random_tree(const struct schema *s, struct tree *t,
                               uint32_t depth) {
    uint32_t place = t->count++;
    t->nodes[place] = (struct node){.test = ALL_OF};
    uint32_t n = chance(4);
    if (depth == 0 || (depth < 4 && chance(2) && t->count < 40)) {
        t->nodes[place].test = depth ? ALL_OF + chance(3) : ALL_OF;
        for (uint32_t i = 0; i < n + (depth == 0); i++) {
            random_tree(s, t, depth + 1);
        }
    } else {
        random_condition(s, &t->nodes[place]);
    }
    t->nodes[place].end = t->count;
}

// -- as the query has them

static inline void ask_range(const struct field *f, const struct node *n,
                             struct condition *c) {
    const struct sample *samples = domains[n->field].samples;
    const struct sample *low = &samples[n->places[0]];
    const struct sample *high = &samples[n->places[1]];
    if (!schema_is_numeric(f)) {
        query_text_range(
            c, (struct value){n->has_low ? low->p : NULL, low->len},
            (struct value){n->has_high ? high->p : NULL, high->len},
            n->is_above, n->is_below);
        return;
    }
    c->low = n->has_low ? low->number : -INFINITY;
    c->high = n->has_high ? high->number : INFINITY;
    c->low = n->is_above ? nextafter(c->low, INFINITY) : c->low;
    c->high = n->is_below ? nextafter(c->high, -INFINITY) : c->high;
}

// ask_node pushes negations down, as the binding does. of[] gets the node of
// each condition.
static inline void ask_node(struct query *q, const struct tree *t, uint32_t i,
                            bool is_negated, const struct node **of) {
    const struct node *n = &t->nodes[i];
    if (n->test >= ALL_OF) {
        is_negated = is_negated != (n->test == NONE_OF);
        bool is_any = n->test != ALL_OF;
        uint32_t place =
            open_group(q, is_any != is_negated ? CLAUSE_ANY : CLAUSE_ALL);
        for (uint32_t k = i + 1; k < n->end; k = t->nodes[k].end) {
            ask_node(q, t, k, is_negated, of);
        }
        close_group(q, place);
        return;
    }
    of[q->count] = n;
    struct condition *c = add_condition(q, n->field,
                                        n->test == IS_ONE_OF ? COND_IN
                                        : n->test == IS_NULL ? COND_NULL
                                                             : COND_RANGE);
    c->is_negated = n->is_negated != is_negated;
    if (n->test == BEGINS_WITH) {
        query_prefix(c, sample_value(n->field, n->places[0]));
    } else if (n->test == IS_BETWEEN) {
        ask_range(&q->schema->fields[n->field], n, c);
    }
    for (uint32_t k = 0; n->test == IS_ONE_OF && k < n->count; k++) {
        add_value(c, sample_value(n->field, n->places[k]));
    }
}

// -- what they have to find

enum truth { NO, UNKNOWN, YES };

static inline bool is_in_bounds(const struct field *f, const struct node *n,
                                uint32_t place) {
    const struct sample *v = &domains[n->field].samples[place];
    int from_low, from_high;
    const struct sample *low = &domains[n->field].samples[n->places[0]];
    const struct sample *high = &domains[n->field].samples[n->places[1]];
    if (schema_is_numeric(f)) {
        from_low = (v->number > low->number) - (v->number < low->number);
        from_high = (v->number > high->number) - (v->number < high->number);
    } else {
        struct value x = {v->p, v->len};
        from_low = compare_bytes(x, (struct value){low->p, low->len});
        from_high = compare_bytes(x, (struct value){high->p, high->len});
    }
    return (!n->has_low || from_low > 0 || (from_low == 0 && !n->is_above)) &&
           (!n->has_high || from_high < 0 || (from_high == 0 && !n->is_below));
}

// has_found says whether a value fulfils the condition, were it not negated.
static inline bool has_found(const struct field *f, const struct node *n,
                             uint32_t place) {
    struct value v = sample_value(n->field, place);
    struct value first = sample_value(n->field, n->places[0]);
    switch (n->test) {
    case IS_BETWEEN: return is_in_bounds(f, n, place);
    case BEGINS_WITH:
        return v.len >= first.len && memcmp(v.p, first.p, first.len) == 0;
    default: break;
    }
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->places[i] == place) {
            return true;
        }
    }
    return false;
}

static inline enum truth not(enum truth t) { return YES - t; }

static inline enum truth condition_truth(const struct schema *s,
                                         const struct node *n,
                                         const struct random_row *r) {
    const struct cell *c = &r->cells[n->field];
    enum truth t = c->is_null && n->test != IS_NULL ? UNKNOWN : NO;
    if (n->test == IS_NULL) {
        t = c->is_null ? YES : NO;
    } else if (!c->is_null) {
        for (uint32_t i = 0; i < c->count; i++) {
            t = has_found(&s->fields[n->field], n, c->places[i]) ? YES : t;
        }
    }
    return n->is_negated ? not(t) : t;
}

static inline enum truth tree_truth(const struct schema *s,
                                    const struct tree *t, uint32_t i,
                                    const struct random_row *r) {
    const struct node *n = &t->nodes[i];
    if (n->test < ALL_OF) {
        return condition_truth(s, n, r);
    }
    enum truth least = YES, most = NO;
    for (uint32_t k = i + 1; k < n->end; k = t->nodes[k].end) {
        enum truth one = tree_truth(s, t, k, r);
        least = one < least ? one : least;
        most = one > most ? one : most;
    }
    return n->test == ALL_OF ? least : n->test == ANY_OF ? most : not(most);
}

#endif
