/* What frameworks call and processes say of themselves, and how that moves phases. */
#ifndef MODELWARD_CALLS_H
#define MODELWARD_CALLS_H

#include "answers.h"

/* Called by the programs of other files, whichever of them there are. */
#define OFFERED static __noinline __attribute__((unused))

/* A load of the current task's own, not one that it inherited. */
static __always_inline struct mw_scope_slot *own_scope(struct task_struct *task, struct mw_task *t)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);

	return scope && scope->tid == task->pid && scope->tgid == task->tgid ? scope : NULL;
}

/* A load of process `l` is over. */
APART int load_over(struct mw_task *l, struct mw_scope_slot *scope, u32 move, struct mw_detail *detail)
{
	u64 instance, now = bpf_ktime_get_boot_ns();

	if (!scope)
		return 0;
	instance = scope->instance;
	if (!close_scope(scope, move, detail) || !l)
		return 0;
	l->ready_ns = now;
	if (move & MW_FAILED)
		remove_model(&l->models, instance);
	if (l->phase == MW_PHASE_LOAD && !loading(l, now))
		l->phase = MW_PHASE_WARMUP;
	return 1;
}

/* The phase that a process goes to when its load is over. */
static __always_inline u32 phase_after(struct mw_task *l)
{
	return l->stopping ? MW_PHASE_STOP : l->phase == MW_PHASE_SERVE ? MW_PHASE_SERVE : MW_PHASE_WARMUP;
}

/* A framework's load was called: opens a scope without an artifact, which the first one opened inside joins; or deepens the one
 * that the thread is in. `detail` may be NULL. `trigger`: MW_BY_PROBE_ENTER or
 * MW_BY_DECLARED. To be paired with scope_leave.
 */
OFFERED int scope_enter(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail, u32 trigger)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_scratch *s;
	u64 now = bpf_ktime_get_boot_ns();

	if (scope && own_scope(task, t)) {
		__sync_fetch_and_add(&scope->depth, 1);
		scope->last_io_ns = now;
		reopen(scope);
		return 1;
	}
	if (scope && (scope->depth || scope_state(scope, now) == MW_SCOPE_OPEN)) {
		scope->last_io_ns = now;	/* a helper of the thread that loads */
		reopen(scope);
		return 1;
	}
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_LIFECYCLE)) {
		__builtin_memset(&s->opening, 0, sizeof(s->opening));
		s->opening.trigger = trigger;
		s->opening.evidence = trigger == MW_BY_DECLARED ? MW_DECLARED : MW_OBSERVED;
		s->opening.depth = 1;
		if (detail)
			s->opening.detail = *detail;
		open_scope(s, task, t, l);
	}
	release(s);
	return 1;
}

/* A framework's load returned: at the outermost one the load is over, well or failed. */
OFFERED int scope_leave(struct task_struct *task, struct mw_task *t, struct mw_task *l, u32 failed, struct mw_detail *detail)
{
	struct mw_scope_slot *scope = own_scope(task, t);

	if (!scope || !scope->depth)
		return 0;
	if (__sync_fetch_and_add(&scope->depth, -1) > 1)
		return 0;
	/* What is read in a load that began with a file may call functions of a library of its own: while the file is open they end
	 * nothing, and they never make it a failure.
	 */
	if (!scope->probed && !scope->declared) {
		if (holds_artifact(scope, task))
			return 0;
		failed = 0;
	}
	return load_over(l, scope, (failed ? MW_FAILED : 0) | MOVE(MW_PHASE_LOAD, phase_after(l),
			 scope->declared ? MW_BY_DECLARED : MW_BY_PROBE_RETURN), detail);
}

struct mw_inference {
	u32 tgid;
	u32 to;
	u64 group;
	u64 now;
	struct mw_detail *detail;
	u32 live;
};

static long end_tail(u32 index, struct mw_inference *i)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (!scope || scope->group != i->group || scope->tgid != i->tgid)
		return 0;
	if (scope->depth || scope_state(scope, i->now) != MW_SCOPE_TAIL) {
		i->live = 1;
		return 0;
	}
	close_scope(scope, MOVE(MW_PHASE_LOAD, i->to, MW_BY_INFERENCE), i->detail);
	return 0;
}

/* A framework was asked to infer: the loads of the process that are quiet are over, and that of the thread itself. The process
 * serves by it only if none of its group ever listened, so that no answer can tell. False when nothing is left to learn from
 * further calls in this process: until a load begins again, which is at the latest when the caller is armed again.
 */
OFFERED int inference_called(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail)
{
	struct mw_inference i = { .detail = detail };
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope;
	u32 from;

	if (!g)
		return 0;
	i.to = phase_after(l);
	scope = own_scope(task, t);
	if (scope && !scope->depth && scope_state(scope, bpf_ktime_get_boot_ns()) == MW_SCOPE_TAIL &&
	    holds_artifact(scope, task) != MW_HELD)
		load_over(l, scope, MOVE(MW_PHASE_LOAD, i.to, MW_BY_INFERENCE), detail);
	if (g->live_scopes) {
		i.tgid = task->tgid;
		i.group = g->id;
		i.now = bpf_ktime_get_boot_ns();
		bpf_loop(totals.scope_mark, end_tail, &i, 0);
	}
	if (i.live)
		return 1;
	from = l->phase == MW_PHASE_UNKNOWN ? MW_PHASE_UNKNOWN : phase_left(l, g);
	if (from == MW_PHASE_LOAD || from == MW_PHASE_START || from == MW_PHASE_UNKNOWN) {
		l->phase = MW_PHASE_WARMUP;
		l->ready_ns = bpf_ktime_get_boot_ns();
		g->pending = 1;
		if (from != MW_PHASE_LOAD)
			tell_of_process(task, t, l, MOVE(from, MW_PHASE_WARMUP, MW_BY_INFERENCE), detail);
		from = MW_PHASE_WARMUP;
	}
	if (from == MW_PHASE_WARMUP && !g->listening) {
		l->phase = MW_PHASE_SERVE;
		tell_of_process(task, t, l, MOVE(from, MW_PHASE_SERVE, MW_BY_INFERENCE), detail);
		if (g->phase < MW_PHASE_SERVE)
			g->phase = MW_PHASE_SERVE;
	}
	return l->phase != MW_PHASE_SERVE;
}

