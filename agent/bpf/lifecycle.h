/* What moves phases: artifacts, calls of frameworks, answers, declarations and ends. Who may be in which is said in DESIGN.md,
 * Lifecycle. The functions that other files call for probes and declarations come first.
 */
#ifndef MODELWARD_LIFECYCLE_H
#define MODELWARD_LIFECYCLE_H

#include "answers.h"

/* Called by the programs of other files, whichever of them there are. */
#define OFFERED static __noinline __attribute__((unused))

/* A load of the current task's own, not one that it inherited. */
static __always_inline struct mw_scope_slot *own_scope(struct task_struct *task, struct mw_task *t)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);

	return scope && scope->tid == task->pid && scope->tgid == task->tgid ? scope : NULL;
}

/* A load of the process is over. */
static __noinline int load_over(struct task_struct *task, struct mw_task *t, struct mw_scope_slot *scope, u32 move,
				const char *detail)
{
	struct mw_task *l = process_of(task, t);
	u64 instance = scope->instance, now = bpf_ktime_get_boot_ns();

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
	return l && l->stopping ? MW_PHASE_STOP : l && l->phase == MW_PHASE_SERVE ? MW_PHASE_SERVE : MW_PHASE_WARMUP;
}

/* A framework's load was called: opens a scope without an artifact, which the first one opened inside joins; or deepens the one
 * that the thread is in. `detail`: MW_DETAIL bytes of the kernel's, ended by NUL, or NULL. `trigger`: MW_BY_PROBE_ENTER or
 * MW_BY_DECLARED. To be paired with scope_leave.
 */
OFFERED int scope_enter(struct task_struct *task, struct mw_task *t, const char *detail, u32 trigger)
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
	if (fill(&s->h, task, t, MW_LIFECYCLE)) {
		__builtin_memset(&s->opening, 0, sizeof(s->opening));
		s->opening.trigger = trigger;
		s->opening.evidence = trigger == MW_BY_DECLARED ? MW_DECLARED : MW_OBSERVED;
		s->opening.depth = 1;
		s->opening.detail = detail;
		open_scope(s, task, t, &s->opening);
	}
	release(s);
	return 1;
}

/* A framework's load returned: at the outermost one the load is over, well or failed. */
OFFERED int scope_leave(struct task_struct *task, struct mw_task *t, u32 failed, const char *detail)
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
	return load_over(task, t, scope, (failed ? MW_FAILED : 0) | MOVE(MW_PHASE_LOAD, phase_after(process_of(task, t)),
			 scope->declared ? MW_BY_DECLARED : MW_BY_PROBE_RETURN), detail);
}

struct mw_inference {
	u32 tgid;
	u32 to;
	u64 group;
	u64 now;
	const char *detail;
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
OFFERED int inference_called(struct task_struct *task, struct mw_task *t, const char *detail)
{
	struct mw_inference i = { .detail = detail };
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope;
	struct mw_task *l = process_of(task, t);
	u32 from;

	if (!g || !l)
		return 0;
	i.to = phase_after(l);
	scope = own_scope(task, t);
	if (scope && !scope->depth && scope_state(scope, bpf_ktime_get_boot_ns()) == MW_SCOPE_TAIL && !holds_artifact(scope, task))
		load_over(task, t, scope, MOVE(MW_PHASE_LOAD, i.to, MW_BY_INFERENCE), detail);
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
		if (from != MW_PHASE_LOAD)
			tell_of_process(task, t, MOVE(from, MW_PHASE_WARMUP, MW_BY_INFERENCE), detail);
		from = MW_PHASE_WARMUP;
	}
	if (from == MW_PHASE_WARMUP && !g->listening) {
		l->phase = MW_PHASE_SERVE;
		tell_of_process(task, t, MOVE(from, MW_PHASE_SERVE, MW_BY_INFERENCE), detail);
		if (g->phase < MW_PHASE_SERVE)
			g->phase = MW_PHASE_SERVE;
	}
	return l->phase != MW_PHASE_SERVE;
}

