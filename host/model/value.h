// value: the text forms of model values: dates, times, uuids, several byte
// strings in one, and keys whose bytes sort as the strings do.
//
//   double seconds;
//   if (value_parse_time(s, len, &seconds)) { ... } // not a time
//   char text[VALUE_TIME];
//   size_t n = value_format_time(text, seconds); // not NUL-terminated
//
//   struct value rest = {list.data, list.len}, part;
//   while (value_next_part(&rest, &part)) { ... }
//   if (rest.len) { ... } // malformed from here on
#ifndef NEAP_MODEL_VALUE_H
#define NEAP_MODEL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/row.h"

enum {
    VALUE_DATE = 10, // bytes of "YYYY-MM-DD"
    VALUE_TIME = 27, // at most, of "YYYY-MM-DDTHH:MM:SS.ffffffZ"
    VALUE_UUID = 36,
    VALUE_UUID_BYTES = 16,
};

// value_parse_date reads all of s as "YYYY-MM-DD", a date of the years 0001 to
// 9999 in the Gregorian calendar (also where it was not yet in use), and gives
// the days since 1970-01-01. Returns 0, or -1 when s is anything else.
int value_parse_date(const char *s, size_t len, int32_t *days);

// value_format_date writes the date and returns its length, VALUE_DATE, or 0
// when the year is not within 0001 to 9999; no NUL follows.
size_t value_format_date(char out[VALUE_DATE], int32_t days);

// value_parse_time reads all of s as a timestamp of RFC 3339 §5.6 and gives
// the seconds since 1970, as the double nearest to what s says. Besides the
// RFC's forms, the seconds may be left out, a comma may stand for the point,
// and the zone may be "+hhmm" or "+hh" (ISO 8601); a fraction has at most 9
// digits. A date alone is its midnight in UTC, a date with a time must name its
// zone. Leap seconds and the hour 24 are refused, and so is what lies outside
// the years 0001 to 9999 in UTC; the end of 9999 rounds down, not out of it.
// Returns 0, or -1.
int value_parse_time(const char *s, size_t len, double *seconds);

// value_format_time writes "YYYY-MM-DDTHH:MM:SS[.ffffff]Z", to the nearest
// microsecond and without trailing zeros, and returns the length, or 0 when the
// time is not finite or not within the years 0001 to 9999; no NUL follows.
// A double that is the nearest to some whole number of microseconds reads back
// as itself.
size_t value_format_time(char out[VALUE_TIME], double seconds);

// value_add_part appends a byte string as "<len>:<bytes>", len in decimal
// without leading zeros: a netstring without its comma
// (https://cr.yp.to/proto/netstrings.txt). Each sequence of byte strings has
// one such text, and no other sequence has it.
void value_add_part(struct buf *b, const char *p, size_t len);

// value_next_part takes the first part off rest; part points into it. Returns
// false at the end, where rest is empty, and also when rest is malformed: then
// it stays as it is, not empty.
bool value_next_part(struct value *rest, struct value *part);

// value_is_parts says whether v is that many well-formed parts and nothing
// else; UINT32_MAX stands for any number of them.
bool value_is_parts(struct value v, uint32_t count);

// value_has_part says whether `one` is among the parts.
bool value_has_part(struct value parts, struct value one);

// value_sort_parts sorts the parts in b by their bytes and drops doubles; what
// is not well-formed stays as it is.
void value_sort_parts(struct buf *b);

// value_uuid7 writes a new uuid of version 7 (RFC 9562 §5.7) in lower case; no
// NUL follows. Its first 60 bits follow the clock in steps of 1/4096 ms (§6.2,
// method 3), 62 are random. It can't fail: without a source of randomness the
// process ends.
void value_uuid7(char out[VALUE_UUID]);

// value_parse_uuid reads all of s as a uuid of any version, in lower case with
// its four hyphens. Returns 0, or -1 when s is anything else.
int value_parse_uuid(const char *s, size_t len,
                     unsigned char out[VALUE_UUID_BYTES]);

// value_format_uuid is the reverse of value_parse_uuid; no NUL follows.
void value_format_uuid(char out[VALUE_UUID],
                       const unsigned char bytes[VALUE_UUID_BYTES]);

// value_escape appends a byte string so that it can stand in a key with more
// behind it: memcmp orders such keys as it orders the strings, a prefix before
// what it begins. 0x00 becomes 0x00 0xFF, as in FoundationDB's tuple layer
// (https://github.com/apple/foundationdb/blob/main/design/tuple.md); the end is
// 0x00 0x00, so that any byte may follow.
void value_escape(struct buf *b, const char *p, size_t len);

// value_unescape appends the byte string at the beginning of p to out and
// returns how many bytes of p it took, or -1 when it has no proper end; then
// out is unchanged.
int value_unescape(const char *p, size_t len, struct buf *out);

#endif
