// response: the bytes of an HTTP response.
#include "http/response.h"

#include <time.h>

enum { head_room = 256 }; // status line and the fields that are always there

bool slice_equals(struct slice s, const char *lower_text) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        c = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
        if (c != lower_text[i]) {
            return false; // also where the text ends first
        }
    }
    return lower_text[s.len] == 0;
}

// own_fields returns Server and Date (IMF-fixdate, RFC 9110 §5.6.7), which
// change once a second. strftime is avoided: it speaks the locale's language.
static struct slice own_fields(void) {
    static _Thread_local char text[96];
    static _Thread_local time_t made_for;
    static _Thread_local int len;
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    if (now != made_for) {
        struct tm t;
        gmtime_r(&now, &t);
        struct buf b = {0};
        buf_printf(&b,
                   "Server: neap\r\nDate: %.3s, %02d %.3s %04d %02d:%02d:%02d "
                   "GMT\r\n",
                   days + 3 * t.tm_wday, t.tm_mday, months + 3 * t.tm_mon,
                   t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
        len = (int)(b.len < sizeof text ? b.len : sizeof text);
        memcpy(text, b.data, (size_t)len);
        buf_clear(&b);
        made_for = now;
    }
    return (struct slice){text, (size_t)len};
}

static char *put(char *p, const char *bytes, size_t n) {
    if (n) {
        memcpy(p, bytes, n);
    }
    return p + n;
}

#define PUT(p, literal) put(p, literal, sizeof literal - 1)

static char *put_number(char *p, uint64_t v) {
    char digits[20];
    char *d = digits + sizeof digits;
    do {
        *--d = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return put(p, d, (size_t)(digits + sizeof digits - d));
}

static char *put_status_line(char *p, int status) {
    if (status == 200) {
        return PUT(p, "HTTP/1.1 200 OK\r\n");
    }
    const char *reason = http_reason(status);
    p = PUT(p, "HTTP/1.1 ");
    p = put_number(p, (uint64_t)status);
    *p++ = ' ';
    p = put(p, reason, strlen(reason));
    return PUT(p, "\r\n");
}

void response_write(struct buf *out, const struct response *r) {
    // RFC 9110 §15.3.5, §15.4.5: these end with the head, and a length in
    // 204 is forbidden (§8.6)
    bool has_body = r->status != 204 && r->status != 304;
    size_t body_len = has_body && !r->is_head ? r->body.len : 0;
    char *start =
        buf_reserve(out, head_room + r->type.len + r->fields.len + body_len);
    char *p = put_status_line(start, r->status);
    struct slice own = own_fields();
    p = put(p, own.p, own.len);
    if (r->type.len && has_body) {
        p = PUT(p, "Content-Type: ");
        p = put(p, r->type.p, r->type.len);
        p = PUT(p, "\r\n");
    }
    if (has_body) {
        p = PUT(p, "Content-Length: ");
        p = put_number(p, r->body.len);
        p = PUT(p, "\r\n");
    }
    if (r->close) {
        p = PUT(p, "Connection: close\r\n");
    } else if (r->persist) {
        p = PUT(p, "Connection: keep-alive\r\n");
    }
    p = put(p, r->fields.p, r->fields.len);
    p = PUT(p, "\r\n");
    p = put(p, r->body.p, body_len);
    out->len += (size_t)(p - start);
}

// -- fields

// is_token: RFC 9110 §5.6.2.
static bool is_token(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                        (c >= 'a' && c <= 'z');
        if (!is_alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c))) {
            return false;
        }
    }
    return s.len > 0;
}

// is_value: field-content with obs-text, RFC 9110 §5.5. What it refuses is
// what could end the field, or the head, in somebody's eyes.
static bool is_value(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_reserved(struct slice name) {
    static const char *const names[] = {
        "connection", "content-length", "date",    "keep-alive",       "server",
        "te",         "trailer",        "upgrade", "transfer-encoding"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (slice_equals(name, names[i])) {
            return true;
        }
    }
    return false;
}

enum response_field response_add_field(struct buf *fields, struct slice name,
                                       struct slice value) {
    if (!is_token(name)) {
        return FIELD_BAD_NAME;
    }
    if (!is_value(value)) {
        return FIELD_BAD_VALUE;
    }
    if (is_reserved(name)) {
        return slice_equals(name, "connection") && slice_equals(value, "close")
                   ? FIELD_CLOSE
                   : FIELD_RESERVED;
    }
    buf_reserve(fields, name.len + value.len + 4);
    buf_add(fields, name.p, name.len);
    buf_add(fields, ": ", 2);
    buf_add(fields, value.p, value.len);
    buf_add(fields, "\r\n", 2);
    return FIELD_OK;
}
