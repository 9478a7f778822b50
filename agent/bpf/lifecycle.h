/* What moves phases: artifacts and ends here, answers and calls of frameworks in the files before. Who may be in which is said in
 * DESIGN.md, Lifecycle.
 */
#ifndef MODELWARD_LIFECYCLE_H
#define MODELWARD_LIFECYCLE_H

#include "calls.h"

/* Is a file part of the model of a scope that has long been quiet? Shards have a stem in common; TensorFlow's folder is one model. */
static __always_inline bool same_model(struct mw_scope_slot *scope, struct mw_opening *o)
{
	const char saved[MW_STEM] = "saved_model";

	/* io_uring has not resolved the name yet. */
	if (!o->folder)
		return o->trigger != MW_BY_LATE && same_stem(scope->stem, o->stem);
	if (same_stem(scope->stem, saved))
		return scope->folder[0] == o->folder || scope->folder[0] == o->above;
	return scope->folder[0] == o->folder && same_stem(scope->stem, o->stem);
}

/* Does a file begin another load than the one that its thread is in, which has gone quiet? Not within a call of a framework. */
static __always_inline bool is_another(struct mw_scope_slot *scope, struct mw_opening *o, u64 now, u32 known)
{
	return !known && !scope->depth && scope->files && scope_state(scope, now) == MW_SCOPE_TAIL && !same_model(scope, o);
}

/* User space found a file while its thread loads another. Nothing says that they belong together: it is a load of its own, which does
 * not end that other one nor take the thread out of it.
 */
static __always_inline int open_beside(struct mw_scratch *s, struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	u64 instance = t->scope_instance;
	u32 slot = t->scope_slot;
	struct mw_scope_slot *scope = open_scope(s, task, t, l);

	t->scope_slot = slot;
	t->scope_instance = instance;
	return scope != NULL;
}

#define MW_STARTERS	4	/* a shell or two between a server and its stub */

struct mw_calls {
	u64 group;
	u64 instance;
	struct task_struct *task;
	u32 tgid;
	u32 fresh;		/* the process has no model of its own, and has not answered */
	u32 slot;
	u32 found;
};

/* Is a process among the ancestors of a task? */
static __always_inline bool was_started_by(struct task_struct *task, u32 tgid)
{
	for (u32 i = 0; i < MW_STARTERS; i++) {
		task = BPF_CORE_READ(task, group_leader, real_parent);
		if (BPF_CORE_READ(task, tgid) == tgid)
			return true;
	}
	return false;
}

static long find_call(u32 index, struct mw_calls *c)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (!scope || scope->group != c->group || !scope->probed || !scope->depth || scope->files)
		return 0;
	if (scope->tgid != c->tgid && !(c->fresh && was_started_by((void *)c->task, scope->tgid)))
		return 0;
	c->found++;
	c->instance = scope->instance;
	c->slot = index;
	return 0;
}

/* A call of a framework to load a model goes on in the group and has opened no file: then whoever opens one does it for that call,
 * as Triton's stub does. Only the process itself may, or one that it started and that neither serves nor has a model; and not if there
 * are several such calls.
 */
static __noinline int join_call(struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_calls c = { .group = t->group, .task = task, .tgid = task->tgid };

	if (!g || !g->live_scopes)
		return 0;
	c.fresh = !l->answered_ns && (l->inherited || !l->models.count);
	bpf_loop(totals.scope_mark, find_call, &c, 0);
	if (c.found != 1)
		return 0;
	t->scope_slot = c.slot;
	t->scope_instance = c.instance;
	return 1;
}

static __always_inline void note_loaded(struct mw_scratch *s, u32 tgid)
{
	s->loaded.inode = s->opening.inode;
	s->loaded.device = s->opening.device;
	s->loaded.tgid = tgid;
	bpf_map_update_elem(&loaded_files, &s->loaded, &s->h.instance, BPF_ANY);
}

/* A tracked task opened an artifact to read it, or was found at it; scratch->opening says which. The scratch holds the open's record,
 * or with kind MW_LIFECYCLE what was found; its texts serve for the lifecycle record too.
 */
