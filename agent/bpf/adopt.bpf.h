/* Servers that were there before the agent. Iterators tag their tasks, once the newtask hook is attached, and rebuild
 * what can be known of their models and phase; everything rebuilt is marked so. User space runs them, repeats until
 * nothing is new, and never writes a phase itself.
 */

/* Processes that hold an artifact, all found before the first of them makes a group: the uppermost is the server. Iterators go by
 * number, and where numbers have wrapped a worker comes before the server that forked it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} holders SEC(".maps");

/* Will an ancestor make a group, or is it to be left alone? Then a later round finds to whom the task belongs. */
static __noinline bool awaits_ancestor(struct task_struct *task)
{
	struct task_struct *ancestor = task->group_leader;
	u32 tgid;

	for (u32 i = 0; i < MW_ANCESTORS; i++) {
		if (!ancestor)
			return false;
		ancestor = ancestor->real_parent;
		if (!ancestor || ancestor->pid <= 1)
			return false;
		tgid = ancestor->tgid;
		if (wish_for(tgid) || bpf_map_lookup_elem(&holders, &tgid))
			return true;
		ancestor = ancestor->group_leader;
	}
	return false;
}

SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;
	struct mw_task *t, *p;
	u32 wish, tgid;

	if (!task || task->flags & PF_KTHREAD)
		return 0;
	tgid = task->tgid;
	wish = wish_for(tgid);
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (wish & MW_WANT_CANARY && task->pid == task->tgid && (!t || !t->group)) {
		t = new_group(task, MW_PHASE_UNKNOWN, MW_OBSERVED, 0);
		if (t) {
			t->excluded = 0;
			t->adopted = 1;
		}
		return 0;
	}
	if (t)
		return 0;
	if (task->pid != task->tgid) {
		if (state_of(task))
			__sync_fetch_and_add(&totals.adopted, 1);
		return 0;
	}
	if (wish & MW_WANT_EXCLUDED) {
		t = take_in(task, NULL);
		if (t)
			t->excluded = 1;
		return 0;
	}
	parent = task->real_parent;
	p = parent ? bpf_task_storage_get(&tasks, parent, 0, 0) : NULL;
	if (p) {
		t = take_in(task, p);
		if (t && !t->excluded)
			t->server = wish & MW_WANT_SERVER ? 1 : 0;
		return 0;
	}
	if ((!(wish & MW_WANT_SERVER) && !bpf_map_lookup_elem(&holders, &tgid)) || awaits_ancestor(task))
		return 0;
	t = new_group(task, MW_PHASE_UNKNOWN, MW_RECONSTRUCTED, wish & MW_WANT_SERVER ? 1 : 0);
	if (t) {
		t->adopted = 1;
		__sync_fetch_and_add(&totals.adopted, 1);
	}
	return 0;
}

static __always_inline bool first_sight(u64 inode, u32 device, u32 tgid)
{
	struct mw_held key = { .inode = inode, .device = device, .tgid = tgid };
	u32 one = 1;

	return !bpf_map_update_elem(&held, &key, &one, BPF_NOEXIST);
}

static __always_inline u32 adoption_step(void)
{
	u32 zero = 0;
	struct mw_config *c = bpf_map_lookup_elem(&config, &zero);

	return c ? c->adoption : MW_FIND_HOLDERS;
}

static __noinline int note_holder(struct task_struct *task)
{
	u32 tgid = task->tgid, one = 1;

	if (may_become_tracked(task) && bpf_map_update_elem(&holders, &tgid, &one, BPF_ANY))
		count(MW_HOP_MISSED, MW_LIFECYCLE);
	return 0;
}

