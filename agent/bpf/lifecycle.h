/* Phases, scopes and instances: how they begin and end. Who may be in which is said in DESIGN.md, Lifecycle. */
#ifndef MODELWARD_LIFECYCLE_H
#define MODELWARD_LIFECYCLE_H

#include "context.h"

static __always_inline u64 new_id(void)
{
	return (u64)bpf_get_prandom_u32() << 32 | (__sync_fetch_and_add(&totals.instance_count, 1) + 1);
}

/* Tell of a transition on the control ring, from the record that told of the scope's opening. `state`: enum mw_scope,
 * and MW_F_* to add.
 */
static __noinline void tell_of_scope(struct mw_scope_slot *scope, u32 from, u32 to, u32 trigger, u32 state)
{
	u64 number = next_number(MW_RING_CONTROL);
	struct mw_small *r;

	count(MW_HOP_SEEN, MW_LIFECYCLE);
	r = bpf_ringbuf_reserve(&ring_control, MW_SMALL_SIZE, 0);
	if (!r) {
		count(MW_HOP_DROPPED, MW_LIFECYCLE);
		return;
	}
	bpf_probe_read_kernel(r, MW_SMALL_SIZE, &scope->record);
	r->h.number = number;
	r->h.cpu = bpf_get_smp_processor_id();
	r->h.ring = MW_RING_CONTROL;
	r->h.time_ns = bpf_ktime_get_boot_ns();
	r->h.phase = to;
	r->h.scope = state & 3;
	r->h.lifecycle.from = from;
	r->h.lifecycle.to = to;
	r->h.lifecycle.trigger = trigger;
	r->h.flags |= state & ~3u;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* Tell of a transition of the current process' group or of the process itself. */
static __noinline void tell_of_process(struct task_struct *task, struct mw_task *t, u32 from, u32 to, u32 trigger)
{
	struct mw_scratch *s = claim();

	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return;
	}
	if (fill(&s->h, task, t, MW_LIFECYCLE)) {
		s->h.phase = to;
		s->h.lifecycle.from = from;
		s->h.lifecycle.to = to;
		s->h.lifecycle.trigger = trigger;
		emit(s, 1);
	}
	release(s);
}

/* A scope was quiet long enough. True for the one caller that made the transition. */
static __always_inline bool settle(struct mw_scope_slot *scope)
{
	struct mw_group *g = group_at(scope->group_slot, scope->group);
	u32 to = MW_PHASE_WARMUP;

	if (__sync_val_compare_and_swap(&scope->state, MW_SCOPE_OPEN, MW_SCOPE_TAIL) != MW_SCOPE_OPEN)
		return false;
	if (g) {
		__sync_fetch_and_add(&g->loaded, 1);
		__sync_fetch_and_add(&g->open_scopes, -1);
		if (g->open_scopes == 0)
			__sync_val_compare_and_swap(&g->phase, MW_PHASE_LOAD, MW_PHASE_WARMUP);
		to = g->phase;
	}
	tell_of_scope(scope, MW_PHASE_LOAD, to, MW_BY_QUIET, MW_SCOPE_TAIL);
	return true;
}

static __always_inline void reopen(struct mw_scope_slot *scope)
{
	struct mw_group *g = group_at(scope->group_slot, scope->group);
	u32 from = g ? g->phase : MW_PHASE_UNKNOWN;

	if (__sync_val_compare_and_swap(&scope->state, MW_SCOPE_TAIL, MW_SCOPE_OPEN) != MW_SCOPE_TAIL)
		return;
	if (g) {
		__sync_fetch_and_add(&g->open_scopes, 1);
		__sync_val_compare_and_swap(&g->phase, MW_PHASE_WARMUP, MW_PHASE_LOAD);
	}
	tell_of_scope(scope, from, MW_PHASE_LOAD, MW_BY_REOPENED, MW_SCOPE_OPEN);
}

/* Close a scope for every task that inherited it, by making their references void. */
static __always_inline void close_scope(struct mw_scope_slot *scope, u32 to, u32 trigger)
{
	struct mw_group *g = group_at(scope->group_slot, scope->group);
	u64 instance = scope->instance;
	u32 state = __sync_lock_test_and_set(&scope->state, MW_SCOPE_NONE);

	if (state == MW_SCOPE_NONE)
		return;
	if (g) {
		if (state == MW_SCOPE_OPEN)
			__sync_fetch_and_add(&g->open_scopes, -1);
		__sync_fetch_and_add(&g->live_scopes, -1);
	}
	tell_of_scope(scope, MW_PHASE_LOAD, to, trigger,
		      MW_SCOPE_NONE | (trigger == MW_BY_EXIT && state == MW_SCOPE_OPEN ? MW_F_LOAD_FAILED : 0));
	__sync_val_compare_and_swap(&scope->instance, instance, 0);
}

