// resolve: addresses of a name, looked up by a thread of its own.
//
// The job belongs to the loop and the thread: whoever lets go of it last, under
// its lock, frees it.
#include "core/resolve.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { stack_size = 256 * 1024 };

struct resolve {
    pthread_mutex_t lock;
    uv_async_t *async; // NULL once it was given up
    bool is_over;      // the thread has the answer
    char *host;
    char service[16];
    int status;
    struct addrinfo *list;
    void (*done)(void *ctx, int status, const struct addrinfo *list);
    void *ctx;
};

static void free_job(struct resolve *r) {
    if (r->list) {
        freeaddrinfo(r->list);
    }
    pthread_mutex_destroy(&r->lock);
    free(r->host);
    free(r);
}

static void *look_up(void *arg) {
    struct resolve *r = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int status = getaddrinfo(r->host, r->service, &hints, &list);
    pthread_mutex_lock(&r->lock);
    r->status = status;
    r->list = status == 0 ? list : NULL;
    r->is_over = true;
    bool is_wanted = r->async != NULL;
    if (is_wanted) {
        uv_async_send(r->async);
    }
    pthread_mutex_unlock(&r->lock);
    if (!is_wanted) {
        free_job(r);
    }
    return NULL;
}

static void on_closed(uv_handle_t *h) {
    free(h);
}

// leave lets go of the job on the loop's side; it says whether the thread is
// through with it.
static bool leave(struct resolve *r) {
    pthread_mutex_lock(&r->lock);
    uv_close((uv_handle_t *)r->async, on_closed);
    r->async = NULL;
    bool is_over = r->is_over;
    pthread_mutex_unlock(&r->lock);
    return is_over;
}

static void on_answer(uv_async_t *async) {
    struct resolve *r = async->data;
    leave(r);
    r->done(r->ctx, r->status, r->list);
    free_job(r);
}

struct resolve *resolve_start(struct runtime *rt, const char *host, int port,
                              void (*done)(void *ctx, int status,
                                           const struct addrinfo *list),
                              void *ctx) {
    struct resolve *r = xcalloc(1, sizeof *r);
    pthread_attr_t attributes;
    pthread_t thread;
    r->host = xstrdup(host);
    snprintf(r->service, sizeof r->service, "%d", port);
    r->done = done;
    r->ctx = ctx;
    r->async = xcalloc(1, sizeof *r->async);
    pthread_mutex_init(&r->lock, NULL);
    uv_async_init(rt->loop, r->async, on_answer);
    r->async->data = r;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_size);
    int rc = pthread_create(&thread, &attributes, look_up, r);
    pthread_attr_destroy(&attributes);
    if (rc != 0) {
        leave(r);
        free_job(r);
        return NULL;
    }
    return r;
}

void resolve_cancel(struct resolve *r) {
    if (leave(r)) {
        free_job(r);
    }
}
