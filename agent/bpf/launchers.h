/* Servers whose first process loads nothing: it starts workers by Python's multiprocessing, and one of those opens the artifact.
 * The worker's group begins with the launcher then, so that the process that answers is in it too.
 *
 * A process takes in its own ancestors only, and only those that nobody tracks yet: nobody joins another's group by it. What it
 * pretends to be (its command line is its own to write) makes at most its parent watched.
 */
#ifndef MODELWARD_LAUNCHERS_H
#define MODELWARD_LAUNCHERS_H

#include "descent.h"
#include "tracking.h"

/* The same program, for the same user, in the same session and container? */
static __always_inline bool same_program(struct task_struct *a, struct task_struct *b)
{
	struct inode *program = BPF_CORE_READ(a, mm, exe_file, f_inode);

	return program && program == BPF_CORE_READ(b, mm, exe_file, f_inode) &&
	       BPF_CORE_READ(a, cred, euid.val) == BPF_CORE_READ(b, cred, euid.val) &&
	       BPF_CORE_READ(a, signal, pids[PIDTYPE_SID]) == BPF_CORE_READ(b, signal, pids[PIDTYPE_SID]) &&
	       BPF_CORE_READ(a, cgroups, dfl_cgrp) == BPF_CORE_READ(b, cgroups, dfl_cgrp);
}

/* Where the kernel puts stack and arguments is drawn by lot at each exec, and kept by a fork. */
static __always_inline bool is_fork_of(struct task_struct *child, struct task_struct *parent)
{
	return BPF_CORE_READ(child, mm, start_stack) == BPF_CORE_READ(parent, mm, start_stack) &&
	       BPF_CORE_READ(child, mm, arg_start) == BPF_CORE_READ(parent, mm, arg_start);
}

/* A process that is to become tracked, and descends from a launcher: makes a group of the topmost, and takes the process in. NULL: it
 * has none. `spawned`: its command line, or that of what forked it, is of a worker.
 */
static __noinline struct mw_task *with_launcher(struct task_struct *task, u32 spawned)
{
	struct task_struct *child = task->group_leader, *parent, *root = NULL;

	if (!child)
		return NULL;
	for (u32 i = 0; i < MW_ANCESTORS; i++) {
		parent = child->real_parent;
		parent = parent ? parent->group_leader : NULL;
		if (!parent || parent->pid <= 1 || !same_program(child, parent))
			break;
		if (!is_fork_of(child, parent)) {
			if (!spawned)
				break;
			spawned = 0;	/* command lines further up cannot be read */
		}
		if (bpf_task_storage_get(&tasks, parent, 0, 0))
			goto found;	/* a sibling was faster */
		child = root = parent;
	}
	if (!root || !new_group(root, MW_PHASE_UNKNOWN, MW_OBSERVED, 0))
		return NULL;
found:
	return by_descent(task);
}

#endif
