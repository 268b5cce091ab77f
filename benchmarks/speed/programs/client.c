/* Clients that ask one thing again and again over HTTP, each on a connection that it keeps.
 *
 * Usage: client ADDRESS CLIENTS SECONDS < REQUEST. ADDRESS is a port of 127.0.0.1 or the path of a Unix
 * socket. Prints how many calls there were, and the p50, p99 and bytes of an answer: nanoseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 20, BUFFER = 1 << 18 };
struct client {
    pthread_t thread;
    int64_t *took;
    size_t count, bytes;
};
static const char *address;
static char request[65536];
static size_t request_length;
static int64_t end;

static int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "client: %s\n", what);
    exit(1);
}

static int connected(void)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in net = {.sin_family = AF_INET};
    int path = strchr(address, '/') != NULL;
    int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    strncpy(local.sun_path, address, sizeof local.sun_path - 1);
    net.sin_port = htons(atoi(address));
    net.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (path ? connect(fd, (void *)&local, sizeof local) : connect(fd, (void *)&net, sizeof net))
        fail("cannot connect");
    return fd;
}

/* Bytes of one answer. */
static size_t ask(int fd, char *buffer)
{
    size_t got = 0, whole = 0;
    if (write(fd, request, request_length) != (ssize_t)request_length)
        fail("cannot send");
    while (!whole || got < whole) {
        size_t at = whole ? 0 : got;
        ssize_t more = read(fd, buffer + at, BUFFER - 1 - at);
        if (more <= 0)
            fail("hung up");
        got += more;
        if (whole)
            continue;
        buffer[at + more] = 0;
        char *body = strstr(buffer, "\r\n\r\n"), *length = strcasestr(buffer, "content-length:");
        if (body && (!length || length > body || strncmp(buffer + 9, "200", 3)))
            fail("an answer without a length, or not 200");
        if (body)
            whole = body + 4 - buffer + strtoul(length + 15, NULL, 10);
    }
    return got;
}

static void *run(void *given)
{
    struct client *self = given;
    char *buffer = malloc(BUFFER);
    int fd = connected();
    for (int64_t now = monotonic(); now < end && self->count < MOST;) {
        self->bytes = ask(fd, buffer);
        int64_t then = monotonic();
        self->took[self->count++] = then - now;
        now = then;
    }
    close(fd);
    return NULL;
}

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 64;
    address = argv[1];
    int clients = atoi(argv[2]);
    struct client *all = calloc(clients, sizeof *all);
    request_length = fread(request, 1, sizeof request, stdin);
    end = monotonic() + (int64_t)(atof(argv[3]) * 1e9);
    for (int n = 0; n < clients; n++) {
        all[n].took = malloc(MOST * sizeof(int64_t));
        pthread_create(&all[n].thread, NULL, run, &all[n]);
    }
    size_t count = 0;
    int64_t *took = malloc(clients * MOST * sizeof(int64_t));
    for (int n = 0; n < clients; n++) {
        pthread_join(all[n].thread, NULL);
        memcpy(took + count, all[n].took, all[n].count * sizeof(int64_t));
        count += all[n].count;
    }
    qsort(took, count, sizeof(int64_t), compare);
    if (!count)
        fail("no call was answered in time");
    printf("%zu %lld %lld %zu\n", count, (long long)took[count / 2],
           (long long)took[count * 99 / 100], all[0].bytes);
    return 0;
}
