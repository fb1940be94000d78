// unjoined: tasks that ended without anybody having waited for them: each place
// that spawns such is logged once. A debugging aid, off unless asked for.
#ifndef NEAP_CORE_UNJOINED_H
#define NEAP_CORE_UNJOINED_H

#include <stdbool.h>

struct runtime;
struct task;

// unjoined_set begins or ends to log them.
void unjoined_set(struct runtime *rt, bool is_on);

// unjoined_end is told of each task that has ended: it keeps where it was
// spawned, in case nobody joins it.
void unjoined_end(struct task *t);

// unjoined_note is told of each task that is freed; a collector may be running,
// so the log waits for the turn's end.
void unjoined_note(struct task *t);

// unjoined_report logs what was noted.
void unjoined_report(struct runtime *rt);

#endif
