/* Scopes: how a load begins, goes quiet, goes on and ends. */
#ifndef MODELWARD_SCOPES_H
#define MODELWARD_SCOPES_H

#include "probed.h"

static __always_inline u64 new_id(void)
{
	return (u64)bpf_get_prandom_u32() << 32 | (__sync_fetch_and_add(&totals.instance_count, 1) + 1);
}

/* Tell of a transition of the process of a task. */
static __noinline int tell_of_process(struct task_struct *task, struct mw_task *t, struct mw_task *l, u32 move,
				      struct mw_detail *detail)
{
	struct mw_scratch *s = claim();

	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_LIFECYCLE)) {
		if (move & MW_SAID)
			s->h.evidence = MW_DECLARED;
		tell_from((struct mw_small *)&s->h, move | s->h.scope, detail);
	}
	release(s);
	return 0;
}

/* A load of the process is over: does it map its model from now on? */
static __always_inline void look_for_maps(u32 tgid)
{
	u32 one = 1;

	bpf_map_update_elem(&residents, &tgid, &one, BPF_ANY);
}

/* A scope was quiet long enough. True for the one caller that made the transition. */
static __always_inline bool settle(struct mw_scope_slot *scope)
{
	struct mw_group *g = group_at(scope->group_slot, scope->group);
	u32 to = MW_PHASE_WARMUP;

	if (__sync_val_compare_and_swap(&scope->state, MW_SCOPE_OPEN, MW_SCOPE_TAIL) != MW_SCOPE_OPEN)
		return false;
	look_for_maps(scope->tgid);
	if (g) {
		g->pending = 1;
		__sync_fetch_and_add(&g->open_scopes, -1);
		if (g->open_scopes == 0)
			__sync_val_compare_and_swap(&g->phase, MW_PHASE_LOAD, MW_PHASE_WARMUP);
		to = g->phase;
	}
	tell_from(&scope->record, MW_SCOPE_TAIL | MOVE(MW_PHASE_LOAD, to, MW_BY_QUIET), NULL);
	return true;
}

static __always_inline void reopen(struct mw_scope_slot *scope)
{
	struct mw_group *g = group_at(scope->group_slot, scope->group);
	u32 from = g ? g->phase : MW_PHASE_UNKNOWN;

	if (__sync_val_compare_and_swap(&scope->state, MW_SCOPE_TAIL, MW_SCOPE_OPEN) != MW_SCOPE_TAIL)
		return;
	scope->answered_ns = 0;
	if (g) {
		__sync_fetch_and_add(&g->open_scopes, 1);
		__sync_val_compare_and_swap(&g->phase, MW_PHASE_WARMUP, MW_PHASE_LOAD);
	}
	tell_from(&scope->record, MW_SCOPE_OPEN | MOVE(from, MW_PHASE_LOAD, MW_BY_REOPENED), NULL);
}

