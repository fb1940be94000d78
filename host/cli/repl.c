// repl: the console of this very process, in a thread beside its loop.
#include "cli/repl.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/editor.h"
#include "neap.h"

static struct client client;
static pthread_t thread;
static bool is_started, is_terminal;
static atomic_bool is_ending;
static int status, saved_out = -1, saved_err = -1;

static void *run(void *arg) {
    (void)arg;
    client_begin(&client, false);
    while (!client.answer && !client.is_over) {
        client_poll(&client, -1, false);
    }
    client.answer = 0;
    if (is_terminal) {
        fprintf(client.out,
                "neap %s; :help tells what there is, Ctrl-D leaves\n",
                neap_version());
        status = editor_run(&client);
    } else {
        status = client_run_lines(&client);
        if (client.is_lost) {
            status = 0; // the process ends, with a status of its own
        }
    }
    shutdown(client.fd, SHUT_RDWR);
    client.is_over = true;
    // what is said at the end; a child may hold the pipe open for longer
    while (client.background >= 0 &&
           (client_has_background(&client, 100) || !atomic_load(&is_ending))) {
        client_poll(&client, 0, false);
    }
    return NULL;
}

// divert lets standard output and error end in a pipe that the thread reads.
static void divert(void) {
    int ends[2];
    saved_out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    saved_err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    client.out = fdopen(fcntl(saved_out, F_DUPFD_CLOEXEC, 3), "w");
    client.err = client.out;
    if (!client.out || pipe2(ends, O_CLOEXEC) != 0) {
        client.out = stdout;
        client.err = stderr;
        return;
    }
    fflush(stdout);
    dup2(ends[1], STDOUT_FILENO);
    if (isatty(saved_err)) {
        dup2(ends[1], STDERR_FILENO);
    }
    close(ends[1]);
    client.background = ends[0];
}

int repl_start(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return -1;
    }
    client = (struct client){.fd = ends[1],
                             .in = STDIN_FILENO,
                             .out = stdout,
                             .err = stderr,
                             .background = -1};
    is_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (is_terminal) {
        atexit(editor_restore);
        divert();
    }
    // signals are the loop's
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    is_started = pthread_create(&thread, NULL, run, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started ? ends[0] : -1;
}

int repl_finish(void) {
    if (!is_started) {
        return 0;
    }
    if (saved_out >= 0) {
        fflush(stdout);
        dup2(saved_out, STDOUT_FILENO);
        dup2(saved_err, STDERR_FILENO);
        close(saved_out);
        close(saved_err);
    }
    atomic_store(&is_ending, true);
    shutdown(client.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    client_end(&client);
    close(client.fd);
    return status;
}
