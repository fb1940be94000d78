// commit: the writes of a model, in batches.
#include "model/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "base/pack.h"
#include "model/index.h"
#include "model/key.h"

enum { batch_rows = 256, batch_split = 16, batch_bytes = 512 * 1024 };
static const uint64_t refresh_ms = 3600 * 1000;
static const uint64_t give_up_ms = 15 * 1000;

__asm__(".pushsection .rodata; apply_lua: .incbin \"host/model/apply.lua\"; "
        "apply_lua_end: .byte 0; .popsection");
extern const char apply_lua[], apply_lua_end[];

struct batch {
    struct commit *commit;
    uint64_t number;
    struct write *first; // NULL-terminated
    struct buf packed;
    struct buf reply;
    bool is_error;
    uint64_t since_ms;
};

static void send_batch(struct batch *b, bool with_source);
static void on_defer(struct defer *d);

// -- building a batch

static void pack_fields(struct commit *c, const struct write *w,
                        struct buf *b) {
    const struct schema *s = c->schema;
    uint32_t set = 0, removed = 0;
    struct buf names = {0}, gone = {0};
    for (uint32_t i = 0; w->new &&i < s->count; i++) {
        bool is_dirty = w->kind == WRITE_CREATE || (w->dirty >> i & 1);
        if ((int)i == s->primary || !is_dirty) {
            continue;
        }
        struct value v = row_get(w->new, i);
        if (v.p) {
            pack_str(&names, s->fields[i].name);
            pack_bytes(&names, v.p, v.len);
            set += 2;
        } else if (w->kind == WRITE_SAVE) {
            pack_str(&gone, s->fields[i].name);
            removed++;
        }
    }
    pack_array(b, set);
    buf_add(b, names.data, names.len);
    if (removed) {
        pack_array(b, removed);
        buf_add(b, gone.data, gone.len);
    } else {
        pack_int(b, 0);
    }
    buf_clear(&names);
    buf_clear(&gone);
}

// pack_id packs the id as the @ids column has it.
static void pack_id(const struct schema *s, const struct write *w,
                    struct buf *b) {
    char bytes[16] = {0};
    if (s->id_width == 8 && w->id_len) {
        int64_t v = (int64_t)strtoll(w->id, NULL, 10);
        for (int i = 7; i >= 0; i--) {
            bytes[i] = (char)(v & 0xff);
            v >>= 8;
        }
    } else if (s->id_width == 16) {
        int at = 0;
        for (const char *p = w->id; *p && at < 32; p++) {
            if (*p != '-') {
                int digit = *p <= '9' ? *p - '0' : *p - 'a' + 10;
                bytes[at / 2] = (char)(bytes[at / 2] << 4 | digit);
                at++;
            }
        }
    }
    pack_bytes(b, bytes, (size_t)s->id_width);
}

static void pack_write(struct commit *c, struct write *w, struct buf *b) {
    pack_array(b, 9);
    pack_int(b, w->kind);
    pack_bytes(b, w->id, w->id_len);
    pack_bytes(b, w->old ? w->old->version : "", w->old ? ROW_VERSION : 0);
    if (w->kind == WRITE_SAVE) {
        row_next_version(w->old, w->new->version);
    }
    pack_bytes(b, w->new ? w->new->version : "", w->new ? ROW_VERSION : 0);
    pack_fields(c, w, b);
    index_uniques(c->schema, w->old, w->new, b, w->claimed);
    index_diff(c->schema, w->old, w->new, b);
    pack_id(c->schema, w, b);
}

static void pack_key(struct buf *b, const struct schema *s,
                     void (*key)(struct buf *, const struct schema *)) {
    struct buf k = {0};
    key(&k, s);
    pack_bytes(b, k.data, k.len);
    buf_clear(&k);
}

