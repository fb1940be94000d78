// refuse: why a query cannot be answered, and what would help. Pure.
#ifndef NEAP_MODEL_REFUSE_H
#define NEAP_MODEL_REFUSE_H

#include "model/query.h"

// refuse_query returns 0, or -1 with the reason in error if a condition or the
// order has no index, or one under construction (*is_building is set). With
// has_keys some condition names the rows, so that the others need no index.
int refuse_query(const struct query *q, bool has_keys, bool *is_building,
                 char *error, size_t size);

#endif
