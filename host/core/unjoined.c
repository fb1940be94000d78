// unjoined: tasks that ended without anybody having waited for them.
#include "core/unjoined.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/runtime.h"

enum { places_max = 100, site_size = 256 };

struct unjoined {
    char sites[places_max][site_size];
    int count, logged;
};

void unjoined_set(struct runtime *rt, bool is_on) {
    if (is_on && !rt->unjoined) {
        rt->unjoined = xcalloc(1, sizeof *rt->unjoined);
    } else if (!is_on) {
        free(rt->unjoined);
        rt->unjoined = NULL;
    }
}

void unjoined_end(struct task *t) {
    if (t->rt->unjoined && t->is_awaitable && !t->is_joined) {
        char site[site_size];
        task_spawn_site(t, site, sizeof site);
        t->site = xstrdup(site);
    }
}

void unjoined_note(struct task *t) {
    struct unjoined *u = t->rt->unjoined;
    if (!u || !t->site || t->is_joined || u->count == places_max) {
        return;
    }
    for (int i = 0; i < u->count; i++) {
        if (strcmp(u->sites[i], t->site) == 0) {
            return;
        }
    }
    strcpy(u->sites[u->count++], t->site);
    runtime_defer(t->rt, &t->rt->report);
}

void unjoined_report(struct runtime *rt) {
    struct unjoined *u = rt->unjoined;
    for (; u && u->logged < u->count; u->logged++) {
        log_write(&rt->log, LOG_WARN,
                  "nobody joined a task spawned at %s (its result, if it has "
                  "one, is lost)",
                  u->sites[u->logged]);
    }
}
