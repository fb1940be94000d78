// packed: scans of packed columns over one segment of rows.
#include "model/packed.h"

#include <stdlib.h>
#include <string.h>

#include "base/be.h"
#include "base/mem.h"

// Up to this many values a scan for each is faster than a lookup for each row.
#define IN_SCANS 4

// packed_top gathers at least so many rows before it drops the latest.
#define TOP_GATHERED 128

// Up to this many rows of 64 are tested one by one.
#define FEW_ROWS 8

// A packed column, as it is passed to the functions.
struct column {
    const uint8_t *data;
    size_t len;
    int width;
};

// What the rows of a block are tested against; see scan.
struct probe {
    int width;
    uint64_t lo;
    uint64_t span;          // hi - lo
    const struct bits *set; // values, as a set of 16-bit numbers
    const uint64_t *values; // values, sorted
    size_t count;           // of values
};

// Tests the 64 rows at p.
typedef uint64_t (*test_fn)(const uint8_t *p, const struct probe *probe);

static size_t clip(size_t n, size_t max) {
    return n < max ? n : max;
}

static uint64_t get(const uint8_t *p, int width) {
    switch (width) {
    case 1: return *p;
    case 2: return be_get16(p);
    case 4: return be_get32(p);
    default: return be_get64(p);
    }
}

static uint64_t max_of(int width) {
    return UINT64_MAX >> (64 - 8 * width);
}

uint64_t packed_get(const void *col, size_t len, int width, uint32_t o) {
    size_t at = (size_t)o * (size_t)width;
    if (at + (size_t)width > len) {
        return 0;
    }
    return get((const uint8_t *)col + at, width);
}

void packed_put(char *out, int width, uint64_t v) {
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)(v & 0xff);
        v >>= 8;
    }
}

// Returns the 64 rows of word w, copied to room if the string does not hold
// them all. Rows that were never written are zeros there, so that missing and
// null cannot differ.
static const uint8_t *block_of(const struct column *c, size_t w,
                               uint8_t room[64 * 8]) {
    size_t width = (size_t)c->width;
    size_t at = w * 64 * width;
    if (at + 64 * width <= c->len) {
        return c->data + at;
    }
    memset(room, 0, 64 * width);
    if (at < c->len) {
        memcpy(room, c->data + at, (c->len - at) / width * width);
    }
    return room;
}

// Tests a column 64 rows at a time, and those that are missing once.
static void scan(struct bits *out, const struct column *c, test_fn test,
                 const struct probe *probe) {
    uint8_t room[64 * 8];
    size_t block = 64 * (size_t)c->width;
    size_t written = clip((c->len + block - 1) / block, BITS_WORDS);
    for (size_t w = 0; w < written; w++) {
        out->word[w] = test(block_of(c, w, room), probe);
    }
    uint64_t missing = test(block_of(c, written, room), probe);
    for (size_t w = written; w < BITS_WORDS; w++) {
        out->word[w] = missing;
    }
}

// Packs 64 flags, 0 or 1, into a word. The product moves the flag that is bit
// 8i of its factor to bit 56 + i; no two terms meet, so nothing carries.
static inline uint64_t pack(const uint8_t *flag) {
    uint64_t word = 0;
    for (size_t i = 0; i < 64; i += 8) {
        uint64_t eight = be_get64(flag + i) * UINT64_C(0x0102040810204080);
        word = word << 8 | eight >> 56;
    }
    return word;
}

// The range tests compare once: lo <= v <= hi is v - lo <= hi - lo, unsigned.
// One for each width, so that the loops vectorise.
static uint64_t range_1(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint8_t lo = (uint8_t)probe->lo;
    uint8_t span = (uint8_t)probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = (uint8_t)(p[i] - lo) <= span;
    }
    return pack(flag);
}

static uint64_t range_2(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint16_t lo = (uint16_t)probe->lo;
    uint16_t span = (uint16_t)probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = (uint16_t)(be_get16(p + 2 * i) - lo) <= span;
    }
    return pack(flag);
}

static uint64_t range_4(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint32_t lo = (uint32_t)probe->lo;
    uint32_t span = (uint32_t)probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = be_get32(p + 4 * i) - lo <= span;
    }
    return pack(flag);
}

