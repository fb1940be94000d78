// queue: those who wait for the replies of one connection.
#include "redis/queue.h"

#include <stdlib.h>

#include "base/mem.h"

void queue_init(struct queue *q) {
    *q = (struct queue){.cap = 4};
    q->ring = xmalloc(q->cap * sizeof q->ring[0]);
}

void queue_clear(struct queue *q) {
    free(q->ring);
    q->ring = NULL;
}

void queue_grow(struct queue *q) {
    uint32_t cap = q->cap * 2, n = queue_count(q);
    struct waiter *ring = xmalloc(cap * sizeof ring[0]);
    for (uint32_t i = 0; i < n; i++) {
        ring[(q->head + i) & (cap - 1)] = *queue_at(q, i);
    }
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
}

void queue_forget(struct queue *q, uint32_t place, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (place + i - q->head < queue_count(q)) {
            struct waiter *w = &q->ring[(place + i) & (q->cap - 1)];
            w->sink = &sink_ignore;
            w->ctx = NULL;
        }
    }
}

uint32_t queue_count_sent(const struct queue *q, uint64_t offset) {
    uint32_t n = 0;
    while (n < queue_count(q) && queue_at(q, n)->end <= offset) {
        n++;
    }
    return n;
}

uint32_t queue_count_joined(const struct queue *q, uint32_t n) {
    uint32_t joined = 0;
    while (n + joined < queue_count(q) && queue_at(q, n + joined)->is_joined) {
        joined++;
    }
    return joined;
}

uint32_t queue_count_overdue(const struct queue *q, uint32_t n,
                             uint64_t now_ms) {
    uint32_t count = 0;
    while (n + count < queue_count(q)) {
        const struct waiter *w = queue_at(q, n + count);
        bool is_overdue = w->due_ms && w->due_ms <= now_ms;
        if (!is_overdue && !(count && w->is_joined)) {
            break;
        }
        count++;
    }
    return count;
}
