// editor: a console at a terminal.
#include "cli/editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>
#include <wchar.h>

enum {
    complete_ms = 200, // that a completion may take
    history_lines = 1000,
    type_ahead_max = 1 << 20,
    width_max = 512,
};

struct editor {
    struct client *client;
    EditLine *el;
    History *history;
    char history_path[4096];
    struct termios cooked, waiting; // the terminal as it was; while a line runs
    struct winsize size;
    char *ahead; // typed, not yet read
    size_t ahead_len;
    bool is_more;        // a statement goes on
    bool is_interrupted; // Ctrl-C ended the line
};

// What editor_restore restores; a process has one terminal.
static struct termios found;
static volatile sig_atomic_t is_changed;

void editor_restore(void) {
    if (is_changed) {
        is_changed = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &found);
    }
}

static struct editor *editor_of(EditLine *el) {
    struct editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    return e;
}

static char *prompt(EditLine *el) {
    return editor_of(el)->is_more ? ">> " : "> ";
}

// -- what others print while a line is edited

static int columns(struct editor *e) {
    return e->size.ws_col ? e->size.ws_col : 80;
}

static int text_width(const char *text, size_t len) {
    int width = 0;
    mbstate_t state = {0};
    while (len) {
        wchar_t ch;
        size_t n = mbrtowc(&ch, text, len, &state);
        if (n == 0 || n > len) {
            break;
        }
        int w = wcwidth(ch);
        width += w > 0 ? w : 0;
        text += n;
        len -= n;
    }
    return width;
}

// hide takes prompt and line off the screen; the cursor stands where they
// began.
static void hide(struct client *c) {
    struct editor *e = c->editor;
    const LineInfo *line = el_line(e->el);
    size_t before = (size_t)(line->cursor - line->buffer);
    int width = (int)strlen(prompt(e->el)) + text_width(line->buffer, before);
    int rows = width / columns(e);
    if (rows) {
        fprintf(c->out, "\033[%dA", rows);
    }
    fputs("\r\033[J", c->out);
}

static void show(struct client *c) {
    struct editor *e = c->editor;
    c->is_mid_line = false;
    el_set(e->el, EL_REFRESH);
    fflush(c->out);
}

// -- keys

static void read_ahead(struct editor *e) {
    char bytes[4096];
    ssize_t n = read(e->client->in, bytes, sizeof bytes);
    if (n <= 0) {
        e->client->is_over = true; // the terminal is gone
        return;
    }
    if (e->ahead_len + (size_t)n <= type_ahead_max) {
        memcpy(e->ahead + e->ahead_len, bytes, (size_t)n);
        e->ahead_len += (size_t)n;
    }
}

static void drop_ahead(struct editor *e, size_t n) {
    memmove(e->ahead, e->ahead + n, e->ahead_len - n);
    e->ahead_len -= n;
}

// take_key takes one character from what was typed; false if none is whole.
static bool take_key(struct editor *e, wchar_t *ch) {
    mbstate_t state = {0};
    if (e->ahead_len == 0) {
        return false;
    }
    size_t n = mbrtowc(ch, e->ahead, e->ahead_len, &state);
    if (n == (size_t)-2) {
        return false; // half a character
    }
    if (n == (size_t)-1) {
        *ch = L'?';
        n = 1;
    }
    drop_ahead(e, n ? n : 1);
    return true;
}

static void note_size(struct editor *e) {
    struct winsize now = {0};
    if (ioctl(e->client->in, TIOCGWINSZ, &now) == 0 &&
        (now.ws_col != e->size.ws_col || now.ws_row != e->size.ws_row)) {
        e->size = now;
        el_resize(e->el);
    }
}

// read_key is libedit's source of characters: it sees to the console meanwhile.
static int read_key(EditLine *el, wchar_t *ch) {
    struct editor *e = editor_of(el);
    struct client *c = e->client;
    while (!c->is_over) {
        if (take_key(e, ch)) {
            note_size(e);
            return 1;
        }
        c->hide = hide;
        c->show = show;
        bool is_typed = client_poll(c, -1, true);
        c->hide = c->show = NULL;
        if (is_typed) {
            read_ahead(e);
        }
    }
    return 0;
}

static unsigned char on_interrupt(EditLine *el, int ch) {
    struct editor *e = editor_of(el);
    (void)ch;
    fputs("^C\r\n", e->client->out);
    e->is_interrupted = true;
    return CC_NEWLINE;
}

