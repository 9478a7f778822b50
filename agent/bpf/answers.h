/* Answers: what a process of a group sends on a socket that it, or its server, accepted. They end the tails of loads and make
 * processes serve.
 */
#ifndef MODELWARD_ANSWERS_H
#define MODELWARD_ANSWERS_H

#include "scopes.h"

#define MW_FDS		256	/* descriptors that are searched for artifacts */
#define MW_CHECK_NS	10000000ULL

enum mw_hold { MW_NOT_HELD, MW_HELD, MW_HELD_MAPPED };

struct mw_holding {
	struct mw_scope_slot *scope;
	u64 files;		/* array of struct file * */
	u32 found;		/* enum mw_hold */
};

static long compare_descriptor(u32 index, struct mw_holding *h)
{
	struct file *file = NULL;
	struct inode *inode;

	if (bpf_probe_read_kernel(&file, sizeof(file), (void *)(h->files + index * sizeof(file))))
		return 1;
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if (!has_artifact(h->scope, BPF_CORE_READ(inode, i_ino), BPF_CORE_READ(inode, i_sb, s_dev)))
		return 0;
	/* Python's mmap keeps a descriptor for as long as it maps the file: that says nothing of a load. */
	h->found = BPF_CORE_READ(file, f_mapping, i_mmap.rb_root.rb_node) ? MW_HELD_MAPPED : MW_HELD;
	return h->found == MW_HELD;
}

/* Does the process of a load have an artifact of it open? enum mw_hold. */
static __noinline u32 holds_artifact(struct mw_scope_slot *scope, struct task_struct *thread)
{
	struct mw_holding h = { .scope = scope };
	struct fdtable *table = BPF_CORE_READ(thread, files, fdt);
	u32 room = BPF_CORE_READ(table, max_fds);

	if (!table || !scope->files)
		return 0;
	h.files = (u64)BPF_CORE_READ(table, fd);
	bpf_loop(room < MW_FDS ? room : MW_FDS, compare_descriptor, &h, 0);
	return h.found;
}

/* The scope that a task made now comes from. What is made while the artifact is still open may be its doing, however long after
 * the last read: a library that a checkpoint names takes seconds to import.
 */
static __always_inline u32 origin_of(struct mw_scope_slot *scope, struct task_struct *task, u64 now)
{
	u32 state = scope_state(scope, now);

	return state == MW_SCOPE_TAIL && holds_artifact(scope, task) ? MW_SCOPE_OPEN : state;
}

#define TASK_INTERRUPTIBLE 1

static __always_inline bool asleep(struct task_struct *thread)
{
	return BPF_CORE_READ(thread, __state) & TASK_INTERRUPTIBLE;
}

/* Does the thread that loads run, or wait for the disk or for its turn? */
static __always_inline bool at_work(struct task_struct *thread)
{
	struct task_struct *current = bpf_get_current_task_btf();
	u64 last;

	if (!asleep(thread))
		return true;
	/* Two threads of an interpreter run by turns. */
	if (BPF_CORE_READ(thread, tgid) != current->tgid || !bpf_core_field_exists(thread->sched_info.last_arrival))
		return false;
	last = BPF_CORE_READ(thread, sched_info.last_arrival);
	return last + MW_TURN_NS > BPF_CORE_READ(current, sched_info.last_arrival);
}

#define MW_FAULTS	32	/* page faults between two looks, at least, and */
#define MW_FAULT_NS	200000	/* one in so long: a mapped model is being read */

/* Does a thread touch pages at the pace of a load? Looked at by answers and by the sweep. */
static __noinline u32 touches_pages(struct mw_scope_slot *scope, struct task_struct *thread, u64 now)
{
	u64 faults, fresh, since = now - scope->counted_ns;

	if (since < MW_CHECK_NS)
		return scope->touching;
	faults = BPF_CORE_READ(thread, min_flt) + BPF_CORE_READ(thread, maj_flt);
	fresh = faults - scope->faults;
	scope->touching = fresh >= MW_FAULTS && fresh * MW_FAULT_NS >= since;
	scope->faults = faults;
	scope->counted_ns = now;
	return scope->touching;
}

