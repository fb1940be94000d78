// greeting: what is said on a new connection before anything else.
#include "redis/greeting.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

// is_error_here: a user who may not name his connection, ask for the role, or
// PING, is welcome.
static bool is_error_here(const char *error, enum greeting_step step) {
    return !(starts_with(error, "NOPERM") && step >= GREETING_NAME);
}

static void *take_string(struct waiter *w, const redisReadTask *t,
                         const char *s, size_t len) {
    struct greeting *g = w->ctx;
    enum greeting_step step = g->steps[g->answered];
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)(len < 255 ? len : 255), s);
    if (t->type == REDIS_REPLY_ERROR) {
        if (!g->error[0] && is_error_here(text, step)) {
            memcpy(g->error, text, sizeof text);
            g->error_step = step;
        }
    } else if (step == GREETING_ROLE && !g->has_role) {
        snprintf(g->role, sizeof g->role, "%.15s", text);
        g->has_role = true;
    }
    return g;
}

static const struct sink greeting_sink = {
    .string = take_string,
    .array = sink_ignore_array,
    .integer = sink_ignore_integer,
    .nil = sink_ignore_nil,
};

static void say(struct greeting *g, struct buf *out, enum greeting_step step,
                size_t argc) {
    g->steps[g->count++] = step;
    resp_command(out, argc);
}

void greeting_begin(struct greeting *g, struct conn *c,
                    const struct conn_options *options, struct buf *out) {
    const struct redis_url *u = options->url;
    *g = (struct greeting){
        .waiter = {.sink = &greeting_sink, .conn = c, .ctx = g}};
    if (u->password) {
        say(g, out, GREETING_AUTH, u->user ? 3 : 2);
        resp_arg_s(out, "AUTH");
        if (u->user) {
            resp_arg_s(out, u->user);
        }
        resp_arg_s(out, u->password);
    }
    if (u->db) {
        say(g, out, GREETING_SELECT, 2);
        resp_arg_s(out, "SELECT");
        resp_arg_u(out, (uint64_t)u->db);
    }
    if (u->name) {
        say(g, out, GREETING_NAME, 3);
        resp_arg_s(out, "CLIENT");
        resp_arg_s(out, "SETNAME");
        resp_arg_s(out, u->name);
    }
    if (options->sentinel) {
        say(g, out, GREETING_ROLE, 1);
        resp_arg_s(out, "ROLE");
    }
    say(g, out, GREETING_PING, 1);
    resp_arg_s(out, "PING");
}

bool greeting_is_over(struct greeting *g) {
    return ++g->answered == g->count;
}

// is_passing: it may be otherwise soon. With sentinels, so may be who serves.
static bool is_passing(const char *error, bool has_sentinel) {
    return starts_with(error, "LOADING") ||
           starts_with(error, "ERR max number of clients") ||
           (has_sentinel && starts_with(error, "MASTERDOWN"));
}

// name_code makes "redis.loading" of "LOADING Redis is ...".
static void name_code(const struct greeting *g, char *code, size_t size) {
    const char *error = g->error;
    bool is_auth =
        g->error_step == GREETING_AUTH || starts_with(error, "NOAUTH") ||
        (g->error_step == GREETING_SELECT && starts_with(error, "ERR"));
    if (starts_with(error, "ERR max number of clients")) {
        snprintf(code, size, "redis.maxclients");
    } else if (is_auth) {
        snprintf(code, size, "redis.auth");
    } else {
        snprintf(code, size, "redis.%.*s", (int)strcspn(error, " "), error);
    }
    for (char *p = code; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
}

enum greeting_verdict greeting_judge(const struct greeting *g,
                                     const struct conn_options *options,
                                     char *code, size_t size) {
    bool has_sentinel = options->sentinel != NULL;
    if (g->error[0]) {
        name_code(g, code, size);
        return is_passing(g->error, has_sentinel) ? GREETING_AGAIN
                                                  : GREETING_REFUSED;
    }
    if (has_sentinel && g->has_role && strcmp(g->role, "master") != 0) {
        snprintf(code, size, "redis.sentinel");
        return GREETING_AGAIN;
    }
    return GREETING_WELL;
}
