// Copyright 2026 The stl_conveyor maintainers
// SPDX-License-Identifier: Apache-2.0
//
// A system clock that can be set for some processes alone. Loaded before the C library it adds the
// nanoseconds that stand in the file CLOCK_OFFSET_FILE to CLOCK_REALTIME. Waits until a time of
// that clock last as long as they would without: a thread that is waiting already is not touched.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static volatile const int64_t *shared;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_timedlock)(pthread_mutex_t *, const struct timespec *);
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_timedwait) real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_timedlock = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    real_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *memory = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (memory != MAP_FAILED) shared = memory;
        close(file);
    }
}

static int64_t offset(void) { return shared ? *shared : 0; }

// A condition may wait by the monotonic clock, which counts from the machine's start.
static const time_t SINCE_1970 = 1000000000;

static void add(struct timespec *when, int64_t nanoseconds) {
    int64_t sum = (int64_t)when->tv_sec * SECOND + when->tv_nsec + nanoseconds;
    when->tv_sec = sum / SECOND;
    when->tv_nsec = sum % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *when) {
    if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real_gettime(clock, when);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        add(when, offset());
    }
    return code;
}

int gettimeofday(struct timeval *restrict when, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    when->tv_sec = now.tv_sec;
    when->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *when) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (when) *when = now.tv_sec;
    return now.tv_sec;
}

static struct timespec without_offset(const struct timespec *until) {
    struct timespec real = *until;
    if (real.tv_sec > SINCE_1970) add(&real, -offset());
    return real;
}

int pthread_cond_timedwait(
    pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
    const struct timespec *restrict until) {
    struct timespec real = without_offset(until);
    return real_timedwait(condition, mutex, &real);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec real = without_offset(until);
    return real_timedlock(mutex, &real);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    struct timespec real = without_offset(until);
    return real_sem_timedwait(semaphore, &real);
}
