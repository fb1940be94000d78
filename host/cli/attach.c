// attach: `neap attach PATH`, the console of another process.
#include "cli/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/editor.h"

static const char usage[] =
    "usage: neap attach PATH [-e CODE]\n\n"
    "  PATH       the socket of `neap --console PATH` or neap.console(path)\n"
    "  -e CODE    runs CODE there and prints its value (may be repeated: lines)\n"
    "\n"
    "Without -e it is a prompt; from a pipe it runs each line, up to the first\n"
    "error. The status is 1 after an error, 2 if the command line is wrong.\n";

static int wrong(const char *text, const char *what) {
    fprintf(stderr, "neap attach: %s%s (neap attach --help)\n", text, what);
    return 2;
}

static int open_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "neap attach: %s: longer than 107 bytes\n", path);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fprintf(stderr, "neap attach: no console at %s: %s\n", path,
                strerror(errno));
        return -1;
    }
    return fd;
}

// greet waits for the console's greeting and shows it at a terminal.
static int greet(struct client *c, bool is_terminal) {
    const int patience_ms = 1000;
    client_begin(c);
    client_poll(c, patience_ms, false);
    if (!c->answer && !c->is_over) {
        fputs("neap attach: the process is busy; waiting for it\n", c->err);
    }
    while (!c->answer && !c->is_over) {
        client_poll(c, -1, false);
    }
    if (c->answer != 'N') {
        fputs("neap attach: that is no console, or it refused\n", c->err);
        return -1;
    }
    if (is_terminal) {
        fprintf(c->out, "%s; :help tells what there is, Ctrl-D leaves\n",
                c->text);
    }
    c->answer = 0;
    return 0;
}

// join appends a line of code to what is there.
static char *join(char *code, const char *line) {
    size_t before = code ? strlen(code) + 1 : 0;
    char *both = realloc(code, before + strlen(line) + 1);
    if (!both) {
        abort();
    }
    if (before) {
        both[before - 1] = '\n';
    }
    strcpy(both + before, line);
    return both;
}

static int run(const char *path, const char *code) {
    struct client c = {.in = STDIN_FILENO,
                       .out = stdout,
                       .err = stderr,
                       .background = -1,
                       .fd = open_socket(path)};
    bool is_terminal =
        !code && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    int status = 1;
    if (c.fd < 0) {
        return 1;
    }
    if (greet(&c, is_terminal) == 0) {
        status = code          ? client_run_code(&c, code)
                 : is_terminal ? editor_run(&c)
                               : client_run_lines(&c);
    }
    client_end(&c);
    close(c.fd);
    return status;
}

int attach_main(int argc, char **argv) {
    const char *path = NULL;
    char *code = NULL;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            free(code);
            return 0;
        }
        if (strcmp(argv[i], "-e") == 0 && i + 1 < argc) {
            code = join(code, argv[++i]);
        } else if (argv[i][0] == '-') {
            free(code);
            return wrong("unknown option, or one without its argument: ",
                         argv[i]);
        } else if (path) {
            free(code);
            return wrong("more than one path: ", argv[i]);
        } else {
            path = argv[i];
        }
    }
    if (!path) {
        free(code);
        return wrong("a path is missing", "");
    }
    atexit(editor_restore);
    int status = run(path, code);
    free(code);
    return status;
}
