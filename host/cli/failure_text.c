// failure_text: the error that ended a script, with the lines of its source.
#include "cli/failure_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { lines_around = 2 };

// parse_place finds "path:12:" (or "path:12" at a line's end) at the start of a
// text. Returns the line, 0 if there is none.
static int parse_place(const char *text, char *path, size_t size) {
    text += strspn(text, "\t");
    for (const char *colon = strchr(text, ':'); colon;
         colon = strchr(colon + 1, ':')) {
        size_t digits = strspn(colon + 1, "0123456789");
        size_t len = (size_t)(colon - text);
        char after = colon[1 + digits];
        if (memchr(text, '\n', len) || len >= size) {
            return 0;
        }
        if (digits && digits < 9 &&
            (after == ':' || after == '\n' || after == '\0')) {
            memcpy(path, text, len);
            path[len] = '\0';
            return atoi(colon + 1);
        }
    }
    return 0;
}

void failure_print_source(FILE *out, const char *path, int line) {
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    int width = snprintf(NULL, 0, "%d", line + lines_around);
    bool is_any = false;
    for (int n = 1; file && n <= line + lines_around &&
                    (len = getline(&text, &cap, file)) >= 0;
         n++) {
        if (n < line - lines_around) {
            continue;
        }
        if (!is_any) {
            fputc('\n', out);
            is_any = true;
        }
        text[strcspn(text, "\r\n")] = '\0';
        fprintf(out, "%s %*d | %.200s\n", n == line ? ">" : " ", width, n,
                text);
    }
    if (is_any) {
        fputc('\n', out);
    }
    free(text);
    if (file) {
        fclose(file);
    }
}

void failure_print(FILE *out, const char *error, const char *traceback) {
    char path[4096];
    fprintf(out, "neap: %s\n", error);
    int line = parse_place(error, path, sizeof path);
    if (!line) {
        line = parse_place(traceback, path, sizeof path);
    }
    if (line) {
        failure_print_source(out, path, line);
    }
    if (*traceback) {
        fprintf(out, "stack traceback:\n%s\n", traceback);
    }
}
