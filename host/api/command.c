// command: Redis commands from C, and their replies as trees.
//
// A connection decodes one reply at a time, so an instance needs room for one
// tree, which is used again for the next.
#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/instance.h"
#include "base/mem.h"
#include "lua/lua_redis.h"
#include "redis/pool.h"

enum {
    chunk_size = 16 * 1024,
    elements_first = 1024, // an array's length is only a claim
    spare_most = 1024,     // commands that are kept to be used again
};

struct neap_reply {
    enum neap_reply_type type;
    size_t len; // of a string, or how many elements an array has so far
    size_t cap; // of elements
    union {
        long long integer;
        const char *string;
        struct neap_reply *elements;
    } is;
};

struct chunk {
    struct chunk *next;
    size_t used, size;
    char bytes[];
};

struct command {
    struct command *next; // among the spare ones
    neap *n;
    void (*on_reply)(neap *n, const neap_reply *r, void *arg);
    void *arg;
};

struct replies {
    struct pool **client; // Lua's; NULL in it: a script has closed it
    struct chunk *chunks; // the first is kept
    struct neap_reply root;
    struct command *spare;
    int spare_count;
    int reference;        // registry reference: the client
    int refused;          // registry reference: names of commands, and why
    uint32_t lengths[26]; // which lengths such names have, by first letter
};

// -- room

static void *take(struct replies *r, size_t size) {
    struct chunk *c = r->chunks;
    size = (size + 15) & ~(size_t)15;
    if (!c || c->size - c->used < size) {
        size_t room = size > chunk_size ? size : chunk_size;
        c = xmalloc(sizeof *c + room);
        *c = (struct chunk){.next = r->chunks, .size = room};
        r->chunks = c;
    }
    void *p = c->bytes + c->used;
    c->used += size;
    return p;
}

static void empty(struct replies *r) {
    while (r->chunks && (r->chunks->next || r->chunks->size > chunk_size)) {
        struct chunk *next = r->chunks->next;
        free(r->chunks);
        r->chunks = next;
    }
    if (r->chunks) {
        r->chunks->used = 0;
    }
}

static struct replies *replies_of(const struct waiter *w) {
    struct command *c = w->ctx;
    return c->n->replies;
}

// node returns where the value in hand stands: an element of the array around
// it, which grows as its elements come.
static struct neap_reply *node(const struct waiter *w, const redisReadTask *t) {
    struct replies *r = replies_of(w);
    if (!t->parent) {
        empty(r); // if on_reply raised an error
        return &r->root;
    }
    struct neap_reply *array = t->parent->obj;
    size_t i = (size_t)t->idx;
    if (i >= array->cap) {
        size_t cap = array->cap * 2;
        struct neap_reply *more = take(r, cap * sizeof *more);
        memcpy(more, array->is.elements, array->len * sizeof *more);
        array->is.elements = more;
        array->cap = cap;
    }
    array->len = i + 1;
    return &array->is.elements[i];
}

// -- the sink

static char *copy(struct replies *r, const char *s, size_t len) {
    char *to = take(r, len + 1);
    memcpy(to, s, len);
    to[len] = '\0';
    return to;
}

// server_error puts the code in front: "redis.wrongtype: WRONGTYPE Operation".
static void server_error(struct replies *r, struct neap_reply *v, const char *s,
                         size_t len) {
    size_t word = 0;
    while (word < len && (isalnum((unsigned char)s[word]) || s[word] == '_')) {
        word++;
    }
    v->len = 6 + word + 2 + len;
    char *to = take(r, v->len + 1);
    memcpy(to, "redis.", 6);
    for (size_t i = 0; i < word; i++) {
        to[6 + i] = (char)tolower((unsigned char)s[i]);
    }
    memcpy(to + 6 + word, ": ", 2);
    memcpy(to + 6 + word + 2, s, len);
    to[v->len] = '\0';
    v->type = NEAP_ERROR;
    v->is.string = to;
}

