// log: lines with a level and a time in milliseconds, to one place.
//
//   struct log log; log_init(&log);                  // stderr, info and above
//   log_write(&log, LOG_WARN, "%d retries", n);
#ifndef NEAP_BASE_LOG_H
#define NEAP_BASE_LOG_H

#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log {
    enum log_level level; // lines below it are dropped
    void (*write)(void *arg, enum log_level level, const char *line,
                  size_t len);
    void *arg;
};

// log_init sets the log to stderr and to LOG_INFO.
void log_init(struct log *log);

// log_write formats one line: time, level, text.
void log_write(struct log *log, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// log_level_parse returns the level of that name, or -1.
int log_level_parse(const char *name);

#endif
