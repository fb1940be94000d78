// embedded_test: real servers, started, shared, killed and left, in temporary
// directories. Other hosts are forked before this process has a loop.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "redis/embedded.h"

static char root[64]; // a fresh directory for each test
static char dir[512]; // the data directory in it
static uv_loop_t loop;

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static int on_tree_entry(const char *path, const struct stat *st, int type,
                         struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state) {
    (void)state;
    alarm(40);
    strcpy(root, "/tmp/embedded-test-XXXXXX");
    if (!mkdtemp(root) || uv_loop_init(&loop) < 0) {
        return -1;
    }
    snprintf(dir, sizeof dir, "%s/data", root);
    return 0;
}

// A test that fails leaves its servers behind; they work below root.
static void kill_servers(void) {
    DIR *d = opendir("/proc");
    for (struct dirent *entry; d && (entry = readdir(d));) {
        char path[300], cwd[512] = "";
        snprintf(path, sizeof path, "/proc/%s/cwd", entry->d_name);
        pid_t pid = atoi(entry->d_name);
        if (pid > 0 && readlink(path, cwd, sizeof cwd - 1) > 0 &&
            strncmp(cwd, root, strlen(root)) == 0) {
            kill(pid, SIGKILL);
        }
    }
    if (d) {
        closedir(d);
    }
}

static int teardown(void **state) {
    (void)state;
    alarm(0);
    kill_servers();
    nftw(root, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS);
    return uv_loop_close(&loop);
}

// The outcome of one embedded_ready.
struct outcome {
    int calls;
    int status;
    char path[128];
    char error[1024];
};

static void on_ready(void *arg, int status, const char *socket_path,
                     const char *error) {
    struct outcome *o = arg;
    o->calls++;
    o->status = status;
    snprintf(o->path, sizeof o->path, "%s", socket_path ? socket_path : "");
    snprintf(o->error, sizeof o->error, "%s", error ? error : "");
}

static struct outcome await(struct embedded *e) {
    struct outcome o = {0};
    embedded_ready(e, on_ready, &o);
    assert_int_equal(o.calls, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(o.calls, 1);
    return o;
}

static struct outcome await_good(struct embedded *e) {
    struct outcome o = await(e);
    if (o.status) {
        fail_msg("%d: %s", o.status, o.error);
    }
    assert_true(strlen(o.path) < 108);
    return o;
}

static void close_now(struct embedded *e) {
    embedded_close(e);
    uv_run(&loop, UV_RUN_DEFAULT);
}

// ask sends one inline command and returns the reply as far as the first
// packet brings it, or "" when no server is there.
static const char *ask(const char *path, const char *command) {
    static char reply[8192];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t len = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        dprintf(fd, "%s\r\n", command);
        len = read(fd, reply, sizeof reply - 1);
    }
    close(fd);
    reply[len > 0 ? len : 0] = 0;
    return reply;
}

static void info(const char *path, const char *field, char *out, size_t size) {
    const char *reply = ask(path, "INFO server");
    const char *at = strstr(reply, field);
    if (!at) {
        fail_msg("no %s in \"%s\"", field, reply);
    }
    at += strlen(field);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\r"), at);
}

static pid_t server_pid(const char *path) {
    char text[32];
    info(path, "process_id:", text, sizeof text);
    return atoi(text);
}

static int count_entries(const char *path) {
    int count = 0;
    DIR *d = opendir(path);
    while (d && readdir(d)) {
        count++;
    }
    if (d) {
        closedir(d);
    }
    return count - 2;
}

// A process that nobody reaped counts as gone once its last thread is, as it
// has closed everything then.
static int is_gone(pid_t pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 1;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    const char *name_end = strrchr(text, ')');
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return len <= 0 || !name_end ||
           (name_end[2] == 'Z' && count_entries(path) <= 1);
}

static void wait_gone(pid_t pid) {
    while (!is_gone(pid)) {
        sleep_ms(5); // the alarm bounds it
    }
}

