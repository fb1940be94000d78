// utf8: what is well-formed UTF-8.
#ifndef NEAP_BASE_UTF8_H
#define NEAP_BASE_UTF8_H

#include <stddef.h>

// utf8_len returns how many bytes the character at s takes, 2 to 4, for a
// first byte of 0x80 or more; 0 when the bytes up to end are not well-formed
// (RFC 3629 §4).
static inline size_t utf8_len(const char *s, const char *end) {
    const unsigned char *p = (const unsigned char *)s;
    size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] < 0xc2 || p[0] > 0xf4 || (size_t)(end - s) < len) {
        return 0;
    }
    unsigned char low = 0x80, high = 0xbf; // bounds of the second byte
    switch (p[0]) {
    case 0xe0: low = 0xa0; break;
    case 0xed: high = 0x9f; break;
    case 0xf0: low = 0x90; break;
    case 0xf4: high = 0x8f; break;
    }
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

#endif
