// outbox: the bytes of commands that have still to leave.
#include "redis/outbox.h"

int outbox_send(struct outbox *o, struct link *l) {
    uint64_t end = outbox_end(o);
    o->sent_base = o->base;
    int r = link_send(l, &o->bytes);
    o->base = end - o->bytes.len;
    return r;
}

uint64_t outbox_written(const struct outbox *o, const struct link *l) {
    const struct buf *unused;
    return o->base - link_unsent(l, &unused);
}

void outbox_keep_from(struct outbox *o, const struct link *l, uint64_t from) {
    const struct buf *sending = NULL;
    if (l) {
        link_unsent(l, &sending);
    }
    if (from < o->base && sending) {
        struct buf b = {0};
        buf_add(&b, sending->data + (from - o->sent_base),
                (size_t)(o->base - from));
        buf_add(&b, o->bytes.data, o->bytes.len);
        buf_clear(&o->bytes);
        o->bytes = b;
    } else {
        buf_shift(&o->bytes, (size_t)(from - o->base));
    }
    o->base = from;
}
