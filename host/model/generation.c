// generation: whether the stored definition is still the one that a query was
// made for.
#include "model/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/key.h"

// What a reply is compared with.
struct check {
    bool *is_stale;
    char generation[17];
};

static void *on_string(struct waiter *w, const redisReadTask *t, const char *s,
                       size_t len) {
    const struct check *c = w->ctx;
    *c->is_stale =
        t->type != REDIS_REPLY_ERROR &&
        (len != strlen(c->generation) || memcmp(s, c->generation, len) != 0);
    return w;
}

static void on_done(struct waiter *w) {
    free(w->ctx);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    (void)code, (void)text; // what was asked for next fails too
    free(w->ctx);
}

static const struct sink generation_sink = {
    on_string,       sink_ignore_array, sink_ignore_integer,
    sink_ignore_nil, on_done,           on_failed};

void generation_ask(struct conn *c, const struct query *q, bool *is_stale) {
    struct buf *out = conn_out(c), key = {0};
    struct check *check = xcalloc(1, sizeof *check);
    check->is_stale = is_stale;
    memcpy(check->generation, q->generation, sizeof check->generation);
    key_meta(&key, q->schema);
    resp_command(out, 3);
    resp_arg_s(out, "HGET");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "gen");
    buf_clear(&key);
    conn_wait(c, &generation_sink, check);
}

void generation_text(const struct query *q, char *text, size_t size) {
    snprintf(text, size,
             "model %s is stored with another definition; call its sync()",
             q->schema->name);
}
