/* What moves the lifecycle besides opens, answers and exits: signals, reads of artifacts, and the sweep for what has
 * gone quiet.
 */

/* kernel/signal.c, get_signal(): on delivery, whatever the process does with it. */
DOOR("tp_btf/signal_deliver", on_signal, 0)

SEC("tp_btf/signal_deliver")
int BPF_PROG(on_signal, int signal)
{
	struct task_struct *task;
	struct mw_task *t, *l;
	struct mw_group *g;

	if (signal != SIGTERM && signal != SIGINT)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	g = group_at(t->group_slot, t->group);
	l = leader_state(task);
	if (!g || !l || __sync_lock_test_and_set(&l->stopping, 1))
		return 0;
	tell_of_process(task, t, MOVE(phase_left(l, g), MW_PHASE_STOP, MW_BY_SIGNAL), NULL);
	__sync_fetch_and_add(&g->stopping, 1);
	end_loads(task, t, g, MW_FAILED, MW_BY_SIGNAL);
	return 0;
}

#define NR_READ 0
#define NR_MMAP 9
#define NR_PREAD64 17
#define NR_READV 19
#define NR_PREADV 295
#define NR_PREADV2 327

/* Reads and maps of a scope's artifacts keep it open. Attached only while some scope is open: every system call pays for it. */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_artifact_io, struct pt_regs *regs, long id)
{
	struct mw_scope_slot *scope;
	struct task_struct *task;
	struct inode *inode;
	struct mw_task *t;
	struct file *file;
	u64 number;
	u32 fd;

	if (id == NR_MMAP)
		fd = BPF_CORE_READ(regs, r8);
	else if (id == NR_READ || id == NR_PREAD64 || id == NR_READV || id == NR_PREADV || id == NR_PREADV2)
		fd = BPF_CORE_READ(regs, di);
	else
		return 0;
	task = bpf_get_current_task_btf();
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t)
		return 0;
	scope = scope_at(t->scope_slot, t->scope_instance);
	if (!scope)
		return 0;
	file = file_at(task, fd);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	number = BPF_CORE_READ(inode, i_ino);
	for (u32 i = 0; i < MW_SCOPE_FILES; i++) {
		if (scope->inode[i] == number && scope->device[i] == BPF_CORE_READ(inode, i_sb, s_dev)) {
			scope->last_io_ns = bpf_ktime_get_boot_ns();
			reopen(scope);
			return 0;
		}
	}
	return 0;
}

struct mw_sweep_result {
	u32 open;	/* scopes */
	u32 live;
	u32 groups_made;
	u32 adopted;
	u32 caller;	/* process that runs the sweep, by its number in the initial namespace */
};

/* Run by user space every 50 ms: makes the transitions that are due because nothing happened. */
SEC("syscall")
int sweep(struct mw_sweep_result *result)
{
	struct mw_sweep s = { .now = bpf_ktime_get_boot_ns() };

	bpf_loop(MW_SCOPES, sweep_scope, &s, 0);
	result->open = s.open;
	result->live = s.live;
	result->groups_made = totals.groups_made;
	result->adopted = totals.adopted;
	result->caller = bpf_get_current_pid_tgid() >> 32;
	return 0;
}