/* Close a scope for every task that inherited it, by making their references void. */
APART int close_scope(struct mw_scope_slot *scope, u32 move, struct mw_detail *detail)
{
	struct mw_group *g;
	u64 instance;
	u32 state;

	if (!scope)
		return 0;
	g = group_at(scope->group_slot, scope->group);
	instance = scope->instance;
	state = __sync_lock_test_and_set(&scope->state, MW_SCOPE_NONE);
	if (state == MW_SCOPE_NONE)
		return 0;
	if (state == MW_SCOPE_OPEN)
		look_for_maps(scope->tgid);
	if (g) {
		g->pending = 1;
		if (state == MW_SCOPE_OPEN)
			__sync_fetch_and_add(&g->open_scopes, -1);
		__sync_fetch_and_add(&g->live_scopes, -1);
		if (move & MW_FAILED)
			remove_model(&g->models, instance);
		else
			__sync_fetch_and_add(&g->loaded, 1);
		if (move >> 16 != MW_BY_ANSWER)
			g->ended_ns = bpf_ktime_get_boot_ns();
		if (g->open_scopes == 0)
			__sync_val_compare_and_swap(&g->phase, MW_PHASE_LOAD, MW_PHASE_WARMUP);
	}
	tell_from(&scope->record, move, detail);
	__sync_val_compare_and_swap(&scope->instance, instance, 0);
	return 1;
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

static __always_inline bool is_of(struct mw_scope_slot *scope, u64 inode, u32 device)
{
	for (u32 i = 0; i < MW_SCOPE_FILES; i++)
		if (scope->inode[i] == inode && scope->device[i] == device)
			return true;
	return false;
}

APART bool has_artifact(struct mw_scope_slot *scope, u64 inode, u32 device)
{
	return scope && inode && is_of(scope, inode, device);
}

static __noinline int note_artifact(struct mw_scope_slot *scope, u64 inode, u32 device, u64 folder)
{
	u32 at;

	if (!inode || is_of(scope, inode, device))
		return 0;
	at = __sync_fetch_and_add(&scope->files, 1);
	if (at >= MW_SCOPE_FILES)
		at = 1 + at % (MW_SCOPE_FILES - 1);	/* the first one stays: its folder is the model's */
	barrier_var(at);
	at &= MW_SCOPE_FILES - 1;
	scope->inode[at] = inode;
	scope->device[at] = device;
	scope->folder[at] = folder;
	return 0;
}

/* A process has a model by its own doing, or by a call of `owner` that it helps: those of the process that forked it are its own no
 * more.
 */
static __always_inline int take_model(struct mw_task *l, u64 instance, u64 inode, u32 device, u32 owner)
{
	if (l->inherited) {
		__builtin_memset(&l->models, 0, sizeof(l->models));
		l->inherited = 0;
	}
	return add_model(&l->models, instance, inode, device, owner);
}

/* Open a scope on a task, for what scratch->opening says. The scratch holds a record of the task, whose path serves for the scope's
 * records too. NULL: over a quota, which is counted.
 */
static __noinline struct mw_scope_slot *open_scope(struct mw_scratch *s, struct task_struct *task, struct mw_task *t,
						   struct mw_task *l)
{
	struct mw_opening *o = &s->opening;
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_search search = {};
	struct mw_scope_slot *scope;
	u64 instance;
	u32 from, at;

	if (!g)
		return NULL;
	if (g->live_scopes < MW_GROUP_SCOPES)
		bpf_loop(MW_SCOPES, find_free_scope, &search, 0);
	scope = bpf_map_lookup_elem(&scopes, &search.slot);
	if (!search.found || !scope) {
		g->overflow = 1;
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return NULL;
	}
	raise_mark(&totals.scope_mark, search.slot + 1);
	probes_wanted_again(task->tgid);
	instance = new_id();
	scope->group = g->id;
	scope->group_slot = t->group_slot;
	scope->tgid = task->tgid;
	scope->tid = task->pid;
	scope->thread = (u64)task;
	scope->listens = answers_itself(l);
	scope->last_io_ns = s->h.time_ns;
	scope->answered_ns = 0;
	scope->checked_ns = 0;
	scope->counted_ns = 0;
	scope->faults = 0;
	scope->touching = 0;
	scope->depth = o->depth;
	scope->declared = o->trigger == MW_BY_DECLARED;
	scope->probed = o->trigger == MW_BY_PROBE_ENTER;
	scope->files = o->inode != 0;
	scope->evidence = o->evidence;
	__builtin_memset(scope->inode, 0, sizeof(scope->inode));
	__builtin_memcpy(scope->stem, o->stem, sizeof(scope->stem));
	scope->inode[0] = o->inode;
	scope->device[0] = o->device;
	scope->folder[0] = o->folder;
	from = s->h.phase;
	g->active_ns = s->h.time_ns;
	if (g->phase < MW_PHASE_LOAD || g->phase == MW_PHASE_WARMUP)
		g->phase = MW_PHASE_LOAD;
	__sync_fetch_and_add(&g->live_scopes, 1);
	__sync_fetch_and_add(&g->open_scopes, 1);
	add_model(&g->models, instance, o->inode, o->device, task->tgid);
	take_model(l, instance, o->inode, o->device, task->tgid);
	at = __sync_fetch_and_add(&l->scopes_begun, 1) & (MW_MODELS - 1);
	l->load_slots[at] = search.slot;
	l->loads[at] = instance;
	/* A process that has answered serves for ever, outside its loads. */
	if (l->phase != MW_PHASE_SERVE) {
		l->evidence = o->evidence;
		l->phase = MW_PHASE_LOAD;
	}
	/* The open itself belongs to the load that it begins. */
	s->h.instance = instance;
	s->h.phase = MW_PHASE_LOAD;
	s->h.scope = MW_SCOPE_OPEN;
	s->h.evidence = scope->evidence;
	bpf_probe_read_kernel(&scope->record, MW_SMALL_SIZE, &s->h);
	scope->record.h.kind = MW_LIFECYCLE;
	scope->record.h.outcome = MW_SUCCESS;
	__builtin_memset(scope->record.h.by_kind, 0, sizeof(scope->record.h.by_kind));
	scope->record.h.lifecycle.inode = o->inode;
	scope->record.h.lifecycle.device = o->device;
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
	t->other_program = 0;
	tell_from(&scope->record, MW_SCOPE_OPEN | MOVE(from, MW_PHASE_LOAD, o->trigger), &o->detail);
	return scope;
}

/* A scope that a framework's call opened gets its first artifact. */
static __noinline int name_scope(struct mw_scratch *s, struct mw_task *t, struct mw_task *l, struct mw_scope_slot *scope)
{
	struct mw_opening *o = &s->opening;
	struct mw_group *g = group_at(t->group_slot, t->group);

	scope->record.h.lifecycle.inode = o->inode;
	scope->record.h.lifecycle.device = o->device;
	if (s->h.seg[MW_SEG_PATH] && s->used <= MW_SMALL_SIZE - MW_HEADER_SIZE) {
		bpf_probe_read_kernel(scope->record.text, sizeof(scope->record.text), s->text);
		scope->record.h.seg[MW_SEG_PATH] = s->h.seg[MW_SEG_PATH];
	}
	if (g)
		name_model(&g->models, scope->instance, o->inode, o->device);
	name_model(&l->models, scope->instance, o->inode, o->device);
	tell_from(&scope->record, MW_SCOPE_OPEN | MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, o->trigger), &o->detail);
	return 0;
}

#endif
