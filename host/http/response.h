// response: the bytes of an HTTP response (RFC 9110, RFC 9112).
//
//   struct buf fields = {0};
//   response_add_field(&fields, name, value);      // checked
//   response_write(&out, &(struct response){
//       .status = 200, .type = SLICE("text/plain"),
//       .fields = {fields.data, fields.len}, .body = SLICE("hello\n")});
//
// Knows no connection and does no I/O.
#ifndef NEAP_HTTP_RESPONSE_H
#define NEAP_HTTP_RESPONSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "http/parse.h"

#define SLICE(literal) ((struct slice){literal, sizeof literal - 1})

struct response {
    int status;          // 200 to 599
    struct slice type;   // Content-Type; none when empty
    struct slice fields; // what response_add_field wrote
    struct slice body;
    bool is_head; // answers HEAD: the body's length is told, the body not sent
    bool close;   // says Connection: close
    bool persist; // says Connection: keep-alive, which HTTP/1.0 wants to hear
};

// response_write appends the whole response. 204 and 304 get no body.
void response_write(struct buf *out, const struct response *r);

enum response_field {
    FIELD_OK,
    FIELD_BAD_NAME,  // not a token
    FIELD_BAD_VALUE, // CR, LF, NUL or another control character
    FIELD_RESERVED,  // framing and what else only the server can know
    FIELD_CLOSE,     // Connection: close, which the caller is to heed
};

// response_add_field appends "name: value" CRLF if it is FIELD_OK; else
// nothing.
enum response_field response_add_field(struct buf *fields, struct slice name,
                                       struct slice value);

// slice_equals compares without case; text is in lower case.
bool slice_equals(struct slice s, const char *lower_text);

#endif
