// reply: a strict parser of HTTP/1.1 response heads (RFC 9112). Pure; parse.h
// has the requests.
#ifndef NEAP_HTTP_REPLY_H
#define NEAP_HTTP_REPLY_H

#include "http/parse.h"

struct http_reply {
    int status;  // 100 to 999
    size_t size; // bytes the head took, the empty line included
    bool keep_alive;
    bool chunked;    // the body goes through http_chunked_feed
    bool has_length; // it is content_length bytes; neither: up to the end of
                     // the connection
    bool is_gzip;    // the body is compressed
    uint64_t content_length;
};

// http_parse_reply reads the head at the start of buf: HTTP_OK, HTTP_MORE, or
// 400 for what is none. *scanned is as in http_parse_head. Two lengths that
// differ, a transfer coding that is not chunked, a bare LF and a folded line
// are refused: what another reader takes for the end of a message is not known.
int http_parse_reply(struct http_reply *r, const char *buf, size_t len,
                     size_t *scanned);

// http_reply_has_body says whether a body may follow (RFC 9112 §6.3).
bool http_reply_has_body(const struct http_reply *r, bool is_head);

#endif
