/* Loads that no open tells of: by reads and maps of files that are artifacts, and by the first bytes read. */

#define NR_READ 0
#define NR_MMAP 9
#define NR_PREAD64 17
#define NR_READV 19
#define NR_PREADV 295
#define NR_PREADV2 327

/* A load begins on a task, with a file that it has open. */
static __noinline int load_found(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct file *file,
				 u32 trigger)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct mw_scratch *s = claim();
	struct mw_name name;

	if (!s) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_LIFECYCLE)) {
		fill_file(&s->h, file);
		append_path(s, MW_SEG_PATH, (u64)BPF_CORE_READ(task, fs), (u64)BPF_CORE_READ(file, f_path.mnt), (u64)dentry);
		describe_opening(s, dentry, trigger);
		name_of(&name, dentry);
		stem_of(s->opening.stem, &name);
		artifact_opened(s, task, t, l);
	}
	release(s);
	return 0;
}

struct mw_joining {
	u64 inode;
	u64 group;
	u64 instance;
	u32 device;
	u32 tgid;
	u32 slot;
};

static long find_load_of(u32 index, struct mw_joining *j)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (!scope || scope->group != j->group || scope->tgid != j->tgid || !has_artifact(scope, j->inode, j->device))
		return 0;
	j->instance = scope->instance;
	j->slot = index;
	return 1;
}

/* A thread outside any load reads or maps an artifact that it did not open: it helps in a load of its process, or begins one, with
 * a descriptor that it was given. Not again for a model that the process has.
 */
static __noinline int used_artifact(struct task_struct *task, struct mw_task *t, struct file *file, u32 trigger)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct mw_joining j = { .inode = BPF_CORE_READ(inode, i_ino), .device = BPF_CORE_READ(inode, i_sb, s_dev),
				.group = t->group, .tgid = task->tgid };
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_scope_slot *scope;
	struct mw_held file_of = {};
	struct mw_task *l;
	u64 *loaded;

	if (!g || t->excluded || BPF_CORE_READ(file, f_flags) & O_ACCMODE)
		return 0;
	if (!known_as(t, inode))
		return 0;
	if (g->live_scopes)
		bpf_loop(totals.scope_mark, find_load_of, &j, 0);
	if (j.instance) {
		t->scope_slot = j.slot;
		t->scope_instance = j.instance;
		t->other_program = 0;
		scope = scope_at(j.slot, j.instance);
		if (scope) {
			scope->last_io_ns = bpf_ktime_get_boot_ns();
			reopen(scope);
		}
		return 0;
	}
	l = process_of(task, t);
	file_of.inode = j.inode;
	file_of.device = j.device;
	file_of.tgid = task->tgid;
	loaded = bpf_map_lookup_elem(&loaded_files, &file_of);
	if (!l->inherited && (has_model(&l->models, j.inode, j.device, task->tgid) ||
			      (loaded && owns_model(&l->models, *loaded, task->tgid))))
		return 0;
	return load_found(task, t, l, file, trigger);
}

/* A task is about to read or map a file: that keeps its load open, if it is an artifact of it. */
static __noinline int artifact_used(struct file *file, u32 trigger)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = bpf_task_storage_get(&tasks, task, 0, 0);
	struct mw_scope_slot *scope;
	struct inode *inode;

	if (!t || !t->group)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	scope = scope_at(t->scope_slot, t->scope_instance);
	if (!scope)
		return used_artifact(task, t, file, trigger);
	if (has_artifact(scope, BPF_CORE_READ(inode, i_ino), BPF_CORE_READ(inode, i_sb, s_dev))) {
		scope->last_io_ns = bpf_ktime_get_boot_ns();
		reopen(scope);
	}
	return 0;
}

#define MAY_READ 4

/* Before every read and write of a file, by whichever system call or by io_uring; other system calls do not come by here. */
DOOR("fentry/security_file_permission", on_file_access, 0)

SEC("fentry/security_file_permission")
int BPF_PROG(on_file_access, struct file *file, int mask)
{
	return mask & MAY_READ ? artifact_used(file, MW_BY_ARTIFACT_READ) : 0;
}

DOOR("fentry/security_mmap_file", on_file_map, 0)

