// launch: runs a program apart from the host: its own session, no inherited
// signals or descriptors, in a directory, with its output in a log there.
//
//   struct launch l = {.program = launch_find("redis-server"), .argv = argv,
//                      .dir_fd = dir_fd, .log = "redis.log", .keep_fd = -1};
//   int exec_fd;
//   pid_t pid = launch_run(&l, &exec_fd);
#ifndef NEAP_REDIS_LAUNCH_H
#define NEAP_REDIS_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

struct launch {
    const char *program; // an absolute path
    char *const *argv;
    int dir_fd;      // of the directory to run in; O_PATH will do
    const char *log; // file in there that stdout and stderr are added to
    int keep_fd;     // the one descriptor handed on, or -1
    bool
        dies_with_us; // is killed when the calling thread ends, however it does
};

// launch_run returns the pid of the new child, or a negative errno. *exec_fd
// is non-blocking: it reads end-of-file once the program runs, or an int, the
// errno for which it does not. The caller closes it and waits for the child.
pid_t launch_run(const struct launch *l, int *exec_fd);

// launch_find returns the absolute path of a program in PATH, or NULL; free it.
char *launch_find(const char *name);

// launch_absolute returns path as seen from any directory; free it.
char *launch_absolute(const char *path);

#endif
