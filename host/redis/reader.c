// reader: hiredis's reader, and what it lacks.
//
// A reply that nests too deeply costs its caller an error, not everybody the
// connection. hiredis gives such a stream up, so the bytes behind the last
// array that it can take are kept from there on, and from these the rest of the
// reply is passed over.
//
// Most replies are a single value: these are decoded where they lie, which
// spares hiredis's copy of them.
#include "redis/reader.h"

#include <stdlib.h>
#include <string.h>

static const size_t much = 1 << 20;
static const long bulk_max = 512L << 20;

static struct waiter *waiter_of(const redisReadTask *t) {
    struct reader *r = t->privdata;
    return conn_current_waiter(r->conn);
}

static int depth_of(const redisReadTask *t) {
    int depth = 1;
    while ((t = t->parent)) {
        depth++;
    }
    return depth;
}

// drop_rest: a value above the limit shows that the array there is over. What
// was kept is of use for the next one, unless it is much more than that would
// have to copy.
static void drop_rest(struct reader *r, const redisReadTask *t) {
    size_t left = r->hiredis->len - r->hiredis->pos;
    if (r->is_deep && r->rest.len > much + 2 * left &&
        depth_of(t) <= READER_DEPTH) {
        r->is_deep = false;
        buf_clear(&r->rest);
    }
}

static void *on_string(const redisReadTask *t, char *s, size_t len) {
    struct waiter *w = waiter_of(t);
    drop_rest(t->privdata, t);
    return w->sink->string(w, t, s, len);
}

// keep_rest: the array at the limit has begun; its values and those behind
// it, up to the reply's end, lie in what hiredis has not decoded yet.
static void keep_rest(struct reader *r, const redisReadTask *t, size_t count) {
    size_t left = r->hiredis->len - r->hiredis->pos;
    r->rest_values = count;
    for (; t->parent; t = t->parent) {
        r->rest_values += (uint64_t)(t->parent->elements - t->idx - 1);
    }
    if (!r->is_deep) {
        r->is_deep = true;
        r->rest.len = 0;
        buf_add(&r->rest, r->hiredis->buf + r->hiredis->pos, left);
    }
    r->rest_at = r->rest.len - left;
}

static void *begin_array(const redisReadTask *t, size_t count) {
    struct reader *r = t->privdata;
    int depth = depth_of(t);
    if (depth > READER_DEPTH) {
        r->is_too_deep = true;
        return NULL; // hiredis 1.x has no limit of its own
    }
    if (depth == READER_DEPTH && count > 0) {
        keep_rest(r, t, count);
    } else {
        drop_rest(r, t);
    }
    struct waiter *w = waiter_of(t);
    return w->sink->array(w, t, count);
}

#if HIREDIS_MAJOR >= 1
static void *on_array(const redisReadTask *t, size_t count) {
    return begin_array(t, count);
}
#else
static void *on_array(const redisReadTask *t, int count) {
    return begin_array(t, (size_t)count);
}
#endif

static void *on_integer(const redisReadTask *t, long long v) {
    struct waiter *w = waiter_of(t);
    drop_rest(t->privdata, t);
    return w->sink->integer(w, t, v);
}

static void *on_nil(const redisReadTask *t) {
    struct waiter *w = waiter_of(t);
    drop_rest(t->privdata, t);
    return w->sink->nil(w, t);
}

static void on_free(void *object) {
    (void)object; // the sinks own what they build
}

static redisReplyObjectFunctions functions = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
};

static void new_hiredis(struct reader *r) {
    if (r->hiredis) {
        redisReaderFree(r->hiredis);
    }
    r->hiredis = redisReaderCreateWithFunctions(&functions);
    if (!r->hiredis) {
        abort();
    }
    r->hiredis->privdata = r;
    r->hiredis->maxbuf = 256 * 1024; // kept between replies rather than freed
}

void reader_init(struct reader *r, struct conn *conn) {
    *r = (struct reader){.conn = conn};
    new_hiredis(r);
}

void reader_clear(struct reader *r) {
    redisReaderFree(r->hiredis);
    r->hiredis = NULL;
    buf_clear(&r->rest);
    buf_clear(&r->bulk);
}

