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
    "  -e CODE    runs CODE there and prints its value (may be repeated)\n"
    "\n"
    "Without -e it is a prompt; from a pipe it runs each line, up to the "
    "first\n"
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
static int greet(struct client *c, bool is_terminal, bool is_raw) {
    const int patience_ms = 1000;
    client_begin(c, is_raw);
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

static int run(const char *path, char *const *code, int count) {
    struct client c = {.in = STDIN_FILENO,
                       .out = stdout,
                       .err = stderr,
                       .background = -1,
                       .fd = open_socket(path)};
    bool is_terminal = !count && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    int status = 1;
    if (c.fd < 0) {
        return 1;
    }
    if (greet(&c, is_terminal, count > 0) == 0) {
        status = count         ? client_run_code(&c, code, count)
                 : is_terminal ? editor_run(&c)
                               : client_run_lines(&c);
    }
    if (c.is_lost) {
        fputs("neap attach: the process has ended\n", stderr);
    }
    client_end(&c);
    close(c.fd);
    return status;
}

// parse sorts the arguments; the texts behind -e go to code. Returns -1 to go
// on, or the exit status.
static int parse(int argc, char **argv, const char **path, char **code,
                 int *count) {
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "-e") == 0 && i + 1 < argc) {
            code[(*count)++] = argv[++i];
        } else if (argv[i][0] == '-') {
            return wrong("unknown option, or one without its argument: ",
                         argv[i]);
        } else if (*path) {
            return wrong("more than one path: ", argv[i]);
        } else {
            *path = argv[i];
        }
    }
    return *path ? -1 : wrong("a path is missing", "");
}

int attach_main(int argc, char **argv) {
    const char *path = NULL;
    char **code = calloc((size_t)argc + 1, sizeof *code);
    int count = 0;
    if (!code) {
        abort();
    }
    atexit(editor_restore);
    int status = parse(argc, argv, &path, code, &count);
    if (status < 0) {
        status = run(path, code, count);
    }
    free(code);
    return status;
}
