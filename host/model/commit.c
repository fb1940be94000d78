// commit: the writes of a model, in batches.
#include "model/commit.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/pack.h"
#include "model/batch.h"
#include "model/key.h"

enum { batch_split = 16, batch_bytes = 512 * 1024 };
static const uint64_t refresh_ms = 3600 * 1000;
static const uint64_t give_up_ms = 15 * 1000;

__asm__(".pushsection .rodata; apply_lua: .incbin \"host/model/apply.lua\"; "
        ".incbin \"host/model/apply_new.lua\"; "
        ".incbin \"host/model/apply_rows.lua\"; "
        "apply_lua_end: .byte 0; .popsection");
extern const char apply_lua[], apply_lua_end[];

struct batch {
    struct commit *commit;
    uint64_t number;
    struct write *first; // NULL-terminated
    struct buf packed;
    size_t head_len; // of what comes before the rows
    struct buf reply;
    bool is_error;
    bool is_adopted;   // the stored definition could be taken over
    uint32_t attempts; // to have the definition accepted
    uint64_t since_ms;
    bool is_refresh; // of the journal's expiry
};

static void send_batch(struct batch *b, bool with_source);
static void on_defer(struct defer *d);

// -- building a batch

static void pack_head(struct commit *c, struct batch *b) {
    b->is_refresh =
        !c->refreshed_ms || b->since_ms - c->refreshed_ms > refresh_ms;
    batch_pack_head(c->schema, b->number, b->is_refresh, &b->packed);
    b->head_len = b->packed.len;
}

// name_creation writes what names the lives of the rows that a batch makes. It
// is as good as random: of the host's random name and the batch's number.
static void name_creation(const struct commit *c, char out[ROW_CREATION]) {
    char seed[sizeof c->host + sizeof c->number];
    memcpy(seed, c->host, sizeof c->host);
    memcpy(seed + sizeof c->host, &c->number, sizeof c->number);
    struct hash128 h = hash128(seed, sizeof seed);
    memcpy(out, &h, ROW_CREATION);
}

// next_batch takes up to `most` of the queued writes.
static struct batch *next_batch(struct commit *c, uint32_t most) {
    struct batch *b = xcalloc(1, sizeof *b);
    b->commit = c;
    b->since_ms = uv_now(c->rt->loop);
    b->number = ++c->number;
    pack_head(c, b);
    char creation[ROW_CREATION];
    name_creation(c, creation);
    uint32_t n = batch_pack_rows(c->schema, c->first, most, batch_bytes,
                                 creation, &b->packed);
    struct write *last = c->first;
    for (uint32_t i = 1; i < n; i++) {
        last = last->next;
    }
    b->first = c->first;
    c->first = last->next;
    c->last = c->first ? c->last : &c->first;
    c->count -= n;
    last->next = NULL;
    return b;
}

// -- rows in hand
//
// Writes to one row go one after the other: the first is registered under the
// row's id, others follow it. What it stored becomes the base of the next.

static int by_id(const void *a, const void *b) {
    const struct write *x = a, *y = b;
    if (x->id_len != y->id_len) {
        return x->id_len < y->id_len ? -1 : 1;
    }
    return x->id_len ? memcmp(x->id, y->id, x->id_len) : 0;
}

static void enqueue(struct commit *c, struct write *w) {
    w->next = NULL;
    *c->last = w;
    c->last = &w->next;
    c->count++;
    runtime_defer(c->rt, &c->defer);
}

// rebase lets a save begin from what the write before it stored, rather than
// find out by a conflict.
static void rebase(struct commit *c, struct write *w,
                   const struct row *stored) {
    char error[64];
    if (w->kind == WRITE_SAVE && w->old && !w->is_optimistic && stored &&
        memcmp(stored->version, w->old->version, ROW_CREATION) == 0 &&
        memcmp(stored->version, w->old->version, ROW_VERSION) != 0 &&
        w->increment_count == 0) {
        batch_merge(c->schema, w, row_copy(stored), error, sizeof error);
    }
}

// release lets the next write to the same row go.
static void release(struct commit *c, struct write *w, bool is_stored) {
    if (!w->is_registered) {
        return;
    }
    tdelete(w, &c->rows, by_id);
    struct write *next = w->followers;
    if (next) {
        next->followers = next->next;
        next->last_follower = w->last_follower;
        next->is_registered = true;
        tsearch(next, &c->rows, by_id);
        rebase(c, next, is_stored ? w->new : NULL);
        enqueue(c, next);
    }
}

