// mem: allocation that never returns NULL.
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *p, size_t size) {
    if (!p && size) {
        fprintf(stderr, "neap: out of memory (%zu bytes)\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size) {
    return check(malloc(size), size);
}

void *xcalloc(size_t count, size_t size) {
    return check(calloc(count, size), count * size);
}

void *xrealloc(void *p, size_t size) {
    return check(realloc(p, size), size);
}

char *xstrndup(const char *s, size_t len) {
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = 0;
    return copy;
}

char *xstrdup(const char *s) {
    return xstrndup(s, strlen(s));
}