static __noinline int artifact_opened(struct mw_scratch *s, struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	struct mw_opening *o = &s->opening;
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	u64 now = s->h.time_ns;
	u32 known;

	/* A program that a load starts has a load of its own, or the two would be one model: unless it is that load's only one. */
	if (scope && t->other_program && scope->files)
		scope = NULL;
	else if (!scope && o->trigger != MW_BY_LATE && join_call(task, t, l))
		scope = scope_at(t->scope_slot, t->scope_instance);
	known = has_artifact(scope, o->inode, o->device);
	if (scope && (is_another(scope, o, now, known) || passed(now, scope->last_io_ns, MW_RELOAD_NS))) {
		settle(scope);
		if (own_scope(task, t))
			load_over(l, scope, MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, MW_BY_REOPENED), NULL);
		scope = NULL;
	}
	if (scope && !known && !scope->depth && scope->files && o->trigger == MW_BY_LATE)
		return open_beside(s, task, t, l);
	if (!scope) {
		if (!open_scope(s, task, t, l))
			return 0;
		note_loaded(s, task->tgid);
		return 1;
	}
	scope->last_io_ns = now;
	reopen(scope);
	s->h.instance = scope->instance;
	s->h.phase = MW_PHASE_LOAD;
	s->h.scope = MW_SCOPE_OPEN;
	if (!scope->files) {
		__builtin_memcpy(scope->stem, o->stem, sizeof(scope->stem));
		name_scope(s, t, l, scope);
		t->other_program = 0;	/* its further files are of the same model */
		if (scope->tgid != task->tgid)
			take_model(l, scope->instance, o->inode, o->device, scope->tgid);
	} else if (!known && o->trigger == MW_BY_LATE) {
		s->h.evidence = o->evidence;
		s->h.lifecycle.inode = o->inode;
		s->h.lifecycle.device = o->device;
		tell_from((struct mw_small *)&s->h, MW_SCOPE_OPEN | MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, MW_BY_LATE), NULL);
	}
	note_artifact(scope, o->inode, o->device, o->folder);
	note_loaded(s, task->tgid);
	return 1;
}

struct mw_sweep {
	u64 now;
	u32 open;
};

static long sweep_scope(u32 index, struct mw_sweep *sweep)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (!scope)
		return 0;
	if (!group_at(scope->group_slot, scope->group)) {
		/* begun by a process that was just ending */
		close_scope(scope, MOVE(MW_PHASE_LOAD, MW_PHASE_STOP, MW_BY_EXIT), NULL);
		return 0;
	}
	if (scope_state(scope, sweep->now) != MW_SCOPE_TAIL) {
		sweep->open = 1;
		return 0;
	}
	settle(scope);
	/* An answer found it going on, and nothing has shown since that it does. */
	if (scope->answered_ns && passed(sweep->now, scope->answered_ns, MW_DOUBT_NS) && !goes_on(scope, sweep->now))
		close_scope(scope, MOVE(MW_PHASE_LOAD, MW_PHASE_SERVE, MW_BY_ANSWER), NULL);
	else
		touches_pages(scope, (void *)scope->thread, sweep->now);
	return 0;
}

/* Has a load come to rest, so that an end of its process does not cut it off? */
static __noinline u32 rests(struct mw_scope_slot *scope, u64 now)
{
	struct task_struct *thread = (void *)scope->thread;

	if (scope->depth || scope_state(scope, now) != MW_SCOPE_TAIL)
		return 0;
	return passed(now, scope->last_io_ns, MW_HELD_NS) || (u32)BPF_CORE_READ(thread, pid) != scope->tid ||
	       holds_artifact(scope, thread) != MW_HELD;
}

/* Did a load fail whose process ends by an exit code? It was cut off; or it came to rest, no answer followed, and the status says
 * that something went wrong.
 */
static __always_inline u32 failed_by(struct mw_scope_slot *scope, int code, u64 now)
{
	if (!code)
		return 0;
	return !rests(scope, now) || (!(code & 0x7f) && !scope->answered_ns) ? MW_FAILED : 0;
}

/* The thread that loads ends: so does its load, well unless the whole process ends, by `code`. */
static __noinline int end_scope_of_thread(struct task_struct *task, struct mw_task *t, struct mw_task *l, int code)
{
	struct mw_scope_slot *scope = own_scope(task, t);
	u32 failed;

	if (!scope)
		return 0;
	failed = failed_by(scope, code, bpf_ktime_get_boot_ns());
	settle(scope);
	return load_over(l, scope,
			 failed | MOVE(MW_PHASE_LOAD, code ? MW_PHASE_STOP : phase_after(l), MW_BY_EXIT), NULL);
}

struct mw_ending {
	u64 now;
	u64 group;
	u32 tgid;
	int code;	/* of the process; 0 for a signal that it may outlive */
	u32 trigger;
	struct mw_task *process;
};

static long end_scope_of(u32 index, struct mw_ending *e)
{
	struct mw_scope_slot *scope = live_scope(index);
	u32 failed;

	if (!scope || scope->group != e->group || scope->tgid != e->tgid)
		return 0;
	if (e->trigger == MW_BY_SIGNAL) {
		if (rests(scope, e->now))
			return 0;
		failed = MW_FAILED;
	} else {
		failed = failed_by(scope, e->code, e->now);
	}
	if (failed && e->process)
		remove_model(&e->process->models, scope->instance);
	if (scope_state(scope, e->now) == MW_SCOPE_TAIL)
		settle(scope);
	close_scope(scope, failed | MOVE(MW_PHASE_LOAD, MW_PHASE_STOP, e->trigger), NULL);
	return 0;
}

/* The process ends, or was told to: loads that had not come to rest are cut off. */
static __noinline int end_loads(struct task_struct *task, struct mw_task *l, struct mw_group *g, int code, u32 trigger)
{
	struct mw_ending e = { .code = code, .trigger = trigger, .group = g->id, .tgid = task->tgid };

	if (!g->live_scopes)
		return 0;
	e.now = bpf_ktime_get_boot_ns();
	e.process = l;
	bpf_loop(totals.scope_mark, end_scope_of, &e, 0);
	return 0;
}

#endif
