// parse: a strict HTTP/1.1 request parser.
//
// Where the RFCs let a recipient be lenient, this one refuses: two parties
// that read the same bytes as different messages are how requests are
// smuggled. The head is read once, left to right, so bytes that are refused
// stay refused whatever follows them.
#include "http/parse.h"

#include <limits.h>
#include <string.h>

enum char_class {
    TOKEN = 1,  // tchar, RFC 9110 §5.6.2
    TARGET = 2, // any visible ASCII but '#', RFC 9112 §3.2; browsers do send
                // the likes of '|' that RFC 3986 wants escaped
    HOST = 4,   // reg-name without its escapes, RFC 3986 §3.2.2
};

// clang-format off
static const unsigned char classes[256] = {
    [' '] =
    0, 7, 2, 1, 7, 3, 7, 7, 6, 6, 7, 7, 6, 7, 7, 2, //  !"#$%&'()*+,-./
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2, 6, 2, 6, 2, 2, // 0123456789:;<=>?
    2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // @ABCDEFGHIJKLMNO
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2, 2, 2, 3, 7, // PQRSTUVWXYZ[\]^_
    3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // `abcdefghijklmno
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 2, 3, 2, 7, 0, // pqrstuvwxyz{|}~
};
// clang-format on

// What the fields of a head have said, beyond what http_head holds.
struct seen {
    bool host, expect, upgrade;
    bool close, keep_alive, connection_upgrade; // options of Connection
};