static void free_write(struct write *w) {
    free(w->old);
    free(w->new);
    free(w->id);
    free(w->increments);
    free(w->expired);
    free(w);
}

static void finish(struct commit *c, struct write *w, enum write_code code,
                   int field, const char *error_code, const char *error) {
    release(c, w, code == WRITE_DONE);
    w->done(w, code, field, error_code, error);
    free_write(w);
}

// fail_queue: the client was closed; what was not sent never will be.
static void fail_queue(struct commit *c) {
    while (c->first) { // a write that ends may let another one go
        struct write *w = c->first;
        c->first = w->next;
        c->last = c->first ? c->last : &c->first;
        c->count--;
        finish(c, w, WRITE_FAILED, -1, "redis.closed", "the client was closed");
    }
}

static void launch(struct commit *c, uint32_t most) {
    struct batch *b = next_batch(c, most);
    c->flying[b->number % 2] = b;
    send_batch(b, false);
}

// flush sends what is queued. Many writes with nothing under way are shared
// out between two batches, so that one is applied while the other is answered.
static void flush(struct commit *c) {
    if (!*c->client) {
        fail_queue(c);
        return;
    }
    while (c->first && !c->flying[(c->number + 1) % 2]) {
        uint32_t most = COMMIT_BATCH_ROWS;
        if (!c->flying[c->number % 2] && c->count >= batch_split) {
            uint32_t half = (c->count + 1) / 2;
            most = half < COMMIT_BATCH_ROWS ? half : COMMIT_BATCH_ROWS;
        }
        launch(c, most);
    }
}

// -- verdicts

static void free_batch(struct batch *b) {
    b->commit->flying[b->number % 2] = NULL;
    buf_clear(&b->packed);
    buf_clear(&b->reply);
    free(b);
}

static void fail_batch(struct batch *b, enum write_code code,
                       const char *error_code, const char *error) {
    struct write *w = b->first;
    struct commit *c = b->commit;
    free_batch(b);
    while (w) {
        struct write *next = w->next;
        finish(c, w, code, -1, error_code, error);
        w = next;
    }
    if (strcmp(error_code, "redis.closed") == 0) {
        fail_queue(c); // the connection is on its way out: nothing can be sent
    } else {
        flush(c);
    }
}

static struct row *read_row(struct commit *c, struct write *w,
                            struct unpack *u) {
    return batch_read_row(c->schema, (struct value){w->id, w->id_len}, u);
}

// on_conflict: somebody wrote the row since it was loaded. Unless it is
// another row by now, the write is computed anew and goes out again.
static void on_conflict(struct commit *c, struct write *w, struct unpack *u) {
    struct row *now = read_row(c, w, u);
    char error[64] = "";
    if (w->old && memcmp(now->version, w->old->version, ROW_CREATION) != 0) {
        free(now);
        finish(c, w, WRITE_GONE, -1, NULL, NULL);
        return;
    }
    if (w->is_optimistic && w->kind == WRITE_SAVE) {
        free(w->old);
        w->old = now;
        finish(c, w, WRITE_CONFLICT, -1, NULL, NULL);
        return;
    }
    if (w->kind == WRITE_UPSERT) {
        w->kind = WRITE_SAVE;
        w->life = 0; // it has one
    }
    int field = batch_merge(c->schema, w, now, error, sizeof error);
    if (field >= 0) {
        finish(c, w, WRITE_RANGE, field, NULL, error);
    } else {
        enqueue(c, w);
    }
}

// on_row: an increment answers with the row as it is after it.
static void on_row(struct commit *c, struct write *w, struct unpack *u) {
    free(w->new);
    w->new = read_row(c, w, u);
    finish(c, w, WRITE_DONE, -1, NULL, NULL);
}

static void on_range(struct commit *c, struct write *w, struct unpack *u) {
    uint64_t i = (uint64_t)unpack_int(u);
    size_t len;
    const char *text = unpack_bytes(u, &len);
    char error[64];
    int field = i < w->increment_count ? (int)w->increments[i].field : 0;
    snprintf(error, sizeof error, "%.*s", (int)len, text);
    finish(c, w, WRITE_RANGE, field, NULL, error);
}

// note_expired keeps whose time is over, if the verdict names one.
static void note_expired(struct write *w, struct unpack *u) {
    struct unpack ahead = *u;
    size_t len;
    const char *id = unpack_bytes(&ahead, &len);
    if (!ahead.is_bad) {
        w->expired = xstrndup(id, len);
        w->expired_len = len;
        *u = ahead;
    } else {
        unpack_int(u);
    }
}

