// plan: from a query, and what is known of the sizes of its columns, to the
// way in which it is answered. Pure: a query in, steps out.
//
// Whatever way is taken, each row is tested again when it has been fetched. So
// a plan may read the columns of some conditions only, where fetching a few
// rows too many costs less than reading the rest.
#ifndef NEAP_MODEL_PLAN_H
#define NEAP_MODEL_PLAN_H

#include "model/path.h"

#define PLAN_UNKNOWN UINT64_MAX

enum plan_way {
    PLAN_NOTHING, // no row can match
    PLAN_KEYS,    // the primary keys are given
    PLAN_UNIQUE,  // a unique index gives the primary keys
    PLAN_COLUMNS, // columns of bits are combined
    PLAN_WALK,    // an ordered index is walked, and its rows are tested
};

enum plan_order {
    ORDER_NONE,    // by ordinal, as it comes
    ORDER_PACKED,  // by a packed column, in memory
    ORDER_WALK,    // along an ordered index, testing bits
    ORDER_FETCHED, // the rows are sorted when they are here
};

// What a step does: it reads a set of rows, or moves between such sets.
enum plan_read {
    READ_ROWS,     // the bitmap of live rows
    READ_BITMAP,   // of one value
    READ_SET,      // the small set of one value
    READ_PACKED,   // the packed column, tested in memory
    READ_NULL,     // the bitmap of rows without a value
    READ_ZSET,     // a range of an ordered index, for all segments at once
    READ_LEX,      // the same, by bytes
    READ_ORDER,    // the packed column to order by, kept as it is
    READ_ORDER_OF, // the bitmap of one choice, to order by
    BEGIN_ALL,     // begins a set of all rows
    BEGIN_NONE,    // begins an empty set
    END_SET,       // joins the set with the one that was begun before it
};

enum plan_join { JOIN_AND, JOIN_OR, JOIN_WITHOUT };

struct plan_step {
    enum plan_read read;
    enum plan_join join;
    int condition;  // -1 where it serves none
    uint32_t value; // of the condition; READ_ORDER_OF: the choice
    bool is_whole;  // READ_ZSET, READ_LEX: the whole index
};

// What is known before a plan is made: estimates, PLAN_UNKNOWN where there is
// none.
struct plan_sizes {
    uint64_t rows;     // live ones
    uint32_t segments; // at least 1
    uint64_t *matches; // rows of each condition, were it not negated
    uint64_t path;     // entries of the path that a walk would follow
};

struct plan {
    enum plan_way way;
    enum plan_order order;
    int driver; // PLAN_KEYS, PLAN_UNIQUE: the condition of the keys
    struct plan_step *steps; // of each segment; those of whole indexes once
    uint32_t step_count;
    uint32_t depth;  // how many sets are begun at a time, at most
    bool is_exact;   // the columns, or the path, have the rows that match, and
                     // no others
    bool can_skip;   // each candidate is a row that matches
    bool is_tallied; // of exact columns, with the field to be tallied
    bool is_tested;  // conditions are left that only the rows show
    // rows without a value come behind those walked
    bool has_tail;
    struct plan *tail;  // how to read them, if no columns leave them over
    bool is_building;   // an index that is needed is under construction
    struct path path;   // of PLAN_WALK and ORDER_WALK
    uint64_t candidate; // rows that the columns leave, about
};

// plan_needs_sizes says whether there is more than one way, so that it is
// worth asking for sizes.
bool plan_needs_sizes(const struct query *q, uint32_t segments);

// plan_make fills plan; -1 with the reason in error if a condition or the
// order has no index, or one under construction. sizes may be NULL. plan_clear
// frees the steps.
int plan_make(const struct query *q, const struct plan_sizes *sizes,
              struct plan *p, char *error, size_t size);
void plan_clear(struct plan *p);

// plan_make_wary makes a plan in the same order that reads the columns of all
// conditions, for a query whose candidates turn out not to match. Returns
// false if there is none.
bool plan_make_wary(struct query *q, const struct plan_sizes *sizes,
                    const struct plan *old, struct plan *p);

// plan_correct: now that the columns were read, `found` rows of them are left.
// It changes to ORDER_FETCHED if walking would take longer than sorting.
void plan_correct(const struct query *q, const struct plan_sizes *sizes,
                  struct plan *p, uint64_t found);

// plan_explain appends the plan as text, a line a step.
void plan_explain(const struct query *q, const struct plan_sizes *sizes,
                  const struct plan *p, struct buf *b);

#endif
