// fetch: rows by their ids, in one pipeline, decoded as they arrive.
#include "model/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/key.h"

// What the next value belongs to, where it is not a field.
enum {
    NEXT_UNKNOWN = -1,
    NEXT_VERSION = -2,
    NEXT_ORDINAL = -3,
    NEXT_EXPIRY = -4,
};

static void begin_row(struct fetch *f) {
    f->bytes.len = 0;
    f->ordinal = ROW_NO_ORDINAL;
    f->expires_ms = 0;
    f->field = NEXT_UNKNOWN;
    for (uint32_t i = 0; i < f->schema->count; i++) {
        f->values[i] = (struct value){NULL, 0};
    }
}

// find_name: fields come in the order of the schema as a rule, so the search
// begins behind the last one found.
static int find_name(const struct fetch *f, const char *name, size_t len) {
    if (len == 2 && name[0] == '_') {
        return name[1] == 'v'   ? NEXT_VERSION
               : name[1] == 'n' ? NEXT_ORDINAL
               : name[1] == 'e' ? NEXT_EXPIRY
                                : NEXT_UNKNOWN;
    }
    const struct schema *s = f->schema;
    uint32_t from = f->field >= 0 ? (uint32_t)f->field + 1 : 0;
    for (uint32_t i = from; i < s->count; i++) {
        const char *have = s->fields[i].name;
        if (strlen(have) == len && memcmp(have, name, len) == 0) {
            return (int)i;
        }
    }
    return schema_find(s, name, len);
}

// read_digits returns a whole number of at most 15 digits; UINT64_MAX if it is
// none.
static uint64_t read_digits(const char *s, size_t len) {
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || len > 15) {
            return UINT64_MAX;
        }
        n = n * 10 + (uint64_t)(s[i] - '0');
    }
    return len ? n : UINT64_MAX;
}

static void keep_value(struct fetch *f, const char *s, size_t len) {
    if (f->field >= 0) {
        struct value *v = &f->values[f->field];
        v->p = (const char *)(f->bytes.len + 1);
        v->len = len;
        buf_add(&f->bytes, s, len);
    } else if (f->field == NEXT_VERSION && len == ROW_VERSION) {
        memcpy(f->version, s, ROW_VERSION);
    } else if (f->field == NEXT_ORDINAL) {
        uint64_t n = read_digits(s, len);
        f->ordinal = n < ROW_NO_ORDINAL ? (uint32_t)n : ROW_NO_ORDINAL;
    } else if (f->field == NEXT_EXPIRY) {
        f->expires_ms = read_digits(s, len);
    }
}

static void note_error(struct fetch *f, const char *code, const char *text,
                       size_t len) {
    if (!f->code[0]) {
        snprintf(f->code, sizeof f->code, "%s", code);
        snprintf(f->error, sizeof f->error, "%.*s", (int)len, text);
    }
}

static void *row_string(struct waiter *w, const redisReadTask *t, const char *s,
                        size_t len) {
    struct fetch *f = w->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        note_error(f, "model.damaged", s, len);
    } else if (!t->parent) {
        note_error(f, "model.damaged", "not a hash", 10);
    } else if (t->idx % 2 == 0) {
        f->field = find_name(f, s, len);
    } else {
        keep_value(f, s, len);
    }
    return f;
}

static void *row_array(struct waiter *w, const redisReadTask *t, size_t n) {
    struct fetch *f = w->ctx;
    (void)n;
    if (!t->parent) {
        begin_row(f);
    }
    return f;
}

static void *row_integer(struct waiter *w, const redisReadTask *t,
                         long long v) {
    (void)t, (void)v;
    return w->ctx;
}

static void *row_nil(struct waiter *w, const redisReadTask *t) {
    (void)t;
    return w->ctx;
}

static void finish(struct fetch *f) {
    f->done(f, f->code[0] ? f->code : NULL, f->error);
    for (uint32_t i = 0; i < f->count; i++) {
        free(f->rows[i]);
    }
    free(f->rows);
    free(f->ids);
    free(f->id_ends);
    buf_clear(&f->bytes);
    free(f);
}

static struct value id_of(const struct fetch *f, uint32_t i) {
    uint32_t start = i ? f->id_ends[i - 1] : 0;
    return (struct value){f->ids + start, f->id_ends[i] - start};
}

