/* The ends of pipelines whose speed and drains are measured.
 *
 * Usage: pipe source BYTES      writes so many zeros, and ends
 *        pipe burst BYTES       writes so many, and pauses until a signal ends it
 *        pipe sink FILE         reads all, then writes "BYTES NANOSECONDS\n" to the file
 *        pipe slow FILE RATE    the same, at so many bytes a second */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 16, RECORD = 1024 };
static char block[BLOCK];

static int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int source(int64_t bytes)
{
    while (bytes > 0) {
        ssize_t done = write(1, block, bytes < BLOCK ? bytes : BLOCK);
        if (done < 0)
            return 1;
        bytes -= done;
    }
    return 0;
}

/* Time begins with the first byte, and ends with the end of file. */
static int sink(const char *path, int64_t rate)
{
    int64_t total = 0, begun = 0;
    for (;;) {
        ssize_t got = read(0, block, rate ? RECORD : BLOCK);
        if (got < 0)
            return 1;
        if (got == 0)
            break;
        begun = begun ? begun : monotonic();
        total += got;
        if (rate) {
            int64_t due = begun + total * 1000000000LL / rate;
            struct timespec until = {due / 1000000000LL, due % 1000000000LL};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        }
    }
    char text[64];
    int length = snprintf(text, sizeof text, "%lld %lld\n", (long long)total,
                          (long long)(begun ? monotonic() - begun : 0));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return write(fd, text, length) != length;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    if (!strcmp(verb, "source"))
        return source(atoll(argv[2]));
    if (!strcmp(verb, "sink"))
        return sink(argv[2], 0);
    if (!strcmp(verb, "slow") && argc == 4)
        return sink(argv[2], atoll(argv[3]));
    if (strcmp(verb, "burst") || source(atoll(argv[2])))
        return 64;
    for (;;)
        pause();
}
