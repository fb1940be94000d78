// editor: a console at a terminal: libedit's line editing, history, completion.
// libedit waits for whole keys, so this runs in a thread or process of its own,
// never on a loop's.
#ifndef NEAP_CLI_EDITOR_H
#define NEAP_CLI_EDITOR_H

#include "cli/client.h"

// editor_run reads lines from the terminal c->in, sends them and shows the
// answers, until the end of the input or of the console. Returns 0.
int editor_run(struct client *c);

// editor_restore puts the terminal back into the state in which an editor found
// it, should one be active: for the end of the process.
void editor_restore(void);

#endif
