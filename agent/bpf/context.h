/* Who did it, below which model and in which phase: the header that every record carries. */
#ifndef MODELWARD_CONTEXT_H
#define MODELWARD_CONTEXT_H

#include "emit.h"
#include "models.h"

/* A transition in one word: enum mw_scope afterwards and these flags, the two phases, what brought it about. */
#define MOVE(from, to, trigger)	((u32)(from) << 8 | (u32)(to) << 12 | (u32)(trigger) << 16)
#define MW_FAILED	(1u << 2)
#define MW_SAID		(1u << 3)	/* the process said so itself */

static __always_inline struct mw_task *leader_state(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	return leader ? bpf_task_storage_get(&tasks, leader, 0, 0) : NULL;
}

/* The state of a task's process, never NULL. Looked up once in a program and handed on as `l`: for each step from a trusted task to
 * another the verifier of Linux 6.18 searches all types of the kernel, which takes a millisecond.
 */
static __always_inline struct mw_task *process_of(struct task_struct *task, struct mw_task *t)
{
	struct mw_task *l = task->pid == task->tgid ? NULL : leader_state(task);

	return l ? l : t;
}

/* The state of a task. A thread that was there before its process became tracked takes the process' state when it
 * first does something.
 */
static __always_inline struct mw_task *state_of(struct task_struct *task)
{
	struct mw_task *t = bpf_task_storage_get(&tasks, task, 0, 0), *l;
	struct mw_group *g;

	if (t || task->pid == task->tgid)
		return t;
	l = leader_state(task);
	if (!l)
		return NULL;
	t = bpf_task_storage_get(&tasks, task, l, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		return NULL;
	if (!first_to_count(t, task))
		return t;
	t->scope_instance = 0;
	t->asked_pointer = 0;
	t->adopted = 0;
	t->origin_instance = 0;
	t->origin_time_ns = 0;
	t->origin_scope = MW_SCOPE_NONE;
	t->origin_via = MW_VIA_NONE;
	g = group_at(t->group_slot, t->group);
	if (g)
		__sync_fetch_and_add(&g->tasks, 1);
	return t;
}

/* Tell of a transition on the control ring, in a copy of a record of the same task. */
APART int tell_from(struct mw_small *record, u32 move, struct mw_detail *detail)
{
	u32 from = move >> 8 & 15, to = move >> 12 & 15;
	struct mw_small *r;
	u32 used;
	long n;

	if (!record)
		return 0;
	count(MW_HOP_SEEN, MW_LIFECYCLE);
	r = bpf_ringbuf_reserve(&ring_control, MW_SMALL_SIZE, 0);
	if (!r) {
		next_number(MW_RING_CONTROL);
		count(MW_HOP_DROPPED, MW_LIFECYCLE);
		return 0;
	}
	bpf_probe_read_kernel(r, MW_SMALL_SIZE, record);
	r->h.number = next_number(MW_RING_CONTROL);
	r->h.cpu = bpf_get_smp_processor_id();
	r->h.ring = MW_RING_CONTROL;
	r->h.time_ns = bpf_ktime_get_boot_ns();
	r->h.kind = MW_LIFECYCLE;
	r->h.flags &= ~MW_UNSETTLED;
	r->h.count = 1;
	r->h.phase = move & MW_FAILED && move & MW_SAID ? from : to;
	r->h.scope = move & 3;
	r->h.outcome = move & MW_FAILED ? MW_FAILURE : MW_SUCCESS;
	r->h.lifecycle.from = from;
	r->h.lifecycle.to = to;
	r->h.lifecycle.trigger = move >> 16;
	used = r->h.seg[MW_SEG_PATH];
	if (detail && used <= sizeof(r->text) - MW_DETAIL) {
		n = bpf_probe_read_kernel_str(&r->text[used], MW_DETAIL, detail->text);
		r->h.seg[MW_SEG_ASKED] = n > 1 ? n - 1 : 0;
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Is a load of the process going on, open or in its tail? */
APART u32 loading(struct mw_task *l, u64 now)
{
	struct mw_scope_slot *scope;
	u32 found = MW_SCOPE_NONE;

	if (!l)
		return found;
	for (u32 i = 0; i < MW_MODELS; i++) {
		scope = scope_at(l->load_slots[i], l->loads[i]);
		if (!scope || scope->state == MW_SCOPE_NONE)
			continue;
		if (scope_state(scope, now) == MW_SCOPE_OPEN)
			return MW_SCOPE_OPEN;
		found = MW_SCOPE_TAIL;
	}
	return found;
}

/* Does a process answer for itself? Not if it answers its own group, which asks on behalf of clients. */
static __always_inline bool answers_itself(struct mw_task *l)
{
	return l->listens && !l->answers_inside;
}

/* Was there an answer after the last load of the process was over? By itself, if it answers for itself. Ends of loads that it has
 * from the process that forked it are known to the group alone.
 */
static __always_inline bool answered_since(struct mw_task *l, struct mw_group *g)
{
	if (answers_itself(l))
		return l->answered_ns > l->ready_ns;
	return g->answered_ns > l->ready_ns && !(l->inherited && g->answered_ns < g->ended_ns);
}

/* The phase of a process, outside its loads. What is due because nothing happened in the process itself is made here: its loads
 * were closed by others, or its group answered for it. `began`: 1 when it serves from now on.
 */
APART u32 phase_of(struct mw_task *l, struct mw_group *g, u64 now, u32 *began)
{
	u32 phase, state;

	if (!l || !g || !began)
		return MW_PHASE_UNKNOWN;
	phase = l->phase;
	if (phase == MW_PHASE_UNKNOWN)
		return g->phase;
	if (phase != MW_PHASE_LOAD && (phase != MW_PHASE_WARMUP || !answered_since(l, g)))
		return phase;
	state = loading(l, now);
	if (phase == MW_PHASE_LOAD) {
		if (state == MW_SCOPE_OPEN || (l->scopes_begun > MW_MODELS && g->open_scopes))
			return phase;
		if (__sync_val_compare_and_swap(&l->phase, MW_PHASE_LOAD, MW_PHASE_WARMUP) != MW_PHASE_LOAD)
			return l->phase;
		phase = MW_PHASE_WARMUP;
	}
	if (state != MW_SCOPE_NONE || !g->loaded || !answered_since(l, g))
		return phase;
	if (__sync_val_compare_and_swap(&l->phase, MW_PHASE_WARMUP, MW_PHASE_SERVE) == MW_PHASE_WARMUP) {
		if (g->phase < MW_PHASE_SERVE)
			g->phase = MW_PHASE_SERVE;
		*began = 1;
	}
	return MW_PHASE_SERVE;
}

/* The phase that a process is in, for the record of what it leaves it for. */
static __always_inline u32 phase_left(struct mw_task *l, struct mw_group *g)
{
	u32 began = 0;

	return phase_of(l, g, bpf_ktime_get_boot_ns(), &began);
}

/* Phase, scope and instance of a task now. */
static __always_inline void fill_lifecycle(struct mw_header *h, struct mw_task *t, struct mw_task *l, struct mw_group *g, u64 now)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	u32 began = 0;

	h->origin_instance = t->origin_instance;
	h->origin_time_ns = t->origin_time_ns;
	h->origin_scope = t->origin_scope;
	h->origin_via = t->origin_via;
	if (scope) {
		h->phase = MW_PHASE_LOAD;
		h->scope = scope_state(scope, now);
		h->instance = scope->instance;
		h->evidence = scope->evidence;
		return;
	}
	h->evidence = g->evidence;
	h->instance = only_model(&g->models);
	h->phase = phase_of(l, g, now, &began);
	if (l->phase)
		h->evidence = l->evidence;
	/* Who has loaded, and given back or failed, has none; others have what their group has. */
	if (l->models.count || l->scopes_begun)
		h->instance = only_model(&l->models);
	if (l->stopping)
		h->phase = MW_PHASE_STOP;
	if (g->overflow && h->phase < MW_PHASE_SERVE)
		h->phase = MW_PHASE_LOAD;
	if (began)
		tell_from((struct mw_small *)h, MOVE(MW_PHASE_WARMUP, MW_PHASE_SERVE, MW_BY_ANSWER), NULL);
}

/* Fill in which process a task is of. */
static __always_inline void fill_process(struct mw_header *h, struct task_struct *task, struct task_struct *leader, u32 kind)
{
	const struct cred *cred = READ(task_struct, task, cred);
	struct css_set *cgroups = READ(task_struct, task, cgroups);
	struct cgroup *cgroup = READ(css_set, cgroups, dfl_cgrp);
	struct kernfs_node *node = READ(cgroup, cgroup, kn);
	struct task_struct *parent = READ(task_struct, leader, real_parent);
	struct task_struct *first = READ(task_struct, parent, group_leader);

	h->time_ns = bpf_ktime_get_boot_ns();
	h->kind = kind;
	h->start_ns = READ(task_struct, leader, start_boottime);
	h->tgid = task->tgid;
	h->tid = task->pid;
	h->parent_tgid = READ(task_struct, parent, tgid);
	h->parent_start_ns = READ(task_struct, first, start_boottime);
	h->cgroup = READ(kernfs_node, node, id);
	h->uid = READ(cred, cred, euid.val);
	if (h->tid == h->tgid)
		h->flags |= MW_F_LEADER;
}

/* Fill the header for a tracked task, whose process has the state `l`; false when it is not tracked (any more). */
static __always_inline bool fill(struct mw_header *h, struct task_struct *task, struct mw_task *t, struct mw_task *l, u32 kind)
{
	struct task_struct *leader = READ(task_struct, task, group_leader);
	struct mw_group *g = group_at(t->group_slot, t->group);

	if (!g)
		return false;
	fill_process(h, task, leader, kind);
	h->group = g->id;
	h->root_tgid = g->root_tgid;
	h->root_start_ns = g->root_start_ns;
	if (h->tgid == g->root_tgid && h->start_ns == g->root_start_ns)
		h->flags |= MW_F_ROOT;
	if (t->server)
		h->flags |= MW_F_SERVER;
	/* An agent that dies meanwhile leaves it so. */
	if (g->settling && !passed(h->time_ns, g->made_ns, MW_SETTLING_NS))
		h->flags |= MW_UNSETTLED;
	fill_lifecycle(h, t, l, g, h->time_ns);
	return true;
}

#endif
