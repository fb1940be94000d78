// steps: which columns answer a query's conditions, and how they are combined,
// segment by segment: a machine whose values are sets of rows. Pure.
//
//   steps_begin(p);           // the live rows
//   steps_add(q, sizes, p, clause);  // and those of a clause, and so on
//
// A set is begun for alternatives (BEGIN_NONE, joined by JOIN_OR) and for what
// has to hold within one of them (BEGIN_ALL); END_SET joins it with the set
// before.
#ifndef NEAP_MODEL_STEPS_H
#define NEAP_MODEL_STEPS_H

#include "model/plan.h"

// steps_can_read says whether columns answer a clause: of a group of
// alternatives all have to be read; of others what is read leaves some rows
// too many, unless steps_are_exact.
bool steps_can_read(const struct query *q, uint32_t clause);
bool steps_are_exact(const struct query *q, uint32_t clause);
bool steps_can_read_condition(const struct query *q, const struct condition *c);

// steps_have_values: the field's index has bitmaps or small sets of values.
// steps_are_ranged: it has an ordered index. steps_are_in_memory: rows can be
// ordered in memory, by its packed column or the bitmaps of its choices.
bool steps_have_values(const struct field *f);
bool steps_are_ranged(const struct field *f);
bool steps_are_in_memory(const struct field *f);

// steps_by_range says whether a packed field's ordered index finds a
// condition's rows for less than the packed column, as they are few.
bool steps_by_range(const struct query *q, const struct plan_sizes *sizes,
                    uint32_t condition);

// steps_are_whole: the step reads an index of all segments at once.
// steps_are_windowed: the plan's columns may be read a few segments at a time.
bool steps_are_whole(const struct plan_step *step);
bool steps_are_windowed(const struct query *q, const struct plan *p);

// steps_begin: the live rows. steps_add: of these, the ones that a clause
// finds. steps_add_null: of these, the ones without a value in the field that
// they are ordered by, if it has an index of its own. steps_add_order: what the
// order in memory is read from.
void steps_begin(struct plan *p);
void steps_add(const struct query *q, const struct plan_sizes *sizes,
               struct plan *p, uint32_t clause);
void steps_add_null(const struct query *q, const struct plan_sizes *sizes,
                    struct plan *p);
void steps_add_order(const struct query *q, struct plan *p);

#endif
