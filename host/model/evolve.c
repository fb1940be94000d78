// evolve: from the definition that is stored to the one of the code.
#include <stdio.h>
#include <string.h>

#include "model/schema.h"

// A line of a stored definition: its text without the build, which is what an
// index is kept in, and the build.
struct line {
    const char *name, *text;
    size_t name_len, text_len;
    uint32_t build;
    bool is_building;
};

static bool ends_with(const char *s, size_t len, const char *end) {
    size_t n = strlen(end);
    return len >= n && memcmp(s + len - n, end, n) == 0;
}

// read_build reads all of [p, end) as the number of a build, of 9 digits at
// most; false if it is none.
static bool read_build(const char *p, const char *end, uint32_t *build) {
    uint32_t v = 0;
    if (p >= end || end - p > 9) {
        return false;
    }
    for (; p < end; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        v = v * 10 + (uint32_t)(*p - '0');
    }
    *build = v;
    return true;
}

// next_line takes one line off [*at, end); false at the end.
static bool next_line(const char **at, const char *end, struct line *line) {
    if (*at >= end) {
        return false;
    }
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    stop = stop ? stop : end;
    *line = (struct line){.text = *at, .text_len = (size_t)(stop - *at)};
    *at = stop + 1;
    if (ends_with(line->text, line->text_len, " building")) {
        line->is_building = true;
        line->text_len -= strlen(" building");
    }
    const char *mark = memrchr(line->text, '#', line->text_len);
    if (mark && mark > line->text && mark[-1] == ' ' &&
        read_build(mark + 1, line->text + line->text_len, &line->build)) {
        line->text_len = (size_t)(mark - 1 - line->text);
    }
    const char *space = memchr(line->text, ' ', line->text_len);
    line->name = line->text;
    line->name_len = space ? (size_t)(space - line->text) : line->text_len;
    return true;
}

static bool find_line(const char *stored, size_t len, const char *name,
                      struct line *line) {
    const char *at = stored, *end = stored + len;
    bool is_first = true;
    while (next_line(&at, end, line)) {
        if (!is_first && strlen(name) == line->name_len &&
            memcmp(name, line->name, line->name_len) == 0) {
            return true;
        }
        is_first = false; // "model NAME": no field's line
    }
    return false;
}

// A unit is what has a build of its own: a field's indexes or a compound one.
struct unit {
    const char *name;
    uint32_t *build;
    bool *is_building;
    bool is_structure;
    struct buf text;
};

static uint32_t unit_count(const struct schema *s) {
    return s->count + s->compound_count;
}

static struct unit unit_of(struct schema *s, uint32_t i) {
    struct unit u = {.is_structure = true};
    if (i < s->count) {
        struct field *f = &s->fields[i];
        u.name = f->name;
        u.build = &f->build;
        u.is_building = &f->is_building;
        u.is_structure = schema_is_structure(s, i);
        schema_describe_field(s, i, &u.text);
    } else {
        struct compound *c = &s->compounds[i - s->count];
        u.name = c->name;
        u.build = &c->build;
        u.is_building = &c->is_building;
        schema_describe_compound(s, i - s->count, &u.text);
    }
    return u;
}

static bool is_same(const struct unit *u, const struct line *line) {
    return u->text.len == line->text_len &&
           memcmp(u->text.data, line->text, line->text_len) == 0;
}

// is_index says whether a stored line is that of a structure.
static bool is_index(const struct line *line) {
    static const char *const words[] = {" primary", " unique",  " bitmap",
                                        " set",     " packed",  " zset",
                                        " lex",     " compound"};
    // behind the type, which may be called "set" itself
    const char *type = memchr(line->text, ' ', line->text_len);
    if (!type) {
        return false;
    }
    size_t left = (size_t)(line->text + line->text_len - (type + 1));
    const char *rest = memchr(type + 1, ' ', left);
    rest = ends_with(line->text, line->text_len, " compound") ? type : rest;
    for (size_t i = 0; rest && i < sizeof words / sizeof words[0]; i++) {
        size_t len = (size_t)(line->text + line->text_len - rest);
        if (memmem(rest, len, words[i], strlen(words[i]))) {
            return true;
        }
    }
    return false;
}