static void pack_head(struct commit *c, struct buf *b) {
    uint64_t now = uv_now(c->rt->loop);
    bool is_refresh = !c->refreshed_ms || now - c->refreshed_ms > refresh_ms;
    if (is_refresh) {
        c->refreshed_ms = now;
    }
    pack_array(b, 9);
    pack_str(b, c->schema->generation);
    pack_int(b, (int64_t)++c->number);
    pack_int(b, is_refresh);
    pack_key(b, c->schema, key_row_prefix);
    pack_key(b, c->schema, key_rows_prefix);
    pack_key(b, c->schema, key_ids_prefix);
    pack_int(b, c->schema->id_width);
    index_keys(c->schema, b);
}

// next_batch takes up to `most` of the queued writes.
static struct batch *next_batch(struct commit *c, uint32_t most) {
    struct batch *b = xcalloc(1, sizeof *b);
    b->commit = c;
    b->since_ms = uv_now(c->rt->loop);
    pack_head(c, &b->packed);
    b->number = c->number;
    size_t at = pack_array32(&b->packed);
    struct write **last = &b->first;
    uint32_t n = 0;
    while (c->first && n < most && b->packed.len < batch_bytes) {
        struct write *w = c->first;
        c->first = w->next;
        c->count--;
        w->next = NULL;
        *last = w;
        last = &w->next;
        pack_write(c, w, &b->packed);
        n++;
    }
    if (!c->first) {
        c->last = &c->first;
    }
    pack_set_array32(&b->packed, at, n);
    return b;
}

static void finish(struct write *w, enum write_code code, int field,
                   const char *error_code, const char *error) {
    w->done(w, code, field, error_code, error);
    free(w->old);
    free(w->new);
    free(w->id);
    free(w);
}

// fail_queue: the client was closed; what was not sent never will be.
static void fail_queue(struct commit *c) {
    struct write *w = c->first;
    c->first = NULL;
    c->last = &c->first;
    c->count = 0;
    while (w) {
        struct write *next = w->next;
        finish(w, WRITE_FAILED, -1, "redis.closed", "the client was closed");
        w = next;
    }
}

// flush sends what is queued. Many writes with nothing under way are shared
// out between two batches, so that one is applied while the other is answered.
static void flush(struct commit *c) {
    if (!*c->client) {
        fail_queue(c);
        return;
    }
    while (c->first && !c->flying[(c->number + 1) % 2]) {
        uint32_t most = batch_rows;
        if (!c->flying[c->number % 2] && c->count >= batch_split) {
            uint32_t half = (c->count + 1) / 2;
            most = half < batch_rows ? half : batch_rows;
        }
        struct batch *b = next_batch(c, most);
        c->flying[b->number % 2] = b;
        send_batch(b, false);
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
        finish(w, code, -1, error_code, error);
        w = next;
    }
    if (strcmp(error_code, "redis.closed") == 0) {
        fail_queue(c); // the connection is on its way out: nothing can be sent
    } else {
        flush(c);
    }
}

// read_row makes a row of HGETALL's reply inside a verdict.
static struct row *read_row(const struct schema *s, struct unpack *u) {
    struct value values[SCHEMA_FIELDS] = {{NULL, 0}};
    char version[ROW_VERSION] = {0};
    uint32_t ordinal = ROW_NO_ORDINAL;
    for (uint32_t n = unpack_array(u); n >= 2; n -= 2) {
        size_t name_len, len;
        const char *name = unpack_bytes(u, &name_len);
        const char *p = unpack_bytes(u, &len);
        int field = schema_find(s, name, name_len);
        if (field >= 0) {
            values[field] = (struct value){p, len};
        } else if (name_len == 2 && memcmp(name, "_v", 2) == 0 &&
                   len == ROW_VERSION) {
            memcpy(version, p, ROW_VERSION);
        } else if (name_len == 2 && memcmp(name, "_n", 2) == 0) {
            ordinal = (uint32_t)strtoul(p, NULL, 10);
        }
    }
    struct row *r = row_new(values, s->count);
    memcpy(r->version, version, ROW_VERSION);
    r->ordinal = ordinal;
    return r;
}

