// resolve: addresses of a name, looked up by a thread of its own: getaddrinfo
// may hang for long, and one of uv's threads would then be missing elsewhere,
// and hold up the end of the process.
//
//   struct resolve *r = resolve_start(rt, "example.com", 80, on_addresses, me);
//   resolve_cancel(r);                 // unless on_addresses was called
#ifndef NEAP_CORE_RESOLVE_H
#define NEAP_CORE_RESOLVE_H

#include <netdb.h>

#include "core/runtime.h"

struct resolve;

// resolve_start begins a lookup; done is called once, from the loop: status is
// 0 or one of getaddrinfo's (gai_strerror), and the list, NULL without one, is
// freed after it. NULL if there is no thread to be had.
struct resolve *resolve_start(struct runtime *rt, const char *host, int port,
                              void (*done)(void *ctx, int status,
                                           const struct addrinfo *list),
                              void *ctx);

// resolve_cancel gives a lookup up: done will not be called.
void resolve_cancel(struct resolve *r);

#endif