// suspend stops the process, as Ctrl-Z does elsewhere.
static void suspend(struct editor *e) {
    struct termios now;
    tcgetattr(e->client->in, &now);
    tcsetattr(e->client->in, TCSADRAIN, &e->cooked);
    // beside a loop this thread blocks all signals: but here it stops
    sigset_t stop, before;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stop, &before);
    pthread_kill(pthread_self(), SIGTSTP);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    // and here it goes on
    tcgetattr(e->client->in, &e->cooked);
    tcsetattr(e->client->in, TCSADRAIN, &now);
}

static unsigned char on_suspend(EditLine *el, int ch) {
    (void)ch;
    suspend(editor_of(el));
    return CC_REDISPLAY;
}

// -- completion

static char *ask(struct editor *e, const char *text, size_t len) {
    struct client *c = e->client;
    char number[16];
    size_t n = (size_t)snprintf(number, sizeof number, "%u\n", ++c->asked);
    char *request = malloc(n + len);
    if (!request) {
        return NULL;
    }
    memcpy(request, number, n);
    memcpy(request + n, text, len);
    free(c->completion);
    c->completion = NULL;
    client_send(c, 'T', request, n + len);
    free(request);
    c->hide = hide;
    c->show = show;
    uint64_t start = uv_hrtime() / 1000000, passed = 0;
    while (!c->completion && !c->is_over && passed < complete_ms) {
        client_poll(c, (int)(complete_ms - passed), false);
        passed = uv_hrtime() / 1000000 - start;
    }
    c->hide = c->show = NULL;
    char *answer = c->completion;
    c->completion = NULL;
    return answer;
}

// list prints names in columns below the line.
static void list(struct editor *e, char *const *names, size_t count) {
    size_t width = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);
        width = len > width ? len : width;
    }
    size_t per_row = (size_t)columns(e) / (width + 2);
    per_row = per_row ? per_row : 1;
    size_t rows = (count + per_row - 1) / per_row;
    hide(e->client);
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < count; i += rows) {
            fprintf(e->client->out, "%-*s", (int)width + 2, names[i]);
        }
        fputc('\n', e->client->out);
    }
    show(e->client);
}

static size_t common(char *const *names, size_t count) {
    size_t len = strlen(names[0]);
    for (size_t i = 1; i < count; i++) {
        size_t n = 0;
        while (n < len && names[i][n] == names[0][n]) {
            n++;
        }
        len = n;
    }
    return len;
}

// split cuts lines apart in place; returns how many.
static size_t split(char *text, char **names, size_t most) {
    size_t count = 0;
    for (char *s = strtok(text, "\n"); s && count < most;
         s = strtok(NULL, "\n")) {
        names[count++] = s;
    }
    return count;
}

static unsigned char on_tab(EditLine *el, int ch) {
    struct editor *e = editor_of(el);
    const LineInfo *line = el_line(el);
    size_t len = (size_t)(line->cursor - line->buffer);
    char *names[256], *behind;
    (void)ch;
    if (strspn(line->buffer, " \t") >= len) {
        el_insertstr(el, "  ");
        return CC_REFRESH;
    }
    char *answer = ask(e, line->buffer, len);
    if (!answer) {
        return CC_ERROR;
    }
    size_t typed = strtoul(answer, &behind, 10);
    size_t count = split(behind, names, sizeof names / sizeof names[0]);
    unsigned char result = CC_REFRESH;
    size_t shared = count ? common(names, count) : 0;
    if (shared > typed) {
        names[0][shared] = '\0';
        el_insertstr(el, names[0] + typed);
    } else if (count > 1) {
        list(e, names, count);
    } else {
        result = count ? CC_REFRESH : CC_ERROR;
    }
    free(answer);
    return result;
}

// -- while a line runs

// on_typing looks for Ctrl-C and Ctrl-Z in what is typed meanwhile; the rest is
// kept for the next prompt.
static void on_typing(struct editor *e, int *interrupts) {
    size_t from = e->ahead_len;
    read_ahead(e);
    int before = *interrupts;
    bool is_stop = false;
    for (size_t i = from; i < e->ahead_len; i++) {
        *interrupts += e->ahead[i] == 3;
        is_stop = is_stop || e->ahead[i] == 26;
    }
    if (*interrupts > before) {
        drop_ahead(e, e->ahead_len);
        client_send(e->client, 'C', "", 0);
    } else if (is_stop) {
        drop_ahead(e, e->ahead_len);
        suspend(e);
    }
}

static void wait_answer(struct editor *e) {
    struct client *c = e->client;
    int interrupts = 0;
    tcsetattr(c->in, TCSADRAIN, &e->waiting);
    while (!c->answer && !c->is_over) {
        int before = interrupts;
        if (client_poll(c, -1, true)) {
            on_typing(e, &interrupts);
        }
        if (before < 2 && interrupts >= 2) {
            fputs("(it does not answer; Ctrl-C once more leaves)\n", c->err);
        }
        if (interrupts >= 3) {
            c->is_over = true;
        }
    }
    tcsetattr(c->in, TCSADRAIN, &e->cooked);
    if (c->is_mid_line) {
        fputc('\n', c->out);
        c->is_mid_line = false;
    }
}

