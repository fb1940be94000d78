// repl: the console of this very process, in a thread beside its loop.
#ifndef NEAP_CLI_REPL_H
#define NEAP_CLI_REPL_H

// repl_start begins the thread and returns the console's end of its socket, or
// -1. At a terminal standard output and error go through the thread from now
// on, so that they don't tear the line that is being edited.
int repl_start(void);

// repl_finish ends the thread, when the console's end is closed, and gives
// standard output and error back. Returns the exit status that the lines gave.
int repl_finish(void);

#endif