static uint64_t range_8(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint64_t lo = probe->lo;
    uint64_t span = probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = be_get64(p + 8 * i) - lo <= span;
    }
    return pack(flag);
}

static test_fn range_test(int width) {
    switch (width) {
    case 1: return range_1;
    case 2: return range_2;
    case 4: return range_4;
    default: return range_8;
    }
}

void packed_range(struct bits *restrict out, const void *restrict col,
                  size_t len, int width, uint64_t lo, uint64_t hi) {
    uint64_t max = max_of(width);
    if (lo > hi || lo > max) {
        bits_zero(out);
        return;
    }
    struct column c = {col, len, width};
    struct probe probe = {.width = width, .lo = lo};
    probe.span = (hi < max ? hi : max) - lo;
    scan(out, &c, range_test(width), &probe);
}

// Tests rows of width 1 or 2 against a set of numbers.
static uint64_t in_set(const uint8_t *p, const struct probe *probe) {
    uint64_t word = 0;
    for (size_t i = 0; i < 64; i++) {
        uint64_t v = get(p, probe->width);
        word = word << 1 | bits_test(probe->set, (uint32_t)v);
        p += probe->width;
    }
    return word;
}

// Tests rows against sorted values. The search never ends early, which leaves
// the compiler a conditional move in place of a branch.
static uint64_t in_sorted(const uint8_t *p, const struct probe *probe) {
    uint64_t word = 0;
    for (size_t i = 0; i < 64; i++) {
        uint64_t v = get(p, probe->width);
        const uint64_t *at = probe->values;
        for (size_t n = probe->count; n > 1; n -= n / 2) {
            at += at[n / 2] <= v ? n / 2 : 0;
        }
        word = word << 1 | (*at == v);
        p += probe->width;
    }
    return word;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void packed_in(struct bits *restrict out, const void *restrict col, size_t len,
               int width, const uint64_t *restrict values, size_t n) {
    struct column c = {col, len, width};
    struct bits set;
    bits_zero(&set);
    if (n <= IN_SCANS) {
        bits_zero(out);
        for (size_t i = 0; i < n; i++) {
            packed_range(&set, col, len, width, values[i], values[i]);
            bits_or(out, &set);
        }
    } else if (width <= 2) {
        for (size_t i = 0; i < n; i++) {
            if (values[i] <= max_of(width)) {
                bits_set(&set, (uint32_t)values[i]);
            }
        }
        struct probe probe = {.width = width, .set = &set};
        scan(out, &c, in_set, &probe);
    } else {
        uint64_t *sorted = xmalloc(n * sizeof *sorted);
        memcpy(sorted, values, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare);
        struct probe probe = {.width = width, .values = sorted, .count = n};
        scan(out, &c, in_sorted, &probe);
        free(sorted);
    }
}

// Reads the 64 rows at p, with a loop for each width, so that they vectorise.
static void unpack(const uint8_t *p, int width, uint64_t out[64]) {
    switch (width) {
    case 1:
        for (size_t i = 0; i < 64; i++) {
            out[i] = p[i];
        }
        break;
    case 2:
        for (size_t i = 0; i < 64; i++) {
            out[i] = be_get16(p + 2 * i);
        }
        break;
    case 4:
        for (size_t i = 0; i < 64; i++) {
            out[i] = be_get32(p + 4 * i);
        }
        break;
    default:
        for (size_t i = 0; i < 64; i++) {
            out[i] = be_get64(p + 8 * i);
        }
    }
}

// Writes the numbers of the rows of word w that x has and returns how many.
static size_t numbers_of(const struct column *c, size_t w, uint64_t x,
                         uint64_t out[64]) {
    if (!x) {
        return 0;
    }
    uint8_t room[64 * 8];
    const uint8_t *p = block_of(c, w, room);
    if (x == UINT64_MAX) {
        unpack(p, c->width, out);
        return 64;
    }
    size_t n = 0;
    while (x) {
        size_t i = (size_t)__builtin_clzll(x);
        x ^= UINT64_C(1) << (63 - i);
        out[n++] = get(p + i * (size_t)c->width, c->width);
    }
    return n;
}

__int128 packed_sum(const void *col, size_t len, int width, int64_t base,
                    const struct bits *b, uint32_t *count) {
    struct column c = {col, len, width};
    uint64_t numbers[64];
    __int128 sum = 0;
    *count = 0;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        size_t n = numbers_of(&c, w, b->word[w], numbers);
        uint64_t low = 0;
        uint64_t high = 0;
        for (size_t i = 0; i < n; i++) {
            low += numbers[i] & UINT32_MAX;
            high += numbers[i] >> 32;
            *count += numbers[i] != 0;
        }
        sum += ((__int128)high << 32) + low;
    }
    return sum + *count * ((__int128)base - 1);
}