/* The device was used for the first time, `what` (0 to 31) of it: the load goes on. Told once for each process and what. False
 * when there is nothing left to learn from further calls.
 */
OFFERED int device_used(struct task_struct *task, struct mw_task *t, const char *detail, u32 what)
{
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_task *l = process_of(task, t);
	u32 bit = 1u << (what & 31), phase;

	if (!g || !l)
		return 0;
	if (scope) {
		scope->last_io_ns = bpf_ktime_get_boot_ns();
		reopen(scope);
	}
	if (!(__sync_fetch_and_or(&l->devices_told, bit) & bit)) {
		phase = scope ? MW_PHASE_LOAD : phase_left(l, g);
		tell_of_process(task, t, MOVE(phase, phase, MW_BY_DEVICE), detail);
	}
	return scope != NULL;
}

/* A model was taken out of the process: `instance`, or with 0 the only one that it has. */
OFFERED int unloaded(struct task_struct *task, struct mw_task *t, u64 instance, const char *detail)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_task *l = process_of(task, t);
	struct mw_scratch *s;

	if (!g || !l)
		return 0;
	if (!instance)
		instance = only_model(&l->models);
	if (!instance || !remove_model(&l->models, instance))
		return 0;
	if (!l->inherited)
		remove_model(&g->models, instance);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 1;
	}
	if (fill(&s->h, task, t, MW_LIFECYCLE)) {
		s->h.instance = instance;
		tell_from(&s->h, s->h.scope | MOVE(s->h.phase, s->h.phase, MW_BY_UNLOAD), detail);
	}
	release(s);
	return 1;
}

/* A process said which phase it is in. That may tighten how it is judged, never loosen it: `load` opens a scope, which ends with
 * the next declaration of the thread; a later phase than the present one is believed; all else is refused, and told so.
 */
OFFERED int declare_phase(struct task_struct *task, struct mw_task *t, u32 phase, const char *detail)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope = own_scope(task, t);
	struct mw_task *l = process_of(task, t);
	u32 from, reading, ended = 0;

	if (!g || !l)
		return 0;
	reading = scope && holds_artifact(scope, task);
	if (phase == MW_PHASE_LOAD) {
		if (scope && (reading || !scope->declared)) {
			/* It says so of a load that was seen already. */
			if (!scope->depth) {
				scope->depth = 1;
				scope->declared = 1;
			}
			tell_of_process(task, t, MW_SAID | MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, MW_BY_DECLARED), detail);
			return 1;
		}
		if (scope)
			load_over(task, t, scope, MOVE(MW_PHASE_LOAD, phase_after(l), MW_BY_DECLARED), NULL);
		return scope_enter(task, t, detail, MW_BY_DECLARED);
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
			load_over(task, t, scope, MOVE(MW_PHASE_LOAD, phase_after(l), MW_BY_DECLARED), detail);
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
		if (g->phase < phase)
			g->phase = phase;
	} else if (phase != from) {
		tell_of_process(task, t, MW_FAILED | MW_SAID | MOVE(from, phase, MW_BY_DECLARED), detail);
		return 0;
	}
	tell_of_process(task, t, MW_SAID | MOVE(from, phase, MW_BY_DECLARED), detail);
	return 1;
}

/* Is a file part of the model of a scope that has long been quiet? Shards have a stem in common; TensorFlow's folder is one model. */
static __always_inline bool same_model(struct mw_scope_slot *scope, struct mw_opening *o)
{
	const char saved[MW_STEM] = "saved_model";

	if (same_stem(scope->stem, saved))
		return scope->folder[0] == o->folder || scope->folder[0] == o->above;
	return scope->folder[0] == o->folder && same_stem(scope->stem, o->stem);
}

struct mw_calls {
	u64 group;
	u64 instance;
	u32 slot;
	u32 found;
};

static long find_call(u32 index, struct mw_calls *c)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (!scope || scope->group != c->group || !scope->probed || !scope->depth || scope->files)
		return 0;
	c->found++;
	c->instance = scope->instance;
	c->slot = index;
	return 0;
}

