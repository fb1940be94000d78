// post: functions that other threads want to have run on the loop.
#include <stdlib.h>

#include "api/instance.h"
#include "base/mem.h"

struct post {
    struct post *next;
    neap *n;
    void (*fn)(neap *n, void *arg);
    void *arg;
};

static void run(void *ud) {
    struct post *p = ud;
    p->fn(p->n, p->arg);
}

static void on_posts(uv_async_t *async) {
    neap *n = async->data;
    pthread_mutex_lock(&n->lock);
    struct post *p = n->first;
    n->first = NULL;
    n->last = &n->first;
    pthread_mutex_unlock(&n->lock);
    while (p) {
        struct post *next = p->next;
        instance_call(n, "a posted function", run, p, 0);
        free(p);
        p = next;
    }
}

int neap_post(neap *n, void (*fn)(neap *n, void *arg), void *arg) {
    instance_check(!n->is_closed, "neap_post", "the instance was closed");
    struct post *p = xmalloc(sizeof *p);
    *p = (struct post){.n = n, .fn = fn, .arg = arg};
    pthread_mutex_lock(&n->lock);
    bool is_closing = n->is_closing, is_first = !n->first;
    if (!is_closing) {
        *n->last = p;
        n->last = &p->next;
    }
    if (is_first && !is_closing) {
        uv_async_send(&n->async); // under the lock: it is not closed meanwhile
    }
    pthread_mutex_unlock(&n->lock);
    if (is_closing) {
        free(p);
        return instance_fail("the instance is being closed");
    }
    return 0;
}

void post_open(neap *n) {
    pthread_mutex_init(&n->lock, NULL);
    n->last = &n->first;
    uv_async_init(&n->loop, &n->async, on_posts);
    n->async.data = n;
    uv_unref((uv_handle_t *)&n->async);
}

void post_refuse(neap *n) {
    pthread_mutex_lock(&n->lock);
    n->is_closing = true;
    pthread_mutex_unlock(&n->lock);
}

void post_close(neap *n) {
    on_posts(&n->async);
}
