// url: Redis URLs as text, read (RFC 3986 §3, as far as needed) and written.
#include "redis/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define DEFAULT_HOST  "127.0.0.1"
#define DEFAULT_PORT  6379
#define SENTINEL_PORT 26379
#define MAX_UNIX_PATH 107 // sun_path holds 108 bytes, one of them the NUL
#define HOW_TO_ESCAPE                                                          \
    "/ ? # & and %% in a password are written %%2F %%3F %%23 %%26 %%25"

// A piece of the text being parsed.
struct part {
    const char *s;
    size_t len;
};

struct parser {
    struct redis_url *u;
    const char *end;         // of the text
    bool is_behind_password; // the query gave one already
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

// may_show: a password with an unescaped / ? or # in it makes the rest of
// itself look like a port, a db or an option, and one with an & like another
// option. So a culprit is shown only when no @ follows and no password
// precedes; nor if it holds a =, since then it was meant to be an option.
static bool may_show(const struct parser *p, struct part culprit) {
    return !p->is_behind_password &&
           !memchr(culprit.s, '@', (size_t)(p->end - culprit.s)) &&
           !memchr(culprit.s, '=', culprit.len);
}

static int fail_at(const struct parser *p, const char *what,
                   struct part culprit) {
    if (!may_show(p, culprit)) {
        return fail(p, "bad %s; " HOW_TO_ESCAPE, what);
    }
    int len = culprit.len < 60 ? (int)culprit.len : 60;
    return fail(p, "bad %s \"%.*s\"", what, len, culprit.s);
}

static bool part_is(struct part t, const char *s) {
    return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

static bool starts_with(struct part t, char c) {
    return t.len && *t.s == c;
}

static void skip(struct part *t, size_t n) {
    t->s += n;
    t->len -= n;
}

// take_until moves what stands before the first of the given characters out
// of *rest; all of it when none occurs.
static struct part take_until(struct part *rest, const char *ends) {
    struct part head = {rest->s, 0};
    while (head.len < rest->len && !strchr(ends, head.s[head.len])) {
        head.len++;
    }
    skip(rest, head.len);
    return head;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void free_secret(char *text, size_t len) {
    explicit_bzero(text, len);
    free(text);
}

// decode returns t percent-decoded, or NULL. A failure names what was decoded
// but shows nothing of it.
static char *decode(const struct parser *p, const char *what, struct part t) {
    char *text = xmalloc(t.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < t.len; i++) {
        text[len] = t.s[i];
        if (t.s[i] == '%') {
            int high = i + 2 < t.len ? hex_digit(t.s[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(t.s[i + 2]) : -1;
            if (low < 0) {
                free_secret(text, len);
                fail(p, "bad percent-encoding in the %s", what);
                return NULL;
            }
            text[len] = (char)(high * 16 + low);
            i += 2;
        }
        if (!text[len++]) {
            free_secret(text, len);
            fail(p, "a NUL in the %s", what);
            return NULL;
        }
    }
    text[len] = 0;
    return text;
}

// set is redis_url_set with what stands at culprit. Where that must not be
// shown, the message loses what it has in quotes.
static int set(const struct parser *p, struct redis_url *u, const char *key,
               struct part value, struct part culprit) {
    char text[REDIS_URL_ERROR];
    if (redis_url_set(u, key, value.s, value.len, text, sizeof text) == 0) {
        return 0;
    }
    const char *quoted = strstr(text, " \"");
    if (!quoted || may_show(p, culprit)) {
        return fail(p, "%s", text);
    }
    return fail(p, "%.*s%s; " HOW_TO_ESCAPE, (int)(quoted - text), text,
                strrchr(quoted, '"') + 1);
}

static int set_decoded(const struct parser *p, const char *key,
                       const char *what, struct part value,
                       struct part culprit) {
    char *text = decode(p, what, value);
    if (!text) {
        return -1;
    }
    struct part decoded = {text, strlen(text)};
    int status = set(p, p->u, key, decoded, culprit);
    free_secret(text, decoded.len);
    return status;
}

static int parse_scheme(struct parser *p, struct part *rest) {
    static const char *const known[] = {"redis", "rediss", "unix", "sentinel"};
    static const char cluster[] = "cluster";
    size_t len = strspn(rest->s, "abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (len == 0 || strncmp(rest->s + len, "://", 3) != 0) {
        return fail(p, "not a URL; expected redis://host:port/db or "
                       "unix:///path/to.sock");
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i]) == len && !strncasecmp(rest->s, known[i], len)) {
            p->u->scheme = xstrdup(known[i]);
            p->u->is_tls = strcmp(known[i], "rediss") == 0;
            skip(rest, len + 3);
            return 0;
        }
    }
    if (strlen(cluster) == len && !strncasecmp(rest->s, cluster, len)) {
        return fail(p, "cluster:// is not available in this build");
    }
    return fail(p,
                "unknown scheme \"%.*s\"; expected redis://, rediss://, "
                "unix:// or sentinel://",
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
    if (set_decoded(p, "user", "user", user, user) < 0) {
        return -1;
    }
    if (info.len == 0) {
        return 0;
    }
    skip(&info, 1);
    if (info.len == 0 && user.len == 0) {
        return 0;
    }
    return set_decoded(p, "password", "password", info, info);
}

// parse_address reads host:port into u, both optional.
static int parse_address(const struct parser *p, struct redis_url *u,
                         struct part address) {
    struct part host = address;
    if (starts_with(address, '[')) {
        take_until(&address, "]");
        if (!address.len) {
            skip(&host, 1);
            return fail_at(p, "IPv6 address", host);
        }
        skip(&address, 1);
        host.len = (size_t)(address.s - host.s);
        if (address.len && *address.s != ':') {
            return fail_at(p, "port", address);
        }
    } else {
        host = take_until(&address, ":");
    }
    if (host.len && set(p, u, "host", host, host) < 0) {
        return -1;
    }
    if (address.len <= 1) {
        return 0;
    }
    skip(&address, 1);
    if (memchr(address.s, ':', address.len) && may_show(p, address)) {
        return fail(p,
                    "bad port \"%.*s\"; an IPv6 address stands in [brackets]",
                    address.len < 60 ? (int)address.len : 60, address.s);
    }
    return set(p, u, "port", address, address);
}

// parse_db reads /db, if it is there.
static int parse_db(const struct parser *p, struct part path) {
    if (path.len <= 1) {
        return 0;
    }
    skip(&path, 1);
    return set(p, p->u, "db", path, path);
}

static int parse_redis(struct parser *p, struct part authority,
                       struct part path) {
    p->u->host = xstrdup(DEFAULT_HOST);
    p->u->port = DEFAULT_PORT;
    if (parse_address(p, p->u, authority) < 0) {
        return -1;
    }
    return parse_db(p, path);
}

static int parse_unix(struct parser *p, struct part authority,
                      struct part path) {
    if (authority.len || path.len < 2) {
        return fail(p, "unix:// takes an absolute path, as in "
                       "unix:///path/to.sock");
    }
    const char *option = memchr(path.s, '&', path.len);
    if (option && memchr(option, '=', path.len - (size_t)(option - path.s))) {
        // One of them may be a password, and paths get shown.
        return fail(p, "options begin with a ?; & in a path is written %%26");
    }
    if (path.s[-1] == '@' && memchr(path.s, '@', path.len)) {
        // Which of them ends the password?
        return fail(p, "@ in a path is written %%40; " HOW_TO_ESCAPE);
    }
    p->u->path = decode(p, "path", path);
    if (!p->u->path) {
        return -1;
    }
    if (strlen(p->u->path) > MAX_UNIX_PATH) {
        return fail(p, "the path of a unix socket has at most %d bytes",
                    MAX_UNIX_PATH);
    }
    return 0;
}

// add_sentinel: a sentinel's address is read as that of a server would be.
static int add_sentinel(struct parser *p, struct part address) {
    if (!address.len || *address.s == ':') {
        return fail_at(p, "host", address);
    }
    char scheme[] = "redis";
    struct redis_url one = {.scheme = scheme, .port = SENTINEL_PORT};
    if (parse_address(p, &one, address) < 0) {
        free(one.host);
        return -1;
    }
    size_t count = (size_t)p->u->sentinel_count + 1;
    p->u->sentinels =
        xrealloc(p->u->sentinels, count * sizeof *p->u->sentinels);
    p->u->sentinels[p->u->sentinel_count++] =
        (struct redis_host){one.host, one.port};
    return 0;
}

static int parse_master(struct parser *p, struct part master) {
    struct part head = master;
    if (take_until(&head, "@#&=").len < master.len) {
        // It may be the rest of a password, and the name gets shown.
        return fail(p, "bad master's name; @ # & = and %% in it are written "
                       "%%40 %%23 %%26 %%3D %%25; " HOW_TO_ESCAPE);
    }
    char *name = p->u->master = decode(p, "master's name", master);
    if (!name) {
        return -1;
    }
    for (; *name; name++) {
        if ((unsigned char)*name < ' ' || *name == 0x7f) {
            return fail(p, "a control character in the master's name");
        }
    }
    return 0;
}

static int parse_sentinel(struct parser *p, struct part authority,
                          struct part path) {
    if (!authority.len) {
        return 0; // redis_url_check says what is missing
    }
    bool has_more;
    do {
        struct part address = take_until(&authority, ",");
        has_more = authority.len > 0;
        skip(&authority, has_more);
        if (add_sentinel(p, address) < 0) {
            return -1;
        }
    } while (has_more);
    if (path.len) {
        skip(&path, 1);
    }
    struct part master = take_until(&path, "/");
    if (!master.len) {
        return 0;
    }
    return parse_master(p, master) < 0 ? -1 : parse_db(p, path);
}

static int parse_option(struct parser *p, struct part key, struct part value) {
    if (part_is(key, "host") || part_is(key, "port")) {
        return fail(p, "host and port stand in front of the ?");
    }
    char *name = xstrndup(key.s, key.len);
    const char *what = may_show(p, key) ? name : "query";
    int status = set_decoded(p, name, what, value, key);
    free(name);
    if (part_is(key, "password") || part_is(key, "sentinel_password")) {
        p->is_behind_password = true;
    }
    return status;
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
    struct part rest = {text, (size_t)(p->end - text)};
    if (parse_scheme(p, &rest) < 0) {
        return -1;
    }
    struct part authority = take_until(&rest, "/?#");
    struct part path = take_until(&rest, "?");
    if (parse_user(p, &authority) < 0) {
        return -1;
    }
    int status = *p->u->scheme == 'u'   ? parse_unix(p, authority, path)
                 : *p->u->scheme == 's' ? parse_sentinel(p, authority, path)
                                        : parse_redis(p, authority, path);
    if (status < 0 || parse_query(p, rest) < 0) {
        return -1;
    }
    return redis_url_check(p->u, p->err, p->errlen);
}

int redis_url_parse(struct redis_url *u, const char *text, char *err,
                    size_t errlen) {
    *u = (struct redis_url){0};
    redis_url_clear(u);
    struct parser p = {
        .u = u, .end = text + strlen(text), .err = err, .errlen = errlen};
    if (parse(&p, text) < 0) {
        redis_url_clear(u);
        return -1;
    }
    return 0;
}

// A text of limited size being written.
struct out {
    char *s;
    size_t size;
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void add(struct out *o,
                                                      const char *fmt, ...) {
    if (o->len >= o->size) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    o->len += (size_t)vsnprintf(o->s + o->len, o->size - o->len, fmt, ap);
    va_end(ap);
}

static void add_address(struct out *o, const char *host, int port) {
    add(o, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

const char *redis_url_describe(const struct redis_url *u, char *out,
                               size_t size) {
    struct out o = {out, size, 0};
    add(&o, "%s://", u->scheme ? u->scheme : "redis");
    if (u->user && u->password) {
        // A user alone may well be a password without its colon: not shown.
        add(&o, "%s@", u->user);
    }
    if (u->path) {
        add(&o, "%s", u->path);
        if (u->db) {
            add(&o, "?db=%d", u->db);
        }
        return out;
    }
    for (int i = 0; i < u->sentinel_count; i++) {
        add(&o, "%s", i ? "," : "");
        add_address(&o, u->sentinels[i].name, u->sentinels[i].port);
    }
    if (u->sentinel_count) {
        add(&o, "/%s", u->master ? u->master : "");
    } else {
        add_address(&o, u->host ? u->host : "", u->port);
    }
    add(&o, "/%d", u->db);
    return out;
}
