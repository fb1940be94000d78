// embedded: starting, joining, watching and stopping a private redis-server.
//
// Who may do what follows from two flocks. A process that uses the directory
// holds `users` shared; the last to leave is the one who gets it exclusively,
// and newcomers wait until it has stopped the server. Who gets `server`
// exclusively knows that no server lives there and may start one, which
// inherits the lock: two can't run at once, whoever is killed when.
#include "redis/embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "redis/launch.h"

#define START_LIMIT_MS 10000
#define LOAD_LIMIT_MS  600000 // of one that reads its data
#define STOP_LIMIT_MS  5000

#define NOT_YET 1 // the status of what is worth another look soon

// Short paths by which a directory of any depth is reached.
#define SOCKET_PATH_SIZE sizeof "/proc/self/fd/2147483647/redis.sock"

struct waiter {
    struct waiter *next;
    embedded_ready_cb cb;
    void *arg;
};

struct embedded {
    uv_timer_t timer; // runs while there are waiters
    struct waiter *first, *last;
    uint64_t since_ns; // the first waiter came, or the last outcome was told
    bool has_started;  // a server since then
    bool is_closing;

    char *dir; // absolute; NULL for a server in memory that has none yet
    bool is_memory;
    int dir_fd;     // O_PATH; -1 until the directory was entered
    int users_fd;   // -1 in memory, as the next one
    int server_fd;  // to test the lock with, never to pass on
    bool is_member; // users_fd is locked
    char socket_path[SOCKET_PATH_SIZE];

    pid_t pid;      // of the server as last known; 0 when none is
    bool is_child;  // pid is ours and not yet reaped
    int exec_fd;    // where the child reports a failed exec; -1 after that
    int ping_fd;    // a connection that waits for its PONG, or -1
    off_t log_mark; // redis.log up to here is from earlier servers
    char error[PATH_MAX + 512];
};

// fail sets the error text and returns status.
__attribute__((format(printf, 3, 4))) static int
fail(struct embedded *e, int status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->error, sizeof e->error, fmt, ap);
    va_end(ap);
    return status;
}

static uint64_t ms_since(uint64_t start_ns) {
    return (uv_hrtime() - start_ns) / 1000000;
}

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static int open_file(struct embedded *e, const char *name, int *fd) {
    *fd = openat(e->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        return fail(e, -errno, "%s is not writable: %s", e->dir,
                    strerror(errno));
    }
    return 0;
}

static int make_temp_dir(struct embedded *e) {
    const char *tmp = getenv("TMPDIR");
    tmp = tmp && *tmp ? tmp : "/tmp";
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/neap-XXXXXX", tmp);
    if (!mkdtemp(path)) {
        return fail(e, -errno, "%s is not writable: %s", tmp, strerror(errno));
    }
    e->dir = launch_absolute(path);
    return 0;
}

