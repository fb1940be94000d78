// room: tells when a socket takes more bytes, for one who writes with
// uv_try_write: libuv itself tells that only by way of uv_write, and while one
// of these is under way nothing else can be tried.
//
//   room_init(&s->room, &s->stream, &rt->timers, on_room, s);
//   room_await(&s->room); // on_room(s), again and again, until
//   room_stop(&s->room);
//   room_close(&s->room, on_closed);
#ifndef NEAP_REDIS_ROOM_H
#define NEAP_REDIS_ROOM_H

#include <stdbool.h>
#include <uv.h>

#include "core/timer.h"

struct room {
    uv_poll_t poll; // of a duplicate of the socket; data is the owner
    int fd;         // that duplicate, -1 until one is needed
    uv_stream_t *stream;
    struct timers *timers;
    struct timer retry; // where there was no descriptor left for it
    void (*fn)(void *owner);
};

// room_init readies one; fn may find that there is no room yet.
void room_init(struct room *r, uv_stream_t *stream, struct timers *timers,
               void (*fn)(void *owner), void *owner);

// room_await calls fn(owner) whenever there may be room.
void room_await(struct room *r);

// room_stop makes sure that fn is not called.
void room_stop(struct room *r);

// room_close frees what it holds. It returns whether `closed` will be called:
// until then its memory has to stay.
bool room_close(struct room *r, uv_close_cb closed);

#endif
