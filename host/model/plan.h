// plan: from a query to the way in which it is answered. Pure: a query in,
// steps out, and text that explains them.
#ifndef NEAP_MODEL_PLAN_H
#define NEAP_MODEL_PLAN_H

#include "model/row.h"
#include "model/schema.h"

#define NO_LIMIT UINT64_MAX

enum condition_op {
    COND_IN,    // one of `values`; none of them matches nothing
    COND_RANGE, // low <= value <= high, or between least and most
    COND_NULL,  // no value
};

struct condition {
    uint32_t field;
    enum condition_op op;
    struct value *values; // encoded, sorted
    uint32_t count;
    double low, high;
    // a range of strings: bounds as ZRANGEBYLEX takes them; NULL where it is
    // open
    struct value least, most;
};

struct query {
    char generation[17]; // of the schema that the plan was made for
    const struct schema *schema;
    struct condition *conditions; // all must hold
    uint32_t count;
    int order; // field, or -1
    bool is_descending;
    uint64_t limit, offset;
};

enum plan_way {
    PLAN_NOTHING, // no row can match
    PLAN_KEYS,    // the primary keys are given
    PLAN_UNIQUE,  // a unique index gives the primary keys
    PLAN_COLUMNS, // columns of bits are combined
    PLAN_WALK,    // only an ordered index is walked: nothing to combine
};

enum plan_order {
    ORDER_NONE,    // by ordinal, as it comes
    ORDER_PACKED,  // by a packed column, in memory
    ORDER_WALK,    // along an ordered index, testing bits
    ORDER_FETCHED, // the few rows are sorted when they are here
};

// What a column of a condition is read from.
enum plan_read {
    READ_ROWS,   // the bitmap of live rows
    READ_BITMAP, // of one value
    READ_SET,    // the small set of one value
    READ_PACKED, // the packed column, tested in memory
    READ_ZSET,   // a range of an ordered index, for all segments at once
    READ_LEX,    // the same, by bytes
    READ_NULL,   // the bitmap of rows without a value
    READ_ORDER,  // the packed column to order by
};

struct plan_step {
    enum plan_read read;
    int condition;  // -1 where it serves none
    uint32_t value; // of the condition
};

struct plan {
    enum plan_way way;
    enum plan_order order;
    int driver;              // the condition that gives keys
    struct plan_step *steps; // of each segment (READ_ZSET: once)
    uint32_t step_count;
    int compound;     // ORDER_WALK: along this compound index; -1: the field's
    int bounds;       // ORDER_WALK: the condition that bounds it; -1: none
    bool is_building; // an index that is needed is under construction
};

// plan_make fills plan; -1 with the reason in error if a condition or the
// order has no index, or one under construction. plan_clear frees the steps.
int plan_make(const struct query *q, struct plan *p, char *error, size_t size);
void plan_clear(struct plan *p);

// plan_explain appends the plan as text, a line a step.
void plan_explain(const struct query *q, const struct plan *p, struct buf *b);

// plan_text_range makes c's bounds of two strings (p is NULL where it is open),
// which are left out themselves with is_above and is_below. plan_prefix makes
// them of what the strings begin with.
void plan_text_range(struct condition *c, struct value low, struct value high,
                     bool is_above, bool is_below);
void plan_prefix(struct condition *c, struct value prefix);

// plan_find_equal returns the condition that gives the field one value, or -1.
int plan_find_equal(const struct query *q, uint32_t field);

// query_matches says whether a row fulfils all conditions.
bool query_matches(const struct query *q, const struct row *r);

// query_compare orders two rows by the query's order; nulls come last, ties
// by ordinal.
int query_compare(const struct query *q, const struct row *a,
                  const struct row *b);

#endif
