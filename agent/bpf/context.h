/* Who did it, below which model and in which phase: the header that every record carries. */
#ifndef MODELWARD_CONTEXT_H
#define MODELWARD_CONTEXT_H

#include "emit.h"

static __always_inline struct mw_task *leader_state(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	return leader ? bpf_task_storage_get(&tasks, leader, 0, 0) : NULL;
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

/* Phase, scope and instance of a task now. */
static __always_inline void fill_lifecycle(struct mw_header *h, struct task_struct *task, struct mw_task *t, struct mw_group *g,
					   u64 now)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_task *l;

	h->phase = g->phase;
	h->evidence = g->evidence;
	if (scope) {
		h->phase = MW_PHASE_LOAD;
		h->scope = scope_state(scope, now);
		h->instance = scope->instance;
		h->evidence = scope->evidence;
	} else {
		h->instance = g->instance;
		if (g->loads > 1 || g->stopping) {
			l = leader_state(task);
			if (l && l->instances)
				h->instance = l->instance;
			if (l && l->stopping)
				h->phase = MW_PHASE_STOP;
		}
		if (g->overflow && g->phase < MW_PHASE_SERVE)
			h->phase = MW_PHASE_LOAD;
	}
	h->origin_instance = t->origin_instance;
	h->origin_time_ns = t->origin_time_ns;
	h->origin_scope = t->origin_scope;
	h->origin_via = t->origin_via;
}

/* Fill in which process a task is of. */
static __always_inline void fill_process(struct mw_header *h, struct task_struct *task, struct task_struct *leader, u32 kind)
{
	struct task_struct *parent;
	const struct cred *cred = task->cred;

	h->time_ns = bpf_ktime_get_boot_ns();
	h->kind = kind;
	h->start_ns = leader->start_boottime;
	h->tgid = task->tgid;
	h->tid = task->pid;
	parent = leader->real_parent;
	if (parent) {
		h->parent_tgid = parent->tgid;
		h->parent_start_ns = parent->group_leader->start_boottime;
	}
	h->cgroup = task->cgroups->dfl_cgrp->kn->id;
	if (cred)
		h->uid = cred->euid.val;
	if (h->tid == h->tgid)
		h->flags |= MW_F_LEADER;
}

/* Fill the header for a tracked task; false when it is not tracked (any more). */
static __always_inline bool fill(struct mw_header *h, struct task_struct *task, struct mw_task *t, u32 kind)
{
	struct task_struct *leader = task->group_leader;
	struct mw_group *g = group_at(t->group_slot, t->group);

	if (!g || !leader)
		return false;
	fill_process(h, task, leader, kind);
	h->group = g->id;
	h->root_tgid = g->root_tgid;
	h->root_start_ns = g->root_start_ns;
	if (h->tgid == g->root_tgid && h->start_ns == g->root_start_ns)
		h->flags |= MW_F_ROOT;
	if (t->server)
		h->flags |= MW_F_SERVER;
	fill_lifecycle(h, task, t, g, h->time_ns);
	return true;
}

#endif