uint64_t packed_min(const void *col, size_t len, int width,
                    const struct bits *b) {
    struct column c = {col, len, width};
    uint64_t numbers[64];
    uint64_t least = UINT64_MAX; // of number - 1, so that null is the greatest
    for (size_t w = 0; w < BITS_WORDS; w++) {
        size_t n = numbers_of(&c, w, b->word[w], numbers);
        for (size_t i = 0; i < n; i++) {
            least = numbers[i] - 1 < least ? numbers[i] - 1 : least;
        }
    }
    return least + 1;
}

uint64_t packed_max(const void *col, size_t len, int width,
                    const struct bits *b) {
    struct column c = {col, len, width};
    uint64_t numbers[64];
    uint64_t greatest = 0;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        size_t n = numbers_of(&c, w, b->word[w], numbers);
        for (size_t i = 0; i < n; i++) {
            greatest = numbers[i] > greatest ? numbers[i] : greatest;
        }
    }
    return greatest;
}

void packed_histogram(const void *col, size_t len, int width,
                      const struct bits *b, uint64_t *counts) {
    struct column c = {col, len, width};
    uint64_t numbers[64];
    for (size_t w = 0; w < BITS_WORDS; w++) {
        size_t n = numbers_of(&c, w, b->word[w], numbers);
        for (size_t i = 0; i < n; i++) {
            counts[numbers[i]]++;
        }
    }
}

// A row that packed_top gathered; rank rises as the row comes later.
struct entry {
    uint64_t rank;
    uint16_t offset;
};

// What packed_top gathered, and which rows it wants yet: those from the rank
// first on, of first itself only those behind the row `after`, up to last.
struct top {
    struct column col;
    bool descending;
    uint64_t first;
    uint64_t last;
    int64_t after;
    struct entry *list;  // n entries; ties are in order
    struct entry *other; // as much room, to sort into
    size_t n;
};

// Returns the rank of a stored number. Either way null gets the greatest rank:
// ascending because 0 - 1 wraps, descending because it is the complement of 0.
static uint64_t rank_of(const struct top *t, uint64_t v) {
    uint64_t max = max_of(t->col.width);
    return t->descending ? max - v : (v - 1) & max;
}

static uint64_t rank_value(const struct top *t, uint64_t rank) {
    uint64_t max = max_of(t->col.width);
    return t->descending ? max - rank : (rank + 1) & max;
}

// Moves the gathered rows to the other array, ordered by one byte of the rank
// and else as they were.
static void radix_pass(struct top *t, int shift) {
    size_t start[257] = {0};
    for (size_t i = 0; i < t->n; i++) {
        start[(t->list[i].rank >> shift & 0xff) + 1]++;
    }
    if (start[(t->list[0].rank >> shift & 0xff) + 1] == t->n) {
        return; // all have the same byte
    }
    for (size_t i = 1; i < 257; i++) {
        start[i] += start[i - 1];
    }
    for (size_t i = 0; i < t->n; i++) {
        t->other[start[t->list[i].rank >> shift & 0xff]++] = t->list[i];
    }
    struct entry *sorted = t->other;
    t->other = t->list;
    t->list = sorted;
}

// Sorts what was gathered and keeps the first k. Numbers that only grow, as
// times do, come sorted.
static void keep_first(struct top *t, size_t k) {
    size_t sorted = 1;
    while (sorted < t->n && t->list[sorted - 1].rank <= t->list[sorted].rank) {
        sorted++;
    }
    for (int byte = 0; sorted < t->n && byte < t->col.width; byte++) {
        radix_pass(t, 8 * byte);
    }
    t->n = clip(t->n, k);
}

