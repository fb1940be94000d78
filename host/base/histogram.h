// histogram: how often which length of time came, to within 6 percent.
//
//   struct histogram h = {0};
//   histogram_add(&h, 1500);                    // ns
//   uint64_t p99 = histogram_quantile(&h, 0.99);
//
// Buckets are a sixteenth of a power of two wide, as in HdrHistogram, from one
// microsecond to an hour; what is shorter or longer is counted at the end.
#ifndef NEAP_BASE_HISTOGRAM_H
#define NEAP_BASE_HISTOGRAM_H

#include <stdint.h>

enum { histogram_buckets = 30 * 16 };

struct histogram {
    uint64_t count, max;
    uint32_t buckets[histogram_buckets];
};

// histogram_add counts one length, in nanoseconds.
void histogram_add(struct histogram *h, uint64_t ns);

// histogram_merge adds what `other` counted.
void histogram_merge(struct histogram *h, const struct histogram *other);

// histogram_quantile returns the ns that a share q (0 to 1) of all lengths
// does not exceed: the upper end of its bucket, but no more than the longest.
// 0 if there are none.
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
