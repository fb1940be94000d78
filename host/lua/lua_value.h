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

// A batch is a task that waits for the replies of several commands. They come
// in a list, one slot each; an error stays in its slot.
struct value_batch;

// value_batch_begin begins one of so many commands. With is_transaction, MULTI
// is to be queued first and EXEC last, which are not counted, and the reply
// of EXEC is the result.
struct value_batch *value_batch_begin(struct conn *c, struct task *t,
                                      uint32_t count, bool is_transaction);

// value_batch_wait queues the batch for a command that was appended and ends at
// that offset in the stream.
void value_batch_wait(struct value_batch *b, uint16_t shape, uint64_t end);

// value_batch_park sends them and parks the task; the last reply wakes it.
void value_batch_park(struct value_batch *b);

// value_sink builds a Lua value and wakes the task that waits for it.
extern const struct sink value_sink;

// value_decoder returns the coroutine on which c's reply lies.
lua_State *value_decoder(struct conn *c);

// value_push_server_error pushes an error object from an error reply: code
// "redis.wrongtype" from "WRONGTYPE ...". // [-0, +1]
void value_push_server_error(lua_State *L, const char *s, size_t len);

#endif
