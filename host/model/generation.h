// generation: whether the stored definition is still the one that a query was
// made for, where no columns are read that would show it.
#ifndef NEAP_MODEL_GENERATION_H
#define NEAP_MODEL_GENERATION_H

#include "model/query.h"
#include "redis/conn.h"

// generation_ask asks for the stored one: *is_stale is set before what is
// asked next is answered, and has to live until then.
void generation_ask(struct conn *c, const struct query *q, bool *is_stale);

// generation_text says what a stale query fails with (model.schema_changed).
void generation_text(const struct query *q, char *text, size_t size);

#endif
