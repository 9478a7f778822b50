/* exec, fork, exit. Doors: scheduler tracepoints, which cost nothing on other paths. */
#include "artifacts.h"
#include "descent.h"
#include "files.h"

/* A forked child has its parent's models in memory, its sockets, and its phase. */
static __noinline int inherit_process(struct mw_task *c, struct mw_task *l)
{
	c->phase = l->phase;
	c->evidence = l->evidence;
	c->stopping = l->stopping;
	c->listens = l->listens;
	c->answers_inside = 0;
	c->scopes_begun = 0;
	c->inherited = 1;
	c->devices_told = 0;
	c->ready_ns = l->ready_ns;
	c->answered_ns = 0;
	__builtin_memcpy(c->loads, l->loads, sizeof(c->loads));
	__builtin_memcpy(c->load_slots, l->load_slots, sizeof(c->load_slots));
	__builtin_memcpy(&c->models, &l->models, sizeof(c->models));
	return 0;
}

/* kernel/fork.c: after the child is complete and before it runs; also fires for io_uring workers. */
DOOR("tp_btf/task_newtask", on_newtask, 0)

SEC("tp_btf/task_newtask")
int BPF_PROG(on_newtask, struct task_struct *child, u64 clone_flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = state_of(task), *c, *l;
	struct mw_scope_slot *scope;
	struct mw_group *g;
	struct mw_scratch *s;

	if (!t && unsettled())
		t = by_descent(task);
	if (!t)
		return 0;
	c = bpf_task_storage_get(&tasks, child, t, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (t->excluded)
		return 0;
	if (!c) {
		count(MW_HOP_MISSED, MW_PROCESS_FORK);
		/* user space will look for it as for those that were there before a group was made */
		__sync_fetch_and_add(&totals.groups_made, 1);
		return 0;
	}
	c->asked_pointer = 0;
	c->scope_instance = t->scope_instance;
	c->scope_slot = t->scope_slot;
	g = group_at(t->group_slot, t->group);
	if (!g)
		return 0;
	if (first_to_count(c, child))
		__sync_fetch_and_add(&g->tasks, 1);
	/* What is forked while its group is rebuilt is to be told of as those that were there. */
	c->adopted = g->settling && !(clone_flags & CLONE_THREAD);
	c->stopping = 0;
	c->ended = 0;
	l = process_of(task, t);
	if (!(clone_flags & CLONE_THREAD))
		inherit_process(c, l);
	scope = scope_at(t->scope_slot, t->scope_instance);
	if (scope) {
		c->origin_instance = scope->instance;
		c->origin_time_ns = bpf_ktime_get_boot_ns();
		c->origin_scope = origin_of(scope, task, c->origin_time_ns);
		c->origin_via = clone_flags & CLONE_THREAD ? MW_VIA_THREAD : MW_VIA_FORK;
		/* What a load forks is no worker of the server, though it has its sockets. */
		if (!(clone_flags & CLONE_THREAD) && c->origin_scope == MW_SCOPE_OPEN && holds_artifact(scope, task))
			c->listens = 0;
	}
	if (clone_flags & CLONE_THREAD)
		return 0;
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_PROCESS_FORK);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_PROCESS_FORK)) {
		s->h.fork.child_start_ns = child->start_boottime;
		s->h.fork.child_tgid = child->tgid;
		s->h.fork.child_tid = child->pid;
		emit(s, 1);
	}
	release(s);
	return 0;
}

/* Arguments of the task's program into scratch->asked; how many bytes. */
static __always_inline u32 fetch_arguments(struct mw_scratch *s, struct mm_struct *mm)
{
	u64 start = BPF_CORE_READ(mm, arg_start), arg_length = BPF_CORE_READ(mm, arg_end) - start;
	u32 length = arg_length > MW_PATH_MAX ? MW_PATH_MAX : arg_length;

	if (length && bpf_probe_read_user(s->asked, length, (void *)start))
		return 0;
	return length;
}