SEC("fentry/security_mmap_file")
int BPF_PROG(on_file_map, struct file *file)
{
	return file ? artifact_used(file, MW_BY_ARTIFACT_MAP) : 0;
}

/* Are they the first bytes of a model, and of the file that the task opened last? `length` of them at `from` in user memory, read
 * from `start` of the file on.
 */
static __noinline int first_read(struct file *file, u64 from, u64 start, u64 length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = bpf_task_storage_get(&tasks, task, 0, 0);
	struct mw_first f = {};
	struct inode *inode;

	if (start || !t || !t->candidate_inode || t->excluded)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if (BPF_CORE_READ(inode, i_ino) != t->candidate_inode || BPF_CORE_READ(inode, i_sb, s_dev) != t->candidate_device)
		return 0;
	t->candidate_inode = 0;
	f.length = length < 16 ? length : 16;
	if (f.length < 4 || f.length > 16 || bpf_probe_read_user(f.text, f.length, (void *)from))
		return 0;
	f.size = BPF_CORE_READ(inode, i_size);
	if (!is_model(&f))
		return 0;
	know_artifact(t, inode);
	load_found(task, t, process_of(task, t), file, MW_BY_ARTIFACT_READ);
	return 0;
}

/* Where a read that has just ended began: ~0 when its file has no positions. */
static __always_inline u64 start_of(loff_t *position, u64 read)
{
	u64 after;

	return position && !bpf_probe_read_kernel(&after, sizeof(after), position) ? after - read : ~0ULL;
}

DOOR("fexit/vfs_read", on_read, 0)

SEC("fexit/vfs_read")
int BPF_PROG(on_read, struct file *file, char *buffer, size_t size, loff_t *position, ssize_t read)
{
	return read < 4 ? 0 : first_read(file, (u64)buffer, start_of(position, read), read);
}

DOOR("fexit/vfs_readv", on_readv, 0)

SEC("fexit/vfs_readv")
int BPF_PROG(on_readv, struct file *file, struct mw_vector *vectors, unsigned long count, loff_t *position, int flags,
	     ssize_t read)
{
	struct mw_vector first;

	if (read < 4 || bpf_probe_read_user(&first, sizeof(first), vectors))
		return 0;
	return first_read(file, first.base, start_of(position, read), read < first.length ? read : first.length);
}

/* The same where nothing can be attached to functions. Every system call of the host pays, so this is attached only while it may have
 * something to tell: some scope is open.
 */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_artifact_io, struct pt_regs *regs, long id)
{
	struct task_struct *task;
	struct mw_task *t;
	struct file *file;
	u32 fd;

	if (id == NR_MMAP)
		fd = BPF_CORE_READ(regs, r8);
	else if (id == NR_READ || id == NR_PREAD64 || id == NR_READV || id == NR_PREADV || id == NR_PREADV2)
		fd = BPF_CORE_READ(regs, di);
	else
		return 0;
	task = bpf_get_current_task_btf();
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t || !t->group)
		return 0;
	file = file_at(task, fd);
	return file ? artifact_used(file, id == NR_MMAP ? MW_BY_ARTIFACT_MAP : MW_BY_ARTIFACT_READ) : 0;
}

/* Attached only while some group is young. */
SEC("tp_btf/sys_exit")
int BPF_PROG(on_first_read, struct pt_regs *regs, long read)
{
	struct task_struct *task;
	struct mw_vector vector;
	struct mw_task *t;
	struct file *file;
	u64 call, start;

	if (read < 4)
		return 0;
	call = BPF_CORE_READ(regs, orig_ax);
	if (call != NR_READ && call != NR_PREAD64 && call != NR_READV)
		return 0;
	task = bpf_get_current_task_btf();
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t || !t->candidate_inode)
		return 0;
	file = file_at(task, BPF_CORE_READ(regs, di));
	if (!file)
		return 0;
	start = call == NR_PREAD64 ? BPF_CORE_READ(regs, r10) : BPF_CORE_READ(file, f_pos) - read;
	vector.base = BPF_CORE_READ(regs, si);
	vector.length = read;
	if (call == NR_READV && bpf_probe_read_user(&vector, sizeof(vector), (void *)vector.base))
		return 0;
	return first_read(file, vector.base, start, vector.length < read ? vector.length : read);
}