// merge makes w's change apply to the row as it is now: fields that w does
// not change keep what somebody else wrote.
static void merge(const struct schema *s, struct write *w, struct row *now) {
    struct value values[SCHEMA_FIELDS];
    uint32_t primary = (uint32_t)s->primary;
    for (uint32_t i = 0; i < s->count; i++) {
        bool is_ours = w->new && ((w->dirty >> i & 1) || i == primary);
        values[i] = row_get(is_ours ? w->new : now, i);
    }
    if (w->new) {
        struct row *merged = row_new(values, s->count);
        merged->ordinal = now->ordinal;
        free(w->new);
        w->new = merged;
    }
    free(w->old);
    w->old = now;
    w->is_merged = true;
}

// on_conflict: somebody wrote the row since it was loaded. Unless it is
// another row by now, the write is computed anew and goes out again.
static void on_conflict(struct commit *c, struct write *w, struct unpack *u) {
    struct row *now = read_row(c->schema, u);
    if (memcmp(now->version, w->old->version, ROW_CREATION) != 0) {
        free(now);
        finish(w, WRITE_GONE, -1, NULL, NULL);
        return;
    }
    merge(c->schema, w, now);
    commit_add(c, w);
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
        finish(w, WRITE_FAILED, -1, "model.reply", "a damaged verdict");
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
        finish(w, WRITE_DONE, -1, NULL, NULL);
        break;
    case 1: finish(w, WRITE_EXISTS, -1, NULL, NULL); break;
    case 2: on_conflict(c, w, u); break;
    case 3: finish(w, WRITE_GONE, -1, NULL, NULL); break;
    case 4:
        field = unpack_int(u);
        finish(w, WRITE_UNIQUE, w->claimed[field & 63], NULL, NULL);
        break;
    default:
        text = unpack_bytes(u, &len);
        snprintf(error, sizeof error, "%.*s", (int)len, text);
        finish(w, WRITE_FAILED, -1, "model.damaged", error);
    }
}

// install_schema stores the definition in a database that has none, and
// sends the batch again.
static void install_schema(struct batch *b) {
    const struct schema *s = b->commit->schema;
    struct conn *c = b->commit->conn;
    struct buf *out = conn_out(c), key = {0};
    key_meta(&key, s);
    resp_command(out, 4);
    resp_arg_s(out, "HSETNX");
    resp_arg(out, key.data, key.len);
    resp_arg_s(out, "gen");
    resp_arg_s(out, s->generation);
    conn_wait(c, &sink_ignore, NULL);
    key.len = 0;
    key_schema(&key, s);
    resp_command(out, 3);
    resp_arg_s(out, "SETNX");
    resp_arg(out, key.data, key.len);
    resp_arg(out, s->text.data, s->text.len);
    conn_wait(c, &sink_ignore, NULL);
    buf_clear(&key);
    send_batch(b, false);
}

static void on_batch_code(struct batch *b, int64_t code) {
    char text[256];
    const struct schema *s = b->commit->schema;
    if (code == -1) {
        install_schema(b);
    } else if (code == -2) {
        snprintf(text, sizeof text,
                 "model %s is stored with another definition; call its sync()",
                 s->name);
        fail_batch(b, WRITE_SCHEMA_CHANGED, "model.schema_changed", text);
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
    uint32_t rows = 0;
    struct write *w = b->first;
    while (w) {
        struct write *next = w->next;
        read_verdict(c, w, &u);
        w = next;
        rows++;
    }
    if (n > rows && unpack_is_array(&u)) {
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
    resp_command(out, 6);
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
    conn_wait(c->conn, &batch_sink, b);
}

static void on_defer(struct defer *d) {
    flush(
        (struct commit *)(void *)((char *)d - offsetof(struct commit, defer)));
}

void commit_add(struct commit *c, struct write *w) {
    w->next = NULL;
    *c->last = w;
    c->last = &w->next;
    c->count++;
    runtime_defer(c->rt, &c->defer);
}

void commit_init(struct commit *c, struct runtime *rt, const struct schema *s,
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
}

void commit_clear(struct commit *c) {
    runtime_undefer(c->rt, &c->defer);
    while (c->first) {
        struct write *w = c->first;
        c->first = w->next;
        free(w->old);
        free(w->new);
        free(w->id);
        free(w);
    }
}
