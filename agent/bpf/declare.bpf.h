/* What a process says of its own phase, through the hint socket. User space takes the process from the credentials that the kernel
 * attached; which thread, and whether it is believed, is decided here.
 */

struct mw_declaration {
	u64 sent_ns;		/* boot time: a process that started later did not say it, it only has the number now */
	u32 tgid;
	u32 thread;		/* its number in the process' own PID namespace; 0: the first thread */
	u32 phase;
	u32 heard;		/* set when a tracked thread said it */
	struct mw_detail detail;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct mw_declaration);
} declaration SEC(".maps");

/* Number of a thread in its own PID namespace. */
static __always_inline u32 own_number(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	u32 level = BPF_CORE_READ(pid, level);
	struct upid *at = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);

	return BPF_CORE_READ(at, nr);
}

/* Run over the threads of one process, once for each declaration. Not only a server may declare a load: whoever does becomes
 * tracked, as by reading an artifact.
 */
SEC("iter/task")
int declare(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *leader;
	struct mw_declaration *d;
	struct mw_task *t;
	u32 zero = 0;

	d = bpf_map_lookup_elem(&declaration, &zero);
	if (!task || !d || task->tgid != d->tgid || d->heard)
		return 0;
	if (d->thread ? own_number(task) != d->thread : task->pid != task->tgid)
		return 0;
	leader = task->group_leader;
	if (!leader || leader->start_boottime > d->sent_ns)
		return 0;
	t = state_of(task);
	if (!t && unsettled())
		t = by_descent(task);
	if (!t && d->phase == MW_PHASE_LOAD && may_become_tracked(task))
		t = new_group(task, MW_PHASE_UNKNOWN, MW_OBSERVED, 0);
	if (!t || t->excluded || !t->group)
		return 0;
	d->heard = 1;
	declare_phase(task, t, process_of(task, t), d->phase, &d->detail);
	return 0;
}
