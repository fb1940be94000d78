// link_test: names with several addresses. The executable's getaddrinfo is what
// uv calls, so that a name leads where a test says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "redis/link.h"

// -- the name service

static int ports[8]; // of 127.0.0.1, 0 at the end
static atomic_int delay_ms, lookups, freed;

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000,
                                 .tv_nsec = ms % 1000 * 1000000L},
              NULL);
}

struct answer {
    struct addrinfo info;
    struct sockaddr_in address;
};

__attribute__((visibility("default"))) int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
            struct addrinfo **list) {
    (void)node, (void)service, (void)hints;
    lookups++;
    sleep_ms(delay_ms);
    *list = NULL;
    struct addrinfo **end = list;
    for (int i = 0; ports[i]; i++) {
        struct answer *a = xcalloc(1, sizeof *a);
        a->address.sin_family = AF_INET;
        a->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a->address.sin_port = htons((uint16_t)ports[i]);
        a->info.ai_family = AF_INET;
        a->info.ai_socktype = SOCK_STREAM;
        a->info.ai_addr = (struct sockaddr *)&a->address;
        a->info.ai_addrlen = sizeof a->address;
        *end = &a->info;
        end = &a->info.ai_next;
    }
    return *list ? 0 : EAI_NONAME;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *a) {
    freed += a != NULL;
    while (a) {
        struct addrinfo *next = a->ai_next;
        free(a);
        a = next;
    }
}

// -- where the addresses lead

static int open_port(int backlog, int *fd) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&a, len), 0);
    if (backlog >= 0) {
        assert_int_equal(listen(*fd, backlog), 0);
    }
    getsockname(*fd, (struct sockaddr *)&a, &len);
    return ntohs(a.sin_port);
}

// A hole is a listener whose backlog is full: who connects waits for ever.
struct hole {
    int port, fd, fill[4];
};

static void hole_open(struct hole *h) {
    h->port = open_port(0, &h->fd);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)h->port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 4; i++) {
        h->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(h->fill[i], (struct sockaddr *)&a, sizeof a);
    }
}

static void hole_close(struct hole *h) {
    close(h->fd);
    for (int i = 0; i < 4; i++) {
        close(h->fill[i]);
    }
}

// -- one attempt, and what came of it

struct attempt {
    struct runtime *rt;
    struct redis_url url;
    struct conn_options options;
    struct link *link;
    int opened, failed, ticks;
    char error[200];
    uv_loop_t loop;
    uv_timer_t tick;
};

// The link hands its connection to the events and nothing more.
static struct attempt *attempt_of(struct conn *c) {
    return (struct attempt *)(void *)c;
}

static void on_opened(struct conn *c) {
    attempt_of(c)->opened++;
}

static void on_failed(struct conn *c, bool is_final, const char *code,
                      const char *error) {
    assert_false(is_final);
    assert_string_equal(code, "redis.connect");
    attempt_of(c)->failed++;
    snprintf(attempt_of(c)->error, sizeof attempt_of(c)->error, "%s", error);
    // as a connection does: at once, from within
    link_close(attempt_of(c)->link);
    attempt_of(c)->link = NULL;
}

static void on_received(struct conn *c, const char *bytes, size_t len) {
    (void)c, (void)bytes, (void)len;
}

static void on_ended(struct conn *c, const char *error) {
    (void)c, (void)error;
}

static void on_written(struct conn *c) {
    (void)c;
}

static const struct link_events events = {on_opened, on_failed, on_received,
                                          on_ended, on_written};

static void on_tick(uv_timer_t *t) {
    ((struct attempt *)t->data)->ticks++;
}

static void begin(struct attempt *a, double connect_timeout) {
    char err[REDIS_URL_ERROR];
    *a = (struct attempt){0};
    lookups = freed = 0;
    assert_int_equal(uv_loop_init(&a->loop), 0);
    a->rt = runtime_new(&a->loop);
    assert_int_equal(
        redis_url_parse(&a->url, "redis://some.name:6379", err, sizeof err), 0);
    a->options = (struct conn_options){
        .url = &a->url, .timeout = 5, .connect_timeout = connect_timeout};
    uv_timer_init(&a->loop, &a->tick);
    a->tick.data = a;
    uv_timer_start(&a->tick, on_tick, 5, 5);
    a->link = link_open(a->rt, &a->options, &events, (struct conn *)(void *)a);
    assert_int_equal(a->opened + a->failed, 0); // never inside link_open
}

// run turns the loop until there is a result, at most so many ticks of 5 ms.
static void run(struct attempt *a, int ticks) {
    while (!a->opened && !a->failed && a->ticks < ticks) {
        uv_run(&a->loop, UV_RUN_ONCE);
    }
}

static void end(struct attempt *a) {
    if (a->link) {
        link_close(a->link);
    }
    uv_close((uv_handle_t *)&a->tick, NULL);
    runtime_close_begin(a->rt);
    runtime_close_wait(a->rt);
    runtime_close_end(a->rt);
    assert_int_equal(uv_loop_close(&a->loop), 0);
    redis_url_clear(&a->url);
    memset(ports, 0, sizeof ports);
    delay_ms = 0;
}

static void assert_opened_at(struct attempt *a, int listener) {
    assert_int_equal(a->failed, 0);
    assert_int_equal(a->opened, 1);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    close(fd);
}

// -- tests