static int find_unit(struct schema *s, const struct line *line) {
    for (uint32_t i = 0; i < unit_count(s); i++) {
        const char *name =
            i < s->count ? s->fields[i].name : s->compounds[i - s->count].name;
        if (strlen(name) == line->name_len &&
            memcmp(name, line->name, line->name_len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

// stored_builds returns the number of the last build that there was.
static uint32_t stored_builds(const char *stored, size_t len) {
    const char *at = stored, *end = stored + len;
    struct line line;
    uint32_t last = 0;
    while (next_line(&at, end, &line)) {
        uint32_t build = line.build;
        if (line.name_len == strlen("@builds") &&
            memcmp(line.name, "@builds", line.name_len) == 0) {
            read_build(line.name + line.name_len + 1, line.text + line.text_len,
                       &build);
        }
        last = build > last ? build : last;
    }
    return last;
}

static bool has_same_ttl(const struct schema *s, const char *stored,
                         size_t len) {
    struct line line;
    return find_line(stored, len, "@ttl", &line) == s->has_ttl;
}

// has_same_head says whether a stored definition is whole, and of this model
// and this version of the text: its first line is ours.
static bool has_same_head(const struct schema *s, const char *stored,
                          size_t len) {
    const char *end = memchr(s->text.data, '\n', s->text.len);
    size_t head = (size_t)(end - s->text.data) + 1;
    return len >= head && memcmp(stored, s->text.data, head) == 0 &&
           stored[len - 1] == '\n';
}

// is_alike says whether a stored definition has the structures of s.
static bool is_alike(struct schema *s, const char *stored, size_t len) {
    const char *at = stored, *end = stored + len;
    struct line line;
    uint32_t ours = 0, theirs = 0;
    next_line(&at, end, &line);
    while (next_line(&at, end, &line)) {
        theirs += is_index(&line);
    }
    bool is = has_same_head(s, stored, len) && has_same_ttl(s, stored, len);
    for (uint32_t i = 0; i < unit_count(s); i++) {
        struct unit u = unit_of(s, i);
        ours += u.is_structure;
        is = is && (!u.is_structure || (find_line(stored, len, u.name, &line) &&
                                        is_same(&u, &line)));
        buf_clear(&u.text);
    }
    return is && ours == theirs;
}

bool schema_adopt(struct schema *s, const char *stored, size_t len) {
    if (!is_alike(s, stored, len)) {
        return false;
    }
    s->builds = stored_builds(stored, len);
    for (uint32_t i = 0; i < unit_count(s); i++) {
        struct unit u = unit_of(s, i);
        struct line line;
        if (u.is_structure && find_line(stored, len, u.name, &line)) {
            *u.build = line.build;
            *u.is_building = line.is_building;
        }
        buf_clear(&u.text);
    }
    schema_describe(s);
    return true;
}

// keeps_rows: rows stay where they are only if the primary key does; and those
// that expire have to.
static bool keeps_rows(struct schema *s, const char *stored, size_t len) {
    struct unit u = unit_of(s, (uint32_t)s->primary);
    struct line line;
    bool is = has_same_head(s, stored, len) &&
              find_line(stored, len, u.name, &line) && is_same(&u, &line) &&
              (s->has_ttl || !find_line(stored, len, "@ttl", &line));
    buf_clear(&u.text);
    return is;
}

int schema_follow(struct schema *s, const char *stored, size_t len,
                  struct buf *dropped, char *error, size_t size) {
    if (!keeps_rows(s, stored, len)) {
        snprintf(
            error, size,
            "model %s: its rows are stored under another primary key, with "
            "another ttl, or by another version of neap: take the change "
            "back, or drop() the model and store its rows again",
            s->name);
        return -1;
    }
    const char *at = stored, *end = stored + len;
    struct line line;
    int count = 0;
    s->builds = stored_builds(stored, len);
    next_line(&at, end, &line);
    while (next_line(&at, end, &line)) {
        int i = find_unit(s, &line);
        struct unit u = {0};
        if (i >= 0) {
            u = unit_of(s, (uint32_t)i);
        }
        if (is_index(&line) &&
            (i < 0 || !u.is_structure || !is_same(&u, &line))) {
            buf_printf(dropped, "%.*s %u\n", (int)line.name_len, line.name,
                       line.build);
        }
        buf_clear(&u.text);
    }
    for (uint32_t i = 0; i < unit_count(s); i++) {
        struct unit u = unit_of(s, i);
        *u.build = 0;
        *u.is_building = false;
        bool is_there = find_line(stored, len, u.name, &line);
        if (u.is_structure && is_there && is_same(&u, &line)) {
            *u.build = line.build;
            *u.is_building = line.is_building;
        } else if (u.is_structure) {
            *u.build = ++s->builds;
            *u.is_building = true;
        }
        count += *u.is_building;
        buf_clear(&u.text);
    }
    schema_describe(s);
    return count;
}

void schema_complete(struct schema *s) {
    for (uint32_t i = 0; i < unit_count(s); i++) {
        struct unit u = unit_of(s, i);
        *u.is_building = false;
        buf_clear(&u.text);
    }
    schema_describe(s);
}
