/* A server that forks a thousand times a second until its standard input ends, and keeps the truth about it: each task that it starts
 * makes one file, whose name tells how the task came about, when it was forked for, and when it made the file (boot clock).
 *
 * Usage: storm ARTIFACT FOLDER, or by itself: storm NAME, which makes that file.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *folder, *self;

static unsigned long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void make(const char *how, int n, unsigned long long born)
{
	char name[512];

	snprintf(name, sizeof(name), "%s/%s-%d-%llu-%llu", folder, how, n, born, now());
	close(open(name, O_WRONLY | O_CREAT, 0600));
}

struct exec {
	int n;
	unsigned long long born;
};

static void *exec_here(void *argument)
{
	struct exec *e = argument;
	char n[16], born[32];

	snprintf(n, sizeof(n), "%d", e->n);
	snprintf(born, sizeof(born), "%llu", e->born);
	execl(self, self, folder, n, born, NULL);
	_exit(1);
}

static void child(int n, unsigned long long born)
{
	struct timespec moment = { 0, 20000000 };
	struct exec e = { n, born };
	pthread_t thread;

	switch (n % 4) {
	case 0:
		make("child", n, born);
		break;
	case 1:		/* an orphan: its parent was there for a moment, and ends at once when it has forked */
		nanosleep(&moment, NULL);
		born = now();
		if (fork() == 0) {
			nanosleep(&moment, NULL);
			make("orphan", n, born);
		}
		break;
	case 2:		/* exec from a thread that is not the leader */
		pthread_create(&thread, NULL, exec_here, &e);
		pause();
		break;
	case 3:		/* the same from an orphan of an orphan */
		nanosleep(&moment, NULL);
		e.born = now();
		if (fork() == 0 && fork() == 0) {
			nanosleep(&moment, NULL);
			pthread_create(&thread, NULL, exec_here, &e);
			pause();
		}
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct timespec pace = { 0, 1000000 };
	struct pollfd input = { .fd = 0, .events = POLLIN };

	self = "/proc/self/exe";
	if (argc == 4) {
		folder = argv[1];
		make("exec", atoi(argv[2]), strtoull(argv[3], NULL, 10));
		return 0;
	}
	folder = argv[2];
	signal(SIGCHLD, SIG_IGN);
	open(argv[1], O_RDONLY);
	for (int n = 0; poll(&input, 1, 0) == 0; n++) {
		unsigned long long born = now();

		if (n % 4 == 0)
			make("server", n, born);
		if (fork() == 0)
			child(n, born);
		if (n == 0)
			write(1, "ready\n", 6);
		nanosleep(&pace, NULL);
	}
	return 0;
}
