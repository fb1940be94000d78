// outbox: the bytes of commands that have still to leave, and where they stand
// in the stream of all that were ever queued on a connection: what was not
// sent when it is lost goes out on the next.
#ifndef NEAP_REDIS_OUTBOX_H
#define NEAP_REDIS_OUTBOX_H

#include "base/buf.h"
#include "redis/link.h"

struct outbox {
    struct buf bytes;
    uint64_t base;      // offset of bytes.data[0] in the stream
    uint64_t sent_base; // that of the bytes last given to the link
};

// outbox_end is the offset at which the next command will begin.
static inline uint64_t outbox_end(const struct outbox *o) {
    return o->base + o->bytes.len;
}

// outbox_send gives all to the link; a negative error of uv's.
int outbox_send(struct outbox *o, struct link *l);

// outbox_written returns the offset up to which the peer may have read.
uint64_t outbox_written(const struct outbox *o, const struct link *l);

// outbox_keep_from leaves what is to be sent on another link, from that
// offset on, of what the link (or NULL) has not sent and what it never got.
void outbox_keep_from(struct outbox *o, const struct link *l, uint64_t from);

#endif
