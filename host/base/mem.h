// mem: allocation that never returns NULL; out of memory ends the process.
#ifndef NEAP_BASE_MEM_H
#define NEAP_BASE_MEM_H

#include <stddef.h>

// xmalloc, xcalloc, xrealloc and xstrndup are their namesakes, but abort with
// a message when memory is out.
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

#endif
