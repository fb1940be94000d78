// curl: libcurl, loaded when it is first needed: it takes some milliseconds
// and megabytes, which programs that fetch nothing are spared.
#ifndef NEAP_HTTP_CURL_H
#define NEAP_HTTP_CURL_H

#include <curl/curl.h>
#include <stddef.h>

// The functions in use, by their names without "curl_".
struct curl {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    void (*easy_reset)(CURL *easy);
    void (*easy_cleanup)(CURL *easy);
    CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
    CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
    CURLcode (*easy_pause)(CURL *easy, int mask);
    const char *(*easy_strerror)(CURLcode code);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_cleanup)(CURLM *multi);
    CURLMcode (*multi_setopt)(CURLM *multi, CURLMoption option, ...);
    CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_socket_action)(CURLM *multi, curl_socket_t socket,
                                     int events, int *running);
    CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *s);
    void (*slist_free_all)(struct curl_slist *list);
    CURLU *(*url)(void);
    void (*url_cleanup)(CURLU *url);
    CURLUcode (*url_set)(CURLU *url, CURLUPart part, const char *s,
                         unsigned flags);
    CURLUcode (*url_get)(const CURLU *url, CURLUPart part, char **s,
                         unsigned flags);
    const char *(*url_strerror)(CURLUcode code);
    void (*free)(void *p);
};

// curl_load returns the functions; NULL with the reason in error if the
// library cannot be loaded. It blocks for some milliseconds the first time.
const struct curl *curl_load(char *error, size_t size);

#endif