static void *on_string(struct waiter *w, const redisReadTask *t, const char *s,
                       size_t len) {
    struct neap_reply *v = node(w, t);
    struct replies *r = replies_of(w);
    if (t->type == REDIS_REPLY_ERROR) {
        server_error(r, v, s, len);
    } else {
        *v = (struct neap_reply){.type = NEAP_STRING, .len = len};
        v->is.string = copy(r, s, len);
    }
    return v;
}

static void *on_array(struct waiter *w, const redisReadTask *t, size_t count) {
    struct neap_reply *v = node(w, t);
    size_t cap = count < elements_first ? count : elements_first;
    *v = (struct neap_reply){.type = NEAP_ARRAY, .cap = cap};
    v->is.elements = take(replies_of(w), cap * sizeof *v);
    return v;
}

static void *on_integer(struct waiter *w, const redisReadTask *t,
                        long long number) {
    struct neap_reply *v = node(w, t);
    *v = (struct neap_reply){.type = NEAP_INTEGER, .is.integer = number};
    return v;
}

static void *on_nil(struct waiter *w, const redisReadTask *t) {
    struct neap_reply *v = node(w, t);
    *v = (struct neap_reply){.type = NEAP_NIL};
    return v;
}

static void give_command(struct replies *r, struct command *c) {
    if (r->spare_count == spare_most) {
        free(c);
        return;
    }
    c->next = r->spare;
    r->spare = c;
    r->spare_count++;
}

// on_done runs under the connection's protection (redis/conn.c).
static void on_done(struct waiter *w) {
    struct command c = *(struct command *)w->ctx;
    struct replies *r = c.n->replies;
    give_command(r, w->ctx);
    if (c.on_reply) {
        struct runtime *rt = c.n->rt;
        int top = lua_gettop(rt->L);
        rt->calling = "on_reply";
        c.on_reply(c.n, &r->root, c.arg);
        rt->calling = NULL;
        instance_leave(c.n, "on_reply", top);
    }
    empty(r);
}

// What on_reply is told in place of a reply.
struct failure {
    struct command command;
    struct neap_reply reply;
};

static void tell_failure(void *ud) {
    struct failure *f = ud;
    f->command.on_reply(f->command.n, &f->reply, f->command.arg);
}

static void on_failed(struct waiter *w, const char *code, const char *text) {
    struct failure f = {.command = *(struct command *)w->ctx};
    char both[1024];
    snprintf(both, sizeof both, "%s: %s", code, text);
    f.reply.type = NEAP_ERROR;
    f.reply.len = strlen(both);
    f.reply.is.string = both;
    give_command(f.command.n->replies, w->ctx);
    if (f.command.on_reply) {
        instance_call(f.command.n, "on_reply", tell_failure, &f, 0);
    }
}

static const struct sink command_sink = {on_string, on_array, on_integer,
                                         on_nil,    on_done,  on_failed};

// -- the client

// is_suspect says whether a command may be one of those that are refused; most
// are told apart by their first letter and length.
static bool is_suspect(const struct replies *r, const char *name, size_t len) {
    unsigned letter = (unsigned)(name[0] | 32) - 'a';
    return len > 0 && len < 32 && letter < 26 && r->lengths[letter] >> len & 1;
}

static const char *reason_to_refuse(neap *n, const char *name, size_t len) {
    lua_State *L = n->rt->L;
    char upper[32];
    for (size_t i = 0; i < len; i++) {
        upper[i] = (char)toupper((unsigned char)name[i]);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, n->replies->refused);
    lua_pushlstring(L, upper, len);
    lua_rawget(L, -2);
    const char *why = lua_tostring(L, -1); // the table keeps it
    lua_pop(L, 2);
    return why;
}

// keep_refused takes the table on top of L. // [-1, +0]
static void keep_refused(struct replies *r, lua_State *L) {
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len;
        const char *name = lua_tolstring(L, -2, &len);
        if (len < 32) {
            r->lengths[name[0] - 'A'] |= 1u << len;
        }
    }
    r->refused = luaL_ref(L, LUA_REGISTRYINDEX);
}