/* What a record says of a program that was started. */
static __noinline int describe_program(struct mw_scratch *s, struct task_struct *task, struct linux_binprm *bprm, u32 length)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	u64 arg_length = BPF_CORE_READ(task, mm, arg_end) - BPF_CORE_READ(task, mm, arg_start);
	struct mw_config *c;
	u32 zero = 0;

	s->h.file.args_count = bprm->argc;
	s->h.file.args_length = arg_length > ~0u ? ~0u : arg_length;
	if (exe) {
		fill_file(&s->h, exe);
		s->h.file.changed_ns = changed_ns(BPF_CORE_READ(exe, f_inode));
		c = bpf_map_lookup_elem(&config, &zero);
		if (c && c->wall_offset_ns && s->h.file.changed_ns > s->h.root_start_ns + c->wall_offset_ns)
			s->h.flags |= MW_F_NEWER_THAN_ROOT;
		append_path(s, MW_SEG_PATH, (u64)fs, (u64)BPF_CORE_READ(exe, f_path.mnt), (u64)BPF_CORE_READ(exe, f_path.dentry));
	}
	append_string(s, MW_SEG_ASKED, (u64)BPF_CORE_READ(bprm, filename));
	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		append_string(s, MW_SEG_INTERPRETER, (u64)BPF_CORE_READ(bprm, interp));
	if (fs)
		append_path(s, MW_SEG_CWD, 0, (u64)BPF_CORE_READ(fs, pwd.mnt), (u64)BPF_CORE_READ(fs, pwd.dentry));
	if (arg_length > MW_PATH_MAX)
		s->h.flags |= MW_F_TRUNCATED;
	append(s, MW_SEG_ARGV, s->asked, length);
	return 0;
}

/* The agent lets its own way to an alarm be tested: one record, of a program that does nothing. */
static __noinline int tell_of_test(struct task_struct *task, struct linux_binprm *bprm)
{
	struct task_struct *leader = task->group_leader;
	struct mm_struct *mm = task->mm;
	struct mw_scratch *s = claim();

	if (!s) {
		count(MW_HOP_MISSED, MW_HOST_CANARY);
		return 0;
	}
	if (leader && mm) {
		fill_process(&s->h, task, leader, MW_HOST_CANARY);
		s->h.root_tgid = s->h.tgid;
		s->h.root_start_ns = s->h.start_ns;
		describe_program(s, task, bprm, fetch_arguments(s, mm));
		s->h.flags &= ~MW_F_NEWER_THAN_ROOT;
		emit(s, 1);
	}
	release(s);
	return 0;
}

/* What the process was is gone with its memory. A server, or a worker of one, starts and will load models of its own; any other
 * program is the doing of the model that its starter had, in the phase that its group is in. Returns the phase before.
 */
static __noinline u32 began_anew(struct task_struct *task, struct mw_task *t, u32 matched)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	u32 from = t->phase ? t->phase : g ? g->phase : MW_PHASE_UNKNOWN;

	t->inherited = 1;
	t->phase = MW_PHASE_UNKNOWN;
	t->listens = 0;
	t->answers_inside = 0;
	t->answered_ns = 0;
	t->scopes_begun = 0;
	__builtin_memset(t->loads, 0, sizeof(t->loads));
	if (!matched)
		return from;
	__builtin_memset(&t->models, 0, sizeof(t->models));
	t->inherited = 0;
	t->phase = MW_PHASE_START;
	t->stopping = 0;
	t->evidence = MW_OBSERVED;
	t->listens = has_listener(task);
	if (g) {
		g->pending = 1;
		g->active_ns = bpf_ktime_get_boot_ns();
	}
	return from;
}

