// pubsub: the subscriptions of a client. All share one connection; a channel
// is subscribed to once, however many listen to it. After a reconnect all are
// subscribed to again and each subscriber is told of the gap.
#ifndef NEAP_REDIS_PUBSUB_H
#define NEAP_REDIS_PUBSUB_H

#include "base/list.h"
#include "redis/conn.h"

enum topic_kind { TOPIC_CHANNEL, TOPIC_PATTERN };

// A message as it came. Its bytes are good until the callback returns.
struct pubsub_message {
    const char *pattern, *channel, *payload; // pattern: NULL on a channel
    size_t pattern_len, channel_len, payload_len;
};

struct pubsub;
struct subscriber;

// What those who listen are told. `message` may run anything, closing
// subscribers and the client included; the others may not.
struct pubsub_events {
    // a message has come: pubsub_next gives those who get it
    void (*message)(struct pubsub *ps, const struct pubsub_message *m);
    // all that it asked for is subscribed to
    void (*subscribed)(struct subscriber *s);
    // the same after a reconnect: messages may have been missed
    void (*gap)(struct subscriber *s);
    // it was refused, or the client is closed: it is closed after this
    void (*failed)(struct subscriber *s, const char *code, const char *text);
};

// A subscriber: whoever listens. Embedded in its owner.
struct subscriber {
    struct pubsub *pubsub; // NULL once closed
    struct list link;
    struct list memberships;
    uint32_t unconfirmed; // of them
    bool is_settled;      // all were confirmed once
    bool has_gap;         // to be told when all are confirmed
    bool is_waiting;      // somebody waits for it: it keeps the loop alive
};

// pubsub_new readies the subscriptions of a client.
struct pubsub *pubsub_new(struct runtime *rt,
                          const struct conn_options *options,
                          const struct pubsub_events *events);

// pubsub_close ends all; its subscribers' pubsub is NULL then, after `failed`.
void pubsub_close(struct pubsub *ps);

// pubsub_renew makes it connect anew.
void pubsub_renew(struct pubsub *ps, const char *why);

// pubsub_has_next says whether there is somebody left who gets the message.
bool pubsub_has_next(const struct pubsub *ps);

// pubsub_next returns who gets the message next, NULL after the last. It looks
// no further than that: those who leave meanwhile are passed over.
struct subscriber *pubsub_next(struct pubsub *ps);

// pubsub_runtime is where it runs.
struct runtime *pubsub_runtime(const struct pubsub *ps);

// pubsub_conn is its connection.
struct conn *pubsub_conn(struct pubsub *ps);

// subscriber_open begins to listen, to nothing yet.
void subscriber_open(struct subscriber *s, struct pubsub *ps);

// subscriber_close ends it; nothing comes after that.
void subscriber_close(struct subscriber *s);

// subscriber_add listens to a channel or pattern; false if it does already.
bool subscriber_add(struct subscriber *s, enum topic_kind kind,
                    const char *name, size_t len);

// subscriber_remove no longer listens to it; false if it did not.
bool subscriber_remove(struct subscriber *s, enum topic_kind kind,
                       const char *name, size_t len);

// subscriber_wait says whether somebody waits for messages.
void subscriber_wait(struct subscriber *s, bool is_waiting);

#endif