static void set_id(struct write *w, struct unpack *u) {
    size_t len;
    const char *id = unpack_bytes(u, &len);
    free(w->id);
    w->id = xstrndup(id, len);
    w->id_len = len;
}

static void read_verdict(struct commit *c, struct write *w, struct unpack *u) {
    int64_t code = 0, ordinal = -1;
    if (unpack_is_array(u)) {
        unpack_array(u);
        code = unpack_int(u);
        if (code == 0) {
            ordinal = unpack_int(u);
            set_id(w, u);
        }
    } else {
        ordinal = unpack_int(u);
    }
    if (u->is_bad) {
        finish(c, w, WRITE_FAILED, -1, "model.reply", "a damaged verdict");
        return;
    }
    int64_t field;
    const char *text;
    size_t len;
    char error[512];
    switch (code) {
    case 0:
        if (w->new) {
            w->new->ordinal = (uint32_t)ordinal;
        }
        finish(c, w, WRITE_DONE, -1, NULL, NULL);
        break;
    case 1:
        note_expired(w, u);
        finish(c, w, WRITE_EXISTS, -1, NULL, NULL);
        break;
    case 2: on_conflict(c, w, u); break;
    case 3: finish(c, w, WRITE_GONE, -1, NULL, NULL); break;
    case 4:
        field = unpack_int(u);
        note_expired(w, u);
        finish(c, w, WRITE_UNIQUE, w->claimed[field & 63], NULL, NULL);
        break;
    case 6: on_row(c, w, u); break;
    case 7: on_range(c, w, u); break;
    default:
        text = unpack_bytes(u, &len);
        snprintf(error, sizeof error, "%.*s", (int)len, text);
        finish(c, w, WRITE_FAILED, -1, "model.damaged", error);
    }
}

static void add_args(struct buf *out, size_t count, const char *name,
                     const struct buf *key) {
    resp_command(out, count);
    resp_arg_s(out, name);
    resp_arg(out, key->data, key->len);
}

// install_schema stores the definition in a database that has none, and
// sends the batch again.
static void install_schema(struct batch *b) {
    const struct schema *s = b->commit->schema;
    struct conn *c = b->commit->conn;
    struct buf *out = conn_out(c), meta = {0}, schema = {0};
    key_meta(&meta, s);
    key_schema(&schema, s);
    resp_command(out, 1);
    resp_arg_s(out, "MULTI");
    conn_wait(c, &sink_ignore, NULL);
    add_args(out, 4, "HSETNX", &meta);
    resp_arg_s(out, "gen");
    resp_arg_s(out, s->generation);
    conn_wait(c, &sink_ignore, NULL)->is_joined = true;
    add_args(out, 3, "SETNX", &schema);
    resp_arg(out, s->text.data, s->text.len);
    conn_wait(c, &sink_ignore, NULL)->is_joined = true;
    resp_command(out, 1);
    resp_arg_s(out, "EXEC");
    conn_wait(c, &sink_ignore, NULL)->is_joined = true;
    buf_clear(&meta);
    buf_clear(&schema);
    send_batch(b, false);
}

static void refuse_schema(struct batch *b) {
    char text[256];
    snprintf(text, sizeof text,
             "model %s is stored with another definition; call its sync()",
             b->commit->schema->name);
    fail_batch(b, WRITE_SCHEMA_CHANGED, "model.schema_changed", text);
}

static void *schema_string(struct waiter *w, const redisReadTask *t,
                           const char *s, size_t len) {
    struct batch *b = w->ctx;
    b->is_adopted =
        t->type != REDIS_REPLY_ERROR && schema_adopt(b->commit->schema, s, len);
    return b;
}

// schema_done: with the builds of the stored definition the batch goes out
// again.
static void schema_done(struct waiter *w) {
    struct batch *b = w->ctx;
    if (!b->is_adopted) {
        refuse_schema(b);
        return;
    }
    struct buf rows = {0};
    buf_add(&rows, b->packed.data + b->head_len, b->packed.len - b->head_len);
    b->packed.len = 0;
    pack_head(b->commit, b);
    buf_add(&b->packed, rows.data, rows.len);
    buf_clear(&rows);
    send_batch(b, false);
}

static void reply_failed(struct waiter *w, const char *code, const char *text);

static const struct sink schema_sink = {schema_string,       sink_ignore_array,
                                        sink_ignore_integer, sink_ignore_nil,
                                        schema_done,         reply_failed};

