// url_options: the parts of a Redis URL, each set by its name.
#include <arpa/inet.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "redis/url.h"

#define MAX_HOST_NAME   255             // RFC 1035 §2.3.4
#define MAX_QUEUE_BYTES 1099511627776.0 // 2^40: more is a mistake
#define MAX_SHOWN       60              // bytes of a wrong value

struct option;

// One call of redis_url_set.
struct setting {
    struct redis_url *u;
    const struct option *option;
    const char *value; // NUL-free, not NUL-terminated
    size_t len;
    char *err;
    size_t errlen;
};

struct option {
    const char *name;
    int (*set)(const struct setting *s);
    size_t offset; // of its field
};

__attribute__((format(printf, 3, 4))) static int fail(char *err, size_t errlen,
                                                      const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return -1;
}

// may_show tells text apart from what looks like part of a URL or of a query,
// and so may hold a password that got where it doesn't belong.
static bool may_show(const char *s, size_t len) {
    return !memchr(s, '@', len) && !memchr(s, '=', len);
}

static int bad(const struct setting *s, const char *what,
               const char *expected) {
    if (!may_show(s->value, s->len)) {
        return fail(s->err, s->errlen, "bad %s \"...\"; expected %s", what,
                    expected);
    }
    int len = s->len < MAX_SHOWN ? (int)s->len : MAX_SHOWN;
    return fail(s->err, s->errlen, "bad %s \"%.*s\"; expected %s", what, len,
                s->value, expected);
}

static bool is_scheme(const struct redis_url *u, const char *scheme) {
    return u->scheme && strcmp(u->scheme, scheme) == 0;
}

static void *field(const struct setting *s) {
    return (char *)s->u + s->option->offset;
}

// parse_int returns the decimal value, or -1 when s is not one or above max.
static int parse_int(const char *s, size_t len, int max) {
    int64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return -1;
        }
        value = value * 10 + (s[i] - '0');
        if (value > max) {
            return -1;
        }
    }
    return len ? (int)value : -1;
}

static void free_secret(char *s) {
    if (s) {
        explicit_bzero(s, strlen(s));
    }
    free(s);
}

// -- one for each kind of option

static int set_seconds(const struct setting *s) {
    double seconds;
    if (num_parse(s->value, s->len, &seconds) < 0 || seconds < 0) {
        return bad(s, s->option->name, "seconds");
    }
    *(double *)field(s) = seconds;
    return 0;
}

static int set_count(const struct setting *s) {
    int count = parse_int(s->value, s->len, INT_MAX);
    if (count <= 0) {
        return bad(s, s->option->name, "a whole number above 0");
    }
    *(int *)field(s) = count;
    return 0;
}

static int set_bytes(const struct setting *s) {
    double bytes;
    if (num_parse(s->value, s->len, &bytes) < 0 || bytes < 1 ||
        bytes > MAX_QUEUE_BYTES || floor(bytes) != bytes) {
        return bad(s, s->option->name, "a whole number from 1 to 2^40");
    }
    *(double *)field(s) = bytes;
    return 0;
}

static int set_db(const struct setting *s) {
    int db = parse_int(s->value, s->len, INT_MAX);
    if (db < 0) {
        return bad(s, s->option->name, "a whole number");
    }
    s->u->db = db;
    return 0;
}

static int set_text(const struct setting *s) {
    char **text = field(s);
    free_secret(*text);
    *text = xstrndup(s->value, s->len);
    return 0;
}

// set_user: an empty user is none, as in redis://:password@host.
static int set_user(const struct setting *s) {
    set_text(s);
    char **user = field(s);
    if (!**user) {
        free(*user);
        *user = NULL;
    }
    return 0;
}

// set_name takes what CLIENT SETNAME takes.
static int set_name(const struct setting *s) {
    bool is_ok = s->len > 0;
    for (size_t i = 0; i < s->len; i++) {
        is_ok = is_ok && s->value[i] >= '!' && s->value[i] <= '~';
    }
    return is_ok ? set_text(s)
                 : bad(s, "name", "visible ASCII characters without spaces");
}

// set_file: a control character would garble the errors that name the file.
static int set_file(const struct setting *s) {
    bool is_ok = s->len > 0;
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->value[i];
        is_ok = is_ok && c >= ' ' && c != 0x7f;
    }
    return is_ok ? set_text(s) : bad(s, s->option->name, "a file's path");
}