// enter creates the directory if need be and opens what is used of it.
static int enter(struct embedded *e) {
    if (e->is_memory) {
        int status = make_temp_dir(e);
        if (status < 0) {
            return status;
        }
    } else if (mkdir(e->dir, 0700) < 0 && errno != EEXIST) {
        return fail(e, -errno, "%s cannot be created: %s", e->dir,
                    strerror(errno));
    }
    e->dir_fd = open(e->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (e->dir_fd < 0) {
        return fail(e, -errno, "%s cannot be entered: %s", e->dir,
                    strerror(errno));
    }
    snprintf(e->socket_path, sizeof e->socket_path,
             "/proc/self/fd/%d/redis.sock", e->dir_fd);
    if (e->is_memory) {
        return 0;
    }
    int status = open_file(e, "users", &e->users_fd);
    return status < 0 ? status : open_file(e, "server", &e->server_fd);
}

static bool is_unlinked(int fd) {
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0;
}

static int on_tree_entry(const char *path, const struct stat *st, int type,
                         struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

// connect_now returns a connection to the server, or -1 when none accepts. A
// full backlog means that one does, but leaves nothing to hand out.
static int connect_now(const struct embedded *e, bool *is_accepting) {
    *is_accepting = false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, e->socket_path, sizeof e->socket_path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        *is_accepting = errno == EAGAIN;
        close(fd);
        return -1;
    }
    *is_accepting = true;
    return fd;
}

// peer_pid returns who listens at the other end, or 0 when that is in another
// pid namespace.
static pid_t peer_pid(int fd) {
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    return peer.pid;
}

static bool is_accepting(struct embedded *e) {
    bool yes;
    int fd = connect_now(e, &yes);
    if (fd >= 0) {
        pid_t pid = peer_pid(fd);
        if (pid > 0 && pid != e->pid) {
            e->pid = pid;
            e->is_child = false;
        }
        close(fd);
    }
    return yes;
}

// is_answering says whether a server just started has read its data, which is
// where a broken file would end it; until then it accepts but sends -LOADING.
// The PING may be under way from one call to the next.
static bool is_answering(struct embedded *e) {
    if (e->ping_fd < 0) {
        bool unused;
        e->ping_fd = connect_now(e, &unused);
        if (e->ping_fd >= 0) {
            send(e->ping_fd, "PING\r\n", 6, MSG_NOSIGNAL);
        }
        return false;
    }
    char reply[64];
    ssize_t len = recv(e->ping_fd, reply, sizeof reply, 0);
    if (len < 0 && errno == EAGAIN) {
        return false;
    }
    close_fd(&e->ping_fd);
    return len >= 2 && memcmp(reply, "-L", 2) != 0;
}

// reap takes in the exit status of a server that is gone or about to be.
// Another handle of this process may have been the one to start it.
static int reap(struct embedded *e) {
    int status = -1;
    for (int i = 0; e->pid > 0 && i < 200; i++) {
        pid_t pid = waitpid(e->pid, &status, WNOHANG);
        if (pid == e->pid || (pid < 0 && errno != EINTR)) {
            status = pid < 0 ? -1 : status;
            break;
        }
        sleep_ms(1);
    }
    e->pid = 0;
    e->is_child = false;
    return status;
}

// is_locked says whether a server lives, even if it does not listen yet or
// anymore; or, for a moment, whether somebody else asks just this.
static bool is_locked(const struct embedded *e) {
    if (flock(e->server_fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK;
    }
    flock(e->server_fd, LOCK_UN);
    return false;
}

static bool is_alive(struct embedded *e) {
    if (!e->is_memory) {
        return is_locked(e);
    }
    siginfo_t info = {0};
    return e->is_child &&
           waitid(P_PID, (id_t)e->pid, &info, WEXITED | WNOHANG | WNOWAIT) ==
               0 &&
           info.si_pid == 0;
}

// last_line reads the end of redis.log, as far as the server of this start
// wrote it, into out: the last line without its time stamp.
static const char *last_line(const struct embedded *e, char *out, size_t size) {
    *out = 0;
    int fd = openat(e->dir_fd, "redis.log", O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = end - (off_t)size + 1;
    from = from < e->log_mark ? e->log_mark : from;
    ssize_t len = end > from ? pread(fd, out, (size_t)(end - from), from) : 0;
    if (fd >= 0) {
        close(fd);
    }
    while (len > 0 && (out[len - 1] == '\n' || out[len - 1] == '\r')) {
        len--;
    }
    if (len <= 0) {
        return "(it has none)";
    }
    out[len] = 0;
    const char *line = strrchr(out, '\n');
    line = line ? line + 1 : out;
    // "5943:M 20 Nov 2025 14:25:19.281 # text"
    const char *text = strpbrk(line, "#*");
    return text && text - line < 48 && text[1] == ' ' ? text + 2 : line;
}

// spawn starts a server that takes the lock of lock_fd over.
static int spawn(struct embedded *e, const char *program, int lock_fd) {
    // clang-format off
    char *argv[] = {
        "redis-server", "--port", "0", "--unixsocket", "redis.sock",
        "--unixsocketperm", "700", "--dir", ".", "--save", "",
        "--appendonly", e->is_memory ? "no" : "yes",
        "--logfile", "redis.log", "--daemonize", "no",
        "--maxmemory-policy", "noeviction", NULL};
    // clang-format on
    struct launch l = {.program = program,
                       .argv = argv,
                       .dir_fd = e->dir_fd,
                       .log = "redis.log",
                       .keep_fd = lock_fd,
                       .dies_with_us = e->is_memory};
    struct stat st;
    bool has_log = fstatat(e->dir_fd, l.log, &st, 0) == 0;
    e->log_mark = has_log ? st.st_size : 0;
    pid_t pid = launch_run(&l, &e->exec_fd);
    if (pid < 0) {
        return fail(e, pid, "redis-server cannot be started: %s",
                    strerror(-pid));
    }
    e->pid = pid;
    e->is_child = true;
    e->has_started = true;
    return NOT_YET;
}

// start starts a server unless another process is about to.
static int start(struct embedded *e) {
    int lock_fd = -1;
    if (!e->is_memory) {
        // Its own open file: the lock must outlive ours and not count as ours.
        int status = open_file(e, "server", &lock_fd);
        if (status < 0) {
            return status;
        }
        if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
            close(lock_fd);
            return NOT_YET;
        }
    }
    char *program = launch_find("redis-server");
    int status = program ? spawn(e, program, lock_fd)
                         : fail(e, UV_ENOENT,
                                "redis-server not found in PATH (apt-get "
                                "install redis-server)");
    free(program);
    close_fd(&lock_fd); // the child has the lock: it is the same open file
    return status;
}

// check_exec reads what the child reports: nothing yet, success or errno.
static int check_exec(struct embedded *e) {
    int error = 0;
    ssize_t n = e->exec_fd < 0 ? 0 : read(e->exec_fd, &error, sizeof error);
    if (n < 0) {
        return 0;
    }
    close_fd(&e->exec_fd);
    if (n != sizeof error) {
        return 0;
    }
    reap(e);
    return fail(e, -error, "redis-server cannot be started: %s",
                strerror(error));
}

static int report_death(struct embedded *e) {
    char log[512];
    const char *line = last_line(e, log, sizeof log);
    int status = reap(e);
    if (status != -1 && WIFEXITED(status)) {
        return fail(e, UV_ECONNREFUSED,
                    "redis-server ended with status %d; last line of its log: "
                    "%s",
                    WEXITSTATUS(status), line);
    }
    if (status != -1 && WIFSIGNALED(status)) {
        return fail(e, UV_ECONNREFUSED,
                    "redis-server was killed by signal %d; last line of its "
                    "log: %s",
                    WTERMSIG(status), line);
    }
    return fail(e, UV_ECONNREFUSED,
                "redis-server ended; last line of its log: %s", line);
}

// signal_server asks the server to end and says whether it could.
static bool signal_server(struct embedded *e) {
    if (e->is_memory) {
        return kill(e->pid, SIGKILL) == 0; // there is nothing to keep
    }
    bool accepts;
    int fd = connect_now(e, &accepts);
    if (fd < 0) {
        // Not listening yet, or its directory was removed.
        bool is_known =
            e->pid > 0 && (e->is_child || is_unlinked(e->server_fd));
        return is_known && kill(e->pid, SIGTERM) == 0;
    }
    // SIGTERM rather than SHUTDOWN: it needs no password and can't be renamed.
    pid_t pid = peer_pid(fd);
    bool is_asked = pid > 0 && kill(pid, SIGTERM) == 0;
    if (is_asked) {
        e->pid = pid;
    } else {
        const char *text = "SHUTDOWN\r\n";
        is_asked = send(fd, text, strlen(text), MSG_NOSIGNAL) > 0;
    }
    close(fd);
    return is_asked;
}

// stop ends the server and waits until it is gone, blocking. One that does
// not listen to it is left alone after a while: it may be saving data.
static void stop(struct embedded *e) {
    uint64_t since_ns = uv_hrtime();
    bool is_asked = false;
    while (is_alive(e) && ms_since(since_ns) < STOP_LIMIT_MS) {
        is_asked = is_asked || signal_server(e);
        sleep_ms(2);
    }
    if (!is_alive(e)) {
        reap(e);
    }
}

// leave gives the directory up; the last one out stops the server. An upgrade
// of a flock drops the shared one first, so two who leave at the same time
// can't both be refused.
static void leave(struct embedded *e) {
    bool is_last = e->is_memory ||
                   (e->is_member && flock(e->users_fd, LOCK_EX | LOCK_NB) == 0);
    if (is_last && e->dir_fd >= 0) {
        stop(e);
    }
    e->is_member = false;
    e->is_child = false;
    e->pid = 0;
    close_fd(&e->exec_fd);
    close_fd(&e->ping_fd);
    close_fd(&e->server_fd);
    close_fd(&e->dir_fd);
    if (e->users_fd >= 0) {
        // Last, so that newcomers find everything done; and explicitly, as a
        // process just forked elsewhere may hold the open file for a moment.
        flock(e->users_fd, LOCK_UN);
    }
    close_fd(&e->users_fd);
    if (e->is_memory && e->dir) {
        nftw(e->dir, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS);
        free(e->dir);
        e->dir = NULL;
    }
}

static int join(struct embedded *e) {
    if (e->is_memory || e->is_member) {
        return 0;
    }
    if (flock(e->users_fd, LOCK_SH | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK || errno == EINTR
                   ? NOT_YET
                   : fail(e, -errno, "%s cannot be locked: %s", e->dir,
                          strerror(errno));
    }
    e->is_member = true;
    return 0;
}

// advance does what can be done without waiting: 0 when a server accepts,
// NOT_YET, or a failure.
static int advance(struct embedded *e) {
    if (is_unlinked(e->dir_fd) || is_unlinked(e->server_fd)) {
        leave(e); // somebody removed the directory
    }
    int status = 0;
    if (e->dir_fd < 0 && (status = enter(e)) < 0) {
        leave(e);
        return status;
    }
    if ((status = join(e)) != 0) {
        return status;
    }
    if (e->has_started ? is_answering(e) : is_accepting(e)) {
        return 0;
    }
    if ((status = check_exec(e)) < 0) {
        return status;
    }
    if (is_alive(e)) {
        return NOT_YET;
    }
    if (e->has_started) {
        return report_death(e);
    }
    if (e->pid > 0) {
        reap(e); // the one that was there before
    }
    return start(e);
}

// time_out ends the wait. A server that still reads its data will do: clients
// know what -LOADING means.
static int time_out(struct embedded *e) {
    if (e->dir_fd >= 0 && is_accepting(e)) {
        return 0;
    }
    if (!e->is_memory && !e->is_member) {
        return fail(e, UV_ETIMEDOUT,
                    "%s is still being left by another process after %d s",
                    e->dir, START_LIMIT_MS / 1000);
    }
    char log[512];
    return fail(e, UV_ETIMEDOUT,
                "redis-server accepts no connections after %d s; last line of "
                "its log: %s",
                START_LIMIT_MS / 1000, last_line(e, log, sizeof log));
}

// tell calls everybody back who waited until now. Who asks again meanwhile
// waits for the next round.
static void tell(struct embedded *e, int status) {
    const struct waiter *end = e->last;
    bool is_end = false;
    while (!is_end && !e->is_closing) {
        struct waiter *w = e->first;
        is_end = w == end;
        e->first = w->next;
        if (!e->first) {
            e->last = NULL;
        }
        struct waiter told = *w;
        free(w);
        if (told.cb) {
            told.cb(told.arg, status, status ? NULL : e->socket_path,
                    status ? e->error : NULL);
        }
    }
}

static void on_timer(uv_timer_t *timer);

static void begin(struct embedded *e) {
    e->since_ns = uv_hrtime();
    e->has_started = false;
    uv_timer_start(&e->timer, on_timer, 0, 0);
}

// on_timer looks often while a server usually comes up, then less often.
static void on_timer(uv_timer_t *timer) {
    struct embedded *e = timer->data;
    int status = advance(e);
    uint64_t passed_ms = ms_since(e->since_ns);
    bool is_loading = status == NOT_YET && passed_ms >= START_LIMIT_MS &&
                      e->has_started && is_accepting(e);
    uint64_t limit_ms = is_loading ? LOAD_LIMIT_MS : START_LIMIT_MS;
    if (status == NOT_YET && passed_ms < limit_ms) {
        uint64_t next_ms = passed_ms < 100 ? 2 : is_loading ? 100 : 15;
        uv_timer_start(timer, on_timer, next_ms, 0);
        return;
    }
    if (status == NOT_YET) {
        status = time_out(e);
    }
    close_fd(&e->exec_fd);
    close_fd(&e->ping_fd);
    tell(e, status);
    if (e->first && !e->is_closing) {
        begin(e);
    }
}

static void on_close(uv_handle_t *handle) {
    struct embedded *e = handle->data;
    free(e->dir);
    free(e);
}

struct embedded *embedded_open(uv_loop_t *loop, const char *dir) {
    struct embedded *e = xcalloc(1, sizeof *e);
    uv_timer_init(loop, &e->timer);
    e->timer.data = e;
    e->is_memory = !dir;
    e->dir = dir ? launch_absolute(dir) : NULL;
    e->dir_fd = e->users_fd = e->server_fd = e->exec_fd = e->ping_fd = -1;
    return e;
}

void embedded_ready(struct embedded *e, embedded_ready_cb cb, void *arg) {
    struct waiter *w = xmalloc(sizeof *w);
    *w = (struct waiter){.cb = cb, .arg = arg};
    if (e->first) {
        e->last->next = w;
    } else {
        e->first = w;
        begin(e);
    }
    e->last = w;
}

void embedded_forget(struct embedded *e, const void *arg) {
    for (struct waiter *w = e->first; w; w = w->next) {
        if (w->arg == arg) {
            w->cb = NULL;
        }
    }
}

void embedded_close(struct embedded *e) {
    e->is_closing = true;
    leave(e);
    while (e->first) {
        struct waiter *w = e->first;
        e->first = w->next;
        free(w);
    }
    uv_close((uv_handle_t *)&e->timer, on_close);
}
