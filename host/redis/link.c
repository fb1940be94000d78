// link: one attempt to reach a Redis server.
#include "redis/link.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

// A lookup finds out where to connect to: a name's address, or the embedded
// server's path. It may outlive its link.
struct lookup {
    uv_getaddrinfo_t req;
    bool is_name;
    struct link *link; // NULL once given up
};

const char *link_describe(const struct conn_options *options, char *out,
                          size_t size) {
    if (options->embedded) {
        snprintf(out, size, "the embedded redis-server");
        return out;
    }
    return redis_url_describe(options->url, out, size);
}

static void on_failing(struct defer *d) {
    struct link *l =
        (struct link *)(void *)((char *)d - offsetof(struct link, failing));
    l->events->failed(l->conn, false, uv_strerror(l->error));
}

static void fail_soon(struct link *l, int error) {
    l->error = error;
    runtime_defer(l->rt, &l->failing);
}

static void on_connected(uv_connect_t *req, int status) {
    struct link *l = req->data;
    if (!l->conn) {
        return;
    }
    if (status < 0) {
        l->events->failed(l->conn, false, uv_strerror(status));
        return;
    }
    if (l->handle.type == UV_TCP) {
        uv_tcp_nodelay(&l->tcp, 1);
        uv_tcp_keepalive(&l->tcp, 1, 60);
    }
    l->events->opened(l->conn);
}

static void connect_path(struct link *l, const char *path) {
    uv_pipe_init(l->rt->loop, &l->pipe, 0);
    l->handle.data = l;
    l->has_handle = true;
    uv_pipe_connect(&l->connect, &l->pipe, path, on_connected);
}

static void connect_address(struct link *l, const struct sockaddr *address) {
    uv_tcp_init(l->rt->loop, &l->tcp);
    l->handle.data = l;
    l->has_handle = true;
    int r = uv_tcp_connect(&l->connect, &l->tcp, address, on_connected);
    if (r < 0) {
        fail_soon(l, r);
    }
}

static struct lookup *new_lookup(struct link *l) {
    struct lookup *k = xcalloc(1, sizeof *k);
    k->link = l;
    k->req.data = k;
    l->lookup = k;
    return k;
}

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *list) {
    struct lookup *k = req->data;
    struct link *l = k->link;
    free(k);
    if (l) {
        l->lookup = NULL;
        if (status < 0) {
            l->events->failed(l->conn, false, uv_strerror(status));
        } else {
            connect_address(l, list->ai_addr);
        }
    }
    uv_freeaddrinfo(list);
}

static void resolve(struct link *l, const struct redis_url *u) {
    char port[16];
    snprintf(port, sizeof port, "%d", u->port);
    struct lookup *k = new_lookup(l);
    k->is_name = true;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int r = uv_getaddrinfo(l->rt->loop, &k->req, on_resolved, u->host, port,
                           &hints);
    if (r < 0) {
        l->lookup = NULL;
        free(k);
        fail_soon(l, r);
    }
}

// on_embedded: what keeps a server from starting rarely goes away by itself.
static void on_embedded(void *arg, int status, const char *path,
                        const char *error) {
    struct lookup *k = arg;
    struct link *l = k->link;
    free(k);
    l->lookup = NULL;
    if (status < 0) {
        l->events->failed(l->conn, true, error);
    } else {
        connect_path(l, path);
    }
}

struct link *link_open(struct runtime *rt, const struct conn_options *options,
                       const struct link_events *events, struct conn *conn) {
    const struct redis_url *u = options->url;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct link *l = xcalloc(1, sizeof *l);
    l->rt = rt;
    l->options = options;
    l->events = events;
    l->conn = conn;
    l->connect.data = l;
    l->failing.fn = on_failing;
    if (options->embedded) {
        embedded_ready(options->embedded, on_embedded, new_lookup(l));
    } else if (u->path) {
        connect_path(l, u->path);
    } else if (uv_ip4_addr(u->host, u->port, &v4) == 0) {
        connect_address(l, (struct sockaddr *)&v4);
    } else if (uv_ip6_addr(u->host, u->port, &v6) == 0) {
        connect_address(l, (struct sockaddr *)&v6);
    } else {
        resolve(l, u);
    }
    return l;
}

static void on_closed(uv_handle_t *h) {
    free(h->data);
}

void link_close(struct link *l) {
    l->conn = NULL;
    runtime_undefer(l->rt, &l->failing);
    if (l->lookup && l->lookup->is_name) {
        l->lookup->link = NULL; // it is freed when its callback comes
        uv_cancel((uv_req_t *)&l->lookup->req);
    } else if (l->lookup) {
        embedded_forget(l->options->embedded, l->lookup);
        free(l->lookup);
    }
    l->lookup = NULL;
    if (l->has_handle) {
        uv_close(&l->handle, on_closed);
    } else {
        free(l);
    }
}