static void the_first_address_is_taken(void **state) {
    (void)state;
    struct attempt a;
    int live, other;
    ports[0] = open_port(5, &live);
    ports[1] = open_port(5, &other);
    begin(&a, 5);
    run(&a, 2000);
    assert_int_equal(lookups, 1); // it is ours that uv calls
    assert_opened_at(&a, live);
    assert_string_equal(link_address(a.link), "some.name:6379");
    end(&a);
    assert_int_equal(freed, 1);
    close(live);
    close(other);
}

static void one_that_refuses_is_passed_by(void **state) {
    (void)state;
    struct attempt a;
    int live, dead;
    ports[0] = ports[1] = ports[2] = open_port(-1, &dead);
    ports[3] = open_port(5, &live);
    begin(&a, 5);
    run(&a, 2000);
    assert_opened_at(&a, live);
    end(&a);
    assert_int_equal(freed, 1);
    close(live);
    close(dead);
}

static void all_that_refuse_are_a_failure(void **state) {
    (void)state;
    struct attempt a;
    int dead;
    ports[0] = ports[1] = open_port(-1, &dead);
    begin(&a, 5);
    run(&a, 2000);
    assert_int_equal(a.opened, 0);
    assert_int_equal(a.failed, 1);
    assert_string_equal(a.error, uv_strerror(UV_ECONNREFUSED));
    end(&a);
    assert_int_equal(a.failed, 1);
    assert_int_equal(freed, 1);
    close(dead);
}

// However many are silent, the last is reached within the time to connect.
static void silent_ones_leave_time_for_the_last(void **state) {
    (void)state;
    for (int holes = 1; holes <= 6; holes += 2) {
        struct attempt a;
        struct hole h;
        int live;
        hole_open(&h);
        for (int i = 0; i < holes; i++) {
            ports[i] = h.port;
        }
        ports[holes] = open_port(5, &live);
        begin(&a, 1);
        run(&a, 200); // as long as that, or longer
        assert_opened_at(&a, live);
        end(&a);
        assert_int_equal(freed, 1);
        close(live);
        hole_close(&h);
    }
}

static void a_silent_one_then_one_that_refuses(void **state) {
    (void)state;
    struct attempt a;
    struct hole h;
    int live, dead;
    hole_open(&h);
    ports[0] = ports[2] = open_port(-1, &dead);
    ports[1] = ports[3] = h.port;
    ports[4] = open_port(5, &live);
    begin(&a, 0.4);
    run(&a, 400);
    assert_opened_at(&a, live);
    end(&a);
    close(live);
    close(dead);
    hole_close(&h);
}

static void closed_while_it_connects(void **state) {
    (void)state;
    struct hole h;
    hole_open(&h);
    for (int ticks = 0; ticks < 12; ticks += 3) {
        struct attempt a;
        ports[0] = ports[1] = ports[2] = h.port;
        begin(&a, 0.1);
        run(&a, ticks);
        end(&a);
        assert_int_equal(a.opened + a.failed, 0);
        assert_int_equal(freed, lookups);
    }
    hole_close(&h);
}

static void a_slow_name_service_does_not_hold_the_loop(void **state) {
    (void)state;
    struct attempt a;
    int live;
    ports[0] = open_port(5, &live);
    delay_ms = 300;
    begin(&a, 5);
    run(&a, 2000);
    assert_opened_at(&a, live);
    assert_true(a.ticks >= 10);
    end(&a);
    close(live);
}

// A slow one has used time up that the addresses share.
static void a_slow_name_service_leaves_time_too(void **state) {
    (void)state;
    struct attempt a;
    struct hole h;
    int live;
    hole_open(&h);
    ports[0] = ports[1] = h.port;
    ports[2] = open_port(5, &live);
    delay_ms = 500;
    begin(&a, 1);
    run(&a, 200);
    assert_opened_at(&a, live);
    end(&a);
    close(live);
    hole_close(&h);
}

static void closed_while_the_name_is_looked_up(void **state) {
    (void)state;
    struct attempt a;
    int live;
    ports[0] = open_port(5, &live);
    delay_ms = 200;
    begin(&a, 0.05);
    run(&a, 10); // as the connection's own timer would
    assert_int_equal(a.opened + a.failed, 0);
    link_close(a.link);
    a.link = NULL;
    run(&a, 80);
    assert_int_equal(a.opened + a.failed, 0);
    assert_int_equal(lookups, 1);
    assert_int_equal(freed, 1); // what came too late
    end(&a);
    close(live);
}

static void closed_before_the_lookup_begins(void **state) {
    (void)state;
    struct attempt a;
    int live;
    ports[0] = open_port(5, &live);
    begin(&a, 1);
    end(&a);
    assert_int_equal(a.opened + a.failed, 0);
    assert_int_equal(freed, lookups);
    close(live);
}

static void a_name_without_addresses_is_a_failure(void **state) {
    (void)state;
    struct attempt a;
    begin(&a, 1);
    run(&a, 200);
    assert_int_equal(a.failed, 1);
    assert_string_equal(a.error, uv_strerror(UV_EAI_NONAME));
    end(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_address_is_taken),
        cmocka_unit_test(one_that_refuses_is_passed_by),
        cmocka_unit_test(all_that_refuse_are_a_failure),
        cmocka_unit_test(silent_ones_leave_time_for_the_last),
        cmocka_unit_test(a_silent_one_then_one_that_refuses),
        cmocka_unit_test(closed_while_it_connects),
        cmocka_unit_test(a_slow_name_service_does_not_hold_the_loop),
        cmocka_unit_test(a_slow_name_service_leaves_time_too),
        cmocka_unit_test(closed_while_the_name_is_looked_up),
        cmocka_unit_test(closed_before_the_lookup_begins),
        cmocka_unit_test(a_name_without_addresses_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
