// client: the other side of a console.
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { head_size = 5, read_size = 65536, line_max = 16 * 1024 * 1024 };

static void *grown(void *p, size_t size) {
    p = realloc(p, size);
    if (!p) {
        abort();
    }
    return p;
}

// -- frames

static void send_all(struct client *c, const char *bytes, size_t len) {
    while (len && !c->is_over) {
        ssize_t n = write(c->fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            c->is_over = true;
            return;
        }
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

void client_send(struct client *c, char letter, const char *text, size_t len) {
    char head[head_size] = {letter, (char)(len >> 24), (char)(len >> 16),
                            (char)(len >> 8), (char)len};
    send_all(c, head, sizeof head);
    send_all(c, text, len);
}

static void send_text(struct client *c, char letter, const char *text) {
    client_send(c, letter, text, strlen(text));
}

void client_begin(struct client *c, bool is_raw) {
    send_text(c, 'N', is_raw ? "neap console 1 raw" : "neap console 1");
}

void client_end(struct client *c) {
    free(c->bytes);
    free(c->text);
    free(c->completion);
}

// -- what comes

static void print(struct client *c, const char *text, size_t len) {
    if (len == 0) {
        return;
    }
    if (c->hide) {
        c->hide(c);
    }
    fwrite(text, 1, len, c->out);
    c->is_mid_line = text[len - 1] != '\n';
    if (c->show && c->is_mid_line) {
        fputc('\n', c->out); // the prompt wants a line of its own
    }
    if (fflush(c->out) != 0 || ferror(c->out)) {
        c->is_over = true; // nobody reads any more
    }
    if (c->show) {
        c->show(c);
    }
}

static char *copy(const char *text, size_t len) {
    char *s = grown(NULL, len + 1);
    memcpy(s, text, len);
    s[len] = '\0';
    return s;
}

static void take_completion(struct client *c, const char *text, size_t len) {
    char *s = copy(text, len), *end;
    unsigned number = (unsigned)strtoul(s, &end, 10);
    if (number == c->asked && *end == '\n') {
        free(c->completion);
        c->completion = copy(end + 1, len - (size_t)(end + 1 - s));
    }
    free(s);
}

static void take_frame(struct client *c, char letter, const char *text,
                       size_t len) {
    switch (letter) {
    case 'O': print(c, text, len); break;
    case 'T': take_completion(c, text, len); break;
    case 'Q': c->is_left = c->is_over = true; break;
    default: // N, R, E, M: what somebody waits for
        free(c->text);
        c->text = copy(text, len);
        c->text_len = len;
        c->answer = letter;
    }
}

static void take_frames(struct client *c) {
    size_t at = 0;
    while (c->len - at >= head_size) {
        const unsigned char *h = (const unsigned char *)c->bytes + at;
        size_t len =
            (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8 | h[4];
        if (c->len - at - head_size < len) {
            break;
        }
        take_frame(c, (char)h[0], c->bytes + at + head_size, len);
        at += head_size + len;
    }
    memmove(c->bytes, c->bytes + at, c->len - at);
    c->len -= at;
}

static void read_console(struct client *c) {
    if (c->cap - c->len < read_size) {
        c->cap = c->cap * 2 + read_size;
        c->bytes = grown(c->bytes, c->cap);
    }
    ssize_t n = read(c->fd, c->bytes + c->len, c->cap - c->len);
    if (n > 0) {
        c->len += (size_t)n;
        take_frames(c);
    } else if (n == 0 || errno != EINTR) {
        c->is_over = c->is_lost = true;
    }
}

static void read_background(struct client *c) {
    char bytes[4096];
    ssize_t n = read(c->background, bytes, sizeof bytes);
    if (n > 0) {
        print(c, bytes, (size_t)n);
    } else if (n == 0) {
        c->background = -1;
    }
}

bool client_poll(struct client *c, int timeout_ms, bool is_typing) {
    struct pollfd fds[] = {{.fd = c->is_over ? -1 : c->fd, .events = POLLIN},
                           {.fd = c->background, .events = POLLIN},
                           {.fd = is_typing ? c->in : -1, .events = POLLIN}};
    if (poll(fds, 3, timeout_ms) <= 0) {
        return false;
    }
    if (fds[1].revents) {
        read_background(c);
    }
    if (fds[0].revents) {
        read_console(c);
    }
    return fds[2].revents != 0;
}

bool client_has_background(struct client *c, int timeout_ms) {
    struct pollfd fd = {.fd = c->background, .events = POLLIN};
    return poll(&fd, 1, timeout_ms) > 0;
}

// -- answers

bool client_print_answer(struct client *c) {
    bool is_error = c->answer == 'E';
    FILE *to = is_error ? c->err : c->out;
    if (c->text_len) {
        fflush(c->out);
        fwrite(c->text, 1, c->text_len, to);
        fputc('\n', to);
        c->is_mid_line = false;
        if (fflush(to) != 0 || ferror(to)) {
            c->is_over = true;
        }
    }
    c->answer = 0;
    return !is_error;
}

static char wait_answer(struct client *c) {
    while (!c->answer && !c->is_over) {
        client_poll(c, -1, false);
    }
    return c->answer;
}

// finish_input tells that no line follows. Returns the exit status.
static int finish_input(struct client *c) {
    client_send(c, 'X', "", 0);
    if (c->is_over && !c->is_left) {
        c->is_over = false; // it may have said why before it was gone
    }
    if (!wait_answer(c)) {
        return !c->is_left;
    }
    return client_print_answer(c) ? 0 : 1;
}

// run_line returns the exit status, or -1 to go on.
static int run_line(struct client *c, const char *line, size_t len) {
    c->answer = 0;
    client_send(c, 'L', line, len);
    char letter = wait_answer(c);
    if (letter == 'M') {
        c->answer = 0;
        return -1;
    }
    if (letter && !client_print_answer(c)) {
        return 1;
    }
    return c->is_over ? letter != 'R' && !c->is_left : -1;
}

// take_line returns a whole line of what was read, or what is left at the end,
// and how much of it that takes; 0: more has to be read.
static size_t take_line(const char *bytes, size_t len, bool is_end,
                        size_t *line) {
    const char *end = len ? memchr(bytes, '\n', len) : NULL;
    *line = end ? (size_t)(end - bytes) : len;
    return end ? *line + 1 : is_end ? len : 0;
}

int client_run_lines(struct client *c) {
    char *bytes = NULL;
    size_t len = 0, cap = 0, line;
    bool is_end = false;
    int status = -1;
    while (status < 0 && !c->is_over) {
        size_t taken = take_line(bytes, len, is_end, &line);
        if (line > line_max) {
            fprintf(c->err, "neap: a line of more than %d bytes\n", line_max);
            status = 1;
        } else if (taken) {
            status = run_line(c, bytes, line);
            memmove(bytes, bytes + taken, len - taken);
            len -= taken;
        } else if (is_end) {
            break;
        } else if (client_poll(c, -1, true)) {
            if (cap - len < read_size) {
                cap = cap * 2 + read_size;
                bytes = grown(bytes, cap);
            }
            ssize_t n = read(c->in, bytes + len, cap - len);
            is_end = n == 0 || (n < 0 && errno != EINTR);
            len += n > 0 ? (size_t)n : 0;
        }
    }
    free(bytes);
    c->answer = 0;
    if (status >= 0) {
        return status;
    }
    return c->is_over ? !c->is_left : finish_input(c);
}

int client_run_code(struct client *c, char *const *code, int count) {
    int status = -1;
    for (int i = 0; i < count && status < 0; i++) {
        status = run_line(c, code[i], strlen(code[i]));
    }
    return status < 0 ? finish_input(c) : status;
}