void reader_reset(struct reader *r) {
    new_hiredis(r);
    buf_clear(&r->rest);
    r->is_deep = r->is_skipping = r->is_too_deep = false;
    r->len = r->bulk_size = r->bulk.len = 0;
    r->fed = 0;
}

static void trim_rest(struct reader *r) {
    buf_shift(&r->rest, r->rest_at);
    r->rest_at = 0;
}

static void pass(struct reader *r, size_t n) {
    r->bytes += n;
    r->len -= n;
}

// is_between: hiredis holds no part of a reply.
static bool is_between(const struct reader *r) {
    return r->hiredis->ridx < 0 && r->hiredis->pos == r->hiredis->len;
}

void reader_feed(struct reader *r, const char *bytes, size_t len) {
    r->fed += len;
    if (r->is_deep) {
        if (r->rest_at > much && r->rest_at > r->rest.len / 2) {
            trim_rest(r);
        }
        buf_add(&r->rest, bytes, len);
    }
    if (!r->is_skipping) {
        r->bytes = bytes;
        r->len = len;
    }
}

size_t reader_left(const struct reader *r) {
    size_t held = r->hiredis->len - r->hiredis->pos;
    return r->is_skipping ? r->rest.len : r->len + r->bulk.len + held;
}

// -- single values, for which hiredis is not needed

// parse_length reads a length, -1 to max; -2 if it is none.
static long parse_length(const char *s, const char *end, long max) {
    long n = 0;
    if (end - s == 2 && memcmp(s, "-1", 2) == 0) {
        return -1;
    }
    for (const char *p = s; p < end; p++) {
        if (*p < '0' || *p > '9' || n > max) {
            return -2;
        }
        n = n * 10 + (*p - '0');
    }
    return s == end || n > max ? -2 : n;
}

static bool is_integer(const char *s, const char *end) {
    s += s < end && *s == '-';
    size_t digits = (size_t)(end - s), i = 0;
    while (i < digits && s[i] >= '0' && s[i] <= '9') {
        i++;
    }
    return i == digits && digits > 0 && digits < 20;
}

// A string that is not all there yet is gathered in a buffer of its own, of
// which so much is kept.
static const size_t bulk_kept = 256 * 1024;

static void begin_bulk(struct reader *r, size_t head, size_t size) {
    r->bulk_head = head;
    r->bulk_size = size;
    buf_reserve(&r->bulk, size < much ? size : much); // it is only a claim
}

static enum reader_result fill_bulk(struct reader *r) {
    size_t wanted = r->bulk_size - r->bulk.len;
    size_t step = r->len < wanted ? r->len : wanted;
    buf_add(&r->bulk, r->bytes, step);
    pass(r, step);
    if (step < wanted) {
        return READER_MORE;
    }
    struct waiter *w = conn_current_waiter(r->conn);
    redisReadTask t = {.type = REDIS_REPLY_STRING};
    w->sink->string(w, &t, r->bulk.data + r->bulk_head,
                    r->bulk_size - r->bulk_head - 2);
    r->bulk_size = r->bulk.len = 0;
    if (r->bulk.cap > bulk_kept) {
        buf_clear(&r->bulk);
    }
    return READER_REPLY;
}

// read_bulk decodes a string that begins with the line from s to end, or begins
// to gather it if it is not all there.
static bool read_bulk(struct reader *r, struct waiter *w, const char *s,
                      const char *end) {
    size_t head = (size_t)(end + 2 - r->bytes);
    long n = parse_length(s, end, bulk_max);
    if (n < -1) {
        return false;
    }
    if (n == -1) {
        redisReadTask t = {.type = REDIS_REPLY_NIL};
        w->sink->nil(w, &t);
        pass(r, head);
        return true;
    }
    size_t len = (size_t)n;
    if (r->len < head + len + 2) {
        begin_bulk(r, head, head + len + 2);
        return false;
    }
    redisReadTask t = {.type = REDIS_REPLY_STRING};
    w->sink->string(w, &t, end + 2, len);
    pass(r, head + len + 2);
    return true;
}

