// launch: fork and exec with nothing in between that allocates or locks.
#include "redis/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

extern char **environ;

// hide_fds keeps all descriptors from 3 up out of the program. Some of the
// host's may have been opened without O_CLOEXEC.
static void hide_fds(void) {
#ifdef SYS_close_range
    const unsigned cloexec = 1u << 2; // CLOSE_RANGE_CLOEXEC, Linux 5.11
    if (syscall(SYS_close_range, 3u, ~0u, cloexec) == 0) {
        return;
    }
#endif
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    int end = files.rlim_cur < 65536 ? (int)files.rlim_cur : 65536;
    for (int fd = 3; fd < end; fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

// default_signals undoes what the program would inherit. All are blocked until
// then, as a handler of the host must not run in its child.
static void default_signals(void) {
    for (int sig = 1; sig < NSIG; sig++) {
        signal(sig, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

// above_2 returns a duplicate that dup2 neither overwrites nor finds in place.
static int above_2(int fd) {
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

// set_up makes the child what the program shall find. Returns -1 and errno on
// failure.
static int set_up(const struct launch *l, pid_t parent) {
    setsid(); // keeps the terminal's Ctrl-C away
    default_signals();
    if (l->dies_with_us) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    int null_fd = above_2(open("/dev/null", O_RDWR | O_CLOEXEC));
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    int log_fd = above_2(openat(l->dir_fd, l->log, flags, 0600));
    int keep_fd = l->keep_fd < 0 ? -1 : fcntl(l->keep_fd, F_DUPFD, 3);
    if (null_fd < 0 || log_fd < 0 || (l->keep_fd >= 0 && keep_fd < 0) ||
        fchdir(l->dir_fd) < 0) {
        return -1;
    }
    dup2(null_fd, 0);
    dup2(log_fd, 1);
    dup2(log_fd, 2);
    hide_fds();
    return keep_fd < 0 ? 0 : fcntl(keep_fd, F_SETFD, 0);
}

static void run_child(const struct launch *l, pid_t parent, int error_fd) {
    error_fd = above_2(error_fd);
    if (set_up(l, parent) == 0) {
        execve(l->program, l->argv, environ);
    }
    int error = errno;
    ssize_t written = write(error_fd, &error, sizeof error);
    (void)written;
    _exit(127);
}

pid_t launch_run(const struct launch *l, int *exec_fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    pid_t parent = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        run_child(l, parent, ends[1]);
    }
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -error;
    }
    *exec_fd = ends[0];
    return pid;
}

char *launch_find(const char *name) {
    const char *path = getenv("PATH");
    for (path = path ? path : "/usr/local/bin:/usr/bin:/bin"; *path;) {
        size_t len = strcspn(path, ":");
        char file[PATH_MAX];
        snprintf(file, sizeof file, "%.*s/%s", len ? (int)len : 1,
                 len ? path : ".", name);
        struct stat st;
        if (stat(file, &st) == 0 && S_ISREG(st.st_mode) &&
            access(file, X_OK) == 0) {
            return launch_absolute(file);
        }
        path += len + (path[len] == ':');
    }
    return NULL;
}

char *launch_absolute(const char *path) {
    char cwd[PATH_MAX];
    if (*path == '/' || !getcwd(cwd, sizeof cwd)) {
        return xstrdup(path);
    }
    size_t size = strlen(cwd) + strlen(path) + 2;
    char *full = xmalloc(size);
    snprintf(full, size, "%s/%s", cwd, path);
    return full;
}
