// nest: an instance's loop within one that the program runs. The outer loop
// polls the inner one's descriptor, and runs it each time before it polls; so
// the two keep apart whose handles are whose.
// (libuv: uv_backend_fd "is for embedding one loop in another")
#include <stdlib.h>

#include "api/instance.h"
#include "base/mem.h"

struct nest {
    uv_loop_t *outer;
    uv_prepare_t prepare;
    uv_poll_t poll;
    uv_timer_t timer;
    int handles;            // of these that are open
    void (*begin)(neap *n); // to be called, to close the instance
    void (*done)(neap *n);  // set once it is being closed
    neap *n;
};

uv_loop_t *nest_outer(const neap *n) {
    return n->nest->outer;
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events; // what is ready is run before the next poll
}

static void on_timer(uv_timer_t *timer) {
    (void)timer;
}

static void on_handle_closed(uv_handle_t *h) {
    struct nest *nest = h->data;
    neap *n = nest->n;
    if (--nest->handles > 0) {
        return;
    }
    void (*done)(neap *) = nest->done;
    n->nest = NULL;
    free(nest);
    done(n);
}

static void close_handles(struct nest *nest) {
    uv_close((uv_handle_t *)&nest->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&nest->poll, on_handle_closed);
    uv_close((uv_handle_t *)&nest->timer, on_handle_closed);
}

// arm makes the outer loop wake when the inner one wants to run again, and
// live as long as there is something for it to do.
static void arm(struct nest *nest, bool is_alive) {
    uv_update_time(&nest->n->loop); // the inner loop's is that of its poll
    int timeout = uv_backend_timeout(&nest->n->loop);
    if (is_alive) {
        uv_ref((uv_handle_t *)&nest->poll);
    } else {
        uv_unref((uv_handle_t *)&nest->poll);
    }
    if (timeout >= 0 && is_alive) {
        uv_timer_start(&nest->timer, on_timer, (uint64_t)timeout, 0);
    } else {
        uv_timer_stop(&nest->timer);
    }
}

static void on_prepare(uv_prepare_t *prepare) {
    struct nest *nest = prepare->data;
    neap *n = nest->n;
    if (nest->begin) {
        void (*begin)(neap *) = nest->begin;
        nest->begin = NULL;
        begin(n);
    }
    uv_run(&n->loop, UV_RUN_NOWAIT);
    if (nest->begin) { // what ran has closed it
        nest_wake(n);
        return;
    }
    bool is_alive = uv_loop_alive(&n->loop);
    if (nest->done && !is_alive) {
        close_handles(nest);
        return;
    }
    if (!nest->done) {
        is_alive = !runtime_step(n->rt) && uv_loop_alive(&n->loop);
    }
    arm(nest, is_alive);
}

int nest_open(neap *n, uv_loop_t *outer) {
    struct nest *nest = xcalloc(1, sizeof *nest);
    nest->outer = outer;
    nest->n = n;
    nest->prepare.data = nest->poll.data = nest->timer.data = nest;
    int rc = uv_poll_init(outer, &nest->poll, uv_backend_fd(&n->loop));
    if (rc != 0) {
        free(nest);
        return instance_fail("the loop cannot be nested: %s", uv_strerror(rc));
    }
    uv_prepare_init(outer, &nest->prepare);
    uv_timer_init(outer, &nest->timer);
    nest->handles = 3;
    uv_poll_start(&nest->poll, UV_READABLE, on_ready);
    uv_prepare_start(&nest->prepare, on_prepare);
    uv_unref((uv_handle_t *)&nest->prepare);
    n->nest = nest;
    return 0;
}

void nest_wake(neap *n) {
    uv_ref((uv_handle_t *)&n->nest->poll);
    if (!uv_is_active((uv_handle_t *)&n->nest->timer) ||
        uv_timer_get_due_in(&n->nest->timer) > 0) {
        uv_timer_start(&n->nest->timer, on_timer, 0, 0);
    }
}

void nest_close(neap *n, void (*begin)(neap *n), void (*done)(neap *n)) {
    n->nest->begin = begin;
    n->nest->done = done;
    nest_wake(n);
}
