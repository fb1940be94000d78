// log: lines with a level and a time in milliseconds, to one place.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

static const char *const names[] = {"debug", "info", "warn", "error"};

static void to_stderr(void *arg, enum log_level level, const char *line,
                      size_t len) {
    (void)arg;
    (void)level;
    ssize_t n = write(STDERR_FILENO, line, len);
    (void)n; // there is nowhere left to complain
}

void log_init(struct log *log) {
    *log = (struct log){.level = LOG_INFO, .write = to_stderr};
}

void log_write(struct log *log, enum log_level level, const char *fmt, ...) {
    if (level < log->level) {
        return;
    }
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    struct buf b = {0};
    buf_printf(&b, "%04d-%02d-%02d %02d:%02d:%02d.%03ld %-5s ",
               tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
               tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000, names[level]);
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    buf_addc(&b, '\n');
    log->write(log->arg, level, buf_cstr(&b), b.len);
    buf_clear(&b);
}

int log_level_parse(const char *name) {
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}
