// packed: scans of packed columns over one segment of rows.
#include "model/packed.h"

#include <stdlib.h>
#include <string.h>

#include "base/be.h"
#include "base/mem.h"

// Up to this many values a scan for each is faster than a lookup for each row.
#define IN_SCANS 4

// Above this many rows wanted a radix sort of all beats a heap of the best.
#define TOP_HEAP 512

// What the rows of a block are tested against; see scan.
struct probe {
    int width;
    uint64_t lo;
    uint64_t span;          // hi - lo
    const struct bits *set; // values, as a set of 16-bit numbers
    const uint64_t *values; // values, sorted
    size_t count;           // of values
};

// A row on its way to being ordered: rank rises as the row comes later.
struct entry {
    uint64_t rank;
    uint16_t offset;
};

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

// Tests a column 64 rows at a time. Rows that were never written are tested as
// zeros, so that missing and null cannot differ.
static void scan(struct bits *out, const void *col, size_t len,
                 uint64_t (*test)(const uint8_t *p, const struct probe *probe),
                 const struct probe *probe) {
    const uint8_t *p = col;
    size_t width = (size_t)probe->width;
    size_t block = 64 * width;
    size_t w = 0;
    for (size_t full = clip(len / block, BITS_WORDS); w < full; w++) {
        out->word[w] = test(p + w * block, probe);
    }
    if (w == BITS_WORDS) {
        return;
    }
    uint8_t last[64 * 8] = {0};
    uint64_t missing = test(last, probe);
    size_t left = len % block / width * width;
    if (left) {
        memcpy(last, p + w * block, left);
        out->word[w++] = test(last, probe);
    }
    for (; w < BITS_WORDS; w++) {
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

void packed_range(struct bits *restrict out, const void *restrict col,
                  size_t len, int width, uint64_t lo, uint64_t hi) {
    uint64_t max = max_of(width);
    if (lo > hi || lo > max) {
        bits_zero(out);
        return;
    }
    struct probe probe = {.width = width, .lo = lo};
    probe.span = (hi < max ? hi : max) - lo;
    switch (width) {
    case 1: scan(out, col, len, range_1, &probe); break;
    case 2: scan(out, col, len, range_2, &probe); break;
    case 4: scan(out, col, len, range_4, &probe); break;
    default: scan(out, col, len, range_8, &probe); break;
    }
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
        scan(out, col, len, in_set, &probe);
    } else {
        uint64_t *sorted = xmalloc(n * sizeof *sorted);
        memcpy(sorted, values, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare);
        struct probe probe = {.width = width, .values = sorted, .count = n};
        scan(out, col, len, in_sorted, &probe);
        free(sorted);
    }
}

// Returns the rank of a stored number. Either way null gets the greatest rank:
// ascending because 0 - 1 wraps, descending because it is the complement of 0.
static uint64_t rank_of(uint64_t v, bool descending) {
    return descending ? ~v : v - 1;
}

static uint64_t rank_value(uint64_t rank, bool descending) {
    return descending ? ~rank : rank + 1;
}

static bool comes_later(struct entry a, struct entry b) {
    return a.rank != b.rank ? a.rank > b.rank : a.offset > b.offset;
}

// Puts e into a heap of n entries, latest first, whose place i is vacant.
static void sift_down(struct entry *heap, size_t n, size_t i, struct entry e) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && comes_later(heap[child + 1], heap[child])) {
            child++;
        }
        if (!comes_later(heap[child], e)) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = e;
}

static void sift_up(struct entry *heap, size_t i, struct entry e) {
    for (; i && comes_later(e, heap[(i - 1) / 2]); i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = e;
}

// A column and the direction it is ordered in.
struct order {
    const void *col;
    size_t len;
    int width;
    bool descending;
};

static struct entry entry_at(const struct order *order, uint32_t o) {
    uint64_t v = packed_get(order->col, order->len, order->width, o);
    return (struct entry){rank_of(v, order->descending), (uint16_t)o};
}

// Fills best with the first k of n rows, in order. The rows come in rising
// order, so one that ties with the latest of the heap comes later still, and
// most cost only that comparison.
static void top_heap(const struct order *order, const uint16_t *rows, size_t n,
                     struct entry *best, size_t k) {
    for (size_t i = 0; i < k; i++) {
        sift_up(best, i, entry_at(order, rows[i]));
    }
    for (size_t i = k; i < n; i++) {
        struct entry e = entry_at(order, rows[i]);
        if (e.rank < best[0].rank) {
            sift_down(best, k, 0, e);
        }
    }
    for (size_t left = k; left > 1; left--) {
        struct entry latest = best[0];
        sift_down(best, left - 1, 0, best[left - 1]);
        best[left - 1] = latest;
    }
}

// Moves n entries from one array to another, ordered by one byte of the rank
// and else as they were.
static void radix_pass(const struct entry *from, struct entry *to, size_t n,
                       int shift) {
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) {
        start[(from[i].rank >> shift & 0xff) + 1]++;
    }
    for (size_t i = 1; i < 257; i++) {
        start[i] += start[i - 1];
    }
    for (size_t i = 0; i < n; i++) {
        to[start[from[i].rank >> shift & 0xff]++] = from[i];
    }
}

// Sorts n rows and returns the array, all or other, that has them. The rank's
// bytes above the width do not tell rows apart, so they are left out.
static struct entry *top_sort(const struct order *order, const uint16_t *rows,
                              size_t n, struct entry *all,
                              struct entry *other) {
    for (size_t i = 0; i < n; i++) {
        all[i] = entry_at(order, rows[i]);
    }
    for (int byte = 0; byte < order->width; byte++) {
        radix_pass(all, other, n, 8 * byte);
        struct entry *sorted = other;
        other = all;
        all = sorted;
    }
    return all;
}

size_t packed_top(const void *col, size_t len, int width, const struct bits *b,
                  bool descending, size_t k, uint16_t *out_offsets,
                  uint64_t *out_values) {
    struct order order = {col, len, width, descending};
    size_t n = bits_count(b);
    k = clip(k, n);
    if (k == 0) {
        return 0;
    }
    uint16_t *rows = xmalloc(n * sizeof *rows);
    bits_list(b, rows, n, 0);
    bool few = k <= TOP_HEAP;
    struct entry *room = xmalloc((few ? k : 2 * n) * sizeof *room);
    struct entry *top = room;
    if (few) {
        top_heap(&order, rows, n, room, k);
    } else {
        top = top_sort(&order, rows, n, room, room + n);
    }
    for (size_t i = 0; i < k; i++) {
        out_offsets[i] = top[i].offset;
        out_values[i] = rank_value(top[i].rank, descending);
    }
    free(room);
    free(rows);
    return k;
}