/* fs/exec.c, exec_binprm(): the new program is in place, its arguments are in fresh pages. */
DOOR("tp_btf/sched_process_exec", on_exec, 0)

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct mw_scratch *s;
	struct mw_task *t = state_of(task), *l;
	struct mw_scope_slot *scope;
	struct mm_struct *mm = READ(task_struct, task, mm);
	struct task_struct *parent = READ(task_struct, task, real_parent);
	u32 length, matched, server, from, began = 0;

	if (!mm)
		return 0;
	if (!t && unsettled())
		t = by_descent(task);
	if ((!t || t->excluded) && wish_for(READ(task_struct, parent, tgid)) & MW_WANT_TEST)
		return tell_of_test(task, bprm);
	if (t && t->excluded)
		return 0;
	s = claim();
	if (!s) {
		if (t)
			count(MW_HOP_MISSED, MW_PROCESS_EXEC);
		return 0;
	}
	length = fetch_arguments(s, mm);
	matched = match_server(s, (u64)BPF_CORE_READ(mm, exe_file), length);
	server = matched == MW_SERVER;
	if (!t && server) {
		t = new_group(task, MW_PHASE_START, MW_OBSERVED, 1);
		began = 1;
	}
	if (!t)
		goto out;
	l = process_of(task, t);
	t->server = server;
	t->asked_pointer = 0;
	program_started(task, BPF_CORE_READ(mm, exe_file));
	from = began_anew(task, t, matched);
	scope = scope_at(t->scope_slot, t->scope_instance);
	t->other_program = scope && scope->tgid != task->tgid;
	if (scope && !t->origin_instance) {
		t->origin_instance = scope->instance;
		t->origin_time_ns = bpf_ktime_get_boot_ns();
		t->origin_scope = origin_of(scope, task, t->origin_time_ns);
		t->origin_via = MW_VIA_EXEC;
	}
	if (matched)
		tell_of_process(task, t, l, MOVE(began ? MW_PHASE_UNKNOWN : from, MW_PHASE_START, MW_BY_EXEC), NULL);
	if (!fill(&s->h, task, t, l, MW_PROCESS_EXEC))
		goto out;
	describe_program(s, task, bprm, length);
	if (is_connection(task, 0) || is_connection(task, 1))
		s->h.flags |= MW_F_STDIO_SOCKET;
	emit(s, 1);
out:
	release(s);
	return 0;
}

/* The models that a process loaded itself go with it, those of its group too unless another has loaded them since. */
static __noinline int forget_models(struct mw_group *g, struct mw_task *l, u32 tgid)
{
	for (u32 i = 0; i < MW_MODELS; i++)
		if (l->models.instance[i] && l->models.owner[i] == tgid)
			remove_model(&g->models, l->models.instance[i]);
	return 0;
}

/* kernel/exit.c, do_exit(): once per thread; the process ends with the last one. */
DOOR("tp_btf/sched_process_exit", on_exit, 0)

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct mw_task *t = state_of(task), *l;
	struct signal_struct *signal = task->signal;
	struct mw_scratch *s;
	struct mw_group *g;
	int code = task->exit_code, group = 0;	/* of this thread, or of all */
	u32 tgid = task->tgid;

	if (!t && unsettled())
		t = by_descent(task);
	if (!t || t->excluded)
		return 0;
	g = group_at(t->group_slot, t->group);
	if (!g)
		return 0;
	/* The leader ends because another thread execs, which becomes the leader, with no entry but its own. */
	if (signal && signal->group_exec_task && signal->group_exec_task != task)
		state_of(signal->group_exec_task);
	if (signal && signal->flags & SIGNAL_GROUP_EXIT)
		code = group = signal->group_exit_code;
	/* Two last threads on two CPUs may both find that none is alive: the first one tells. */
	l = process_of(task, t);
	if ((signal && signal->live.counter > 0) || __sync_lock_test_and_set(&l->ended, 1)) {
		end_scope_of_thread(task, t, l, group);
		leave_group(t);
		return 0;
	}
	if (l->models.count)
		bpf_map_delete_elem(&residents, &tgid);
	end_loads(task, l, g, code, MW_BY_EXIT);
	if (!l->inherited)
		forget_models(g, l, tgid);
	if (unsettled())
		take_in_children(task, t);
	if (!l->stopping && task->tgid == g->root_tgid)
		tell_of_process(task, t, l, MOVE(phase_left(l, g), MW_PHASE_STOP, MW_BY_EXIT), NULL);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_PROCESS_EXIT);
	} else {
		if (fill(&s->h, task, t, l, MW_PROCESS_EXIT)) {
			s->h.exit.signal = code & 0x7f;
			s->h.exit.code = code & 0x7f ? -1 : (code >> 8) & 0xff;
			emit(s, 1);
		}
		release(s);
	}
	leave_group(t);
	return 0;
}
