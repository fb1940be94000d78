// curl: libcurl, loaded when it is first needed.
#include "http/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static struct curl functions;
static char failure[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
#define SYMBOL(name)                                                           \
    { "curl_" #name, offsetof(struct curl, name) }
    SYMBOL(global_init),
    SYMBOL(easy_init),
    SYMBOL(easy_reset),
    SYMBOL(easy_cleanup),
    SYMBOL(easy_setopt),
    SYMBOL(easy_getinfo),
    SYMBOL(easy_pause),
    SYMBOL(easy_strerror),
    SYMBOL(multi_init),
    SYMBOL(multi_cleanup),
    SYMBOL(multi_setopt),
    SYMBOL(multi_add_handle),
    SYMBOL(multi_remove_handle),
    SYMBOL(multi_socket_action),
    SYMBOL(multi_info_read),
    SYMBOL(slist_append),
    SYMBOL(slist_free_all),
    SYMBOL(url),
    SYMBOL(url_cleanup),
    SYMBOL(url_set),
    SYMBOL(url_get),
    SYMBOL(url_strerror),
    SYMBOL(free),
#undef SYMBOL
};

static void load(void) {
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(failure, sizeof failure, "%s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol) {
            snprintf(failure, sizeof failure, "libcurl has no %s",
                     symbols[i].name);
            return;
        }
        // a pointer to a function has the size of one to data (POSIX)
        memcpy((char *)&functions + symbols[i].offset, &symbol, sizeof symbol);
    }
    if (functions.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        snprintf(failure, sizeof failure, "libcurl does not start");
    }
}

const struct curl *curl_load(char *error, size_t size) {
    pthread_once(&once, load);
    if (failure[0]) {
        snprintf(error, size, "%s", failure);
        return NULL;
    }
    return &functions;
}
