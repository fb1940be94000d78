// url: where a Redis server is and how to talk to it, from one line of text.
//
//   redis://[user[:password]@][host][:port][/db][?option=value&..]
//   unix://[user[:password]@]/path/to.sock[?option=value&..]
//
// The options are timeout and connect_timeout (seconds), pool, name and db.
// User, password, path and name may be percent-encoded, and must be where
// they hold one of / ? # %. An IPv6 address stands in [brackets].
//
//   struct redis_url u;
//   char err[REDIS_URL_ERROR];
//   if (redis_url_parse(&u, text, err, sizeof err) < 0) { ... err ... }
//   redis_url_clear(&u);
#ifndef NEAP_REDIS_URL_H
#define NEAP_REDIS_URL_H

#include <stddef.h>

#define REDIS_URL_ERROR 256 // room enough for any message

struct redis_url {
    char *scheme;   // "redis" or "unix"
    char *host;     // without brackets; NULL for unix
    int port;       // 0 for unix
    char *path;     // of the unix socket, else NULL
    char *user;     // or NULL
    char *password; // or NULL
    int db;
    char *name;             // of the connection, or NULL
    double timeout;         // seconds; < 0 when not given
    double connect_timeout; // likewise
    int pool;               // connections; -1 when not given
};

// redis_url_parse fills u from text and returns 0, or -1 with the reason in
// err, which never shows a password; u is then empty.
int redis_url_parse(struct redis_url *u, const char *text, char *err,
                    size_t errlen);

// redis_url_clear frees the strings; u is empty afterwards.
void redis_url_clear(struct redis_url *u);

// redis_url_describe writes the URL without its password and options (but
// with its db), cut off where it does not fit, and returns out.
const char *redis_url_describe(const struct redis_url *u, char *out,
                               size_t size);

#endif
