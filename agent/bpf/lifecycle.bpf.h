/* What moves the lifecycle besides opens, answers and exits: signals, and the sweep for what has gone quiet. */

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
	l = process_of(task, t);
	if (!g || __sync_lock_test_and_set(&l->stopping, 1))
		return 0;
	tell_of_process(task, t, l, MOVE(phase_left(l, g), MW_PHASE_STOP, MW_BY_SIGNAL), NULL);
	end_loads(task, l, g, 0, MW_BY_SIGNAL);
	return 0;
}

struct mw_sweep_result {
	u32 open;	/* some scope is: reads of its artifacts are to be seen */
	u32 groups_made;
	u32 adopted;
	u32 caller;	/* process that runs the sweep, by its number in the initial namespace */
	u32 young;	/* a group starts or loads: first reads are to be looked at */
};

struct mw_youth {
	u64 now;
	u32 young;
};

static long look_for_young(u32 index, struct mw_youth *y)
{
	u32 slot = index;
	struct mw_group *g = bpf_map_lookup_elem(&groups, &slot);

	if (!g)
		return 1;
	if (!g->id || !is_young(g, y->now))
		return 0;
	y->young = 1;
	return 1;
}

/* Run by user space every 50 ms: makes the transitions that are due because nothing happened. */
SEC("syscall")
int sweep(struct mw_sweep_result *result)
{
	struct mw_sweep s = { .now = bpf_ktime_get_boot_ns() };
	struct mw_youth y = { .now = s.now };

	bpf_loop(totals.scope_mark, sweep_scope, &s, 0);
	bpf_loop(totals.group_mark, look_for_young, &y, 0);
	result->young = y.young;
	result->open = s.open;
	result->groups_made = totals.groups_made;
	result->adopted = totals.adopted;
	result->caller = bpf_get_current_pid_tgid() >> 32;
	return 0;
}
