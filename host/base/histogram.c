// histogram: how often which length of time came, to within 6 percent.
#include "base/histogram.h"

// Below 16 microseconds a bucket is one microsecond wide; above, the place is
// the power of two and the four bits behind the leading one.
static uint32_t bucket_of(uint64_t us) {
    if (us < 16) {
        return (uint32_t)us;
    }
    uint32_t power = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t place = (power - 3) * 16 + (uint32_t)(us >> (power - 4) & 15);
    return place < histogram_buckets ? place : histogram_buckets - 1;
}

// end_of returns the first microsecond behind a bucket.
static uint64_t end_of(uint32_t place) {
    if (place < 16) {
        return place + 1;
    }
    uint32_t power = place / 16 + 3;
    return (uint64_t)(16 + place % 16 + 1) << (power - 4);
}

void histogram_add(struct histogram *h, uint64_t ns) {
    h->count++;
    h->buckets[bucket_of(ns / 1000)]++;
    if (ns > h->max) {
        h->max = ns;
    }
}

void histogram_merge(struct histogram *h, const struct histogram *other) {
    h->count += other->count;
    for (int i = 0; i < histogram_buckets; i++) {
        h->buckets[i] += other->buckets[i];
    }
    if (other->max > h->max) {
        h->max = other->max;
    }
}

uint64_t histogram_quantile(const struct histogram *h, double q) {
    uint64_t below = (uint64_t)(q * (double)h->count), seen = 0;
    for (uint32_t i = 0; i < histogram_buckets && h->count; i++) {
        seen += h->buckets[i];
        if (seen > below || seen == h->count) {
            uint64_t ns = end_of(i) * 1000;
            return ns < h->max ? ns : h->max;
        }
    }
    return 0;
}
