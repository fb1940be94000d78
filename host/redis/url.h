// url: where a Redis server is and how to talk to it, from one line of text.
//
//   redis://[user[:password]@][host][:port][/db][?option=value&..]
//   rediss://..   the same, over TLS
//   unix://[user[:password]@]/path/to.sock[?option=value&..]
//   sentinel://[user[:password]@]host[:port],host[:port],../master[/db][?..]
//
// The hosts of sentinel:// are the sentinels, master is the name under which
// they watch the primary, user and password are those of the Redis servers.
//
// The options:
//   timeout, connect_timeout, pool_timeout, idle_timeout, slow   seconds
//   pool, queue, queue_bytes                                     above 0
//   db, name, user, password
//   tls, sentinel_tls (yes or no), sentinel_user, sentinel_password: only of
//     sentinel://, where tls is about the Redis servers
//   verify (yes or no), ca, cert, key (PEM files), sni: only with TLS; cert
//     and key only together
// Given twice, the last one counts. User, password, path, master and the
// options' values may be percent-encoded, and must be where they hold one of
// / ? # % &, in the master also @ and =. An IPv6 address stands in [brackets].
//
//   struct redis_url u;
//   char err[REDIS_URL_ERROR];
//   if (redis_url_parse(&u, text, err, sizeof err) < 0) { ... err ... }
//   redis_url_clear(&u);
#ifndef NEAP_REDIS_URL_H
#define NEAP_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>

#define REDIS_URL_ERROR 512 // room enough for any message

struct redis_host {
    char *name; // or address, without brackets
    int port;
};

struct redis_url {
    char *scheme;                 // "redis", "rediss", "unix" or "sentinel"
    char *host;                   // no brackets; NULL for unix and sentinel
    int port;                     // 0 for unix and sentinel
    char *path;                   // of the unix socket, else NULL
    struct redis_host *sentinels; // of sentinel, else NULL
    int sentinel_count;
    char *master;   // what the sentinels call the primary, or NULL
    char *user;     // or NULL
    char *password; // or NULL
    int db;
    char *name;              // of the connection, or NULL
    char *sentinel_user;     // or NULL
    char *sentinel_password; // or NULL
    bool is_tls;             // to the Redis server
    bool is_sentinel_tls;    // to the sentinels
    bool is_verified;        // false: whose certificate it is doesn't matter
    bool is_verify_given;    // is_verified isn't just the default
    char *ca;                // file of those who may sign, or NULL
    char *cert;              // file of our certificate, or NULL
    char *key;               // file of its key; NULL if cert is
    char *sni;               // host name to ask for, or NULL
    double timeout;          // seconds; < 0 when not given
    double connect_timeout;  // likewise
    double pool_timeout;     // likewise
    double idle_timeout;     // likewise
    double slow;             // likewise
    int pool;                // connections; -1 when not given
    int queue; // commands that may wait for a connection; -1 when not given
    double queue_bytes; // likewise bytes; < 0 when not given
};

// redis_url_parse fills u from text and returns 0, or -1 with the reason in
// err, which never shows a password; u is then empty.
int redis_url_parse(struct redis_url *u, const char *text, char *err,
                    size_t errlen);

// redis_url_set sets one option as if it stood in the query, or the host or
// port of a redis:// or rediss:// URL, and returns 0; or -1 with the reason in
// err and u unchanged. The value is taken as it is, without percent-decoding.
// err names the option and shows a wrong value or an unknown option in double
// quotes, but never what may hold a password. Whether the parts of u still fit
// together is for redis_url_check to say after the last set.
int redis_url_set(struct redis_url *u, const char *key, const char *value,
                  size_t value_len, char *err, size_t errlen);

// redis_url_check returns 0 if the parts of u fit together, or -1 with the
// reason in err. redis_url_parse has already called it.
int redis_url_check(const struct redis_url *u, char *err, size_t errlen);

// redis_url_clear frees what u holds, which must be all zero or a URL; u is
// empty afterwards, and every option not given.
void redis_url_clear(struct redis_url *u);

// redis_url_sentinel returns the URL by which to talk to sentinel i itself
// (0 <= i < sentinel_count), for the caller to clear.
struct redis_url redis_url_sentinel(const struct redis_url *u, int i);

// redis_url_describe writes the URL without its password and options (but
// with its db), cut off where it does not fit, and returns out.
const char *redis_url_describe(const struct redis_url *u, char *out,
                               size_t size);

#endif