// open_client finds the client that neap.redis() is in Lua, and keeps it.
static int open_client(neap *n) {
    lua_State *L = n->rt->L;
    if (neap_require(n, "neap.embed") != 0) {
        return -1;
    }
    lua_getfield(L, -1, "client");
    lua_remove(L, -2);
    if (lua_pcall(L, 0, 2, 0) != 0) {
        const char *text = lua_tostring(L, -1);
        instance_fail("%s", text ? text : "no client");
        lua_pop(L, 1);
        return -1;
    }
    if (!n->replies) {
        n->replies = xcalloc(1, sizeof *n->replies);
        n->replies->reference = LUA_NOREF;
        n->replies->refused = LUA_NOREF;
    }
    struct replies *r = n->replies;
    luaL_unref(L, LUA_REGISTRYINDEX, r->reference);
    luaL_unref(L, LUA_REGISTRYINDEX, r->refused);
    keep_refused(r, L);
    lua_redis_check(L, -1);
    r->client = lua_touserdata(L, -1);
    r->reference = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

void command_close(neap *n) {
    struct replies *r = n->replies;
    if (!r) {
        return;
    }
    while (r->chunks) {
        struct chunk *next = r->chunks->next;
        free(r->chunks);
        r->chunks = next;
    }
    while (r->spare) {
        struct command *next = r->spare->next;
        free(r->spare);
        r->spare = next;
    }
    free(r);
    n->replies = NULL;
}

static struct command *take_command(struct replies *r) {
    struct command *c = r->spare;
    if (!c) {
        return xmalloc(sizeof *c);
    }
    r->spare = c->next;
    r->spare_count--;
    return c;
}

int neap_redis_command(
    neap *n, void (*on_reply)(neap *n, const neap_reply *r, void *arg),
    void *arg, int argc, const char *const *argv, const size_t *argvlen) {
    instance_enter(n, "neap_redis_command");
    if (n->is_closing) {
        return instance_fail("the instance is being closed");
    }
    if ((!n->replies || !*n->replies->client) && open_client(n) != 0) {
        return -1;
    }
    struct conn *conn = (*n->replies->client)->shared;
    if (argc < 1 || conn_is_full(conn)) {
        return instance_fail(argc < 1 ? "a command has a name"
                                      : "too many commands are queued");
    }
    size_t len = argvlen ? argvlen[0] : strlen(argv[0]);
    if (is_suspect(n->replies, argv[0], len)) {
        const char *why = reason_to_refuse(n, argv[0], len);
        if (why) {
            return instance_fail("%.*s: %s", (int)len, argv[0], why);
        }
    }
    struct buf *out = conn_out(conn);
    resp_command(out, (size_t)argc);
    for (int i = 0; i < argc; i++) {
        resp_arg(out, argv[i], argvlen ? argvlen[i] : strlen(argv[i]));
    }
    struct command *c = take_command(n->replies);
    *c = (struct command){.n = n, .on_reply = on_reply, .arg = arg};
    conn_wait(conn, &command_sink, c);
    return 0;
}

// -- replies

enum neap_reply_type neap_reply_type(const neap_reply *r) {
    return r->type;
}

const char *neap_reply_string(const neap_reply *r, size_t *len) {
    bool is = r->type == NEAP_STRING || r->type == NEAP_ERROR;
    if (len) {
        *len = is ? r->len : 0;
    }
    return is ? r->is.string : NULL;
}

long long neap_reply_integer(const neap_reply *r) {
    return r->type == NEAP_INTEGER ? r->is.integer : 0;
}

size_t neap_reply_count(const neap_reply *r) {
    return r->type == NEAP_ARRAY ? r->len : 0;
}

const neap_reply *neap_reply_at(const neap_reply *r, size_t i) {
    return i < neap_reply_count(r) ? &r->is.elements[i] : NULL;
}
