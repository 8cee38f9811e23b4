/* Stands between the node under test and its C library (LD_PRELOAD): disk and clock behave as a file says that the test and the node map, and
 * a library that TEST_MISSING names is not there.
 * Everything that is asked of a regular file passes here, but for what is printed (0 to 2): that is the test's, not the node's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct orders {
  volatile int64_t hold_us;   /* what each write and sync takes longer */
  volatile int64_t refusal;   /* errno of each write; 0: it is done */
  volatile int64_t ahead_ms;  /* how far CLOCK_REALTIME is ahead of the machine's; may be less than zero */
  volatile int64_t held;      /* how many writes and syncs were held */
  char below[480];            /* files below this folder alone; empty: all */
};

static struct orders nothing;
static struct orders *orders = &nothing;

__attribute__((constructor)) static void map_orders(void) {
  const char *path = getenv("TEST_FAULTS");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *mapped = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED) orders = mapped;
}

static int is_meant(int file) {
  struct stat about;
  char name[32], path[sizeof orders->below];
  if (file <= 2 || fstat(file, &about) || !S_ISREG(about.st_mode)) return 0;
  if (!orders->below[0]) return 1;
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, sizeof path - 1);
  return length > 0 && (path[length] = 0, !strncmp(path, orders->below, strlen(orders->below)));
}

/* Whether it may be done: after a while, or not at all. */
static int may(int file) {
  if ((!orders->hold_us && !orders->refusal) || !is_meant(file)) return 1;
  if (orders->hold_us) {
    struct timespec pause = {orders->hold_us / 1000000, orders->hold_us % 1000000 * 1000};
    __atomic_add_fetch(&orders->held, 1, __ATOMIC_RELAXED);
    nanosleep(&pause, NULL);
  }
  errno = (int)orders->refusal;
  return !orders->refusal;
}

#define NEXT(name) ({ static __typeof__(name) *next; if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); next; })

ssize_t write(int file, const void *bytes, size_t n) { return may(file) ? NEXT(write)(file, bytes, n) : -1; }
ssize_t pwrite64(int file, const void *bytes, size_t n, off64_t at) { return may(file) ? NEXT(pwrite64)(file, bytes, n, at) : -1; }
ssize_t pwrite(int file, const void *bytes, size_t n, off_t at) { return may(file) ? NEXT(pwrite)(file, bytes, n, at) : -1; }
int fsync(int file) { return may(file) ? NEXT(fsync)(file) : -1; }
int fdatasync(int file) { return may(file) ? NEXT(fdatasync)(file) : -1; }

/* A library that the machine is to lack. */
void *dlopen(const char *name, int flags) {
  const char *missing = getenv("TEST_MISSING");
  return NEXT(dlopen)(name && missing && strstr(name, missing) ? "/nowhere/to/be/found.so" : name, flags);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = NEXT(clock_gettime)(clock, now);
  if (!result && clock == CLOCK_REALTIME) now->tv_sec += orders->ahead_ms / 1000;
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int result = NEXT(gettimeofday)(now, zone);
  if (!result) now->tv_sec += orders->ahead_ms / 1000;
  return result;
}

time_t time(time_t *out) {
  time_t now = NEXT(time)(NULL) + orders->ahead_ms / 1000;
  if (out) *out = now;
  return now;
}
