// queue: those who wait for the replies of one connection, in the order of
// their commands. A waiter has a place, a number that only rises.
#ifndef NEAP_REDIS_QUEUE_H
#define NEAP_REDIS_QUEUE_H

#include "redis/resp.h"

struct queue {
    struct waiter *ring;      // [head, tail) modulo cap
    uint32_t head, tail, cap; // cap is a power of two
};

// queue_init makes an empty queue, queue_clear frees it.
void queue_init(struct queue *q);
void queue_clear(struct queue *q);

// queue_count is how many wait.
static inline uint32_t queue_count(const struct queue *q) {
    return q->tail - q->head;
}

// queue_at returns the n-th of them, from 0.
static inline struct waiter *queue_at(const struct queue *q, uint32_t n) {
    return &q->ring[(q->head + n) & (q->cap - 1)];
}

// queue_grow doubles the places.
void queue_grow(struct queue *q);

// queue_add puts one at the end and returns its place, valid until the next
// call.
static inline struct waiter *queue_add(struct queue *q,
                                       const struct waiter *w) {
    if (queue_count(q) == q->cap) {
        queue_grow(q);
    }
    struct waiter *place = &q->ring[q->tail++ & (q->cap - 1)];
    *place = *w;
    return place;
}

// queue_take takes the first out.
static inline struct waiter queue_take(struct queue *q) {
    return q->ring[q->head++ & (q->cap - 1)];
}

// queue_forget drops the replies of `count` waiters from that place on; their
// places stay. Those that have left already are left alone.
void queue_forget(struct queue *q, uint32_t place, uint32_t count);

// queue_count_sent returns how many commands end by that offset in the stream.
uint32_t queue_count_sent(const struct queue *q, uint64_t offset);

// queue_count_joined returns how many behind the first n go with them, or with
// what was answered before.
uint32_t queue_count_joined(const struct queue *q, uint32_t n);

// queue_count_overdue returns how many behind the first n are past their time,
// and those that go with them.
uint32_t queue_count_overdue(const struct queue *q, uint32_t n,
                             uint64_t now_ms);

#endif
