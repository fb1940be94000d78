// path: the ordered index that a walk follows: a compound index whose equal
// fields the query has, or that of a field. Pure.
#ifndef NEAP_MODEL_PATH_H
#define NEAP_MODEL_PATH_H

#include "model/query.h"

struct path {
    int compound;   // -1: the field's own index
    uint32_t field; // by which it is ordered
    int bounds;     // the condition that bounds it, or -1
};

// path_find returns false if there is none in the query's order. Without an
// order, any compound index will do, or a range.
bool path_find(const struct query *q, struct path *path);

// path_find_compound returns the compound index, in use or under construction,
// whose equal fields the query has and whose last one is `field` (-1: any); of
// several the longest; or -1.
int path_find_compound(const struct query *q, int field, bool is_building);

// path_covers says whether the path has only rows that fulfil the clause.
bool path_covers(const struct query *q, const struct path *path,
                 uint32_t clause);

// path_has_all: no row that matches is missing in a path that is ordered by
// the field, as none of them has no value in it.
bool path_has_all(const struct query *q, uint32_t field);

// path_key appends the name of the index.
void path_key(const struct query *q, const struct path *path, struct buf *key);

#endif
