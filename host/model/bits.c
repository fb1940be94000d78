// bits: set algebra and packed-column scans over one segment of rows.
#include "model/bits.h"

#include <stdlib.h>
#include <string.h>

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

static inline uint16_t load16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = (uint16_t)(v << 8 | v >> 8);
#endif
    return v;
}

static inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

static inline uint64_t swap64(uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return swap64(v);
}

// Returns the word a bitmap ends with: n bytes, fewer than 8, then zeros.
static uint64_t load_tail(const uint8_t *p, size_t n) {
    uint8_t last[8] = {0};
    memcpy(last, p, n);
    return load64(last);
}

static size_t clip(size_t n, size_t max) {
    return n < max ? n : max;
}

void bits_zero(struct bits *b) {
    memset(b, 0, sizeof *b);
}

void bits_load(struct bits *b, const void *bitmap, size_t len) {
    bits_zero(b);
    bits_or_bytes(b, bitmap, len);
}

void bits_store(const struct bits *b, void *bitmap) {
    uint8_t *p = bitmap;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        uint64_t v = swap64(b->word[w]);
        memcpy(p + 8 * w, &v, sizeof v);
    }
}

void bits_and(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] &= src->word[w];
    }
}

void bits_or(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] |= src->word[w];
    }
}

void bits_andnot(struct bits *restrict dst, const struct bits *restrict src) {
    for (size_t w = 0; w < BITS_WORDS; w++) {
        dst->word[w] &= ~src->word[w];
    }
}

void bits_and_bytes(struct bits *restrict dst, const void *restrict bitmap,
                    size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] &= load64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] &= load_tail(p + 8 * w, len % 8);
        w++;
    }
    for (; w < BITS_WORDS; w++) {
        dst->word[w] = 0;
    }
}

void bits_or_bytes(struct bits *restrict dst, const void *restrict bitmap,
                   size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] |= load64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] |= load_tail(p + 8 * w, len % 8);
    }
}

void bits_andnot_bytes(struct bits *restrict dst, const void *restrict bitmap,
                       size_t len) {
    const uint8_t *p = bitmap;
    len = clip(len, BITS_BYTES);
    size_t w = 0;
    for (; w < len / 8; w++) {
        dst->word[w] &= ~load64(p + 8 * w);
    }
    if (len % 8) {
        dst->word[w] &= ~load_tail(p + 8 * w, len % 8);
    }
}

void bits_set_list(struct bits *restrict b, const uint16_t *restrict offsets,
                   size_t n) {
    for (size_t i = 0; i < n; i++) {
        bits_set(b, offsets[i]);
    }
}

// Counts in lanes rather than with a popcount a word, because the baseline
// x86-64 has no such instruction and this vectorises everywhere.
uint32_t bits_count(const struct bits *b) {
    const uint64_t m1 = UINT64_C(0x5555555555555555);
    const uint64_t m2 = UINT64_C(0x3333333333333333);
    const uint64_t m4 = UINT64_C(0x0f0f0f0f0f0f0f0f);
    const uint64_t m8 = UINT64_C(0x00ff00ff00ff00ff);
    uint64_t lanes16 = 0; // a lane counts a quarter of the rows: 16384 at most
    for (size_t w = 0; w < BITS_WORDS; w += 16) {
        uint64_t lanes8 = 0; // at most 16 * 8
        for (size_t i = 0; i < 16; i++) {
            uint64_t x = b->word[w + i];
            x -= x >> 1 & m1;
            x = (x & m2) + (x >> 2 & m2);
            lanes8 += (x + (x >> 4)) & m4;
        }
        lanes16 += (lanes8 & m8) + (lanes8 >> 8 & m8);
    }
    return (uint32_t)((lanes16 & 0xffff) + (lanes16 >> 16 & 0xffff) +
                      (lanes16 >> 32 & 0xffff) + (lanes16 >> 48));
}

bool bits_any(const struct bits *b) {
    uint64_t any = 0;
    for (size_t w = 0; w < BITS_WORDS; w++) {
        any |= b->word[w];
    }
    return any;
}

uint32_t bits_next(const struct bits *b, uint32_t from) {
    if (from >= BITS_ROWS) {
        return BITS_ROWS;
    }
    uint32_t w = from / 64;
    uint64_t x = b->word[w] & UINT64_MAX >> from % 64;
    while (!x) {
        if (++w == BITS_WORDS) {
            return BITS_ROWS;
        }
        x = b->word[w];
    }
    return w * 64 + (uint32_t)__builtin_clzll(x);
}

int32_t bits_prev(const struct bits *b, int32_t from) {
    if (from < 0) {
        return -1;
    }
    uint32_t o = (uint32_t)clip((size_t)from, BITS_ROWS - 1);
    uint32_t w = o / 64;
    uint64_t x = b->word[w] & UINT64_MAX << (63 - o % 64);
    while (!x) {
        if (w-- == 0) {
            return -1;
        }
        x = b->word[w];
    }
    return (int32_t)(w * 64 + 63) - __builtin_ctzll(x);
}

int32_t bits_last(const struct bits *b) {
    return bits_prev(b, BITS_ROWS - 1);
}

size_t bits_list(const struct bits *restrict b, uint16_t *restrict out,
                 size_t max, uint32_t from) {
    size_t n = 0;
    uint64_t mask = UINT64_MAX >> from % 64;
    for (uint32_t w = from / 64; w < BITS_WORDS; w++) {
        uint64_t x = b->word[w] & mask;
        mask = UINT64_MAX;
        while (x) {
            if (n == max) {
                return n;
            }
            uint32_t bit = 63 ^ (uint32_t)__builtin_clzll(x);
            out[n++] = (uint16_t)(w * 64 + 63 - bit);
            x ^= UINT64_C(1) << bit;
        }
    }
    return n;
}

static uint64_t get(const uint8_t *p, int width) {
    switch (width) {
    case 1: return *p;
    case 2: return load16(p);
    case 4: return load32(p);
    default: return load64(p);
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
        uint64_t eight = load64(flag + i) * UINT64_C(0x0102040810204080);
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
        flag[i] = (uint16_t)(load16(p + 2 * i) - lo) <= span;
    }
    return pack(flag);
}

static uint64_t range_4(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint32_t lo = (uint32_t)probe->lo;
    uint32_t span = (uint32_t)probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = load32(p + 4 * i) - lo <= span;
    }
    return pack(flag);
}

static uint64_t range_8(const uint8_t *p, const struct probe *probe) {
    uint8_t flag[64];
    uint64_t lo = probe->lo;
    uint64_t span = probe->span;
    for (size_t i = 0; i < 64; i++) {
        flag[i] = load64(p + 8 * i) - lo <= span;
    }
    return pack(flag);
}

void bits_range(struct bits *restrict out, const void *restrict col, size_t len,
                int width, uint64_t lo, uint64_t hi) {
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

void bits_in(struct bits *restrict out, const void *restrict col, size_t len,
             int width, const uint64_t *restrict values, size_t n) {
    struct bits set;
    bits_zero(&set);
    if (n <= IN_SCANS) {
        bits_zero(out);
        for (size_t i = 0; i < n; i++) {
            bits_range(&set, col, len, width, values[i], values[i]);
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