/* A process holds an artifact, open or mapped. `reading`: its file stands in the middle, so that a load is going on. */
static __noinline int found_artifact(struct task_struct *task, struct file *file, u32 reading)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct mw_task *t = state_of(task);
	struct mw_scratch *s;
	struct mw_group *g;
	struct mw_name name;
	u64 number, instance;
	u32 device;

	if ((t && t->excluded) || (BPF_CORE_READ(file, f_flags) & O_ACCMODE) ||
	    (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	name_of(&name, dentry);
	if (!names_artifact(&name, (u64)dentry))
		return 0;
	if (adoption_step() == MW_FIND_HOLDERS) {
		if (!t)
			note_holder(task);
		return 0;
	}
	g = t ? group_at(t->group_slot, t->group) : NULL;
	/* What a group loads before our eyes needs no reconstruction. */
	if (!g || !g->settling)
		return 0;
	number = BPF_CORE_READ(inode, i_ino);
	device = BPF_CORE_READ(inode, i_sb, s_dev);
	if (!first_sight(number, device, task->tgid))
		return 0;
	s = claim();
	if (!s)
		return 0;
	if (!fill(&s->h, task, t, t, MW_LIFECYCLE))
		goto out;
	append_path(s, MW_SEG_PATH, (u64)BPF_CORE_READ(task, fs), (u64)BPF_CORE_READ(file, f_path.mnt), (u64)dentry);
	if (reading && !g->listening) {
		s->h.file.inode = number;
		s->h.file.device = device;
		describe_opening(s, dentry, MW_BY_ADOPTED);
		s->opening.evidence = MW_RECONSTRUCTED;
		stem_of(s->opening.stem, &name);
		artifact_opened(s, task, t, t);
		goto out;
	}
	instance = new_id();
	add_model(&g->models, instance, number, device, task->tgid);
	add_model(&t->models, instance, number, device, task->tgid);
	__sync_fetch_and_add(&g->loaded, 1);
	__sync_val_compare_and_swap(&g->phase, MW_PHASE_START, MW_PHASE_WARMUP);
	s->h.instance = instance;
	s->h.phase = g->phase;
	s->h.evidence = MW_RECONSTRUCTED;
	s->h.lifecycle.inode = number;
	s->h.lifecycle.device = device;
	s->h.lifecycle.to = g->phase;
	s->h.lifecycle.trigger = MW_BY_ADOPTED;
	emit(s, 1);
out:
	release(s);
	return 0;
}

SEC("iter/task_file")
int find_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct mw_group *g;
	struct mw_task *t;
	struct sock *sk;
	u64 position;

	if (!task || !file || task->pid != task->tgid)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket) {
		position = file->f_pos;
		return found_artifact(task, file, position > 0 && position < BPF_CORE_READ(file, f_inode, i_size));
	}
	sk = socket->sk;
	if (!sk || (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return 0;
	if (sk->__sk_common.skc_state == TCP_LISTEN) {
		bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		first_sight(sk->__sk_common.skc_num, 0, 0);
		t = state_of(task);
		g = t ? group_at(t->group_slot, t->group) : NULL;
		if (g)
			g->listening = 1;
	} else if (sk->__sk_common.skc_state == TCP_ESTABLISHED) {
		/* An accepted one has the port of a listening one. Found on the second run. */
		struct mw_held key = { .inode = sk->__sk_common.skc_num };

		if (bpf_map_lookup_elem(&held, &key))
			bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	}
	return 0;
}

SEC("iter/task_vma")
int find_maps(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct file *file;

	if (!task || !vma || task->pid != task->tgid)
		return 0;
	file = BPF_CORE_READ(vma, vm_file);
	return file ? found_artifact(task, file, 0) : 0;
}

static long rebuild_group(u32 index, void *context)
{
	u32 slot = index;
	struct mw_group *g = bpf_map_lookup_elem(&groups, &slot);

	if (!g || !g->id || g->evidence != MW_RECONSTRUCTED || g->phase != MW_PHASE_UNKNOWN)
		return 0;
	g->phase = g->listening ? MW_PHASE_SERVE : MW_PHASE_START;
	return 0;
}

/* A server that listens is taken to serve: the strictest phase. Else it starts, unless models are found in it afterwards. */
SEC("syscall")
int rebuild(void *context)
{
	bpf_loop(MW_GROUPS, rebuild_group, NULL, 0);
	return 0;
}

/* Tell of each adopted process, once its phase and models are known; from then on its group's events are told too. */
SEC("iter/task")
int announce(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mw_scratch *s;
	struct mw_group *g;
	struct mw_task *t;

	if (!task || task->pid != task->tgid)
		return 0;
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t || t->excluded || t->adopted != 1)
		return 0;
	g = group_at(t->group_slot, t->group);
	if (g)
		g->settling = 0;
	s = claim();
	if (!s)
		return 0;
	t->adopted = 2;
	if (fill(&s->h, task, t, t, MW_LIFECYCLE)) {
		s->h.evidence = MW_RECONSTRUCTED;
		s->h.lifecycle.to = s->h.phase;
		s->h.lifecycle.trigger = MW_BY_ADOPTED;
		emit(s, 1);
	}
	release(s);
	return 0;
}
