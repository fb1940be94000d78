// embedded: a private redis-server on a unix socket in a data directory,
// started when first wanted, shared by all processes that use the directory
// and stopped with the last; or one in memory, for this handle alone.
//
//   struct embedded *e = embedded_open(loop, ".neap");
//   embedded_ready(e, on_ready, arg);   // on_ready(arg, 0, path, NULL)
//   uv_run(loop, UV_RUN_DEFAULT);
//   embedded_close(e);
//   uv_run(loop, UV_RUN_DEFAULT);       // one more turn frees it
//
// In the directory stand users (a shared flock while a process uses it), server
// (a flock the server itself inherits and holds while it lives), redis.sock,
// redis.log and the server's data. Flocks end with their process, however that
// ends, so nothing stale is ever left to be believed.
#ifndef NEAP_REDIS_EMBEDDED_H
#define NEAP_REDIS_EMBEDDED_H

#include <uv.h>

struct embedded;

// embedded_ready_cb gets status 0 and the path to connect to, or a negative
// UV_E* and a text. Both strings are good until it returns; the path itself
// leads to the server for as long as the handle is open, in this process.
typedef void (*embedded_ready_cb)(void *arg, int status,
                                  const char *socket_path, const char *error);

// embedded_open returns a handle for the server of directory dir, which is
// created (mode 0700, no parents) when first wanted; with dir NULL, for a
// server without persistence in a new temporary directory under $TMPDIR. It
// can't fail and starts nothing. A server in memory dies with the thread that
// made it start, so the loop must stay on one thread.
struct embedded *embedded_open(uv_loop_t *loop, const char *dir);

// embedded_ready makes sure that the server accepts connections and then
// calls cb, never before it returned. It may be called at any time, also again
// after a connection broke: a server that died is started anew. The loop stays
// alive until cb was called, 10 seconds at the most.
void embedded_ready(struct embedded *e, embedded_ready_cb cb, void *arg);

// embedded_forget drops the callback that waits with arg, if there is one.
void embedded_forget(struct embedded *e, const void *arg);

// embedded_close stops the server if nobody else uses it, waiting up to 5
// seconds for it, and removes the directory of a server in memory. Callbacks
// that were still due are dropped. e is freed by the next turn of the loop and
// must not be touched anymore. May be called from an embedded_ready_cb.
void embedded_close(struct embedded *e);

#endif