// Returns which of the 64 rows at p have a rank from first to t->last. A range
// of ranks is one of numbers that may wrap around, from the last one to null.
static uint64_t ranks_from(const struct top *t, const uint8_t *p,
                           uint64_t first) {
    struct probe probe = {.width = t->col.width, .span = t->last - first};
    probe.lo = rank_value(t, t->descending ? t->last : first);
    return range_test(t->col.width)(p, &probe);
}

// Returns which of the 64 rows of word w, at p, are wanted yet.
static uint64_t wanted(const struct top *t, const uint8_t *p, size_t w) {
    int64_t at = t->after - (int64_t)w * 64 + !t->descending;
    uint64_t from = at <= 0 ? UINT64_MAX : at < 64 ? UINT64_MAX >> at : 0;
    uint64_t behind = t->descending ? ~from : from;
    uint64_t found = 0;
    if (behind) {
        found = ranks_from(t, p, t->first) & behind;
    }
    if (~behind && t->first < t->last) {
        found |= ranks_from(t, p, t->first + 1) & ~behind;
    }
    return found;
}

static struct entry entry_at(const struct top *t, const uint8_t *p, size_t w,
                             size_t i) {
    uint64_t v = get(p + i * (size_t)t->col.width, t->col.width);
    return (struct entry){rank_of(t, v), (uint16_t)(w * 64 + i)};
}

// Returns which of the rows that x has are wanted; x has few.
static uint64_t wanted_few(const struct top *t, const uint8_t *p, size_t w,
                           uint64_t x) {
    uint64_t found = 0;
    for (; x; x &= x - 1) {
        struct entry e = entry_at(t, p, w, 63 - (size_t)__builtin_ctzll(x));
        bool is_behind =
            t->descending ? e.offset < t->after : e.offset > t->after;
        if (e.rank <= t->last &&
            (e.rank > t->first || (e.rank == t->first && is_behind))) {
            found |= x & -x;
        }
    }
    return found;
}

// Gathers the rows of word w that x has and that are wanted.
static void gather(struct top *t, size_t w, uint64_t x) {
    uint8_t room[64 * 8];
    const uint8_t *p = block_of(&t->col, w, room);
    if (__builtin_popcountll(x) <= FEW_ROWS) {
        x = wanted_few(t, p, w, x);
    } else {
        x &= wanted(t, p, w);
    }
    while (x) {
        size_t i = t->descending ? 63 - (size_t)__builtin_ctzll(x)
                                 : (size_t)__builtin_clzll(x);
        x ^= UINT64_C(1) << (63 - i);
        t->list[t->n++] = entry_at(t, p, w, i);
    }
}

// Gathers the first k rows of b, and others. The words come in the order of
// ties, so that a row which ties with the k-th of those before is not wanted.
static void gather_all(struct top *t, const struct bits *b, size_t k,
                       size_t room) {
    for (size_t i = 0; i < BITS_WORDS; i++) {
        size_t w = t->descending ? BITS_WORDS - 1 - i : i;
        if (!b->word[w]) {
            continue;
        }
        if (t->n + 64 > room) {
            keep_first(t, k);
            uint64_t latest = t->list[k - 1].rank;
            if (latest == t->first) {
                return;
            }
            t->last = latest - 1;
        }
        gather(t, w, b->word[w]);
    }
}

size_t packed_top(const void *col, size_t len, int width, const struct bits *b,
                  bool descending, const struct packed_position *after,
                  size_t k, uint16_t *out_offsets, uint64_t *out_values) {
    struct top t = {.col = {col, len, width}, .descending = descending};
    size_t n = bits_count(b);
    k = clip(k, n);
    if (k == 0) {
        return 0;
    }
    t.after = descending ? (int64_t)BITS_ROWS : -1;
    if (after) {
        t.first = rank_of(&t, after->value);
        t.after = after->row;
    }
    t.last = max_of(width);
    size_t gathered = 2 * k > TOP_GATHERED ? 2 * k : TOP_GATHERED;
    size_t room = clip(gathered, n) + 64;
    struct entry *list = xmalloc(2 * room * sizeof *list);
    t.list = list;
    t.other = list + room;
    gather_all(&t, b, k, room);
    keep_first(&t, k);
    for (size_t i = 0; i < t.n; i++) {
        out_offsets[i] = t.list[i].offset;
        out_values[i] = rank_value(&t, t.list[i].rank);
    }
    free(list);
    return t.n;
}