// ask_schema: the stored definition may be ours, with other builds of indexes.
static void ask_schema(struct batch *b) {
    struct commit *c = b->commit;
    struct buf *out = conn_out(c->conn), key = {0};
    key_schema(&key, c->schema);
    resp_command(out, 2);
    resp_arg_s(out, "GET");
    resp_arg(out, key.data, key.len);
    buf_clear(&key);
    b->is_adopted = false;
    conn_wait(c->conn, &schema_sink, b);
}

// A batch may have to go out again for its definition a few times, as others
// install or sync theirs meanwhile.
static const uint32_t attempts_max = 5;

static void on_batch_code(struct batch *b, int64_t code) {
    char text[200];
    bool is_again = ++b->attempts <= attempts_max;
    if (code == -1 && is_again) {
        install_schema(b);
    } else if (code == -2 && is_again) {
        ask_schema(b);
    } else if (code == -2) {
        refuse_schema(b);
    } else if (code == -1 || code == -4) {
        snprintf(text, sizeof text,
                 "model %s: its rows are there, but not the keys that say how "
                 "they are stored; verify { repair = true } mends that",
                 b->commit->schema->name);
        fail_batch(b, WRITE_FAILED, "model.damaged", text);
    } else {
        fail_batch(b, WRITE_FAILED, "redis.unknown_outcome",
                   "a later batch was applied before this one");
    }
}

static void read_verdicts(struct batch *b) {
    struct commit *c = b->commit;
    struct unpack u = {(unsigned char *)b->reply.data,
                       (unsigned char *)b->reply.data + b->reply.len, false};
    uint32_t n = unpack_array(&u);
    if (!unpack_is_array(&u) && n > 0 && n <= 2 && u.p < u.end &&
        *u.p >= 0xe0) { // a negative number
        on_batch_code(b, unpack_int(&u));
        return;
    }
    if (b->is_refresh) {
        c->refreshed_ms = b->since_ms;
    }
    uint32_t rows = 0;
    struct write *w = b->first;
    while (w) {
        struct write *next = w->next;
        read_verdict(c, w, &u);
        w = next;
        rows++;
    }
    bool is_told = b->since_ms - c->told_ms < 1000 && c->told_ms;
    if (n > rows && unpack_is_array(&u) && !is_told) {
        c->told_ms = b->since_ms; // each write to it says so
        size_t len;
        unpack_array(&u);
        unpack_int(&u);
        const char *text = unpack_bytes(&u, &len);
        log_write(&c->rt->log, LOG_ERROR, "model %s: an index is damaged, %.*s",
                  c->schema->name, (int)len, text);
    }
    free_batch(b);
    flush(c);
}

// -- sending

static void *reply_string(struct waiter *w, const redisReadTask *t,
                          const char *s, size_t len) {
    struct batch *b = w->ctx;
    b->is_error = t->type == REDIS_REPLY_ERROR;
    b->reply.len = 0;
    buf_add(&b->reply, s, len);
    return b;
}

static void reply_done(struct waiter *w) {
    struct batch *b = w->ctx;
    const char *text = buf_cstr(&b->reply);
    if (!b->is_error) {
        read_verdicts(b);
    } else if (strncmp(text, "NOSCRIPT", 8) == 0) {
        b->commit->is_sha_asked = false;
        send_batch(b, true);
    } else {
        char code[32] = "redis.error";
        if (strncmp(text, "OOM", 3) == 0) {
            snprintf(code, sizeof code, "redis.oom");
        } else if (strncmp(text, "READONLY", 8) == 0) {
            snprintf(code, sizeof code, "redis.readonly");
            pool_renew(*b->commit->client, "the server is a replica now");
        }
        char error[512];
        snprintf(error, sizeof error, "%s", text);
        fail_batch(b, WRITE_FAILED, code, error);
    }
}

