// cursor: a position in the order of a query, as text that goes through an URL:
// the ordinal and the values to order by of the last row of a page. Pure.
//
// It begins with a check over the model, the order and the rest, so that a
// damaged one, or one of another order, is refused. It is a position and
// nothing else: whoever makes one up gains no more than a page from there on.
#ifndef NEAP_MODEL_CURSOR_H
#define NEAP_MODEL_CURSOR_H

#include "base/buf.h"
#include "model/query.h"

// cursor_encode appends the position of a row in the query's order.
void cursor_encode(const struct query *q, const struct row *r, struct buf *out);

// cursor_decode returns a row that has what the order needs; NULL if the text
// is no cursor of this order. Free it with free.
struct row *cursor_decode(const struct query *q, const char *text, size_t len);

#endif
