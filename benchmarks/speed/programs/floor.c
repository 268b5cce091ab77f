/* What the machine itself needs: starts COUNT workers, starts anew those that end, and nothing else.
 *
 * Usage: floor WORKER REGISTER COUNT. SIGUSR1 adds one; SIGTERM ends all of them, and then itself. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MOST = 100000, SIGNALS = MOST };
static struct { pid_t pid; int fd; } children[MOST];
static int watch;
static posix_spawnattr_t attributes;
static char **arguments;

static void start(int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    char *command[] = {arguments[1], arguments[2], text, NULL};
    if (posix_spawn(&children[number].pid, command[0], NULL, &attributes, command, environ))
        exit(1);
    children[number].fd = syscall(SYS_pidfd_open, children[number].pid, 0);
    struct epoll_event event = {EPOLLIN, {.u32 = number}};
    if (children[number].fd < 0 || epoll_ctl(watch, EPOLL_CTL_ADD, children[number].fd, &event))
        exit(2);
}

static void end_all(int count)
{
    for (int n = 0; n < count; n++)
        kill(children[n].pid, SIGTERM);
    for (int n = 0; n < count; n++)
        waitpid(children[n].pid, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 64;
    arguments = argv;
    int count = atoi(argv[3]);
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    watch = epoll_create1(EPOLL_CLOEXEC);
    int signals = signalfd(-1, &blocked, SFD_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.u32 = SIGNALS}};
    epoll_ctl(watch, EPOLL_CTL_ADD, signals, &event);
    for (int n = 0; n < count; n++)
        start(n);
    for (;;) {
        struct signalfd_siginfo told;
        if (epoll_wait(watch, &event, 1, -1) != 1)
            continue;
        int number = event.data.u32;
        if (number != SIGNALS) {
            close(children[number].fd);
            waitpid(children[number].pid, NULL, 0);
            start(number);
        } else if (read(signals, &told, sizeof told) == sizeof told && told.ssi_signo == SIGTERM) {
            end_all(count);
            return 0;
        } else {
            start(count++);
        }
    }
}