static bool is(char c, enum char_class class) {
    return classes[(unsigned char)c] & class;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// field-content with obs-text, RFC 9110 §5.5.
static bool is_value(char c) {
    unsigned char u = (unsigned char)c;
    return (u >= 0x20 && u != 0x7f) || u == '\t';
}

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static int hex(char c) {
    if (is_digit(c)) {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct slice slice(const char *from, const char *to) {
    return (struct slice){from, (size_t)(to - from)};
}

static bool starts_with(struct slice s, const char *text, size_t len) {
    if (s.len < len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (lower(s.p[i]) != text[i]) {
            return false;
        }
    }
    return true;
}

static bool equals(struct slice s, const char *text, size_t len) {
    return s.len == len && starts_with(s, text, len);
}

// A slice and a lower-case literal, compared without case.
#define STARTS_WITH(s, text) starts_with(s, text, sizeof text - 1)
#define EQUALS(s, text)      equals(s, text, sizeof text - 1)

// is_host checks uri-host [":" port]. An empty host is no http URI (RFC 9110
// §4.2.1); userinfo, escapes and IPvFuture have no use in one.
static bool is_host(struct slice s) {
    const char *p = s.p;
    const char *end = p + s.len;
    if (p < end && *p == '[') {
        do {
            p++;
        } while (p < end && (hex(*p) >= 0 || *p == ':' || *p == '.'));
        if (p - s.p < 3 || p == end || *p++ != ']') {
            return false;
        }
    } else {
        while (p < end && is(*p, HOST)) {
            p++;
        }
    }
    if (p == s.p || (p < end && *p++ != ':')) {
        return false;
    }
    while (p < end && is_digit(*p)) {
        p++;
    }
    return p == end;
}

// take_crlf steps over CRLF, neither half of which may stand alone (RFC 9112
// §2.2 lets a bare LF pass; here it does not).
static int take_crlf(const char **at, const char *end) {
    const char *p = *at;
    if (p == end || (*p == '\r' && p + 1 == end)) {
        return HTTP_MORE;
    }
    if (p[0] != '\r' || p[1] != '\n') {
        return 400;
    }
    *at = p + 2;
    return HTTP_OK;
}

// split_target takes the request target apart (RFC 9112 §3.2).
static int split_target(struct http_head *h) {
    const char *p = h->target.p;
    const char *end = p + h->target.len;
    bool is_options = h->method.len == 7 && !memcmp(h->method.p, "OPTIONS", 7);
    if (h->target.len == 1 && *p == '*') { // asterisk-form, §3.2.4
        h->path = h->target;
        h->query = slice(end, end);
        return is_options ? HTTP_OK : 400;
    }
    if (*p != '/') { // absolute-form, §3.2.2
        if (STARTS_WITH(h->target, "http://")) {
            p += 7;
        } else if (STARTS_WITH(h->target, "https://")) {
            p += 8;
        } else {
            return 400;
        }
        const char *host = p;
        while (p < end && *p != '/' && *p != '?') {
            p++;
        }
        h->host = slice(host, p);
        if (!is_host(h->host)) {
            return 400;
        }
    }
    const char *mark = memchr(p, '?', (size_t)(end - p));
    h->path = slice(p, mark ? mark : end);
    h->query = slice(mark ? mark + 1 : end, end);
    if (h->path.len == 0) { // RFC 9110 §4.2.3; for OPTIONS RFC 9112 §3.2.4
        h->path = (struct slice){is_options && !mark ? "*" : "/", 1};
    }
    return HTTP_OK;
}

// parse_request_line reads method SP target SP version CRLF (RFC 9112 §3):
// one space each, as §3 allows more and §11.2 says what that leads to.
static int parse_request_line(struct http_head *h, const char **at,
                              const char *end) {
    const char *p = *at;
    const char *start = p;
    while (p < end && is(*p, TOKEN)) {
        p++;
    }
    if (p == end) {
        return HTTP_MORE;
    }
    if (p == start || *p != ' ') {
        return 400;
    }
    h->method = slice(start, p);

    start = ++p;
    while (p < end && is(*p, TARGET)) {
        p++;
    }
    h->target = slice(start, p);
    if (p == end) {
        return HTTP_MORE;
    }
    if (p == start || *p++ != ' ') {
        return 400;
    }

    if (end - p < 10) {
        return HTTP_MORE;
    }
    // RFC 9112 §2.3: upper case, one digit each.
    if (memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5]) || p[6] != '.' ||
        !is_digit(p[7]) || p[8] != '\r' || p[9] != '\n') {
        return 400;
    }
    if (p[5] != '1' || p[7] > '1') { // RFC 9110 §15.6.6
        return 505;
    }
    h->minor_version = p[7] - '0';
    *at = p + 10;
    // No tunnels are built here, RFC 9110 §9.3.6.
    if (h->method.len == 7 && !memcmp(h->method.p, "CONNECT", 7)) {
        return 501;
    }
    return split_target(h);
}

// Exactly one Host, RFC 9112 §3.2. That of an absolute target comes before
// it, §3.2.2, but does not make it optional.
static int take_host(struct http_head *h, struct seen *seen, struct slice v) {
    if (seen->host || !is_host(v)) {
        return 400;
    }
    seen->host = true;
    if (!h->host.p) {
        h->host = v;
    }
    return HTTP_OK;
}

bool http_parse_length(struct slice v, uint64_t *length) {
    uint64_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        unsigned digit = (unsigned char)v.p[i] - (unsigned)'0';
        if (digit > 9 || n > (UINT64_MAX - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *length = n;
    return v.len > 0;
}

// RFC 9112 §6.3 rule 5 lets identical repeats pass; here they do not.
static int take_content_length(struct http_head *h, struct slice v) {
    if (h->has_length || !http_parse_length(v, &h->content_length)) {
        return 400;
    }
    h->has_length = true;
    return HTTP_OK;
}

// RFC 9112 §6.1: unknown in HTTP/1.0, which makes the framing faulty.
static int take_transfer_encoding(struct http_head *h, struct slice v) {
    if (h->chunked || h->minor_version == 0 || v.len == 0) {
        return 400;
    }
    h->chunked = true;
    return EQUALS(v, "chunked") ? HTTP_OK : 501;
}

// A list of tokens, RFC 9110 §7.6.1; empty members are allowed, §5.6.1.2.
static int take_connection(struct seen *seen, struct slice v) {
    const char *p = v.p;
    const char *end = p + v.len;
    while (p < end) {
        const char *start = p;
        while (p < end && is(*p, TOKEN)) {
            p++;
        }
        struct slice option = slice(start, p);
        seen->close |= EQUALS(option, "close");
        seen->keep_alive |= EQUALS(option, "keep-alive");
        seen->connection_upgrade |= EQUALS(option, "upgrade");
        while (p < end && is_space(*p)) {
            p++;
        }
        if (p < end && *p != ',') {
            return 400;
        }
        while (p < end && (*p == ',' || is_space(*p))) {
            p++;
        }
    }
    return HTTP_OK;
}

// take_field looks at a field that decides about framing or connection.
static int take_field(struct http_head *h, struct seen *seen, struct slice name,
                      struct slice v) {
    if (EQUALS(name, "host")) {
        return take_host(h, seen, v);
    }
    if (EQUALS(name, "connection")) {
        return take_connection(seen, v);
    }
    if (EQUALS(name, "content-length")) {
        return take_content_length(h, v);
    }
    if (EQUALS(name, "transfer-encoding")) {
        return take_transfer_encoding(h, v);
    }
    if (EQUALS(name, "expect")) { // RFC 9110 §10.1.1
        seen->expect = true;
        return EQUALS(v, "100-continue") ? HTTP_OK : 417;
    }
    seen->upgrade |= EQUALS(name, "upgrade") && v.len > 0;
    return HTTP_OK;
}

// is_plain says that none of the eight bytes at p is a control; it also says
// no to tabs, which is_value then lets pass.
static bool is_plain(const char *p) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t x;
    memcpy(&x, p, 8);
    uint64_t del = x ^ (ones * 0x7f);
    uint64_t low = (x - ones * 0x20) & ~x;
    return !((low | ((del - ones) & ~del)) & (ones * 0x80));
}

// parse_field reads name ":" OWS value OWS CRLF (RFC 9112 §5). A line that
// starts with white space, which is obs-fold (§5.2) or precedes the first
// field (§2.2), has an empty name; white space before the colon (§5.1) is no
// token either.
static int parse_field(struct http_field *f, const char **at, const char *end) {
    const char *p = *at;
    const char *start = p;
    while (p < end && is(*p, TOKEN)) {
        p++;
    }
    if (p == end) {
        return HTTP_MORE;
    }
    if (p == start || *p != ':') {
        return 400;
    }
    f->name = slice(start, p++);

    while (p < end && is_space(*p)) {
        p++;
    }
    start = p;
    while (end - p >= 8 && is_plain(p)) {
        p += 8;
    }
    while (p < end && is_value(*p)) {
        p++;
    }
    const char *value_end = p;
    while (value_end > start && is_space(value_end[-1])) {
        value_end--;
    }
    f->value = slice(start, value_end);
    *at = p;
    return take_crlf(at, end);
}

// parse_fields reads the header section and the empty line that ends it.
static int parse_fields(struct http_head *h, struct seen *seen, const char **at,
                        const char *end) {
    while (*at < end && **at != '\r') {
        if (h->header_count == HTTP_HEADERS_MAX) {
            return 431;
        }
        struct http_field *f = &h->headers[h->header_count++];
        int rc = parse_field(f, at, end);
        if (rc == HTTP_OK) {
            rc = take_field(h, seen, f->name, f->value);
        }
        if (rc != HTTP_OK) {
            return rc;
        }
    }
    return take_crlf(at, end);
}

// settle judges the fields together once all are known.
static int settle(struct http_head *h, const struct seen *seen) {
    bool is_1_1 = h->minor_version == 1;
    // RFC 9112 §3.2 and §6.1.
    if ((is_1_1 && !seen->host) || (h->chunked && h->has_length)) {
        return 400;
    }
    // RFC 9112 §9.3: close wins, and HTTP/1.0 has to ask.
    h->keep_alive = !seen->close && (is_1_1 || seen->keep_alive);
    // RFC 9110 §7.8 and §10.1.1: neither is heeded in HTTP/1.0.
    h->upgrade = is_1_1 && seen->upgrade && seen->connection_upgrade;
    h->expect_continue =
        is_1_1 && seen->expect && (h->chunked || h->content_length > 0);
    return HTTP_OK;
}

// parse returns what http_parse_head does, for len bytes seen as a whole.
static int parse(struct http_head *h, const char *buf, size_t len) {
    const char *p = buf;
    const char *end = buf + len;
    struct seen seen = {0};
    memset(h, 0, offsetof(struct http_head, headers));
    int rc = HTTP_OK;
    if (p < end && *p == '\r') { // one empty line may precede, RFC 9112 §2.2
        rc = take_crlf(&p, end);
    }
    if (rc == HTTP_OK) {
        rc = parse_request_line(h, &p, end);
    }
    if (rc == HTTP_OK) {
        rc = parse_fields(h, &seen, &p, end);
    }
    h->size = (size_t)(p - buf);
    return rc == HTTP_OK ? settle(h, &seen) : rc;
}

// may_end looks past the scanned bytes for an empty line or a bare LF.
static bool may_end(const char *buf, size_t len, size_t scanned) {
    const char *p = buf + scanned;
    const char *end = buf + len;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        size_t i = (size_t)(p - buf);
        if (i == 0 || buf[i - 1] != '\r' || (i >= 3 && buf[i - 2] == '\n')) {
            return true;
        }
        p++;
    }
    return false;
}

int http_parse_head(struct http_head *h, const char *buf, size_t len,
                    size_t *scanned) {
    size_t limit = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
    // A head that fell short is parsed again only when its end may be here.
    if (*scanned > 0 && limit < HTTP_HEAD_MAX &&
        !may_end(buf, limit, *scanned)) {
        *scanned = limit;
        return HTTP_MORE;
    }
    int rc = parse(h, buf, limit);
    if (rc == HTTP_MORE && limit == HTTP_HEAD_MAX) {
        // For a method or a target RFC 9112 §3, for fields RFC 6585 §5.
        return h->path.p ? 431 : h->target.p ? 414 : 501;
    }
    *scanned = rc == HTTP_MORE ? limit : 0;
    return rc;
}

const struct slice *http_header(const struct http_head *h,
                                const char *lower_name) {
    size_t len = strlen(lower_name);
    for (int i = 0; i < h->header_count; i++) {
        if (equals(h->headers[i].name, lower_name, len)) {
            return &h->headers[i].value;
        }
    }
    return NULL;
}

// Where a chunked body (RFC 9112 §7.1) stands. The bytes of the states from
// EXTENSION on count against HTTP_CHUNK_EXTRA_MAX.
enum chunk_state {
    SIZE,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    EXTENSION,
    TRAILER, // at the start of a trailer line
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE,
    BAD,
};

// chunk_step returns the state that c follows. White space around a size and
// signs or prefixes to it are refused, as are the bare LFs that extensions
// have been used to hide.
static int chunk_step(struct http_chunked *c, char ch) {
    if (c->state >= EXTENSION && c->extra++ == HTTP_CHUNK_EXTRA_MAX) {
        return BAD;
    }
    switch (c->state) {
    case SIZE:
        if (hex(ch) >= 0 && c->digits < HTTP_CHUNK_DIGITS_MAX) {
            c->left = c->left << 4 | (uint64_t)hex(ch);
            c->digits++;
            return SIZE;
        }
        if (c->digits == 0) {
            return BAD;
        }
        return ch == '\r' ? SIZE_LF : ch == ';' ? EXTENSION : BAD;
    case SIZE_LF:
        c->digits = 0;
        return ch != '\n' ? BAD : c->left > 0 ? DATA : TRAILER;
    case DATA_CR: return ch == '\r' ? DATA_LF : BAD;
    case DATA_LF: return ch == '\n' ? SIZE : BAD;
    case EXTENSION:
        return ch == '\r' ? SIZE_LF : is_value(ch) ? EXTENSION : BAD;
    case TRAILER:
        return ch == '\r' ? END_LF : is(ch, TOKEN) ? TRAILER_NAME : BAD;
    case TRAILER_NAME:
        return ch == ':' ? TRAILER_VALUE : is(ch, TOKEN) ? TRAILER_NAME : BAD;
    case TRAILER_VALUE:
        return ch == '\r' ? TRAILER_LF : is_value(ch) ? TRAILER_VALUE : BAD;
    case TRAILER_LF: return ch == '\n' ? TRAILER : BAD;
    case END_LF: return ch == '\n' ? DONE : BAD;
    }
    return BAD;
}

int http_chunked_feed(struct http_chunked *c, const char *in, size_t len,
                      size_t *used, struct slice *data) {
    size_t i = 0;
    *data = (struct slice){0};
    while (i < len && c->state < DONE) {
        if (c->state == DATA) {
            size_t n = c->left < len - i ? (size_t)c->left : len - i;
            *data = (struct slice){in + i, n};
            c->left -= n;
            c->state = c->left > 0 ? DATA : DATA_CR;
            i += n;
            break;
        }
        c->state = chunk_step(c, in[i++]);
    }
    *used = i;
    return c->state == DONE ? HTTP_OK : c->state == BAD ? 400 : HTTP_MORE;
}

int http_url_decode(char *out, struct slice in, bool plus_is_space) {
    if (in.len > INT_MAX) {
        return -1;
    }
    int n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.p[i];
        if (c == '%') {
            if (in.len - i < 3 || hex(in.p[i + 1]) < 0 ||
                hex(in.p[i + 2]) < 0) {
                return -1;
            }
            c = (char)(hex(in.p[i + 1]) << 4 | hex(in.p[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    return n;
}

// The rules are those of URL Standard §5.1: empty pairs do not count.
bool http_next_param(struct slice *rest, struct slice *key,
                     struct slice *value) {
    const char *p = rest->p;
    const char *end = rest->len ? p + rest->len : p;
    while (p < end && *p == '&') {
        p++;
    }
    if (p == end) {
        return false;
    }
    const char *amp = memchr(p, '&', (size_t)(end - p));
    const char *stop = amp ? amp : end;
    const char *equal = memchr(p, '=', (size_t)(stop - p));
    *key = slice(p, equal ? equal : stop);
    *value = slice(equal ? equal + 1 : stop, stop);
    *rest = slice(stop, end);
    return true;
}

const char *http_reason(int status) {
    // RFC 9110 §15 and RFC 6585.
    // clang-format off
    static const struct { int status; const char *phrase; } reasons[] = {
        {100, "Continue"}, {101, "Switching Protocols"}, {200, "OK"},
        {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
        {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"},
        {303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"},
        {308, "Permanent Redirect"}, {400, "Bad Request"},
        {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {406, "Not Acceptable"},
        {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
        {411, "Length Required"}, {412, "Precondition Failed"},
        {413, "Content Too Large"}, {414, "URI Too Long"},
        {415, "Unsupported Media Type"}, {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"}, {421, "Misdirected Request"},
        {422, "Unprocessable Content"}, {426, "Upgrade Required"},
        {428, "Precondition Required"}, {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"},
        {502, "Bad Gateway"}, {503, "Service Unavailable"},
        {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status) {
            return reasons[i].phrase;
        }
    }
    return "";
}
