// rules: a server in C whose prices are Lua's: it takes lines "sku count" over
// TCP and answers "cents", or "error: why". Each line is a task, which reads a
// model; all are under way at once.
//
//   cc rules.c $(pkg-config --cflags --libs neap) -o rules
//   ./rules rules.lua 7000 &            # 0: any free port, which is printed
//   echo tea 3 | nc -N 127.0.0.1 7000
#include <arpa/inet.h>
#include <lauxlib.h>
#include <neap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static neap *rules;
static uv_tcp_t listener;
static uv_signal_t on_term;

// A client, which lives until it has closed and its last order is answered.
struct client {
    uv_tcp_t tcp;
    int orders; // under way
    int is_closed;
    size_t len;
    char line[256];
};

static void release(struct client *c) {
    if (c->is_closed && c->orders == 0) {
        free(c);
    }
}

static void on_closed(uv_handle_t *h) {
    struct client *c = h->data;
    c->is_closed = 1;
    release(c);
}

static void close_client(struct client *c) {
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    }
}

static void on_price(neap *n, int count, const char *error, const char *trace,
                     void *arg) {
    struct client *c = arg;
    char text[512];
    (void)trace;
    if (error) {
        snprintf(text, sizeof text, "error: %s\n", error);
    } else {
        snprintf(text, sizeof text, "%.0f\n",
                 count ? lua_tonumber(neap_lua(n), -1) : 0);
    }
    uv_buf_t b = uv_buf_init(text, (unsigned)strlen(text));
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
    }
    c->orders--;
    release(c);
}

static void order(struct client *c, const char *line) {
    char sku[64] = "";
    int count = 1;
    sscanf(line, "%63s %d", sku, &count);
    lua_State *L = neap_lua(rules);
    lua_getglobal(L, "price");
    lua_pushstring(L, sku);
    lua_pushinteger(L, count);
    c->orders++;
    neap_spawn(rules, 2, on_price, c);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *b) {
    struct client *c = h->data;
    (void)size;
    *b = uv_buf_init(c->line + c->len, (unsigned)(sizeof c->line - 1 - c->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct client *c = stream->data;
    (void)b;
    if (n < 0) {
        close_client(c); // also when a line is too long: UV_ENOBUFS
        return;
    }
    c->len += (size_t)n;
    char *end;
    while ((end = memchr(c->line, '\n', c->len))) {
        size_t used = (size_t)(end - c->line) + 1;
        *end = '\0';
        order(c, c->line);
        memmove(c->line, end + 1, c->len - used);
        c->len -= used;
    }
}

static void on_client(uv_stream_t *server, int status) {
    struct client *c = calloc(1, sizeof *c);
    if (status != 0 || !c) {
        free(c);
        return;
    }
    uv_tcp_init(server->loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept(server, (uv_stream_t *)&c->tcp) != 0) {
        close_client(c);
        return;
    }
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

static void on_ready(neap *n, int count, const char *error, const char *trace,
                     void *arg) {
    struct sockaddr_in address;
    int len = sizeof address, *port = arg;
    (void)count;
    if (error) {
        fprintf(stderr, "rules: %s\n%s\n", error, trace ? trace : "");
        neap_stop(n, 1);
        return;
    }
    uv_ip4_addr("127.0.0.1", *port, &address);
    uv_tcp_init(neap_loop(n), &listener);
    uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
    if (uv_listen((uv_stream_t *)&listener, 128, on_client) != 0) {
        fprintf(stderr, "rules: port %d is taken\n", *port);
        neap_stop(n, 1);
        return;
    }
    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len);
    printf("127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void stop(uv_signal_t *s, int number) {
    (void)number;
    uv_close((uv_handle_t *)&listener, NULL);
    uv_close((uv_handle_t *)s, NULL);
    neap_stop(rules, 0);
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "rules.lua";
    int port = argc > 2 ? atoi(argv[2]) : 7000;
    rules = neap_new(NULL);
    // the file defines stock and price; then stock() is run, then it listens
    lua_State *L = neap_lua(rules);
    if (luaL_loadstring(L, "dofile((...)) stock()") != 0) {
        return 1;
    }
    lua_pushstring(L, path);
    neap_spawn(rules, 1, on_ready, &port);
    uv_signal_init(neap_loop(rules), &on_term);
    uv_signal_start(&on_term, stop, SIGTERM);
    uv_unref((uv_handle_t *)&on_term);
    int status = neap_run(rules);
    neap_close(rules, NULL, NULL);
    return status;
}
