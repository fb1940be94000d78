// failure: the error that ended a task, and the way that it took: through the
// frames of the user's code, and through the tasks that joined each other.
#ifndef NEAP_CORE_FAILURE_H
#define NEAP_CORE_FAILURE_H

#include <lua.h>

#include "core/task.h"

// failure_keep takes the error from the top of a dead task's stack, and keeps
// it with its traceback in t->failure.
void failure_keep(struct task *t);

// failure_note remembers in a task that it was given the failure of another: an
// error that it raises in its turn has its origin there.
void failure_note(struct task *joiner, struct task *failed);

// failure_push_trace pushes where `from`, which is at that level in raising the
// error at `index` of L, stands, the user's code alone; and where the
// error came from if another task failed with it. t runs it. // [-0, +1]
void failure_push_trace(lua_State *L, int index, struct task *t,
                        lua_State *from, int level);

// failure_push pushes the text of the error and its traceback. // [-0, +2]
void failure_push(const struct task *t, lua_State *L);

// failure_log tells of an error that nobody joined.
void failure_log(const struct task *t);

#endif
