// url: parsing of redis:// and unix:// URLs (RFC 3986 §3, as far as needed).
#include "redis/url.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/num.h"

#define DEFAULT_HOST  "127.0.0.1"
#define DEFAULT_PORT  6379
#define MAX_UNIX_PATH 107 // sun_path holds 108 bytes, one of them the NUL

// A piece of the text being parsed.
struct part {
    const char *s;
    size_t len;
};

struct parser {
    struct redis_url *u;
    char *err;
    size_t errlen;
};

__attribute__((format(printf, 2, 3))) static int fail(const struct parser *p,
                                                      const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->err, p->errlen, fmt, ap);
    va_end(ap);
    return -1;
}

// A password with an unescaped / ? or # in it makes the rest of itself look
// like a port, a db or an option. So a culprit is shown only when no @ follows.
static int fail_at(const struct parser *p, const char *what,
                   struct part culprit) {
    if (strchr(culprit.s, '@')) {
        return fail(p,
                    "bad %s; / ? # and %% in a password are written %%2F "
                    "%%3F %%23 %%25",
                    what);
    }
    int len = culprit.len < 60 ? (int)culprit.len : 60;
    return fail(p, "bad %s \"%.*s\"", what, len, culprit.s);
}

static bool part_is(struct part t, const char *s) {
    return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

// take_until moves what stands before the first of the given characters out
// of *rest; all of it when none occurs.
static struct part take_until(struct part *rest, const char *ends) {
    struct part head = {rest->s, strcspn(rest->s, ends)};
    if (head.len > rest->len) {
        head.len = rest->len;
    }
    rest->s += head.len;
    rest->len -= head.len;
    return head;
}

static void skip(struct part *t, size_t n) {
    t->s += n;
    t->len -= n;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// decode replaces *out with t, percent-decoded. A failure names what was
// decoded but shows nothing of it.
static int decode(const struct parser *p, const char *what, struct part t,
                  char **out) {
    char *text = xmalloc(t.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < t.len; i++) {
        text[len] = t.s[i];
        if (t.s[i] == '%') {
            int high = i + 2 < t.len ? hex_digit(t.s[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(t.s[i + 2]) : -1;
            if (low < 0) {
                free(text);
                return fail(p, "bad percent-encoding in the %s", what);
            }
            text[len] = (char)(high * 16 + low);
            i += 2;
        }
        if (!text[len++]) {
            free(text);
            return fail(p, "a NUL in the %s", what);
        }
    }
    text[len] = 0;
    free(*out);
    *out = text;
    return 0;
}

// parse_int returns the decimal value, or -1 when t is not one or above max.
static int parse_int(struct part t, int max) {
    int64_t value = 0;
    for (size_t i = 0; i < t.len; i++) {
        if (t.s[i] < '0' || t.s[i] > '9') {
            return -1;
        }
        value = value * 10 + (t.s[i] - '0');
        if (value > max) {
            return -1;
        }
    }
    return t.len ? (int)value : -1;
}

static int parse_scheme(struct parser *p, struct part *rest) {
    static const char *const absent[] = {"rediss", "sentinel", "cluster"};
    static const char *const known[] = {"redis", "unix"};
    size_t len = strspn(rest->s, "abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (len == 0 || strncmp(rest->s + len, "://", 3) != 0) {
        return fail(p, "not a URL; expected redis://host:port/db or "
                       "unix:///path/to.sock");
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i]) == len && !strncasecmp(rest->s, known[i], len)) {
            p->u->scheme = xstrdup(known[i]);
            skip(rest, len + 3);
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        if (strlen(absent[i]) == len && !strncasecmp(rest->s, absent[i], len)) {
            return fail(p, "%s:// is not available in this build", absent[i]);
        }
    }
    return fail(p, "unknown scheme \"%.*s\"; expected redis:// or unix://",
                len < 40 ? (int)len : 40, rest->s);
}

// parse_user takes user:password@ off the front of the authority. The last @
// counts, so that one in a password does no harm.
static int parse_user(struct parser *p, struct part *authority) {
    const char *at = memrchr(authority->s, '@', authority->len);
    if (!at) {
        return 0;
    }
    struct part info = {authority->s, (size_t)(at - authority->s)};
    skip(authority, info.len + 1);
    struct part user = take_until(&info, ":");
    if (user.len && decode(p, "user", user, &p->u->user) < 0) {
        return -1;
    }
    if (info.len == 0) {
        return 0;
    }
    skip(&info, 1);
    if (info.len == 0 && user.len == 0) {
        return 0;
    }
    return decode(p, "password", info, &p->u->password);
}

// parse_host reads host:port, both optional.
static int parse_host(struct parser *p, struct part authority) {
    static const char ipv6[] = "0123456789abcdefABCDEF:.";
    struct part host;
    if (authority.len && *authority.s == '[') {
        skip(&authority, 1);
        host = take_until(&authority, "]");
        // A zone (RFC 4007 §11) is taken as it is.
        size_t len = strspn(host.s, ipv6);
        if (!authority.len || !host.len ||
            (len < host.len && (len == 0 || host.s[len] != '%'))) {
            return fail_at(p, "IPv6 address", host);
        }
        skip(&authority, 1);
        if (authority.len && *authority.s != ':') {
            return fail_at(p, "port", authority);
        }
    } else {
        host = take_until(&authority, ":");
        if (memchr(host.s, ' ', host.len) || memchr(host.s, '%', host.len)) {
            return fail_at(p, "host", host);
        }
    }
    p->u->host = host.len ? xstrndup(host.s, host.len) : xstrdup(DEFAULT_HOST);
    p->u->port = DEFAULT_PORT;
    if (authority.len <= 1) {
        return 0;
    }
    skip(&authority, 1);
    if (memchr(authority.s, ':', authority.len) && !strchr(authority.s, '@')) {
        return fail(p,
                    "bad port \"%.*s\"; an IPv6 address stands in [brackets]",
                    authority.len < 60 ? (int)authority.len : 60, authority.s);
    }
    p->u->port = parse_int(authority, 65535);
    return p->u->port > 0 ? 0 : fail_at(p, "port", authority);
}

static int parse_redis(struct parser *p, struct part authority,
                       struct part path) {
    if (parse_host(p, authority) < 0) {
        return -1;
    }
    if (path.len > 1) {
        skip(&path, 1);
        p->u->db = parse_int(path, INT_MAX);
        if (p->u->db < 0) {
            return fail_at(p, "db", path);
        }
    }
    return 0;
}

static int parse_unix(struct parser *p, struct part authority,
                      struct part path) {
    if (authority.len || path.len < 2) {
        return fail(p, "unix:// takes an absolute path, as in "
                       "unix:///path/to.sock");
    }
    if (decode(p, "path", path, &p->u->path) < 0) {
        return -1;
    }
    if (strlen(p->u->path) > MAX_UNIX_PATH) {
        return fail(p, "the path of a unix socket has at most %d bytes",
                    MAX_UNIX_PATH);
    }
    return 0;
}

static int parse_seconds(const struct parser *p, const char *what,
                         struct part value, double *out) {
    double seconds;
    if (num_parse(value.s, value.len, &seconds) < 0 || seconds < 0) {
        return fail_at(p, what, value);
    }
    *out = seconds;
    return 0;
}

static int parse_name(struct parser *p, struct part value) {
    if (decode(p, "name", value, &p->u->name) < 0) {
        return -1;
    }
    // What CLIENT SETNAME takes.
    for (const char *c = p->u->name; *c; c++) {
        if (*c < '!' || *c > '~') {
            return fail_at(p, "name", value);
        }
    }
    if (!*p->u->name) {
        return fail_at(p, "name", value);
    }
    return 0;
}

static int parse_option(struct parser *p, struct part key, struct part value) {
    if (part_is(key, "timeout")) {
        return parse_seconds(p, "timeout", value, &p->u->timeout);
    }
    if (part_is(key, "connect_timeout")) {
        return parse_seconds(p, "connect_timeout", value,
                             &p->u->connect_timeout);
    }
    if (part_is(key, "pool")) {
        p->u->pool = parse_int(value, INT_MAX);
        return p->u->pool > 0 ? 0 : fail_at(p, "pool", value);
    }
    if (part_is(key, "db")) {
        p->u->db = parse_int(value, INT_MAX);
        return p->u->db >= 0 ? 0 : fail_at(p, "db", value);
    }
    if (part_is(key, "name")) {
        return parse_name(p, value);
    }
    return fail_at(p, "option (not timeout, connect_timeout, pool, name or db)",
                   key);
}

static int parse_query(struct parser *p, struct part query) {
    while (query.len) {
        skip(&query, 1); // ? or &
        struct part value = take_until(&query, "&");
        struct part key = take_until(&value, "=");
        if (key.len == 0 && value.len == 0) {
            continue;
        }
        if (value.len) {
            skip(&value, 1);
        }
        if (parse_option(p, key, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int parse(struct parser *p, const char *text) {
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return fail(p, "a control character in the URL");
        }
    }
    struct part rest = {text, strlen(text)};
    if (parse_scheme(p, &rest) < 0) {
        return -1;
    }
    struct part authority = take_until(&rest, "/?#");
    struct part path = take_until(&rest, "?");
    if (parse_user(p, &authority) < 0) {
        return -1;
    }
    int status = *p->u->scheme == 'u' ? parse_unix(p, authority, path)
                                      : parse_redis(p, authority, path);
    return status < 0 ? status : parse_query(p, rest);
}

int redis_url_parse(struct redis_url *u, const char *text, char *err,
                    size_t errlen) {
    *u = (struct redis_url){.timeout = -1, .connect_timeout = -1, .pool = -1};
    struct parser p = {.u = u, .err = err, .errlen = errlen};
    if (parse(&p, text) < 0) {
        redis_url_clear(u);
        return -1;
    }
    return 0;
}

void redis_url_clear(struct redis_url *u) {
    free(u->scheme);
    free(u->host);
    free(u->path);
    free(u->user);
    if (u->password) {
        explicit_bzero(u->password, strlen(u->password));
    }
    free(u->password);
    free(u->name);
    *u = (struct redis_url){.timeout = -1, .connect_timeout = -1, .pool = -1};
}

const char *redis_url_describe(const struct redis_url *u, char *out,
                               size_t size) {
    // A user alone may well be a password without its colon: not shown.
    const char *user = u->user && u->password ? u->user : "";
    const char *at = *user ? "@" : "";
    if (u->path) {
        if (u->db) {
            snprintf(out, size, "unix://%s%s%s?db=%d", user, at, u->path,
                     u->db);
        } else {
            snprintf(out, size, "unix://%s%s%s", user, at, u->path);
        }
        return out;
    }
    const char *host = u->host ? u->host : "";
    bool is_ipv6 = strchr(host, ':');
    snprintf(out, size, "redis://%s%s%s%s%s:%d/%d", user, at,
             is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", u->port, u->db);
    return out;
}
