/* The register: where processes say that they run. Shared memory, one entry for each start.
 *
 * 16 bytes: how many entries were taken (64 bits), and how many there are (64 bits). Then entries of
 * 16 bytes: the nanoseconds of CLOCK_MONOTONIC (64 bits, written last: 0 is an entry that is not whole
 * yet), the pid (32), the number of the flow (32). register.py reads it. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct entry {
    _Atomic int64_t nanoseconds;
    int32_t pid;
    int32_t number;
};

struct page {
    _Atomic uint64_t taken;
    uint64_t size;
    struct entry entries[];
};

static inline int64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* 0, or the number of the line that failed. */
static inline int tell_register(const char *path, int number)
{
    int64_t now = monotonic();
    struct stat told;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &told) < 0)
        return __LINE__;
    struct page *page = mmap(NULL, told.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        return __LINE__;
    uint64_t slot = atomic_fetch_add(&page->taken, 1);
    if (slot >= page->size)
        return __LINE__;
    page->entries[slot].pid = getpid();
    page->entries[slot].number = number;
    atomic_store(&page->entries[slot].nanoseconds, now);
    munmap(page, told.st_size);
    return 0;
}
