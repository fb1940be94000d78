// parse: a strict HTTP/1.1 request parser (RFC 9110, RFC 9112).
//
//   struct http_head h;
//   size_t scanned = 0;
//   int rc = http_parse_head(&h, b.data, b.len, &scanned);
//   if (rc == HTTP_OK) {
//       serve(&h); // the slices point into b.data, nothing is copied
//       buf_shift(&b, h.size);
//   } else if (rc == HTTP_MORE) {
//       read more, call again with the same scanned
//   } else {
//       answer with status rc and close
//   }
//
// Every function that can refuse returns HTTP_OK, HTTP_MORE, or the HTTP
// status to answer with: 400, 414, 417, 431, 501 or 505. After a refusal the
// next message cannot be found, so the connection has to be closed.
// Nothing here allocates, does I/O or keeps state outside its arguments.
#ifndef NEAP_HTTP_PARSE_H
#define NEAP_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_OK = 0,
    HTTP_MORE = 1,

    HTTP_HEAD_MAX = 16 * 1024,        // bytes, request line to empty line
    HTTP_HEADERS_MAX = 100,           // fields in a head
    HTTP_CHUNK_DIGITS_MAX = 16,       // of a chunk size, leading zeros counted
    HTTP_CHUNK_EXTRA_MAX = 16 * 1024, // extensions and trailers of a body
};

// Bytes that belong to someone else; p is not NUL-terminated.
struct slice {
    const char *p;
    size_t len;
};

struct http_field {
    struct slice name;  // as sent; http_header compares without case
    struct slice value; // without the white space around it
};

// A request head. The slices live as long as the buffer that was parsed
// stays where it is; buf_grow moves it. It may be left uninitialized.
struct http_head {
    struct slice method;
    struct slice target; // as sent
    struct slice path;   // still encoded; "/", or "*" for OPTIONS, of its own
                         // where an absolute target has no path
    struct slice query;  // what follows '?'; may be empty
    struct slice host;   // of the target, else of the Host field; with its
                         // port; empty only in HTTP/1.0
    size_t size;         // bytes the head took, the empty line included
    uint64_t content_length;
    int minor_version;    // 0 or 1
    int header_count;     // of headers in use
    bool keep_alive;      // the connection may serve another request
    bool expect_continue; // a body follows once it is sent 100 Continue
    bool chunked;         // the body goes through http_chunked_feed
    bool has_length;      // the body is content_length bytes
    bool upgrade;         // see the upgrade header
    struct http_field headers[HTTP_HEADERS_MAX];
};

// http_parse_head reads the head at the start of buf. *scanned is 0 before
// the first call for a head and is kept between calls for the same head, with
// all of its bytes in buf again; it is 0 again after HTTP_OK. Malformed input
// is refused at once if it comes in one piece, otherwise at the latest when
// the head ends. h is filled only when HTTP_OK is returned.
int http_parse_head(struct http_head *h, const char *buf, size_t len,
                    size_t *scanned);

// http_parse_length reads a Content-Length (RFC 9110 §8.6): digits alone, at
// most 2^64 - 1; false if it is none.
bool http_parse_length(struct slice v, uint64_t *length);

// http_header returns the value of the first field of that name, which is
// given in lower case, or NULL.
const struct slice *http_header(const struct http_head *h,
                                const char *lower_name);

// The decoder of one chunked body; start from {0}.
//
//   do {
//       rc = http_chunked_feed(&c, in, len, &used, &data);
//       buf_add(&body, data.p, data.len);
//       in += used, len -= used;
//   } while (rc == HTTP_MORE && len > 0);
struct http_chunked {
    int state;
    int digits;
    size_t extra;
    uint64_t left; // bytes to come in the current chunk
};

// http_chunked_feed reads up to the end of the next run of body bytes: *used
// says how much of in it took, *data is the run inside in, or empty. Returns
// HTTP_OK when the body and its trailers have ended; the bytes after *used
// are the next request. Takes at least one byte per HTTP_MORE if len > 0.
// Trailers are checked and dropped. A refusal is final.
int http_chunked_feed(struct http_chunked *c, const char *in, size_t len,
                      size_t *used, struct slice *data);

// http_url_decode writes in with its %XX decoded to out, which has room for
// in.len bytes and may be in.p itself. Returns the length written, or -1 for
// a bad escape. %00 gives a NUL byte.
int http_url_decode(char *out, struct slice in, bool plus_is_space);

// http_next_param takes the next key=value pair off rest, a query or an
// application/x-www-form-urlencoded body; false when there is none. Both are
// still encoded; a pair without '=' has an empty value.
bool http_next_param(struct slice *rest, struct slice *key,
                     struct slice *value);

// http_reason returns the phrase for a status, "" if it has none.
const char *http_reason(int status);

#endif