struct mw_scope_search {
	u32 slot;
	u32 found;
};

static long find_free_scope(u32 index, struct mw_scope_search *search)
{
	u32 slot = index;
	struct mw_scope_slot *scope = bpf_map_lookup_elem(&scopes, &slot);

	if (!scope)
		return 1;
	/* ~0 while it is being filled: no reference can equal it */
	if (scope->instance || __sync_val_compare_and_swap(&scope->instance, 0, ~0ULL))
		return 0;
	search->slot = index;
	search->found = 1;
	return 1;
}

static __always_inline void raise_scope_mark(u32 mark)
{
	for (u32 i = 0; i < 8; i++) {
		u32 old = totals.scope_mark;

		if (mark <= old || __sync_val_compare_and_swap(&totals.scope_mark, old, mark) == old)
			return;
	}
}

static __always_inline void note_artifact(struct mw_scope_slot *scope, u64 inode, u32 device)
{
	for (u32 i = 0; i < MW_SCOPE_FILES; i++)
		if (scope->inode[i] == inode && scope->device[i] == device)
			return;
	u32 at = __sync_fetch_and_add(&scope->files, 1) & (MW_SCOPE_FILES - 1);

	scope->inode[at] = inode;
	scope->device[at] = device;
}

/* The model that an event outside any scope names: the last load of the only artifact. */
static __always_inline void count_instance(u64 *only, u64 *only_inode, u32 *only_device, u32 *instances, u64 instance, u64 inode,
					   u32 device)
{
	if (*instances == 0 || (*only && *only_inode == inode && *only_device == device)) {
		*only = instance;
		*only_inode = inode;
		*only_device = device;
		*instances = 1;
		return;
	}
	*only = 0;
	*instances += 1;
}

/* A tracked task opened an artifact to read it, or was found at it. The scratch holds the open's record, or with kind
 * MW_LIFECYCLE what was found; its texts serve for the lifecycle record too.
 */
static __noinline void artifact_opened(struct mw_scratch *s, struct task_struct *task, struct mw_task *t)
{
	u64 inode = s->h.file.inode, now = s->h.time_ns, instance;
	u32 device = s->h.file.device, from;
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_scope_search search = {};
	struct mw_task *l;

	if (!g)
		return;
	if (scope && now - scope->last_io_ns > MW_RELOAD_NS) {
		settle(scope);
		close_scope(scope, MW_PHASE_LOAD, MW_BY_REOPENED);
		scope = NULL;
	}
	if (scope) {
		scope->last_io_ns = now;
		note_artifact(scope, inode, device);
		reopen(scope);
		s->h.scope = MW_SCOPE_OPEN;
		return;
	}
	if (g->live_scopes >= MW_GROUP_SCOPES) {
		g->overflow = 1;
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return;
	}
	bpf_loop(MW_SCOPES, find_free_scope, &search, 0);
	scope = bpf_map_lookup_elem(&scopes, &search.slot);
	if (!search.found || !scope) {
		g->overflow = 1;
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return;
	}
	raise_scope_mark(search.slot + 1);
	instance = new_id();
	scope->group = g->id;
	scope->group_slot = t->group_slot;
	scope->tgid = task->tgid;
	scope->tid = task->pid;
	scope->last_io_ns = now;
	scope->files = 0;
	scope->evidence = s->h.kind == MW_FILE_OPEN ? MW_OBSERVED : MW_RECONSTRUCTED;
	__builtin_memset(scope->inode, 0, sizeof(scope->inode));
	note_artifact(scope, inode, device);
	from = g->phase;
	if (from < MW_PHASE_LOAD || from == MW_PHASE_WARMUP)
		__sync_val_compare_and_swap(&g->phase, from, MW_PHASE_LOAD);
	__sync_fetch_and_add(&g->live_scopes, 1);
	__sync_fetch_and_add(&g->open_scopes, 1);
	__sync_fetch_and_add(&g->loads, 1);
	count_instance(&g->instance, &g->instance_inode, &g->instance_device, &g->instances, instance, inode, device);
	l = leader_state(task);
	if (l)
		count_instance(&l->instance, &l->instance_inode, &l->instance_device, &l->instances, instance, inode, device);
	/* The open itself belongs to the load that it begins. */
	s->h.instance = instance;
	s->h.phase = MW_PHASE_LOAD;
	s->h.scope = MW_SCOPE_OPEN;
	s->h.evidence = scope->evidence;
	bpf_probe_read_kernel(&scope->record, MW_SMALL_SIZE, &s->h);
	scope->record.h.kind = MW_LIFECYCLE;
	scope->record.h.count = 1;
	scope->record.h.outcome = MW_SUCCESS;
	__builtin_memset(scope->record.h.by_kind, 0, sizeof(scope->record.h.by_kind));
	scope->record.h.lifecycle.inode = inode;
	scope->record.h.lifecycle.device = device;
	scope->record.h.seg[MW_SEG_ASKED] = 0;	/* the detail of a transition has its place */
	if (s->used > MW_SMALL_SIZE - MW_HEADER_SIZE) {
		/* The open's own record has the long path, on the same instance. */
		__builtin_memset(scope->record.h.seg, 0, sizeof(scope->record.h.seg));
		scope->record.h.flags |= MW_F_TRUNCATED;
	}
	scope->state = MW_SCOPE_OPEN;
	__sync_lock_test_and_set(&scope->instance, instance);
	t->scope_slot = search.slot;
	t->scope_instance = instance;
	tell_of_scope(scope, from, MW_PHASE_LOAD,
		      scope->evidence == MW_OBSERVED ? MW_BY_ARTIFACT_OPEN : MW_BY_ADOPTED, MW_SCOPE_OPEN);
}

