/* Empty programs, one for each kind of hook that an effect could be seen through: does this host load and attach them?
 * Only `modelward-agent check` uses them.
 */
#include "kernel.h"

SEC("lsm/file_open")
int BPF_PROG(lsm, struct file *file, int ret)
{
	return ret;
}

SEC("fentry/security_file_open")
int BPF_PROG(fentry, struct file *file)
{
	return 0;
}

SEC("kprobe/security_file_open")
int kprobe(struct pt_regs *regs)
{
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(tp_btf)
{
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(answers)
{
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int tracepoint(void *ctx)
{
	return 0;
}

SEC("cgroup/connect4")
int cgroup(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("iter/task")
int iter(struct bpf_iter__task *ctx)
{
	return 0;
}

SEC("syscall")
int run(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