static void run_line(struct editor *e, const char *line, size_t len) {
    struct client *c = e->client;
    c->answer = 0;
    client_send(c, 'L', line, len);
    wait_answer(e);
    e->is_more = c->answer == 'M';
    if (c->answer == 'M') {
        c->answer = 0;
    } else if (c->answer) {
        client_print_answer(c);
    }
}

// -- the whole

static void load_history(struct editor *e) {
    HistEvent event;
    const char *path = getenv("NEAP_HISTORY"), *home = getenv("HOME");
    e->history = history_init();
    history(e->history, &event, H_SETSIZE, history_lines);
    history(e->history, &event, H_SETUNIQUE, 1);
    if (path) {
        snprintf(e->history_path, sizeof e->history_path, "%s", path);
    } else if (home) {
        snprintf(e->history_path, sizeof e->history_path, "%s/.neap_history",
                 home);
    }
    if (e->history_path[0]) {
        history(e->history, &event, H_LOAD, e->history_path);
    }
    el_set(e->el, EL_HIST, history, e->history);
}

static void remember(struct editor *e, const char *line) {
    HistEvent event;
    if (line[strspn(line, " \t")] == '\0') {
        return;
    }
    history(e->history, &event, H_ENTER, line);
    if (e->history_path[0]) {
        int fd = open(e->history_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0) { // so that it is nobody else's from its first byte on
            close(fd);
            history(e->history, &event, H_SAVE, e->history_path);
        }
    }
}

static void set_keys(EditLine *el) {
    static const char *const keys[][2] = {{"^I", "neap-complete"},
                                          {"^C", "neap-interrupt"},
                                          {"^Z", "neap-suspend"},
                                          {"^R", "em-inc-search-prev"},
                                          {"\\e[3~", "ed-delete-next-char"},
                                          {"\\e[H", "ed-move-to-beg"},
                                          {"\\e[F", "ed-move-to-end"},
                                          {"\\e[1~", "ed-move-to-beg"},
                                          {"\\e[4~", "ed-move-to-end"},
                                          {"\\e[1;5C", "em-next-word"},
                                          {"\\e[1;5D", "ed-prev-word"}};
    el_set(el, EL_ADDFN, "neap-complete", "completes a name", on_tab);
    el_set(el, EL_ADDFN, "neap-interrupt", "drops the line", on_interrupt);
    el_set(el, EL_ADDFN, "neap-suspend", "stops the process", on_suspend);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    }
    el_set(el, EL_SETTY, "-d", "-isig", NULL);
}

static void read_lines(struct editor *e) {
    int len;
    while (!e->client->is_over) {
        const char *line = el_gets(e->el, &len);
        if (e->is_interrupted) {
            e->is_interrupted = e->is_more = false;
            client_send(e->client, 'C', "", 0); // drops what is not complete
            continue;
        }
        if (!line || len <= 0) {
            break;
        }
        char *text = strdup(line);
        if (!text) {
            abort();
        }
        len -= text[len - 1] == '\n';
        text[len] = '\0';
        remember(e, text);
        run_line(e, text, (size_t)len);
        free(text);
    }
}

static void run(struct client *c, FILE *in) {
    struct editor e = {.client = c, .ahead = malloc(type_ahead_max)};
    if (!e.ahead) {
        abort();
    }
    c->editor = &e;
    tcgetattr(c->in, &e.cooked);
    found = e.waiting = e.cooked;
    e.waiting.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    is_changed = 1;
    ioctl(c->in, TIOCGWINSZ, &e.size);
    e.el = el_init("neap", in, c->out, c->err);
    el_set(e.el, EL_CLIENTDATA, &e);
    el_set(e.el, EL_PROMPT, prompt);
    el_set(e.el, EL_EDITOR, "emacs");
    el_set(e.el, EL_GETCFN, read_key);
    set_keys(e.el);
    load_history(&e);
    el_source(e.el, NULL);
    read_lines(&e);
    history_end(e.history);
    el_end(e.el);
    editor_restore();
    fputc('\n', c->out);
    fflush(c->out);
    free(e.ahead);
}

int editor_run(struct client *c) {
    // the text is UTF-8, for this thread alone
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before;
    before = utf8 ? uselocale(utf8) : (locale_t)0;
    FILE *in = fdopen(dup(c->in), "r");
    if (in) {
        run(c, in);
        fclose(in);
    }
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return 0;
}