/* The device was used for the first time, `what` (0 to 31) of it: the load goes on. Told once for each process and what. False
 * when there is nothing left to learn from further calls.
 */
OFFERED int device_used(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail, u32 what)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_group *g = group_at(t->group_slot, t->group);
	u32 bit = 1u << (what & 31), phase;

	if (!g)
		return 0;
	if (scope) {
		scope->last_io_ns = bpf_ktime_get_boot_ns();
		reopen(scope);
	}
	if (!(__sync_fetch_and_or(&l->devices_told, bit) & bit)) {
		phase = scope ? MW_PHASE_LOAD : phase_left(l, g);
		tell_of_process(task, t, l, MOVE(phase, phase, MW_BY_DEVICE), detail);
	}
	return scope != NULL;
}

/* A model was taken out of the process: `instance`, or with 0 the only one that it has. */
OFFERED int unloaded(struct task_struct *task, struct mw_task *t, struct mw_task *l, u64 instance, struct mw_detail *detail)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scratch *s;
	bool own;

	if (!g)
		return 0;
	if (!instance)
		instance = only_model(&l->models);
	own = owns_model(&l->models, instance, task->tgid);
	if (!instance || !remove_model(&l->models, instance))
		return 0;
	if (own && !l->inherited)
		remove_model(&g->models, instance);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 1;
	}
	if (fill(&s->h, task, t, l, MW_LIFECYCLE)) {
		s->h.instance = instance;
		tell_from((struct mw_small *)&s->h, s->h.scope | MOVE(s->h.phase, s->h.phase, MW_BY_UNLOAD), detail);
	}
	release(s);
	return 1;
}

/* A process said which phase it is in. That may tighten how it is judged, never loosen it: `load` opens a scope, which ends with
 * the next declaration of the thread; a later phase than the present one is believed; all else is refused, and told so.
 */
OFFERED int declare_phase(struct task_struct *task, struct mw_task *t, struct mw_task *l, u32 phase, struct mw_detail *detail)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope = own_scope(task, t);
	u32 from, reading, ended = 0;

	if (!g)
		return 0;
	reading = scope && holds_artifact(scope, task);
	if (phase == MW_PHASE_LOAD) {
		if (scope && (reading || !scope->declared)) {
			/* It says so of a load that was seen already. */
			if (!scope->depth) {
				scope->depth = 1;
				scope->declared = 1;
			}
			tell_of_process(task, t, l, MW_SAID | MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, MW_BY_DECLARED), detail);
			return 1;
		}
		if (scope)
			load_over(l, scope, MOVE(MW_PHASE_LOAD, phase_after(l), MW_BY_DECLARED), NULL);
		return scope_enter(task, t, l, detail, MW_BY_DECLARED);
	}
	if (scope && scope->declared && phase >= MW_PHASE_WARMUP && phase <= MW_PHASE_STOP) {
		if (reading) {
			/* A file of it is open still: the load ends as any other, and not by what a payload may say. */
			scope->declared = 0;
			if (scope->depth)
				__sync_fetch_and_add(&scope->depth, -1);
			if (phase == MW_PHASE_WARMUP)
				return 1;
		} else {
			load_over(l, scope, MOVE(MW_PHASE_LOAD, phase_after(l), MW_BY_DECLARED), detail);
			scope = NULL;
			ended = 1;
		}
	}
	from = l->stopping ? MW_PHASE_STOP : phase_left(l, g);
	/* A payload speaks while its file is being read. Once that is closed a process may say that it is done: the scope goes on as
	 * any other, for the process is judged more strictly beside it, not instead.
	 */
	if (!reading)
		scope = NULL;
	if (scope)
		from = MW_PHASE_LOAD;
	else if ((ended && phase == MW_PHASE_WARMUP && from >= phase) || (from == MW_PHASE_STOP && phase == MW_PHASE_SERVE))
		return 1;	/* the end of a load in a server that answers; what ends is never laxer than what serves */
	if (phase == MW_PHASE_STOP && from != MW_PHASE_STOP) {
		l->stopping = 1;
	} else if ((phase == MW_PHASE_WARMUP || phase == MW_PHASE_SERVE) && !scope && from <= phase) {
		if (from == phase)
			return 1;
		l->evidence = MW_DECLARED;
		l->phase = phase;
		l->ready_ns = bpf_ktime_get_boot_ns();
		g->pending = 1;
		if (g->phase < phase)
			g->phase = phase;
	} else if (phase != from) {
		tell_of_process(task, t, l, MW_FAILED | MW_SAID | MOVE(from, phase, MW_BY_DECLARED), detail);
		return 0;
	}
	tell_of_process(task, t, l, MW_SAID | MOVE(from, phase, MW_BY_DECLARED), detail);
	return 1;
}

#endif
