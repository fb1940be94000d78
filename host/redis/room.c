// room: tells when a socket takes more bytes.
#include "redis/room.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

static void retry_soon(struct room *r) {
    timer_start(r->timers, &r->retry, timer_after(0.01));
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct room *r = (struct room *)poll;
    (void)events;
    if (status < 0) { // it polls no more; what is wrong shows in writing
        retry_soon(r);
    }
    r->fn(poll->data);
}

static void on_retry(struct timer *t) {
    struct room *r =
        (struct room *)(void *)((char *)t - offsetof(struct room, retry));
    retry_soon(r);
    r->fn(r->poll.data);
}

void room_init(struct room *r, uv_stream_t *stream, struct timers *timers,
               void (*fn)(void *owner), void *owner) {
    *r = (struct room){.fd = -1, .stream = stream, .timers = timers, .fn = fn};
    r->poll.data = owner;
    timer_init(&r->retry, on_retry);
}

// open_poll duplicates the socket, which epoll would not take twice.
static void open_poll(struct room *r) {
    uv_os_fd_t fd = -1;
    uv_fileno((uv_handle_t *)r->stream, &fd);
    r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (r->fd >= 0 && uv_poll_init(r->stream->loop, &r->poll, r->fd) < 0) {
        close(r->fd);
        r->fd = -1;
    }
}

void room_await(struct room *r) {
    if (r->fd < 0) {
        open_poll(r);
    }
    if (r->fd < 0 || uv_poll_start(&r->poll, UV_WRITABLE, on_poll) < 0) {
        retry_soon(r);
    }
}

void room_stop(struct room *r) {
    timer_stop(r->timers, &r->retry);
    if (r->fd >= 0) {
        uv_poll_stop(&r->poll);
    }
}

bool room_close(struct room *r, uv_close_cb closed) {
    timer_stop(r->timers, &r->retry);
    if (r->fd < 0) {
        return false;
    }
    uv_close((uv_handle_t *)&r->poll, closed);
    close(r->fd);
    return true;
}