// Another host: forked, it opens `dir`, reports the server's pid and lives
// until it is told to leave; then it closes properly.
struct host {
    pid_t pid;
    int to, from;
};

static void host_main(const char *data_dir, int from, int to) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(30);
    uv_loop_t own;
    uv_loop_init(&own);
    struct embedded *e = embedded_open(&own, data_dir);
    struct outcome o = {0};
    embedded_ready(e, on_ready, &o);
    uv_run(&own, UV_RUN_DEFAULT);
    pid_t pid = o.status ? -1 : server_pid(o.path);
    if (write(to, &pid, sizeof pid) < 0) {
        _exit(2);
    }
    char c;
    (void)!read(from, &c, 1);
    embedded_close(e);
    uv_run(&own, UV_RUN_DEFAULT);
    _exit(uv_loop_close(&own) == 0 ? 0 : 3);
}

static struct host host_start(const char *data_dir) {
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(to[1]);
        close(from[0]);
        host_main(data_dir, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    return (struct host){pid, to[1], from[0]};
}

static pid_t host_server(const struct host *h) {
    pid_t pid = 0;
    assert_int_equal(read(h->from, &pid, sizeof pid), sizeof pid);
    assert_true(pid > 0);
    return pid;
}

static int host_wait(struct host *h) {
    int status = -1;
    (void)!write(h->to, "q", 1);
    close(h->to);
    waitpid(h->pid, &status, 0);
    close(h->from);
    return status;
}

static void starts_and_stops(void **state) {
    (void)state;
    struct embedded *e = embedded_open(&loop, dir);
    struct outcome o = await_good(e);
    assert_string_equal(ask(o.path, "PING"), "+PONG\r\n");
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    pid_t pid = server_pid(o.path);
    assert_int_equal(getsid(pid), pid);
    close_now(e);
    // Reaped, too.
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void unused_it_does_nothing(void **state) {
    (void)state;
    close_now(embedded_open(&loop, dir));
    close_now(embedded_open(&loop, NULL));
    assert_int_equal(count_entries(root), 0);
    // Closed before the first turn, the callback is dropped.
    struct outcome o = {0};
    struct embedded *e = embedded_open(&loop, dir);
    embedded_ready(e, on_ready, &o);
    close_now(e);
    assert_int_equal(o.calls, 0);
}

static void closed_while_starting(void **state) {
    (void)state;
    struct outcome o = {0};
    struct embedded *e = embedded_open(&loop, dir);
    embedded_ready(e, on_ready, &o);
    uv_run(&loop, UV_RUN_ONCE);
    close_now(e);
    e = embedded_open(&loop, dir);
    await_good(e);
    close_now(e);
}

static void many_callers_at_once(void **state) {
    (void)state;
    struct outcome o[5] = {0};
    struct embedded *e = embedded_open(&loop, dir);
    for (int i = 0; i < 5; i++) {
        embedded_ready(e, on_ready, &o[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(o[i].calls, 1);
        assert_int_equal(o[i].status, 0);
    }
    close_now(e);
}

static struct embedded *again;
static struct outcome again_outcome;

static void on_ready_again(void *arg, int status, const char *path,
                           const char *error) {
    on_ready(arg, status, path, error);
    embedded_ready(again, on_ready, &again_outcome);
}

static void on_ready_close(void *arg, int status, const char *path,
                           const char *error) {
    on_ready(arg, status, path, error);
    embedded_close(again);
}

static void called_from_its_callback(void **state) {
    (void)state;
    struct outcome o[3] = {0};
    again_outcome = (struct outcome){0};
    again = embedded_open(&loop, dir);
    embedded_ready(again, on_ready_again, &o[0]);
    embedded_ready(again, on_ready, &o[1]);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(o[1].calls, 1);
    assert_int_equal(again_outcome.calls, 1);
    assert_int_equal(again_outcome.status, 0);
    embedded_ready(again, on_ready_close, &o[0]);
    embedded_ready(again, on_ready, &o[2]);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(o[0].calls, 2);
    assert_int_equal(o[2].calls, 0);
}

static void two_handles_share_a_server(void **state) {
    (void)state;
    struct embedded *a = embedded_open(&loop, dir);
    struct embedded *b = embedded_open(&loop, dir);
    struct outcome o[2] = {0};
    embedded_ready(a, on_ready, &o[0]);
    embedded_ready(b, on_ready, &o[1]);
    uv_run(&loop, UV_RUN_DEFAULT);
    char run_id[2][64];
    info(o[0].path, "run_id:", run_id[0], 64);
    info(o[1].path, "run_id:", run_id[1], 64);
    assert_string_equal(run_id[0], run_id[1]);
    pid_t pid = server_pid(o[0].path);
    close_now(a);
    assert_string_equal(ask(o[1].path, "PING"), "+PONG\r\n");
    close_now(b);
    assert_int_equal(kill(pid, 0), -1);
}

static void many_processes_share_a_server(void **state) {
    (void)state;
    enum { HOSTS = 8 };
    struct host hosts[HOSTS];
    for (int i = 0; i < HOSTS; i++) {
        hosts[i] = host_start(dir);
    }
    pid_t server = host_server(&hosts[0]);
    for (int i = 1; i < HOSTS; i++) {
        assert_int_equal(host_server(&hosts[i]), server);
    }
    for (int i = 0; i < HOSTS; i++) {
        assert_false(is_gone(server));
        assert_int_equal(host_wait(&hosts[i]), 0);
    }
    assert_true(is_gone(server));
}

// Each host joins while others leave; whoever is in has a live server.
static void joining_while_others_leave(void **state) {
    (void)state;
    struct host a = host_start(dir);
    host_server(&a);
    for (int i = 0; i < 15; i++) {
        struct host b = host_start(dir);
        if (i % 3 == 0) {
            sleep_ms(i);
        }
        assert_int_equal(host_wait(&a), 0);
        pid_t server = host_server(&b);
        assert_false(is_gone(server));
        a = b;
    }
    assert_int_equal(host_wait(&a), 0);
}

static void data_survive_a_restart(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct embedded *e = embedded_open(&loop, dir);
        struct outcome o = await_good(e);
        if (i == 0) {
            assert_string_equal(ask(o.path, "SET k v"), "+OK\r\n");
        } else {
            assert_string_equal(ask(o.path, "GET k"), "$1\r\nv\r\n");
        }
        close_now(e);
    }
}

static void a_killed_host_leaves_its_server(void **state) {
    (void)state;
    struct host h = host_start(dir);
    pid_t server = host_server(&h);
    kill(h.pid, SIGKILL);
    host_wait(&h);
    assert_false(is_gone(server));
    struct embedded *e = embedded_open(&loop, dir);
    struct outcome o = await_good(e);
    assert_int_equal(server_pid(o.path), server);
    close_now(e);
    wait_gone(server);
}

// Killed at any moment of starting, it blocks nobody and no second server
// comes up beside the first.
static void a_host_killed_while_starting(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct host h = host_start(dir);
        sleep_ms(i);
        kill(h.pid, SIGKILL);
        struct embedded *e = embedded_open(&loop, dir);
        struct outcome o = await_good(e);
        pid_t server = server_pid(o.path);
        // It may be the other's server, still reading its data.
        while (strncmp(ask(o.path, "PING"), "-LOADING", 8) == 0) {
            sleep_ms(1);
        }
        assert_string_equal(ask(o.path, "PING"), "+PONG\r\n");
        host_wait(&h);
        close_now(e);
        wait_gone(server);
    }
}

static void a_dead_server_is_started_again(void **state) {
    (void)state;
    struct embedded *e = embedded_open(&loop, dir);
    struct outcome o = await_good(e);
    ask(o.path, "SET k v");
    pid_t pid = server_pid(o.path);
    sleep_ms(50);
    kill(pid, SIGKILL); // leaves its socket behind
    wait_gone(pid);
    o = await_good(e);
    assert_int_not_equal(server_pid(o.path), pid);
    assert_string_equal(ask(o.path, "GET k"), "$1\r\nv\r\n");
    close_now(e);
}

static void leftovers_do_no_harm(void **state) {
    (void)state;
    char path[600];
    mkdir(dir, 0700);
    snprintf(path, sizeof path, "%s/redis.sock", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct embedded *e = embedded_open(&loop, dir);
    await_good(e);
    close_now(e);
}

static void a_removed_directory_is_made_again(void **state) {
    (void)state;
    struct embedded *e = embedded_open(&loop, dir);
    struct outcome o = await_good(e);
    pid_t pid = server_pid(o.path);
    nftw(dir, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS);
    o = await_good(e);
    assert_int_not_equal(server_pid(o.path), pid);
    assert_true(is_gone(pid));
    pid = server_pid(o.path);
    nftw(dir, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS);
    close_now(e);
    assert_true(is_gone(pid));
}

static void expect_failure(const char *data_dir, int status, const char *text) {
    struct embedded *e = embedded_open(&loop, data_dir);
    struct outcome o = await(e);
    if (o.status != status || !strstr(o.error, text)) {
        fail_msg("%d: %s", o.status, o.error);
    }
    o = await(e); // and once more
    assert_int_equal(o.status, status);
    close_now(e);
}

static void without_redis_server(void **state) {
    (void)state;
    char *path = strdup(getenv("PATH"));
    setenv("PATH", root, 1);
    expect_failure(dir, UV_ENOENT,
                   "redis-server not found in PATH (apt-get install "
                   "redis-server)");
    expect_failure(NULL, UV_ENOENT, "redis-server not found in PATH");
    setenv("PATH", path, 1);
    free(path);
}

// with_fake puts a redis-server of the given text in front of all others.
static void with_fake(const char *text, int status, const char *error) {
    char *path = strdup(getenv("PATH")), fake[600], longer[4096];
    snprintf(fake, sizeof fake, "%s/redis-server", root);
    int fd = open(fake, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0700);
    dprintf(fd, "%s", text);
    close(fd);
    snprintf(longer, sizeof longer, "%s:%s", root, path);
    setenv("PATH", longer, 1);
    expect_failure(dir, status, error);
    expect_failure(NULL, status, error);
    setenv("PATH", path, 1);
    free(path);
}

static void a_server_that_fails(void **state) {
    (void)state;
    with_fake("#!/bin/sh\necho one\necho '1:M 1 Jan 2025 00:00:00.000 # two'\n"
              "exit 3\n",
              UV_ECONNREFUSED,
              "redis-server ended with status 3; last line of its log: two");
    with_fake("#!/bin/sh\nkill -9 $$\n", UV_ECONNREFUSED,
              "killed by signal 9; last line of its log: ");
    with_fake("#!/nowhere/sh\n", UV_ENOENT, "cannot be started: No such file");
}

static void a_broken_append_only_file(void **state) {
    (void)state;
    struct embedded *e = embedded_open(&loop, dir);
    struct outcome o = await_good(e);
    ask(o.path, "SET k v");
    close_now(e);
    char path[600];
    snprintf(path, sizeof path, "%s/appendonlydir/appendonly.aof.1.incr.aof",
             dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "garbage", 7, 0), 7);
    close(fd);
    expect_failure(dir, UV_ECONNREFUSED, "Bad file format reading the append");
}

static void directories_that_cannot_be(void **state) {
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/no/such", root);
    expect_failure(path, UV_ENOENT, "/no/such cannot be created: No such file");
    close(open(dir, O_CREAT | O_WRONLY, 0600));
    expect_failure(dir, UV_ENOTDIR, "/data cannot be entered: Not a directory");
    snprintf(path, sizeof path, "%s/users", root);
    mkdir(path, 0700);
    expect_failure(root, UV_EISDIR, " is not writable: Is a directory");
    char *tmp = getenv("TMPDIR");
    setenv("TMPDIR", "/no/such", 1);
    expect_failure(NULL, UV_ENOENT, "/no/such is not writable");
    if (tmp) {
        setenv("TMPDIR", tmp, 1);
    } else {
        unsetenv("TMPDIR");
    }
}

static void a_deep_and_a_relative_directory(void **state) {
    (void)state;
    char deep[512];
    snprintf(deep, sizeof deep, "%s/%0150d", root, 7);
    struct embedded *e = embedded_open(&loop, deep);
    await_good(e);
    close_now(e);
    char cwd[512];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(root), 0);
    e = embedded_open(&loop, "data");
    assert_int_equal(chdir(cwd), 0);
    await_good(e);
    assert_true(count_entries(dir) > 3);
    close_now(e);
}

static void in_memory_nothing_stays(void **state) {
    (void)state;
    setenv("TMPDIR", root, 1);
    struct embedded *a = embedded_open(&loop, NULL);
    struct embedded *b = embedded_open(&loop, NULL);
    struct outcome o = await_good(a), other = await_good(b);
    pid_t pid = server_pid(o.path);
    assert_int_not_equal(server_pid(other.path), pid);
    assert_int_equal(count_entries(root), 2);
    assert_non_null(strstr(ask(o.path, "CONFIG GET appendonly"), "no"));
    ask(o.path, "SET k v");
    ask(o.path, "SAVE");
    kill(pid, SIGKILL);
    wait_gone(pid);
    o = await_good(a);
    pid = server_pid(o.path);
    assert_string_equal(ask(o.path, "PING"), "+PONG\r\n");
    close_now(a);
    close_now(b);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(count_entries(root), 0);
    unsetenv("TMPDIR");
}

static void in_memory_it_dies_with_its_host(void **state) {
    (void)state;
    setenv("TMPDIR", root, 1);
    struct host h = host_start(NULL);
    pid_t server = host_server(&h);
    kill(h.pid, SIGKILL);
    host_wait(&h);
    wait_gone(server);
    unsetenv("TMPDIR");
}

// What the host has open or ignores is none of the server's business.
static void the_server_inherits_nothing(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct embedded *e = embedded_open(&loop, dir);
    pid_t pid = server_pid(await_good(e).path);
    close(ends[1]);
    char c;
    assert_int_equal(read(ends[0], &c, 1), 0);
    close(ends[0]);
    char path[64], to[512] = "";
    for (int fd = 0; fd < 3; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        assert_true(readlink(path, to, sizeof to - 1) > 0);
        assert_non_null(strstr(to, fd ? "redis.log" : "/dev/null"));
        memset(to, 0, sizeof to);
    }
    close_now(e);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(starts_and_stops),
        TEST(unused_it_does_nothing),
        TEST(closed_while_starting),
        TEST(many_callers_at_once),
        TEST(called_from_its_callback),
        TEST(two_handles_share_a_server),
        TEST(many_processes_share_a_server),
        TEST(joining_while_others_leave),
        TEST(data_survive_a_restart),
        TEST(a_killed_host_leaves_its_server),
        TEST(a_host_killed_while_starting),
        TEST(a_dead_server_is_started_again),
        TEST(leftovers_do_no_harm),
        TEST(a_removed_directory_is_made_again),
        TEST(without_redis_server),
        TEST(a_server_that_fails),
        TEST(a_broken_append_only_file),
        TEST(directories_that_cannot_be),
        TEST(a_deep_and_a_relative_directory),
        TEST(in_memory_nothing_stays),
        TEST(in_memory_it_dies_with_its_host),
        TEST(the_server_inherits_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
