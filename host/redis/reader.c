// reader: hiredis's reader, and what it lacks: a reply that nests too deeply
// costs its caller an error, not everybody the connection. The reader gives
// such a stream up, so the bytes behind the last array that it can take are
// kept from there on, and from these the rest of the reply is passed over.
#include "redis/reader.h"

#include <stdlib.h>
#include <string.h>

static const size_t much = 1 << 20;

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
}

void reader_reset(struct reader *r) {
    new_hiredis(r);
    buf_clear(&r->rest);
    r->is_deep = r->is_skipping = r->is_too_deep = false;
    r->fed = 0;
}

static void trim_rest(struct reader *r) {
    buf_shift(&r->rest, r->rest_at);
    r->rest_at = 0;
}

void reader_feed(struct reader *r, const char *bytes, size_t len) {
    r->fed += len;
    if (!r->is_skipping) {
        redisReaderFeed(r->hiredis, bytes, len);
    }
    if (r->is_deep) {
        if (r->rest_at > much && r->rest_at > r->rest.len / 2) {
            trim_rest(r);
        }
        buf_add(&r->rest, bytes, len);
    }
}

size_t reader_left(const struct reader *r) {
    return r->is_skipping ? r->rest.len : r->hiredis->len - r->hiredis->pos;
}

// -- passing over what is too deep

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
        if ((n = parse_length(line + 1, end, 512L << 20)) < -1) {
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

enum reader_result reader_next(struct reader *r) {
    if (r->is_skipping) {
        return skip(r);
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
