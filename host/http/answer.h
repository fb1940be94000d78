// answer: one whole response of HTTP/1.1, read from its bytes as they come, and
// unpacked. Pure: bytes in, head and body out.
//
//   struct answer a = {.is_decoding = true, .head_max = 65536, .body_max = n};
//   switch (answer_read(&a, bytes, len)) {      // of each read
//   case ANSWER_MORE: break;
//   case ANSWER_WHOLE: ...a.status, a.head, a.body, a.is_kept
//   case ANSWER_BAD: ...a.code, a.error
//   }
//   answer_clear(&a);
#ifndef NEAP_HTTP_ANSWER_H
#define NEAP_HTTP_ANSWER_H

#include <zlib.h>

#include "base/buf.h"
#include "http/parse.h"
#include "http/reply.h"

enum answer_state { ANSWER_MORE, ANSWER_WHOLE, ANSWER_BAD };
enum answer_reading { READ_HEAD, READ_LENGTH, READ_CHUNKS, READ_TO_END };

// Begin from {0} with what is wanted.
struct answer {
    bool is_head;      // of a HEAD: no body comes
    bool is_decoding;  // a body in gzip is unpacked
    size_t head_max;   // bytes
    uint64_t body_max; // bytes, unpacked
    // the result
    int status;            // 0 until a head that is not interim is there
    struct buf head, body; // head: status line and fields, each with its CRLF
    bool is_kept;          // the connection is good for another
    const char *code;      // what a bad one fails with: "http.protocol"
    char error[80];
    // how far it came
    enum answer_reading reading;
    struct buf in; // of a head that is not whole
    size_t scanned;
    struct http_reply reply;
    struct http_chunked chunks;
    uint64_t left;
    z_stream zip;
    bool has_zip, is_zip_over;
};

// answer_read takes bytes. Once it is whole or bad there must be no more.
enum answer_state answer_read(struct answer *a, const char *s, size_t len);

// answer_end: the connection has ended. ANSWER_MORE says that this cuts the
// response short.
enum answer_state answer_end(struct answer *a);

// answer_has_begun says whether anything of it came.
bool answer_has_begun(const struct answer *a);

// answer_clear frees what it holds.
void answer_clear(struct answer *a);

#endif
