/* Loads that user space found, and models that are mapped no more: iterators that it runs. */

/* What user space found out by itself: a thread has begun to load a file. By thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct mw_inode);
} late SEC(".maps");

SEC("iter/task")
int late_load(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mw_inode *found;
	struct mw_scratch *s;
	struct mw_task *t, *l;
	u32 tid;

	if (!task)
		return 0;
	tid = task->pid;
	found = bpf_map_lookup_elem(&late, &tid);
	if (!found || !found->inode)
		return 0;
	t = state_of(task);
	/* The number may be another thread's by now. */
	if (!t || t->excluded || (found->group && found->group != (u32)t->group))
		return 0;
	l = process_of(task, t);
	if (!l->inherited && has_model(&l->models, found->inode, found->device, task->tgid))
		return 0;
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_LIFECYCLE)) {
		__builtin_memset(&s->opening, 0, sizeof(s->opening));
		s->opening.inode = found->inode;
		s->opening.device = found->device;
		s->opening.trigger = MW_BY_LATE;
		s->opening.evidence = MW_RECONSTRUCTED;
		artifact_opened(s, task, t, l);
		found->inode = 0;
	}
	release(s);
	return 0;
}

/* Does a process still map its models? Run for one process at a time, some seconds apart, while it has any that it mapped. */
SEC("iter/task_vma")
int find_mapped(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct inode *inode;
	struct file *file;
	struct mw_task *t;
	u64 number;
	u32 device;

	if (!task || !vma || task->pid != task->tgid)
		return 0;
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	file = BPF_CORE_READ(vma, vm_file);
	if (!t || !t->models.count || !file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	number = BPF_CORE_READ(inode, i_ino);
	device = BPF_CORE_READ(inode, i_sb, s_dev);
	for (u32 i = 0; i < MW_MODELS; i++)
		if (t->models.inode[i] == number && t->models.device[i] == device)
			t->models.found[i] = 1;
	return 0;
}

/* What was mapped at two looks after its load, and is not any more, was unloaded. */
SEC("iter/task")
int unmapped(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mw_task *t;
	u32 key, mapped = 0;
	u64 gone = 0;

	if (!task || task->pid != task->tgid)
		return 0;
	key = task->tgid;
	if (!bpf_map_lookup_elem(&residents, &key))
		return 0;
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t || t->excluded)
		goto out;
	if (loading(t, bpf_ktime_get_boot_ns()) == MW_SCOPE_OPEN)
		return 0;
	for (u32 i = 0; i < MW_MODELS; i++) {
		if (t->models.found[i]) {
			t->models.found[i] = 0;
			t->models.looks[i]++;
			mapped = 1;
		} else if (t->models.looks[i] > 1) {
			gone = t->models.instance[i];
			mapped = 1;	/* look again: another may be gone */
		} else {
			t->models.looks[i] = 0;
		}
	}
	if (gone)
		unloaded(task, t, t, gone, NULL);
out:
	if (!mapped)
		bpf_map_delete_elem(&residents, &key);
	return 0;
}
