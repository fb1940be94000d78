// ids: primary keys, of ordinals or of unique values, and a memory of them.
#include "model/ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/key.h"

enum { span_gap = 16 };

static struct ids *new_ids(struct conn *conn, const struct schema *s,
                           uint32_t count, ids_fn done, void *ctx) {
    struct ids *ids = xcalloc(1, sizeof *ids);
    ids->conn = conn;
    ids->schema = s;
    ids->count = count;
    ids->values = xcalloc(count, sizeof ids->values[0]);
    ids->done = done;
    ids->ctx = ctx;
    return ids;
}

static void note_error(struct ids *ids, const char *code, const char *s,
                       size_t len) {
    if (!ids->code[0]) {
        snprintf(ids->code, sizeof ids->code, "%s", code);
        snprintf(ids->error, sizeof ids->error, "%.*s", (int)len, s);
    }
}

// Until all are there, p is an offset + 1 into the bytes.
static void add_id(struct ids *ids, uint32_t i, const char *p, size_t len) {
    ids->values[i].p = (const char *)(ids->bytes.len + 1);
    ids->values[i].len = len;
    buf_add(&ids->bytes, p, len);
}

static void add_uuid(struct ids *ids, uint32_t i, const unsigned char *p) {
    char text[36];
    int at = 0;
    for (int j = 0; j < 16; j++) {
        if (j == 4 || j == 6 || j == 8 || j == 10) {
            text[at++] = '-';
        }
        text[at++] = "0123456789abcdef"[p[j] >> 4];
        text[at++] = "0123456789abcdef"[p[j] & 15];
    }
    add_id(ids, i, text, sizeof text);
}

static void add_integer(struct ids *ids, uint32_t i, const unsigned char *p) {
    uint64_t v = 0;
    for (int j = 0; j < 8; j++) {
        v = v << 8 | p[j];
    }
    char text[24];
    int n = snprintf(text, sizeof text, "%lld", (long long)(int64_t)v);
    add_id(ids, i, text, (size_t)n);
}

// span_end returns the end of the run of ordinals, from `first` on, that lie
// so close that one read serves them.
static uint32_t span_end(const struct ids *ids, uint32_t first) {
    const uint32_t *n = ids->ordinals;
    uint32_t i = first + 1;
    while (i < ids->count && ids->schema->id_width && n[i] > n[i - 1] &&
           n[i] - n[i - 1] <= span_gap &&
           n[i] / ids->schema->ids_piece == n[first] / ids->schema->ids_piece) {
        i++;
    }
    return i;
}

// take_span takes the ids of a run of ordinals from a piece of their column.
static void take_span(struct ids *ids, uint32_t first, const char *s,
                      size_t len) {
    size_t width = (size_t)ids->schema->id_width;
    uint32_t last = span_end(ids, first);
    for (uint32_t i = first; i < last; i++) {
        size_t at = (ids->ordinals[i] - ids->ordinals[first]) * width;
        const unsigned char *p = (const unsigned char *)s + at;
        if (at + width > len) {
            break; // the column is shorter: no ids there
        }
        if (width == 16) {
            add_uuid(ids, i, p);
        } else {
            add_integer(ids, i, p);
        }
    }
}

static void *on_string(struct waiter *w, const redisReadTask *t, const char *s,
                       size_t len) {
    struct ids *ids = w->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        note_error(ids, "model.damaged", s, len);
    } else if (t->parent) {
        add_id(ids, (uint32_t)t->idx, s, len); // HMGET's reply
    } else if (ids->schema->id_width == 0) {
        add_id(ids, w->wait, s, len);
    } else {
        take_span(ids, w->wait, s, len);
    }
    return ids;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t n) {
    (void)t, (void)n;
    return w->ctx;
}

static void *on_integer(struct waiter *w, const redisReadTask *t, long long v) {
    (void)t, (void)v;
    return w->ctx;
}

static void *on_nil(struct waiter *w, const redisReadTask *t) {
    (void)t;
    return w->ctx;
}