struct mw_answer {
	u64 now;
	u64 group;
	u64 own_instance;	/* scope that the answering task is in itself */
	u32 tgid;
};

static long answer_scope(u32 index, struct mw_answer *a)
{
	u32 slot = index;
	struct mw_scope_slot *scope;

	if (index >= totals.scope_mark)
		return 1;
	scope = bpf_map_lookup_elem(&scopes, &slot);
	if (!scope || scope->group != a->group || scope->state == MW_SCOPE_NONE)
		return 0;
	if (scope_state(scope, a->now) != MW_SCOPE_TAIL)
		return 0;
	settle(scope);
	if (scope->tgid == a->tgid || scope->instance == a->own_instance)
		close_scope(scope, MW_PHASE_SERVE, MW_BY_ANSWER);
	return 0;
}

/* A process of a group sent something on a socket that it, or its server, accepted. */
static __noinline void answered(struct task_struct *task, struct mw_task *t)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_task *l;
	struct mw_answer a = {};
	u32 from;

	if (!g)
		return;
	if (g->live_scopes) {
		a.now = bpf_ktime_get_boot_ns();
		a.group = g->id;
		a.own_instance = t->scope_instance;
		a.tgid = task->tgid;
		bpf_loop(MW_SCOPES, answer_scope, &a, 0);
	}
	from = g->phase;
	if (from == MW_PHASE_SERVE)
		g->evidence = MW_OBSERVED;
	if (g->loaded && from < MW_PHASE_SERVE && __sync_val_compare_and_swap(&g->phase, from, MW_PHASE_SERVE) == from)
		tell_of_process(task, t, from, MW_PHASE_SERVE, MW_BY_ANSWER);
	if (!g->stopping)
		return;
	l = leader_state(task);
	if (l && __sync_lock_test_and_set(&l->stopping, 0)) {
		__sync_fetch_and_add(&g->stopping, -1);
		tell_of_process(task, t, MW_PHASE_STOP, g->phase, MW_BY_ANSWER);
	}
}

struct mw_sweep {
	u64 now;
	u32 open;
	u32 live;
};

static long sweep_scope(u32 index, struct mw_sweep *sweep)
{
	u32 slot = index;
	struct mw_scope_slot *scope;

	if (index >= totals.scope_mark)
		return 1;
	scope = bpf_map_lookup_elem(&scopes, &slot);
	if (!scope || !scope->instance || scope->state == MW_SCOPE_NONE)
		return 0;
	sweep->live++;
	if (scope_state(scope, sweep->now) == MW_SCOPE_TAIL)
		settle(scope);
	else
		sweep->open++;
	return 0;
}

/* The thread that loads ends: so does its load, well. */
static __noinline void end_scope_of_thread(struct task_struct *task, struct mw_task *t)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_group *g = group_at(t->group_slot, t->group);

	if (!scope || !g || scope->tid != task->pid || scope->tgid != task->tgid)
		return;
	settle(scope);
	close_scope(scope, g->phase, MW_BY_EXIT);
}

struct mw_ending {
	u64 now;
	u64 group;
	u32 tgid;
};

static long end_scope_of(u32 index, struct mw_ending *e)
{
	u32 slot = index;
	struct mw_scope_slot *scope;

	if (index >= totals.scope_mark)
		return 1;
	scope = bpf_map_lookup_elem(&scopes, &slot);
	if (!scope || scope->group != e->group || scope->tgid != e->tgid || scope->state == MW_SCOPE_NONE)
		return 0;
	if (scope_state(scope, e->now) == MW_SCOPE_TAIL)
		settle(scope);
	close_scope(scope, MW_PHASE_STOP, MW_BY_EXIT);
	return 0;
}

#endif
