/* Descendants of a group that were there before it. An iterator finds them, unless their parents end first: so until it has
 * looked for all of them, whoever of them forks, execs or ends is tagged then.
 */
#ifndef MODELWARD_DESCENT_H
#define MODELWARD_DESCENT_H

#include "probed.h"

#define MW_ANCESTORS	8
#define MW_CHILDREN	1024

/* Was a process started in the load that its ancestor is in? Its fork was missed then: the kernel refuses the state of a task while
 * another program on that CPU is about to get one.
 */
static __always_inline bool began_in(struct mw_scope_slot *scope, struct task_struct *task)
{
	return scope && READ(task_struct, task, start_boottime) > scope->record.h.time_ns;
}

static __always_inline struct mw_task *take_in(struct task_struct *task, struct mw_task *from)
{
	struct mw_task *t = bpf_task_storage_get(&tasks, task, from, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct mw_scope_slot *scope;
	struct mw_group *g;

	if (!t)
		return NULL;
	if (!first_to_count(t, task))
		return t;
	scope = scope_at(t->scope_slot, t->scope_instance);
	if (began_in(scope, task)) {
		t->origin_instance = scope->instance;
		t->origin_time_ns = READ(task_struct, task, start_boottime);
		t->origin_scope = scope_state(scope, t->origin_time_ns);
		t->origin_via = MW_VIA_FORK;
	} else {
		t->scope_instance = 0;
	}
	t->other_program = 0;
	t->scopes_begun = 0;
	t->asked_pointer = 0;
	t->stopping = 0;
	t->ended = 0;
	t->phase = MW_PHASE_UNKNOWN;
	t->inherited = 1;
	t->adopted = 1;
	g = group_at(t->group_slot, t->group);
	if (g)
		__sync_fetch_and_add(&g->tasks, 1);
	__sync_fetch_and_add(&totals.adopted, 1);
	look_for_libraries(task->tgid);
	return t;
}

/* Are there groups whose descendants were not all looked for? */
static __always_inline bool unsettled(void)
{
	u32 zero = 0;
	struct mw_config *c = bpf_map_lookup_elem(&config, &zero);

	return c && c->settled != totals.groups_made;
}

/* The state of a task whose process is not tracked, if an ancestor is. */
static __noinline struct mw_task *by_descent(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader, *ancestor = leader;
	struct mw_task *t;

	for (u32 i = 0; i < MW_ANCESTORS; i++) {
		if (!ancestor)
			return NULL;
		ancestor = ancestor->real_parent;
		if (!ancestor || ancestor->pid <= 1)
			return NULL;
		ancestor = ancestor->group_leader;
		t = ancestor ? bpf_task_storage_get(&tasks, ancestor, 0, 0) : NULL;
		if (!t)
			continue;
		t = take_in(leader, t);
		if (t && !t->excluded)
			t->server = 0;
		return t && task->pid != task->tgid ? state_of(task) : t;
	}
	return NULL;
}

#ifdef MW_CASTS
struct mw_children {
	u64 head;
	u64 entry;
	struct mw_task *t;
};

static long take_in_child(u32 index, struct mw_children *c)
{
	struct list_head *entry = (void *)c->entry;
	struct task_struct *child, *listed;

	if (!entry || c->entry == c->head)
		return 1;
	listed = (void *)entry - bpf_core_field_offset(struct task_struct, sibling);
	child = bpf_task_from_pid(BPF_CORE_READ(listed, pid));
	c->entry = (u64)BPF_CORE_READ(entry, next);
	if (child) {
		if (!bpf_task_storage_get(&tasks, child, 0, 0))
			take_in(child, c->t);
		bpf_task_release(child);
	}
	return 0;
}

/* A process ends: its children lose their parent, and must have been tagged by then. */
static __noinline int take_in_children(struct task_struct *task, struct mw_task *t)
{
	struct mw_children c = { .t = t };

	c.head = (u64)task + bpf_core_field_offset(struct task_struct, children);
	c.entry = (u64)BPF_CORE_READ(task, children.next);
	bpf_loop(MW_CHILDREN, take_in_child, &c, 0);
	return 0;
}
#else
static __always_inline int take_in_children(struct task_struct *task, struct mw_task *t)
{
	return 0;	/* no program can have a task by its number before Linux 6.2 */
}
#endif

#endif
