// reply: a strict parser of HTTP/1.1 response heads.
#include "http/reply.h"

#include <string.h>

#include "http/response.h"

// The fields that decide about framing and the connection.
struct framing {
    bool close, keep_alive;
    bool is_other; // a content coding that is not known here
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// take_status reads "HTTP/1.x SP 3DIGIT" and what follows, a phrase.
static int take_status(struct http_reply *r, const char *p, size_t len,
                       bool *is_1_1) {
    if (len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || !is_digit(p[7]) ||
        p[8] != ' ' || p[9] < '1' || !is_digit(p[9]) || !is_digit(p[10]) ||
        !is_digit(p[11]) || (len > 12 && p[12] != ' ')) {
        return 400;
    }
    for (size_t i = 12; i < len; i++) { // the phrase
        if ((unsigned char)p[i] < ' ' && p[i] != '\t') {
            return 400;
        }
    }
    r->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    *is_1_1 = p[7] != '0';
    return HTTP_OK;
}

static int take_length(struct http_reply *r, struct slice v) {
    uint64_t n;
    if (!http_parse_length(v, &n) ||
        (r->has_length && r->content_length != n)) {
        return 400;
    }
    r->has_length = true;
    r->content_length = n;
    return HTTP_OK;
}

// has_token looks for a member of a list of tokens, in lower case.
static bool has_token(struct slice list, const char *token) {
    const char *p = list.p, *end = list.p + list.len;
    while (p < end) {
        while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) {
            p++;
        }
        const char *start = p;
        while (p < end && *p != ',') {
            p++;
        }
        const char *stop = p;
        while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t')) {
            stop--;
        }
        if (slice_equals((struct slice){start, (size_t)(stop - start)},
                         token)) {
            return true;
        }
    }
    return false;
}

static int take_coding(struct http_reply *r, struct slice v) {
    bool is_first = !r->chunked;
    r->chunked = true;
    return is_first && slice_equals(v, "chunked") ? HTTP_OK : 400;
}

// take_field: most fields are told by their length to be none that matters.
static int take_field(struct http_reply *r, struct framing *f,
                      struct slice name, struct slice v) {
    if (name.len == strlen("content-length") &&
        slice_equals(name, "content-length")) {
        return take_length(r, v);
    }
    if (name.len == strlen("transfer-encoding") &&
        slice_equals(name, "transfer-encoding")) {
        return take_coding(r, v);
    }
    if (name.len == strlen("connection") && slice_equals(name, "connection")) {
        f->close = f->close || has_token(v, "close");
        f->keep_alive = f->keep_alive || has_token(v, "keep-alive");
    } else if (name.len == strlen("content-encoding") &&
               slice_equals(name, "content-encoding")) {
        bool is_gzip = slice_equals(v, "gzip") || slice_equals(v, "x-gzip");
        r->is_gzip = r->is_gzip || is_gzip;
        f->is_other = f->is_other || !(is_gzip || slice_equals(v, "identity"));
    }
    return HTTP_OK;
}

// take_line reads a field's line, which has no CRLF.
static int take_line(struct http_reply *r, struct framing *f, const char *p,
                     size_t len) {
    const char *colon = memchr(p, ':', len);
    if (!colon || colon == p) {
        return 400;
    }
    struct slice name = {p, (size_t)(colon - p)};
    for (size_t i = 0; i < name.len; i++) {
        if ((unsigned char)name.p[i] <= ' ' || name.p[i] == 0x7f) {
            return 400; // folded lines have these too
        }
    }
    const char *start = colon + 1, *stop = p + len;
    while (start < stop && (*start == ' ' || *start == '\t')) {
        start++;
    }
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t')) {
        stop--;
    }
    for (const char *q = start; q < stop; q++) {
        if ((unsigned char)*q < ' ' && *q != '\t') {
            return 400;
        }
    }
    return take_field(r, f, name,
                      (struct slice){start, (size_t)(stop - start)});
}

// parse reads a head whose empty line is there.
static int parse(struct http_reply *r, const char *p, const char *end) {
    struct framing f = {0};
    bool is_1_1 = false, is_first = true;
    *r = (struct http_reply){.size = (size_t)(end - p)};
    for (;;) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf || lf == p || lf[-1] != '\r') {
            return 400;
        }
        size_t len = (size_t)(lf - p) - 1;
        if (len == 0) {
            break;
        }
        int rc = is_first ? take_status(r, p, len, &is_1_1)
                          : take_line(r, &f, p, len);
        if (rc != HTTP_OK) {
            return rc;
        }
        is_first = false;
        p = lf + 1;
    }
    // RFC 9112 §6.1: chunked in HTTP/1.0, or beside a length, is faulty
    if (is_first || (r->chunked && (!is_1_1 || r->has_length))) {
        return 400;
    }
    r->is_gzip = r->is_gzip && !f.is_other;
    r->keep_alive = !f.close && (is_1_1 || f.keep_alive);
    return HTTP_OK;
}

int http_parse_reply(struct http_reply *r, const char *buf, size_t len,
                     size_t *scanned) {
    static const char start[] = "HTTP/1.";
    size_t n = len < sizeof start - 1 ? len : sizeof start - 1;
    if (memcmp(buf, start, n) != 0) {
        return 400;
    }
    const char *p = buf + (*scanned > 3 ? *scanned - 3 : 0);
    const char *end = memmem(p, len - (size_t)(p - buf), "\r\n\r\n", 4);
    if (!end) {
        *scanned = len;
        return HTTP_MORE;
    }
    *scanned = 0;
    return parse(r, buf, end + 4);
}

bool http_reply_has_body(const struct http_reply *r, bool is_head) {
    return !is_head && r->status >= 200 && r->status != 204 && r->status != 304;
}
