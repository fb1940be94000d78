// num: doubles to text and back, exactly. The C locale is assumed.
//
//   char text[NUM_TEXT];
//   size_t len = num_format(text, 0.1); // "0.1", not NUL-terminated
//   double v;
//   if (num_parse(text, len, &v)) { ... } // not a number
#ifndef NEAP_BASE_NUM_H
#define NEAP_BASE_NUM_H

#include <stddef.h>

#define NUM_TEXT 32 // room enough for any double

// num_format writes the shortest decimal text that reads back as the same
// double and returns its length; no NUL follows. Integers up to 2^53 in
// magnitude are written without a point or an exponent, and negative zero as
// "-0". The text of a finite v is a JSON number; v must not be NaN or infinite.
size_t num_format(char out[NUM_TEXT], double v);

// num_parse reads all of s[0..len) as a JSON number (RFC 8259 §6): no spaces,
// no plus sign in front, no leading zeros. Returns 0, or -1 when s is anything
// else or too large for a double; what is too small becomes zero.
int num_parse(const char *s, size_t len, double *out);

#endif