// A row without an ordinal is no row: it was deleted, or is not ours.
static bool is_row(const struct fetch *f) {
    bool is_over =
        f->expires_ms && f->expires_ms <= f->now_ms && !f->with_expired;
    return f->ordinal != ROW_NO_ORDINAL && !is_over;
}

static void row_done(struct waiter *w) {
    struct fetch *f = w->ctx;
    if (is_row(f) && !f->code[0]) {
        uint32_t primary = (uint32_t)f->schema->primary;
        for (uint32_t i = 0; i < f->schema->count; i++) {
            if (f->values[i].p) {
                f->values[i].p = f->bytes.data + (size_t)f->values[i].p - 1;
            }
        }
        f->values[primary] = id_of(f, w->wait);
        struct row *r = row_new(f->values, f->schema->count);
        memcpy(r->version, f->version, ROW_VERSION);
        r->ordinal = f->ordinal;
        r->expires_ms = f->expires_ms;
        f->rows[w->wait] = r;
    }
    f->ordinal = ROW_NO_ORDINAL;
    if (--f->pending == 0) {
        finish(f);
    }
}

static void row_failed(struct waiter *w, const char *code, const char *text) {
    struct fetch *f = w->ctx;
    note_error(f, code, text, strlen(text));
    if (--f->pending == 0) {
        finish(f);
    }
}

static const struct sink row_sink = {row_string, row_array, row_integer,
                                     row_nil,    row_done,  row_failed};

// -- the server's clock, where rows expire

static void *time_string(struct waiter *w, const redisReadTask *t,
                         const char *s, size_t len) {
    struct fetch *f = w->ctx;
    if (t->type == REDIS_REPLY_ERROR) {
        note_error(f, "redis.error", s, len);
    } else if (t->parent && t->idx == 0) {
        f->now_ms = read_digits(s, len) * 1000;
    } else if (t->parent && t->idx == 1) {
        f->now_ms += read_digits(s, len) / 1000;
    }
    return f;
}

static void time_failed(struct waiter *w, const char *code, const char *text) {
    note_error(w->ctx, code, text, strlen(text)); // so will the rows
}

static const struct sink time_sink = {time_string,         sink_ignore_array,
                                      sink_ignore_integer, sink_ignore_nil,
                                      sink_ignore_done,    time_failed};

void fetch_ignore(struct fetch *f, const char *code, const char *error) {
    (void)f, (void)code, (void)error;
}

struct fetch *fetch_rows(struct conn *c, const struct schema *s,
                         const struct value *ids, uint32_t count,
                         void (*done)(struct fetch *f, const char *code,
                                      const char *error),
                         void *ctx) {
    struct fetch *f = xcalloc(1, sizeof *f + s->count * sizeof(struct value));
    struct buf key = {0};
    key_row_prefix(&key, s);
    size_t prefix = key.len, bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += ids[i].len;
    }
    f->schema = s;
    f->count = f->pending = count;
    f->rows = xcalloc(count, sizeof f->rows[0]);
    f->ids = xmalloc(bytes + 1);
    f->id_ends = xmalloc(count * sizeof f->id_ends[0]);
    f->done = done;
    f->ctx = ctx;
    f->ordinal = ROW_NO_ORDINAL;
    buf_reserve(&f->bytes, 1); // "" is a value: it needs an address
    bytes = 0;
    if (s->has_ttl) {
        resp_command(conn_out(c), 1);
        resp_arg_s(conn_out(c), "TIME");
        conn_wait(c, &time_sink, f);
    }
    for (uint32_t i = 0; i < count; i++) {
        memcpy(f->ids + bytes, ids[i].p, ids[i].len);
        bytes += ids[i].len;
        f->id_ends[i] = (uint32_t)bytes;
        key.len = prefix;
        buf_add(&key, ids[i].p, ids[i].len);
        resp_command(conn_out(c), 2);
        resp_arg(conn_out(c), "HGETALL", 7);
        resp_arg(conn_out(c), key.data, key.len);
        conn_wait(c, &row_sink, f)->wait = i;
    }
    buf_clear(&key);
    return f;
}
