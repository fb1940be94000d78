// client: the other side of a console (lua/neap/console.lua has the protocol):
// lines go out, answers come back. For attach and repl.
#ifndef NEAP_CLI_CLIENT_H
#define NEAP_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct client {
    int fd;         // the console's socket
    int in;         // where lines come from
    FILE *out;      // results and what lines print
    FILE *err;      // errors
    int background; // a pipe with what others print in this process, or -1
    // while a line is being edited: takes it off the screen and puts it back
    void (*hide)(struct client *c);
    void (*show)(struct client *c);
    void *editor;
    char *bytes; // read from fd, not yet taken
    size_t len, cap;
    char answer; // the letter of the answer that came, 0: none yet
    char *text;  // its text
    size_t text_len;
    unsigned asked;   // number of the last completion asked for
    char *completion; // its answer, or NULL
    bool is_mid_line; // what was printed last did not end its line
    bool is_left;     // the console has said that it is the end
    bool is_lost;     // it ended without
    bool is_over;     // either, or nobody reads what is printed
};

// client_begin sends the first words; with is_raw strings come without quotes.
void client_begin(struct client *c, bool is_raw);

// client_end frees what the client holds; the descriptors stay open.
void client_end(struct client *c);

// client_send sends a frame.
void client_send(struct client *c, char letter, const char *text, size_t len);

// client_poll waits up to timeout_ms (-1: without end) for the console or, with
// is_typing, for input; takes in what came from the console and from the
// background, and prints output. Returns whether there is input to read.
bool client_poll(struct client *c, int timeout_ms, bool is_typing);

// client_has_background waits up to timeout_ms for what others print.
bool client_has_background(struct client *c, int timeout_ms);

// client_print_answer prints the answer in hand, and drops it. Returns whether
// it was a result.
bool client_print_answer(struct client *c);

// client_run_lines sends each line of the input and prints the answers, up to
// the first error. Returns the exit status.
int client_run_lines(struct client *c);

// client_run_code sends count texts, each when the one before is answered, up
// to the first error. Returns the exit status.
int client_run_code(struct client *c, char *const *code, int count);

#endif