// read_single decodes a reply that is a single value where it lies. What is
// unusual, or has not even its first line whole, is for hiredis.
static bool read_single(struct reader *r) {
    const char *s = r->bytes + 1, *end = memchr(r->bytes, '\r', r->len);
    if (!end || end + 1 == r->bytes + r->len || end[1] != '\n') {
        return false;
    }
    struct waiter *w = conn_current_waiter(r->conn);
    redisReadTask t = {0};
    switch (*r->bytes) {
    case '+':
        t.type = REDIS_REPLY_STATUS;
        w->sink->string(w, &t, s, (size_t)(end - s));
        break;
    case ':':
        if (end - s > 15 || !is_integer(s, end)) {
            return false;
        }
        t.type = REDIS_REPLY_INTEGER;
        w->sink->integer(w, &t, strtoll(s, NULL, 10));
        break;
    case '$': return read_bulk(r, w, s, end);
    default: return false;
    }
    pass(r, (size_t)(end + 2 - r->bytes));
    return true;
}

// -- passing over what is too deep

// skip_line passes over one value's first line and counts what follows from
// it. Returns its length, 0 while it is not whole, or -1 if it is no such.
static long skip_line(struct reader *r, const char *line, size_t len) {
    const char *end = memmem(line, len, "\r\n", 2);
    if (!end) {
        return len > 64 * 1024 ? -1 : 0;
    }
    long n;
    r->rest_values--;
    switch (*line) {
    case '+':
    case '-': break;
    case ':':
        if (!is_integer(line + 1, end)) {
            return -1;
        }
        break;
    case '$':
        if ((n = parse_length(line + 1, end, bulk_max)) < -1) {
            return -1;
        }
        r->rest_bulk = n >= 0 ? (size_t)n + 2 : 0;
        break;
    case '*':
        if ((n = parse_length(line + 1, end, INT32_MAX)) < -1) {
            return -1;
        }
        r->rest_values += n > 0 ? (uint64_t)n : 0;
        break;
    default: return -1;
    }
    return end + 2 - line;
}

static enum reader_result skip(struct reader *r) {
    size_t at = 0;
    long n = 1;
    while (n > 0 && (r->rest_values || r->rest_bulk) && at < r->rest.len) {
        size_t left = r->rest.len - at;
        if (r->rest_bulk) {
            size_t step = left < r->rest_bulk ? left : r->rest_bulk;
            r->rest_bulk -= step;
            at += step;
        } else {
            n = skip_line(r, r->rest.data + at, left);
            at += n > 0 ? (size_t)n : 0;
        }
    }
    buf_shift(&r->rest, at);
    if (n < 0) {
        r->error = "what should be a reply is none";
        return READER_ERROR;
    }
    if (r->rest_values || r->rest_bulk) {
        return READER_MORE;
    }
    new_hiredis(r);
    redisReaderFeed(r->hiredis, r->rest.data, r->rest.len);
    buf_clear(&r->rest);
    r->is_deep = r->is_skipping = r->is_too_deep = false;
    return READER_TOO_DEEP;
}

// is_depth_error: hiredis 0.14 has a limit of its own, at the same depth.
static bool is_depth_error(const struct reader *r) {
    static const char text[] = "No support for nested";
    return r->is_too_deep ||
           strncmp(r->hiredis->errstr, text, sizeof text - 1) == 0;
}

// read_any decodes whatever comes, by way of hiredis.
static enum reader_result read_any(struct reader *r) {
    redisReaderFeed(r->hiredis, r->bytes, r->len);
    pass(r, r->len);
    if (r->hiredis->pos == r->hiredis->len) {
        return READER_MORE; // it would begin a reply, of no bytes yet
    }
    void *reply = NULL;
    if (redisReaderGetReply(r->hiredis, &reply) == REDIS_OK) {
        if (reply && r->is_deep) {
            buf_clear(&r->rest);
            r->is_deep = false;
        }
        return reply ? READER_REPLY : READER_MORE;
    }
    if (r->is_deep && is_depth_error(r)) {
        r->is_skipping = true;
        trim_rest(r);
        return skip(r);
    }
    r->error = r->hiredis->errstr;
    return READER_ERROR;
}

enum reader_result reader_next(struct reader *r) {
    if (r->is_skipping) {
        return skip(r);
    }
    bool is_first = r->len && !r->bulk_size && is_between(r);
    if (is_first && read_single(r)) {
        return READER_REPLY;
    }
    return r->bulk_size ? fill_bulk(r) : read_any(r);
}