static void on_done(struct waiter *w) {
    struct ids *ids = w->ctx;
    if (--ids->pending > 0) {
        return;
    }
    for (uint32_t i = 0; i < ids->count; i++) {
        if (ids->values[i].p) {
            ids->values[i].p = ids->bytes.data + (size_t)ids->values[i].p - 1;
        }
    }
    ids->done(ids, ids->code[0] ? ids->code : NULL, ids->error);
    buf_clear(&ids->bytes);
    free(ids->ordinals);
    free(ids->values);
    free(ids);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    note_error(w->ctx, code, text, strlen(text));
    on_done(w);
}

static const struct sink ids_sink = {on_string, on_array, on_integer,
                                     on_nil,    on_done,  on_failed};

static void ask_span(struct ids *ids, uint32_t first, uint32_t last) {
    const struct schema *s = ids->schema;
    uint32_t from = ids->ordinals[first] % s->ids_piece;
    uint32_t to = ids->ordinals[last - 1] % s->ids_piece;
    uint32_t width = (uint32_t)s->id_width;
    struct buf *out = conn_out(ids->conn), key = {0};
    key_ids_prefix(&key, s);
    buf_addu(&key, ids->ordinals[first] / s->ids_piece);
    resp_command(out, width ? 4 : 3);
    resp_arg_s(out, width ? "GETRANGE" : "HGET");
    resp_arg(out, key.data, key.len);
    resp_arg_u(out, width ? from * width : from);
    if (width) {
        resp_arg_u(out, (to + 1) * width - 1);
    }
    buf_clear(&key);
    conn_wait(ids->conn, &ids_sink, ids)->wait = first;
    ids->pending++;
}

void ids_of_ordinals(struct conn *conn, const struct schema *s,
                     const uint32_t *ordinals, uint32_t count, ids_fn done,
                     void *ctx) {
    struct ids *ids = new_ids(conn, s, count, done, ctx);
    ids->ordinals = xmalloc(count * sizeof ordinals[0]);
    memcpy(ids->ordinals, ordinals, count * sizeof ordinals[0]);
    for (uint32_t i = 0; i < count;) {
        uint32_t last = span_end(ids, i);
        ask_span(ids, i, last);
        i = last;
    }
}

void ids_of_uniques(struct conn *conn, const struct schema *s,
                    const struct condition *c, ids_fn done, void *ctx) {
    struct ids *ids = new_ids(conn, s, c->count, done, ctx);
    struct buf *out = conn_out(conn), key = {0};
    key_unique(&key, s, c->field);
    resp_command(out, c->count + 2);
    resp_arg_s(out, "HMGET");
    resp_arg(out, key.data, key.len);
    for (uint32_t i = 0; i < c->count; i++) {
        resp_arg(out, c->values[i].p, c->values[i].len);
    }
    buf_clear(&key);
    ids->pending = 1;
    conn_wait(conn, &ids_sink, ids);
}

// -- memory

void ids_remember(struct ids_memory *m, uint32_t ordinal, struct value id) {
    if (id.len == 0 || id.len > IDS_ID_MAX) {
        return;
    }
    if (!m->slots) {
        m->slots = xcalloc(IDS_REMEMBERED, sizeof m->slots[0]);
    }
    struct ids_slot *slot = &m->slots[ordinal % IDS_REMEMBERED];
    slot->ordinal = ordinal;
    slot->len = (uint16_t)id.len;
    memcpy(slot->id, id.p, id.len);
}

static struct ids_slot *find_slot(const struct ids_memory *m,
                                  uint32_t ordinal) {
    struct ids_slot *slot = &m->slots[ordinal % IDS_REMEMBERED];
    return slot->len && slot->ordinal == ordinal ? slot : NULL;
}

void ids_forget(struct ids_memory *m, uint32_t ordinal) {
    struct ids_slot *slot = m->slots ? find_slot(m, ordinal) : NULL;
    if (slot) {
        slot->len = 0;
    }
}

bool ids_recall(const struct ids_memory *m, const uint32_t *ordinals,
                uint32_t count, struct value *ids) {
    for (uint32_t i = 0; i < count; i++) {
        struct ids_slot *slot = m->slots ? find_slot(m, ordinals[i]) : NULL;
        if (!slot) {
            return false;
        }
        ids[i] = (struct value){slot->id, slot->len};
    }
    return true;
}

void ids_memory_clear(struct ids_memory *m) {
    free(m->slots);
    m->slots = NULL;
}
