// answer: one whole response of HTTP/1.1, read from its bytes as they come.
#include "http/answer.h"

#include <stdio.h>

enum { inflate_piece = 16384 };
static const size_t reserve_most = 1 << 20; // bytes, for an announced body

static enum answer_state refuse(struct answer *a, const char *code,
                                const char *text) {
    a->code = code;
    snprintf(a->error, sizeof a->error, "%s", text);
    return ANSWER_BAD;
}

static enum answer_state refuse_size(struct answer *a) {
    a->code = "http.too_large";
    snprintf(a->error, sizeof a->error, "the body is larger than %llu bytes",
             (unsigned long long)a->body_max);
    return ANSWER_BAD;
}

static void end_zip(struct answer *a) {
    if (a->has_zip) {
        inflateEnd(&a->zip);
        a->has_zip = false;
    }
}

// over ends it. Bytes behind the response make the connection one that cannot
// be trusted.
static enum answer_state over(struct answer *a, size_t bytes_behind) {
    bool is_cut = a->has_zip && !a->is_zip_over && a->zip.total_in > 0;
    end_zip(a);
    a->is_kept =
        a->reply.keep_alive && bytes_behind == 0 && a->reading != READ_TO_END;
    return is_cut
               ? refuse(a, "http.protocol", "the compressed body is cut short")
               : ANSWER_WHOLE;
}

// -- the body

static enum answer_state add_zipped(struct answer *a, const char *s,
                                    size_t len) {
    a->zip.next_in = (Bytef *)(uintptr_t)s;
    a->zip.avail_in = (uInt)len;
    while (a->zip.avail_in) {
        if (a->is_zip_over) { // another member follows (RFC 1952 §2.2)
            inflateReset(&a->zip);
        }
        a->zip.next_out = (Bytef *)buf_reserve(&a->body, inflate_piece);
        a->zip.avail_out = inflate_piece;
        int rc = inflate(&a->zip, Z_NO_FLUSH);
        a->body.len += inflate_piece - a->zip.avail_out;
        a->is_zip_over = rc == Z_STREAM_END;
        if (rc != Z_OK && rc != Z_STREAM_END) {
            return refuse(a, "http.protocol",
                          "the body is not gzip, as was announced");
        }
        if (a->body.len > a->body_max) {
            return refuse_size(a);
        }
    }
    return ANSWER_MORE;
}

static enum answer_state add_body(struct answer *a, const char *s, size_t len) {
    if (a->has_zip) {
        return add_zipped(a, s, len);
    }
    buf_add(&a->body, s, len);
    return a->body.len > a->body_max ? refuse_size(a) : ANSWER_MORE;
}

static enum answer_state take_length(struct answer *a, const char *s,
                                     size_t len) {
    size_t n = len < a->left ? len : (size_t)a->left;
    a->left -= n;
    enum answer_state state = add_body(a, s, n);
    return state == ANSWER_MORE && a->left == 0 ? over(a, len - n) : state;
}

static enum answer_state take_chunks(struct answer *a, const char *s,
                                     size_t len) {
    while (len > 0) {
        struct slice data;
        size_t used;
        int rc = http_chunked_feed(&a->chunks, s, len, &used, &data);
        s += used;
        len -= used;
        if (rc != HTTP_OK && rc != HTTP_MORE) {
            return refuse(a, "http.protocol",
                          "the chunks of the body are faulty");
        }
        if (add_body(a, data.p, data.len) == ANSWER_BAD) {
            return ANSWER_BAD;
        }
        if (rc == HTTP_OK) {
            return over(a, len);
        }
    }
    return ANSWER_MORE;
}

// -- the head

// begin_body: a head is there.
static enum answer_state begin_body(struct answer *a) {
    const struct http_reply *r = &a->reply;
    bool has_body = http_reply_has_body(r, a->is_head);
    a->left = has_body ? r->content_length : 0;
    a->reading = has_body && r->chunked       ? READ_CHUNKS
                 : has_body && !r->has_length ? READ_TO_END
                                              : READ_LENGTH;
    if (a->reading == READ_LENGTH && a->left == 0) {
        return ANSWER_MORE;
    }
    if (r->is_gzip && a->is_decoding) {
        a->has_zip = inflateInit2(&a->zip, 16 + MAX_WBITS) == Z_OK;
        return ANSWER_MORE;
    }
    if (a->left > a->body_max) {
        return refuse_size(a);
    }
    // no more on a promise than this
    buf_reserve(&a->body,
                a->left < reserve_most ? (size_t)a->left : reserve_most);
    return ANSWER_MORE;
}

// take_head reads one head, or the beginning of it; *s and *len become what is
// behind.
static enum answer_state take_head(struct answer *a, const char **s,
                                   size_t *len) {
    bool is_part = a->in.len > 0;
    if (is_part) {
        buf_add(&a->in, *s, *len);
    }
    const char *p = is_part ? a->in.data : *s;
    size_t have = is_part ? a->in.len : *len, before = have - *len;
    int rc = http_parse_reply(&a->reply, p, have, &a->scanned);
    size_t size = rc == HTTP_OK ? a->reply.size : have;
    if ((rc == HTTP_OK || rc == HTTP_MORE) && size > a->head_max) {
        return refuse(a, "http.too_large",
                      "the head of the response is too large");
    }
    if (rc == HTTP_MORE) {
        if (!is_part) {
            buf_add(&a->in, *s, *len);
        }
        *len = 0;
        return ANSWER_MORE;
    }
    if (rc != HTTP_OK || a->reply.status == 101) {
        return refuse(a, "http.protocol",
                      "what came is no response of HTTP/1.1");
    }
    *s += size - before;
    *len -= size - before;
    enum answer_state state = ANSWER_MORE;
    if (a->reply.status >= 200) { // 1xx are interim: another head follows
        a->status = a->reply.status;
        buf_add(&a->head, p, size - 2);
        state = begin_body(a);
    }
    a->in.len = 0;
    return state;
}

enum answer_state answer_read(struct answer *a, const char *s, size_t len) {
    while (a->reading == READ_HEAD && len > 0) {
        if (take_head(a, &s, &len) == ANSWER_BAD) {
            return ANSWER_BAD;
        }
    }
    switch (a->reading) {
    case READ_LENGTH: return take_length(a, s, len);
    case READ_CHUNKS: return take_chunks(a, s, len);
    case READ_TO_END: return add_body(a, s, len);
    default: return ANSWER_MORE;
    }
}

enum answer_state answer_end(struct answer *a) {
    return a->reading == READ_TO_END ? over(a, 0) : ANSWER_MORE;
}

bool answer_has_begun(const struct answer *a) {
    return a->reading != READ_HEAD || a->in.len > 0;
}

void answer_clear(struct answer *a) {
    end_zip(a);
    buf_clear(&a->in);
    buf_clear(&a->head);
    buf_clear(&a->body);
}
