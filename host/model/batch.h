// batch: writes as apply.lua takes them. Pure: writes in, packed bytes out.
#ifndef NEAP_MODEL_BATCH_H
#define NEAP_MODEL_BATCH_H

#include "base/pack.h"
#include "model/write.h"

// batch_pack_head packs all of a batch but its rows. `number` is its place in
// the host's journal, whose expiry is renewed with is_refresh.
void batch_pack_head(const struct schema *s, uint64_t number, bool is_refresh,
                     struct buf *b);

// batch_pack_rows packs up to `most` of the writes, but no second one once the
// batch has so many bytes; then what follows the rows. New rows get versions
// that begin with `creation`, which no other batch has; saves get their next
// versions. It notes which unique fields each write claims. Returns how many.
uint32_t batch_pack_rows(const struct schema *s, struct write *first,
                         uint32_t most, size_t bytes,
                         const char creation[ROW_CREATION], struct buf *b);

// batch_merge makes w's change apply to the row as it is now: fields that w
// does not change keep what somebody else wrote. It takes `now` over. Returns
// the field whose increment would pass its limits, or -1.
int batch_merge(const struct schema *s, struct write *w, struct row *now,
                char *error, size_t size);

// batch_read_row makes a row of a packed HGETALL reply; the id is its key.
struct row *batch_read_row(const struct schema *s, struct value id,
                           struct unpack *u);

#endif