static int set_flag(const struct setting *s) {
    bool is_yes = s->len == 3 && memcmp(s->value, "yes", 3) == 0;
    if (!is_yes && !(s->len == 2 && memcmp(s->value, "no", 2) == 0)) {
        return bad(s, s->option->name, "yes or no");
    }
    *(bool *)field(s) = is_yes;
    return 0;
}

static int set_tls(const struct setting *s) {
    if (!is_scheme(s->u, "sentinel")) {
        return fail(s->err, s->errlen,
                    "tls is for sentinel://; otherwise use rediss:// for TLS");
    }
    return set_flag(s);
}

static int set_verify(const struct setting *s) {
    if (set_flag(s) < 0) {
        return -1;
    }
    s->u->is_verify_given = true;
    return 0;
}

// is_host_name is lenient, but what looks like another part of the URL isn't
// one: it may hold a password, and hosts get shown.
static bool is_host_name(const char *s, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= ' ' || c == 0x7f || strchr("%&=;,@/?#[]:\\\"<>^`{|}", c)) {
            return false;
        }
    }
    return len > 0 && len <= MAX_HOST_NAME;
}

// is_ipv6 takes a zone (RFC 4007 §11) as it is.
static bool is_ipv6(const char *s, size_t len) {
    const char *zone = memchr(s, '%', len);
    size_t head = zone ? (size_t)(zone - s) : len;
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (head >= sizeof text ||
        (zone && !is_host_name(zone + 1, len - head - 1))) {
        return false;
    }
    memcpy(text, s, head);
    text[head] = 0;
    return inet_pton(AF_INET6, text, &address) == 1;
}

static int set_sni(const struct setting *s) {
    return is_host_name(s->value, s->len) ? set_text(s)
                                          : bad(s, "sni", "a host's name");
}

static int refuse_without_host(const struct setting *s) {
    if (is_scheme(s->u, "redis") || is_scheme(s->u, "rediss")) {
        return 0;
    }
    return fail(s->err, s->errlen, "%s is for redis:// and rediss://",
                s->option->name);
}

// set_host takes an IPv6 address with or without its brackets.
static int set_host(const struct setting *s) {
    if (refuse_without_host(s) < 0) {
        return -1;
    }
    if (s->len >= 2 && s->value[0] == '[' && s->value[s->len - 1] == ']') {
        struct setting bare = *s;
        bare.value++;
        bare.len -= 2;
        return is_ipv6(bare.value, bare.len)
                   ? set_text(&bare)
                   : bad(&bare, "IPv6 address", "one as in [::1]");
    }
    if (!is_host_name(s->value, s->len) && !is_ipv6(s->value, s->len)) {
        return bad(s, "host", "a name or an address");
    }
    return set_text(s);
}

static int set_port(const struct setting *s) {
    if (refuse_without_host(s) < 0) {
        return -1;
    }
    int port = parse_int(s->value, s->len, 65535);
    if (port <= 0) {
        return bad(s, "port", "1 to 65535");
    }
    s->u->port = port;
    return 0;
}

// -- all together

#define FIELD(name) offsetof(struct redis_url, name)

static const struct option options[] = {
    {"timeout", set_seconds, FIELD(timeout)},
    {"connect_timeout", set_seconds, FIELD(connect_timeout)},
    {"pool_timeout", set_seconds, FIELD(pool_timeout)},
    {"idle_timeout", set_seconds, FIELD(idle_timeout)},
    {"slow", set_seconds, FIELD(slow)},
    {"pool", set_count, FIELD(pool)},
    {"queue", set_count, FIELD(queue)},
    {"queue_bytes", set_bytes, FIELD(queue_bytes)},
    {"db", set_db, FIELD(db)},
    {"name", set_name, FIELD(name)},
    {"user", set_user, FIELD(user)},
    {"password", set_text, FIELD(password)},
    {"sentinel_user", set_user, FIELD(sentinel_user)},
    {"sentinel_password", set_text, FIELD(sentinel_password)},
    {"tls", set_tls, FIELD(is_tls)},
    {"sentinel_tls", set_flag, FIELD(is_sentinel_tls)},
    {"verify", set_verify, FIELD(is_verified)},
    {"ca", set_file, FIELD(ca)},
    {"cert", set_file, FIELD(cert)},
    {"key", set_file, FIELD(key)},
    {"sni", set_sni, FIELD(sni)},
    {"host", set_host, FIELD(host)},
    {"port", set_port, FIELD(port)},
};

#define OPTION_COUNT (sizeof options / sizeof *options)

