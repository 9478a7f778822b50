/* Preloaded into a daemon: its wall clock is wrong by as many seconds as the file $WRONG_CLOCK says (a signed 64-bit
 * number, mapped, so that the clock can be set while the daemon runs). Monotonic clocks stay true, so a wait until a
 * wall-clock time is given back its true end. Debian's libfaketime 0.9.10 cannot do this for Python 3.11, whose sleep it
 * refuses with EINVAL.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WALL 1000000000	/* seconds: a monotonic clock says less */

static const volatile int64_t *offset;

__attribute__((constructor)) static void open_clock(void)
{
	const char *path = getenv("WRONG_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);

	if (fd >= 0)
		close(fd);
	offset = page == MAP_FAILED ? NULL : page;
}

static int64_t wrong(void)
{
	return offset ? *offset : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int err = syscall(SYS_clock_gettime, clock, now);

	if (!err && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += wrong();
	return err;
}

int gettimeofday(struct timeval *now, void *zone)
{
	int err = syscall(SYS_gettimeofday, now, zone);

	if (!err && now)
		now->tv_sec += wrong();
	return err;
}

time_t time(time_t *into)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (into)
		*into = now.tv_sec;
	return now.tv_sec;
}

static struct timespec truly(const struct timespec *until)
{
	struct timespec end = *until;

	if (end.tv_sec > WALL)
		end.tv_sec -= wrong();
	return end;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
	static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec end = truly(until);

	if (!next)
		next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	return next(condition, mutex, &end);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
	static int (*next)(sem_t *, const struct timespec *);
	struct timespec end = truly(until);

	if (!next)
		next = dlsym(RTLD_NEXT, "sem_timedwait");
	return next(semaphore, &end);
}