/* A call of a framework to load a model goes on in the group and has opened no file: then whoever opens one does it for that call,
 * as Triton's stub does. Not if there are several such calls.
 */
static __noinline int join_call(struct mw_task *t)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_calls c = { .group = t->group };

	if (!g || !g->live_scopes)
		return 0;
	bpf_loop(totals.scope_mark, find_call, &c, 0);
	if (c.found != 1)
		return 0;
	t->scope_slot = c.slot;
	t->scope_instance = c.instance;
	return 1;
}

/* A tracked task opened an artifact to read it, or was found at it; scratch->opening says which. The scratch holds the open's record,
 * or with kind MW_LIFECYCLE what was found; its texts serve for the lifecycle record too.
 */
static __noinline int artifact_opened(struct mw_scratch *s, struct task_struct *task, struct mw_task *t)
{
	struct mw_opening *o = &s->opening;
	struct mw_scope_slot *scope = scope_at(t->scope_slot, t->scope_instance);
	u64 now = s->h.time_ns;
	bool another = false;
	struct mw_task *l;

	/* A program that a load starts has a load of its own, or the two would be one model: unless it is that load's only one. */
	if (scope && t->other_program && scope->files)
		scope = NULL;
	else if (!scope && join_call(t))
		scope = scope_at(t->scope_slot, t->scope_instance);
	if (scope && !scope->depth && !has_artifact(scope, o->inode, o->device)) {
		if (scope_state(scope, now) == MW_SCOPE_TAIL && scope->files)
			another = !same_model(scope, o);
	}
	if (scope && (another || now - scope->last_io_ns > MW_RELOAD_NS)) {
		settle(scope);
		if (own_scope(task, t))
			load_over(task, t, scope, MOVE(MW_PHASE_LOAD, MW_PHASE_LOAD, MW_BY_REOPENED), NULL);
		scope = NULL;
	}
	if (!scope)
		return open_scope(s, task, t, o) != NULL;
	scope->last_io_ns = now;
	reopen(scope);
	if (!scope->files) {
		__builtin_memcpy(scope->stem, o->stem, sizeof(scope->stem));
		name_scope(s, task, t, scope, o);
		t->other_program = 0;	/* its further files are of the same model */
		l = process_of(task, t);
		if (l && scope->tgid != task->tgid)
			take_model(l, scope->instance, o->inode, o->device);
	}
	note_artifact(scope, o->inode, o->device, o->folder);
	s->h.instance = scope->instance;
	s->h.phase = MW_PHASE_LOAD;
	s->h.scope = MW_SCOPE_OPEN;
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
	if (scope_state(scope, sweep->now) != MW_SCOPE_TAIL) {
		sweep->open = 1;
		return 0;
	}
	settle(scope);
	/* An answer found it going on, and nothing has shown since that it does. */
	if (scope->answered_ns && sweep->now - scope->answered_ns > MW_DOUBT_NS && !goes_on(scope, sweep->now))
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
	return now - scope->last_io_ns > MW_HELD_NS || (u32)BPF_CORE_READ(thread, pid) != scope->tid ||
	       !holds_artifact(scope, thread);
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
static __noinline int end_scope_of_thread(struct task_struct *task, struct mw_task *t, int code)
{
	struct mw_scope_slot *scope = own_scope(task, t);
	u32 failed;

	if (!scope)
		return 0;
	failed = failed_by(scope, code, bpf_ktime_get_boot_ns());
	settle(scope);
	return load_over(task, t, scope,
			 failed | MOVE(MW_PHASE_LOAD, code ? MW_PHASE_STOP : phase_after(process_of(task, t)), MW_BY_EXIT), NULL);
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
static __noinline int end_loads(struct task_struct *task, struct mw_task *t, struct mw_group *g, int code, u32 trigger)
{
	struct mw_ending e = { .code = code, .trigger = trigger, .group = g->id, .tgid = task->tgid };

	if (!g->live_scopes)
		return 0;
	e.now = bpf_ktime_get_boot_ns();
	e.process = process_of(task, t);
	bpf_loop(totals.scope_mark, end_scope_of, &e, 0);
	return 0;
}

#endif
