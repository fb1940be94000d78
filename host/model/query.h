// query: which rows are wanted, and in which order. Pure: it is filled by the
// binding, then completed by query_finish.
//
// The conditions form a tree of alternatives, written down as clauses: a group
// stands before what it holds. There is no NOT: a negation is pushed down to
// the conditions (De Morgan), which are true, false or, for a row without a
// value, neither, as in SQL. So neither a condition nor its negation finds
// such a row.
#ifndef NEAP_MODEL_QUERY_H
#define NEAP_MODEL_QUERY_H

#include "model/row.h"
#include "model/schema.h"

#define NO_LIMIT UINT64_MAX

enum {
    QUERY_ORDERS = 8,     // fields to order by, at most
    QUERY_DEPTH = 16,     // of nested groups, at most
    QUERY_COUNT = 1024,   // conditions, at most
    QUERY_VALUES = 10000, // of a condition, at most
};

enum condition_op {
    COND_IN,    // one of `values`; none of them matches nothing
    COND_RANGE, // low <= value <= high, or between least and most
    COND_NULL,  // no value
};

struct condition {
    uint32_t field;
    enum condition_op op;
    bool is_negated;      // it has a value, but no such one; or: it has a value
    bool is_top;          // it holds for each row that is found
    struct value *values; // encoded, sorted
    uint32_t count;
    double low, high;
    bool is_above,
        is_below; // it was meant without these ends, which lie inside
    // a range of strings: bounds as ZRANGEBYLEX takes them; NULL where it is
    // open
    struct value least, most;
};

enum clause_kind { CLAUSE_CONDITION, CLAUSE_ALL, CLAUSE_ANY };

struct clause {
    enum clause_kind kind;
    uint32_t end;       // the first clause behind it and what it holds
    uint32_t condition; // CLAUSE_CONDITION: which
};

struct order_key {
    uint32_t field;
    bool is_descending;
};

struct query {
    char generation[17]; // of the schema that it was made for
    const struct schema *schema;
    // behind the conditions stands one more, for rows without a value in the
    // field that they are ordered by
    struct condition *conditions;
    uint32_t count;
    struct clause *clauses; // the first is a CLAUSE_ALL and holds the others
    uint32_t clause_count;
    struct order_key orders[QUERY_ORDERS];
    uint32_t order_count;
    uint64_t limit, offset;
    struct row *after; // only rows that come behind it in the order; or NULL
    bool is_wary;  // an estimate was wrong: columns of all conditions are read
    bool may_scan; // conditions without an index are tested on the rows
    bool is_counted; // only their number is wanted
    bool is_tallied; // likewise, and what the field orders[0] has
};

// query_finish derives what the clauses say of each condition, makes ranges of
// lists that have no gaps, and the condition behind the others.
void query_finish(struct query *q);

// query_clear frees what a query holds.
void query_clear(struct query *q);

// query_text_range makes c's bounds of two strings (p is NULL where it is
// open), which are left out themselves with is_above and is_below.
// query_prefix makes them of what the strings begin with.
void query_text_range(struct condition *c, struct value low, struct value high,
                      bool is_above, bool is_below);
void query_prefix(struct condition *c, struct value prefix);

// query_find_equal returns the condition by which the field of each row has
// one value, or -1.
int query_find_equal(const struct query *q, uint32_t field);

// query_find_range returns the condition by which the field of each row is in
// one range, or -1.
int query_find_range(const struct query *q, uint32_t field);

// query_is_null says whether no row that is found has a value in the field.
bool query_is_null(const struct query *q, uint32_t field);

// query_matches says whether a row fulfils the conditions, and lies behind the
// position to go on from.
bool query_matches(const struct query *q, const struct row *r);

// query_compare orders two rows by the query's order; nulls come last, ties by
// ordinal, going the first key's way.
int query_compare(const struct query *q, const struct row *a,
                  const struct row *b);

#endif