static int fail_unknown(const char *key, char *err, size_t errlen) {
    char known[REDIS_URL_ERROR / 2] = "";
    size_t len = 0;
    for (size_t i = 0; i < OPTION_COUNT && len < sizeof known; i++) {
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s",
                                i ? ", " : "", options[i].name);
    }
    return fail(err, errlen, "unknown option \"%.*s\"; known are %s", MAX_SHOWN,
                may_show(key, strlen(key)) ? key : "...", known);
}

int redis_url_set(struct redis_url *u, const char *key, const char *value,
                  size_t value_len, char *err, size_t errlen) {
    const struct option *option = options;
    while (option < options + OPTION_COUNT && strcmp(option->name, key) != 0) {
        option++;
    }
    if (option == options + OPTION_COUNT) {
        return fail_unknown(key, err, errlen);
    }
    if (!strncmp(key, "sentinel_", 9) && !is_scheme(u, "sentinel")) {
        return fail(err, errlen, "%s is for sentinel://", key);
    }
    if (value_len && memchr(value, 0, value_len)) {
        return fail(err, errlen, "a NUL in the %s", key);
    }
    struct setting s = {.u = u,
                        .option = option,
                        .value = value_len ? value : "",
                        .len = value_len,
                        .err = err,
                        .errlen = errlen};
    return option->set(&s);
}

static int check_tls(const struct redis_url *u, char *err, size_t errlen) {
    bool is_sentinel = is_scheme(u, "sentinel");
    const char *option = u->ca                ? "ca"
                         : u->cert            ? "cert"
                         : u->key             ? "key"
                         : u->is_verify_given ? "verify"
                                              : NULL;
    if (option && !u->is_tls && !u->is_sentinel_tls) {
        return fail(err, errlen, "%s is for TLS; that takes %s", option,
                    is_sentinel ? "tls=yes or sentinel_tls=yes" : "rediss://");
    }
    if (u->sni && !u->is_tls) {
        return fail(err, errlen, "sni is for TLS; that takes %s",
                    is_sentinel ? "tls=yes" : "rediss://");
    }
    if (!u->cert != !u->key) {
        return fail(err, errlen, "%s takes %s as well",
                    u->cert ? "cert" : "key", u->cert ? "key" : "cert");
    }
    return 0;
}

int redis_url_check(const struct redis_url *u, char *err, size_t errlen) {
    if (is_scheme(u, "sentinel") && (!u->master || u->sentinel_count == 0)) {
        return fail(err, errlen,
                    "sentinel:// takes hosts and a master's name, "
                    "as in sentinel://host:26379/mymaster");
    }
    return check_tls(u, err, errlen);
}

void redis_url_clear(struct redis_url *u) {
    free_secret(u->password);
    free_secret(u->sentinel_password);
    char *rest[] = {u->scheme, u->host,          u->path, u->master,
                    u->user,   u->sentinel_user, u->name, u->ca,
                    u->cert,   u->key,           u->sni};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        free(rest[i]);
    }
    for (int i = 0; i < u->sentinel_count; i++) {
        free(u->sentinels[i].name);
    }
    free(u->sentinels);
    *u = (struct redis_url){.is_verified = true,
                            .timeout = -1,
                            .connect_timeout = -1,
                            .pool_timeout = -1,
                            .idle_timeout = -1,
                            .slow = -1,
                            .pool = -1,
                            .queue = -1,
                            .queue_bytes = -1};
}

static char *copy(const char *s) {
    return s ? xstrdup(s) : NULL;
}

struct redis_url redis_url_sentinel(const struct redis_url *u, int i) {
    struct redis_url s = {0};
    redis_url_clear(&s);
    s.scheme = xstrdup(u->is_sentinel_tls ? "rediss" : "redis");
    s.host = xstrdup(u->sentinels[i].name);
    s.port = u->sentinels[i].port;
    s.user = copy(u->sentinel_user);
    s.password = copy(u->sentinel_password);
    if (u->is_sentinel_tls) {
        s.is_tls = true;
        s.is_verified = u->is_verified;
        s.is_verify_given = u->is_verify_given;
        s.ca = copy(u->ca);
        s.cert = copy(u->cert);
        s.key = copy(u->key);
    }
    s.timeout = u->timeout;
    s.connect_timeout = u->connect_timeout;
    s.pool_timeout = u->pool_timeout;
    s.idle_timeout = u->idle_timeout;
    return s;
}
