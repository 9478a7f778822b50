/* The peer's program: one record for each openat of one process, as bcc's opensnoop makes it, in a ring as large as ours. */
#include <uapi/linux/ptrace.h>

struct seen {
	u64 time;
	u32 pid;
	u32 tid;
	int flags;
	char comm[16];
	char path[216];
};

BPF_RINGBUF_OUTPUT(opens, 4096);
BPF_ARRAY(lost, u64, 1);

TRACEPOINT_PROBE(syscalls, sys_enter_openat)
{
	u64 id = bpf_get_current_pid_tgid();
	struct seen *s;
	int zero = 0;

	if (id >> 32 != WATCHED)
		return 0;
	s = opens.ringbuf_reserve(sizeof(*s));
	if (!s) {
		lost.increment(zero);
		return 0;
	}
	s->time = bpf_ktime_get_boot_ns();
	s->pid = id >> 32;
	s->tid = id;
	s->flags = args->flags;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	bpf_probe_read_user_str(s->path, sizeof(s->path), args->filename);
	opens.ringbuf_submit(s, 0);
	return 0;
}
