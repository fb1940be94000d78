// greeting: what is said on a new connection before anything else (AUTH,
// SELECT, CLIENT SETNAME, ROLE, PING), and what the answers mean.
#ifndef NEAP_REDIS_GREETING_H
#define NEAP_REDIS_GREETING_H

#include "redis/link.h"
#include "redis/resp.h"

enum greeting_step {
    GREETING_AUTH,
    GREETING_SELECT,
    GREETING_NAME,
    GREETING_ROLE, // of what a sentinel called the primary
    GREETING_PING, // a server that cannot serve yet says so
};

struct greeting {
    struct waiter waiter;        // for each of the replies
    enum greeting_step steps[5]; // those that were said
    int count, answered;
    char error[256]; // the first reply that counts as an error
    enum greeting_step error_step;
    char role[16];
    bool has_role;
};

enum greeting_verdict {
    GREETING_WELL,
    GREETING_AGAIN,   // the server may be ready later
    GREETING_REFUSED, // trying again is of no use
};

// greeting_begin appends the commands that the options ask for.
void greeting_begin(struct greeting *g, struct conn *c,
                    const struct conn_options *options, struct buf *out);

// greeting_is_over counts an answer and says whether it was the last.
bool greeting_is_over(struct greeting *g);

// greeting_judge says what the answers mean; *code is an error's.
enum greeting_verdict greeting_judge(const struct greeting *g,
                                     const struct conn_options *options,
                                     char *code, size_t size);

#endif
