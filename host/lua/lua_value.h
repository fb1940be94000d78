// lua_value: replies become Lua values, straight from the reader. Each
// connection has a coroutine on which the reply in hand is built; when it is
// whole it moves to the task that waits for it.
#ifndef NEAP_LUA_VALUE_H
#define NEAP_LUA_VALUE_H

#include <lua.h>

#include "core/task.h"
#include "redis/pool.h"

// What a reply is made into.
enum value_shape {
    SHAPE_PLAIN, // as Redis's own Lua does: nested nil is false
    SHAPE_MAP,   // a flat list of pairs: a table (HGETALL)
};

// value_wait queues the task for the command just appended to c and parks
// it; the reply wakes it. An error reply is raised by the caller's shim.
void value_wait(struct conn *c, struct task *t, enum value_shape shape);

// value_wait_loan is value_wait on a connection on loan, for a command that
// may block for that many seconds (0: for ever). When the task loses interest
// the connection is closed, since its server goes on waiting.
void value_wait_loan(struct conn *c, struct task *t, double seconds);

// A batch collects the replies of several commands, one slot each; an error
// stays in its slot.
struct value_batch {
    struct task *task;
    uint32_t wait;
    uint32_t count, pending;
    int results;         // registry reference of the list
    bool is_transaction; // the last reply is EXEC's: it is the result
    bool is_error;
    char error[256]; // the first error before EXEC
    struct conn *conn;
};

// value_wait_batch queues the task for the `count` commands just appended;
// shapes says what each is made into. With is_transaction the commands are
// MULTI, what is wanted, EXEC.
void value_wait_batch(struct conn *c, struct task *t, uint32_t count,
                      const uint16_t *shapes, const uint64_t *ends,
                      bool is_transaction);

// value_sink builds a Lua value and wakes the task that waits for it.
extern const struct sink value_sink;

// value_decoder returns the coroutine on which c's reply lies.
lua_State *value_decoder(struct conn *c);

// value_push_server_error pushes an error object from an error reply: code
// "redis.wrongtype" from "WRONGTYPE ...". // [-0, +1]
void value_push_server_error(lua_State *L, const char *s, size_t len);

#endif
