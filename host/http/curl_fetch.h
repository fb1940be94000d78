// curl_fetch: the fetches that libcurl carries, by its multi interface on the
// runtime's loop. For client.c alone.
#ifndef NEAP_HTTP_CURL_FETCH_H
#define NEAP_HTTP_CURL_FETCH_H

#include "http/client.h"

enum { FETCH_STREAM_HIGH = 256 * 1024 }; // bytes that nobody took yet, at most

struct curl_fetches;

// curl_fetches_new loads libcurl; NULL with the reason in error.
// curl_fetches_close ends all, once the fetches have ended.
struct curl_fetches *curl_fetches_new(struct runtime *rt,
                                      struct http_client *client, char *error,
                                      size_t size);
void curl_fetches_close(struct curl_fetches *c);

// curl_fetch_start begins a fetch; curl_fetch_end takes it from libcurl.
void curl_fetch_start(struct curl_fetches *c, struct http_fetch *f,
                      const struct http_fetch_options *o);
void curl_fetch_end(struct http_fetch *f);

// curl_fetch_phase says how far it came.
const char *curl_fetch_phase(const struct http_fetch *f);

// curl_fetch_resume has libcurl ask for the upload, or hand out the body,
// again.
void curl_fetch_resume(struct http_fetch *f);

// What client.c has for it: fetch_fail notes why a fetch fails, unless that is
// known; fetch_finish ends it; fetch_tell has its owner told by fetch_tell_all.
void fetch_fail(struct http_fetch *f, const char *code, const char *text);
void fetch_finish(struct http_fetch *f);
void fetch_tell(struct http_fetch *f);
void fetch_tell_all(struct http_client *c);

// fetch_connect_limit returns the seconds to connect, fetch_wants_length
// whether the method has a body by its nature, if only an empty one.
double fetch_connect_limit(const struct http_fetch_options *o);
bool fetch_wants_length(const char *method);

#endif