/* Does a load in its tail still go on, as far as can be seen? 2: it only seems to, and not for long. */
static __noinline u32 goes_on(struct mw_scope_slot *scope, u64 now)
{
	struct task_struct *thread = (void *)scope->thread;
	u32 held;

	if (passed(now, scope->last_io_ns, MW_HELD_NS) || (u32)BPF_CORE_READ(thread, pid) != scope->tid)
		return 0;
	if (scope->depth)
		return 1;
	held = holds_artifact(scope, thread);
	if (held == MW_HELD || (held && touches_pages(scope, thread, now)))
		return 1;
	if (scope->answered_ns && passed(now, scope->answered_ns, MW_DOUBT_NS))
		return 0;
	return at_work(thread) ? 2 : 0;
}

struct mw_answer {
	u64 now;
	u64 group;
	u64 own_instance;	/* scope that the answering task is in itself */
	u32 tgid;
	u32 tid;
	u32 over;		/* a load is over, but its tail is its own process' to end */
};

static long answer_scope(u32 index, struct mw_answer *a)
{
	struct mw_scope_slot *scope = live_scope(index);
	u32 on;

	if (!scope || scope->group != a->group)
		return 0;
	if (scope->tgid == a->tgid)
		scope->listens = 1;
	if (scope_state(scope, a->now) != MW_SCOPE_TAIL) {
		/* A thread that answers has come back from its load, and so has one that sleeps while another answers for it. */
		if (scope->tgid != a->tgid || scope->depth || scope->evidence == MW_RECONSTRUCTED ||
		    (scope->tid != a->tid && !asleep((void *)scope->thread)) || holds_artifact(scope, (void *)scope->thread))
			return 0;
		settle(scope);
		goto over;
	}
	settle(scope);
	/* The thread that loaded, or what it forked with the model in memory. */
	if (scope->tgid == a->tgid ? scope->tid == a->tid : scope->instance == a->own_instance)
		goto over;
	if (!passed(a->now, scope->checked_ns, MW_CHECK_NS))
		return 0;
	on = goes_on(scope, a->now);
	if (on)
		scope->checked_ns = a->now;
	if (scope->tgid != a->tgid && scope->listens) {
		if (!on)
			a->over = 1;
		return 0;
	}
	if (on) {
		if (on == 1)
			scope->answered_ns = 0;
		else if (!scope->answered_ns)
			scope->answered_ns = a->now;
		return 0;
	}
over:
	close_scope(scope, MOVE(MW_PHASE_LOAD, MW_PHASE_SERVE, MW_BY_ANSWER), NULL);
	return 0;
}

/* A process of a group answered. */
static __noinline int answered(struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_answer a = {};
	u32 from;

	if (!g)
		return 0;
	a.now = bpf_ktime_get_boot_ns();
	g->pending = 0;
	if (g->live_scopes) {
		a.group = g->id;
		a.own_instance = t->scope_instance;
		a.tgid = task->tgid;
		a.tid = task->pid;
		bpf_loop(totals.scope_mark, answer_scope, &a, 0);
	}
	from = phase_left(l, g);
	g->answered_ns = a.now;
	l->answered_ns = a.now;
	l->answers_inside = 0;
	l->listens = 1;
	if (g->phase == MW_PHASE_SERVE)
		g->evidence = MW_OBSERVED;
	if (!g->loaded && !a.over && g->phase != MW_PHASE_SERVE)
		return 0;
	/* Not while its own first load goes on. */
	if (from != MW_PHASE_SERVE && !(loading(l, a.now) && l->models.count <= 1)) {
		l->phase = MW_PHASE_SERVE;
		l->evidence = MW_OBSERVED;
		if (g->phase < MW_PHASE_SERVE)
			g->phase = MW_PHASE_SERVE;
		tell_of_process(task, t, l, MOVE(from, MW_PHASE_SERVE, MW_BY_ANSWER), NULL);
	}
	if (l->stopping && __sync_lock_test_and_set(&l->stopping, 0))
		tell_of_process(task, t, l, MOVE(MW_PHASE_STOP, l->phase ? l->phase : g->phase, MW_BY_ANSWER), NULL);
	return 0;
}

#endif