// is_passing says that the same batch may get through later.
static bool is_passing(const char *code) {
    static const char *const codes[] = {
        "redis.connect",  "redis.unknown_outcome", "redis.timeout",
        "redis.loading",  "redis.maxclients",      "redis.sentinel",
        "redis.protocol",
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

// reply_failed: nobody knows whether the batch was applied, but the journal
// will: it goes out again, under the same number.
static void reply_failed(struct waiter *w, const char *code, const char *text) {
    struct batch *b = w->ctx;
    uint64_t age = uv_now(b->commit->rt->loop) - b->since_ms;
    if (!is_passing(code) || age > give_up_ms) {
        fail_batch(b, WRITE_FAILED, code, text);
    } else {
        send_batch(b, false);
    }
}

static const struct sink batch_sink = {reply_string,        sink_ignore_array,
                                       sink_ignore_integer, sink_ignore_nil,
                                       reply_done,          reply_failed};

static void *sha_string(struct waiter *w, const redisReadTask *t, const char *s,
                        size_t len) {
    struct commit *c = w->ctx;
    if (t->type != REDIS_REPLY_ERROR && len == 40) {
        memcpy(c->sha, s, 40);
    }
    return c;
}

static void sha_failed(struct waiter *w, const char *code, const char *text) {
    (void)code, (void)text;
    struct commit *c = w->ctx;
    c->is_sha_asked = false;
}

static const struct sink sha_sink = {sha_string,          sink_ignore_array,
                                     sink_ignore_integer, sink_ignore_nil,
                                     sink_ignore_done,    sha_failed};

static void ask_sha(struct commit *c) {
    struct buf *out = conn_out(c->conn);
    c->is_sha_asked = true;
    resp_command(out, 3);
    resp_arg_s(out, "SCRIPT");
    resp_arg_s(out, "LOAD");
    resp_arg(out, apply_lua, (size_t)(apply_lua_end - apply_lua));
    conn_wait(c->conn, &sha_sink, c);
}

static void send_batch(struct batch *b, bool with_source) {
    struct commit *c = b->commit;
    struct buf *out = conn_out(c->conn), key = {0};
    if (!c->is_sha_asked) {
        ask_sha(c);
    }
    with_source = with_source || !c->sha[0];
    c->stamp++; // also of a batch that is sent again
    resp_command(out, 7);
    resp_arg_s(out, with_source ? "EVAL" : "EVALSHA");
    if (with_source) {
        resp_arg(out, apply_lua, (size_t)(apply_lua_end - apply_lua));
    } else {
        resp_arg(out, c->sha, 40);
    }
    resp_arg_s(out, "2");
    key_meta(&key, c->schema);
    resp_arg(out, key.data, key.len);
    key.len = 0;
    key_journal(&key, c->schema, c->host);
    resp_arg(out, key.data, key.len);
    buf_clear(&key);
    resp_arg(out, b->packed.data, b->packed.len);
    resp_arg(out, &c->stamp, sizeof c->stamp);
    conn_wait(c->conn, &batch_sink, b);
}

static void on_defer(struct defer *d) {
    flush(
        (struct commit *)(void *)((char *)d - offsetof(struct commit, defer)));
}

// start sends a whole batch as soon as there is one, so that the server works
// while the turn goes on. A connection that is being closed takes none: its
// waiters are being failed.
static void start(struct commit *c) {
    if (c->count >= COMMIT_BATCH_ROWS && !c->flying[(c->number + 1) % 2] &&
        *c->client && c->conn->state != CONN_CLOSED) {
        launch(c, COMMIT_BATCH_ROWS);
    }
}

void commit_add(struct commit *c, struct write *w) {
    // an id from a counter nobody else knows; increments may overtake each
    // other
    if (w->id_len == 0 || w->kind == WRITE_INCREMENT) {
        enqueue(c, w);
        start(c);
        return;
    }
    struct write *first = *(struct write **)tsearch(w, &c->rows, by_id);
    if (first == w) {
        w->is_registered = true;
        enqueue(c, w);
        start(c);
        return;
    }
    w->next = NULL;
    if (first->followers) {
        first->last_follower->next = w;
    } else {
        first->followers = w;
    }
    first->last_follower = w;
}

void commit_init(struct commit *c, struct runtime *rt, struct schema *s,
                 struct pool *const *client) {
    *c = (struct commit){
        .rt = rt, .schema = s, .conn = (*client)->shared, .client = client};
    c->last = &c->first;
    c->defer.fn = on_defer;
    uint64_t random = uv_hrtime();
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
        random ^= (uint64_t)(uintptr_t)c;
    }
    snprintf(c->host, sizeof c->host, "%016llx", (unsigned long long)random);
    c->stamp = random;
}

void commit_clear(struct commit *c) {
    runtime_undefer(c->rt, &c->defer);
    while (c->first) {
        struct write *w = c->first;
        c->first = w->next;
        while (w->followers) {
            struct write *next = w->followers->next;
            free_write(w->followers);
            w->followers = next;
        }
        if (w->is_registered) {
            tdelete(w, &c->rows, by_id);
        }
        free_write(w);
    }
}
