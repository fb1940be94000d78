// profile: samples of where Lua code spends its time, as folded stacks.
#include "core/profile.h"

#include <luajit.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "core/probe.h"
#include "core/runtime.h"

enum { depth_max = 100, stacks_most = 100000 };

struct stack {
    char *text; // NULL: a free place
    uint64_t hash, count;
};

struct profile {
    struct runtime *rt;
    struct stack *stacks; // a table of 2^n places, at most half of them taken
    size_t taken, places;
    uint64_t samples;
    _Atomic uint64_t
        host; // counted in a signal handler, which must not allocate
};

static struct stack *find(struct profile *p, uint64_t hash, const char *text,
                          size_t len) {
    size_t i = hash & (p->places - 1);
    while (p->stacks[i].text &&
           (p->stacks[i].hash != hash || strlen(p->stacks[i].text) != len ||
            memcmp(p->stacks[i].text, text, len) != 0)) {
        i = (i + 1) & (p->places - 1);
    }
    return &p->stacks[i];
}

static void grow(struct profile *p) {
    struct stack *old = p->stacks;
    size_t n = p->places;
    p->places = n ? n * 2 : 256;
    p->stacks = xcalloc(p->places, sizeof p->stacks[0]);
    for (size_t i = 0; i < n; i++) {
        if (old[i].text) {
            *find(p, old[i].hash, old[i].text, strlen(old[i].text)) = old[i];
        }
    }
    free(old);
}

static void add(struct profile *p, const char *text, size_t len, int count) {
    if (p->taken * 2 >= p->places) {
        grow(p);
    }
    uint64_t hash = hash128(text, len).low;
    struct stack *s = find(p, hash, text, len);
    if (!s->text) {
        if (p->taken == stacks_most) {
            return;
        }
        s->text = xmalloc(len + 1);
        memcpy(s->text, text, len);
        s->text[len] = '\0';
        s->hash = hash;
        p->taken++;
    }
    s->count += (uint64_t)count;
}

static void on_sample(void *arg, lua_State *L, int count, int vmstate) {
    struct profile *p = arg;
    if (!L) {
        p->host += (uint64_t)count;
        return;
    }
    p->samples += (uint64_t)count;
    size_t len;
    const char *text = luaJIT_profile_dumpstack(L, "pF;", -depth_max, &len);
    if (vmstate == 'G') {
        struct buf b = {0};
        buf_add(&b, text, len);
        buf_adds(&b, "[GC]");
        add(p, b.data, b.len, count);
        buf_clear(&b);
    } else {
        add(p, text, len && text[len - 1] == ';' ? len - 1 : len, count);
    }
}

struct profile *profile_start(struct runtime *rt, int interval_ms) {
    if (!rt->monitor.dog || rt->profile) {
        return NULL;
    }
    struct profile *p = xcalloc(1, sizeof *p);
    p->rt = rt;
    grow(p);
    rt->profile = p;
    probe_sample(rt, interval_ms, on_sample, p);
    return p;
}

static int by_text(const void *a, const void *b) {
    const struct stack *x = a, *y = b;
    if (!x->text || !y->text) {
        return (x->text == NULL) - (y->text == NULL);
    }
    return strcmp(x->text, y->text);
}

uint64_t profile_stop(struct profile *p, struct buf *out) {
    probe_sample(p->rt, 0, NULL, NULL);
    p->rt->profile = NULL;
    qsort(p->stacks, p->places, sizeof p->stacks[0], by_text);
    for (size_t i = 0; i < p->taken; i++) {
        struct stack *s = &p->stacks[i];
        buf_printf(out, "%s %llu\n", s->text, (unsigned long long)s->count);
        free(s->text);
    }
    uint64_t host = p->host, samples = p->samples + host;
    if (host) {
        buf_printf(out, "[host] %llu\n", (unsigned long long)host);
    }
    free(p->stacks);
    free(p);
    return samples;
}
