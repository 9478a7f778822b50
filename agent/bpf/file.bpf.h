/* Successful opens. One body; its doors are the security hook of opens, and the exits of the calls that open. */
#include "launchers.h"

/* Is it what a thief of secrets opens? Such opens are never merged and have the ring that opens cannot fill. */
static __always_inline bool names_credential(struct mw_name *name)
{
	return bpf_map_lookup_elem(&credentials, name->text) != NULL;
}

/* The last part of a path, as a name. */
APART int last_part(struct mw_name *name, struct mw_scratch *s, u32 length)
{
	u32 at = length, n;

	if (!name || !s)
		return 0;
	__builtin_memset(name, 0, sizeof(*name));
	for (u32 i = 0; i < MW_NAME - 1; i++) {
		if (at == 0 || s->asked[(at - 1) & (MW_PATH_MAX - 1)] == '/')
			break;
		at--;
	}
	n = length - at;
	if (n && n < MW_NAME && !bpf_probe_read_kernel(name->text, n & (MW_NAME - 1), &s->asked[at & (MW_PATH_MAX - 1)]))
		name->length = n;
	return 0;
}

static __always_inline bool same_name(const struct mw_name *a, const struct mw_name *b)
{
	if (a->length != b->length)
		return false;
	for (u32 i = 0; i < MW_NAME; i += 8)
		if (*(u64 *)&a->text[i] != *(u64 *)&b->text[i])
			return false;
	return true;
}

/* Bring the name asked for into scratch->asked: what was kept at entry, else what user memory says now. */
static __always_inline void fetch_asked(struct mw_scratch *s, struct mw_task *t, const char *pointer)
{
	long n;

	s->asked_length = 0;
	if (t && t->asked_pointer == (u64)pointer && t->asked_length && t->asked_length < MW_ASKED) {
		bpf_probe_read_kernel(s->asked, MW_ASKED, t->asked);
		s->asked_length = t->asked_length;
		return;
	}
	n = bpf_probe_read_user_str(s->asked, MW_PATH_MAX, pointer);
	if (n > 1 && n <= MW_PATH_MAX)
		s->asked_length = n - 1;
}

/* A process that is not tracked is told by the name alone. */
static __always_inline bool is_artifact(struct mw_scratch *s, struct mw_task *t, struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct mw_name name;

	name_of(&name, dentry);
	if (names_artifact(&name, (u64)dentry))
		return true;
	last_part(&name, s, s->asked_length);
	return names_artifact(&name, (u64)dentry) || (t && known_as(t, BPF_CORE_READ(file, f_inode)));
}

static __always_inline bool may_become_tracked(struct task_struct *task)
{
	struct mm_struct *mm = task->mm;

	if (task->flags & PF_KTHREAD || task->tgid == 1 || !mm)
		return false;
	return !(program_listed(BPF_CORE_READ(mm, exe_file)) & MW_AS_EXCLUDED);
}

/* A process that is not tracked opened an artifact. The scratch is used up. */
static __noinline struct mw_task *begin_to_track(struct mw_scratch *s, struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct mw_task *t = NULL;
	u32 matched;

	if (!mm || !may_become_tracked(task))
		return NULL;
	if (unsettled())
		t = by_descent(task);
	if (t)
		return t;
	matched = match_server(s, (u64)BPF_CORE_READ(mm, exe_file), fetch_arguments(s, mm));
	t = with_launcher(task, matched == MW_WORKER);
	return t ? t : new_group(task, MW_PHASE_UNKNOWN, MW_OBSERVED, 0);
}

static __always_inline void entered(const char *pointer, u32 flags)
{
	struct mw_task *t = state_of(bpf_get_current_task_btf());
	long n;

	if (!t || t->excluded)
		return;
	n = bpf_probe_read_user_str(t->asked, MW_ASKED, pointer);
	t->asked_pointer = (u64)pointer;
	t->asked_flags = flags;
	t->asked_length = n > 1 ? n - 1 : 0;
	if (n == MW_ASKED)
		t->asked_length = MW_ASKED;	/* longer: read again at exit */
}

/* `pointer`: the name asked for, in user memory. `by_number`: the file was found by its descriptor. */
static __noinline int file_opened(struct task_struct *task, struct mw_task *t, struct file *file, const char *pointer,
				  u32 by_number)
{
	struct mw_repeat_key *key;
	struct mw_scope_slot *scope;
	struct mw_scratch *s;
	struct mw_name name, asked;
	struct files_struct *files = READ(task_struct, task, files);
	struct mw_task *l;
	struct dentry *dentry;
	struct inode *inode;
	u32 access, flags, regular, artifact = 0, control = 0, kept;

	inode = READ(file, file, f_inode);
	flags = READ(file, file, f_flags);
	access = flags & O_PATH ? 0 : (flags & O_ACCMODE) + 1;
	if (access > 3)
		access = 0;
	regular = (READ(inode, inode, i_mode) & S_IFMT) == S_IFREG;
	if (!t && (access != 1 || !regular))
		return 0;
	s = claim();
	if (!s) {
		if (t)
			count(MW_HOP_MISSED, MW_FILE_OPEN);
		return 0;
	}
	kept = by_number && t && t->asked_pointer == (u64)pointer;
	fetch_asked(s, t, pointer);
	if (access == 1 && regular)
		artifact = is_artifact(s, t, file);
	if (!t) {
		if (!artifact)
			goto out;
		t = begin_to_track(s, task);
		if (!t || t->excluded)
			goto out;
		fetch_asked(s, t, pointer);
	}
	l = process_of(task, t);
	if (!fill(&s->h, task, t, l, MW_FILE_OPEN))
		goto out;
	dentry = BPF_CORE_READ(file, f_path.dentry);
	name_of(&name, dentry);
	last_part(&asked, s, s->asked_length);
	s->h.file.access = access;
	s->h.file.open_flags = flags;
	fill_file(&s->h, file);
	/* A thread that shares the descriptors may have put another file there since. */
	if (by_number && asked.length && !same_name(&name, &asked) && READ(files_struct, files, count.counter) > 1)
		s->h.flags |= MW_F_RACED;
	if (kept && !(flags & O_PATH) && (t->asked_flags ^ flags) & O_ACCMODE)
		s->h.flags |= MW_F_RACED;
	if (artifact)
		s->h.flags |= MW_F_ARTIFACT;
	key = &s->key;
	repeat_key(key, &s->h);
	key->how = flags;
	key->object[0] = s->h.file.inode;
	key->object[1] = (u64)s->h.file.device << 32 | READ(dentry, dentry, d_name.len);
	key->object[2] = (u64)dentry ^ READ(dentry, dentry, d_name.hash_len);
	key->object[3] = (u64)READ(dentry, dentry, d_parent);
	/* The hash of a name has 32 bits: of 200,000 names of one file two pairs were equal. */
	__builtin_memcpy(key->name, s->h.flags & MW_F_RACED ? asked.text : name.text, MW_NAME);
	if (!artifact) {
		if (access == 1 && regular) {
			remember_candidate(t, inode, &name, s->h.time_ns);
			scope = scope_at(t->scope_slot, t->scope_instance);
			if (scope)
				companion_opened(scope, dentry, key->object[0], s->h.file.device, s->h.time_ns);
		}
		if (repeated(key, &s->h))
			goto out;
		control = names_credential(&name) || names_credential(&asked);
	}
	append_path(s, MW_SEG_PATH, (u64)BPF_CORE_READ(task, fs), (u64)BPF_CORE_READ(file, f_path.mnt), (u64)dentry);
	append_asked(s);
	if (artifact) {
		know_artifact(t, inode);
		describe_opening(s, dentry, MW_BY_ARTIFACT_OPEN);
		stem_of(s->opening.stem, &name);
		if (asked.length && !same_name(&name, &asked))
			stem_of(s->opening.stem, &asked);
		artifact_opened(s, task, t, l);
	} else if (!control)
		remember(key, s);
	emit(s, control);
	if (!artifact)
		library_opened(s, task, dentry);
out:
	release(s);
	return 0;
}

static __always_inline int opened(struct task_struct *task, u32 fd, const char *pointer)
{
	struct mw_task *t = state_of(task);
	struct file *file;

	if (t && t->excluded)
		return 0;
	file = file_at(task, fd);
	return file ? file_opened(task, t, file, pointer, 1) : 0;
}

static __always_inline u32 how_flags(unsigned long how)
{
	u64 flags = 0;

	bpf_probe_read_user(&flags, sizeof(flags), (void *)how);
	return flags;
}

/* Each of the two programs is attached to the tracepoints of four calls: verified once, and they share what they need
 * to know.
 */
#define NR_OPEN 2
#define NR_CREAT 85
#define NR_OPENAT 257
#define NR_OPENAT2 437

/* Arguments come from the saved registers: a tracepoint of a call with fewer arguments refuses a program that reads
 * more of its own.
 */
DOOR("tracepoint", enter_open, 0)

SEC("tracepoint")
int enter_open(struct trace_event_raw_sys_enter *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (!regs)
		return 0;
	/* kernel/trace/trace_syscalls.c fills an int of the long */
	switch ((u32)ctx->id) {
	case NR_OPEN:
		entered((const char *)regs->di, regs->si);
		break;
	case NR_CREAT:
		entered((const char *)regs->di, O_WRONLY);
		break;
	case NR_OPENAT2:
		entered((const char *)regs->si, how_flags(regs->dx));
		break;
	default:
		entered((const char *)regs->si, regs->dx);
	}
	return 0;
}

DOOR("tracepoint", exit_open, 0)

SEC("tracepoint")
int exit_open(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	bool named_first = (u32)ctx->id == NR_OPEN || (u32)ctx->id == NR_CREAT;

	if (ctx->ret < 0 || !regs)
		return 0;
	return opened(task, ctx->ret, (const char *)(named_first ? regs->di : regs->si));
}

#define FMODE_EXEC 0x20	/* in f_flags: the open of an exec, which is told as such */

/* security_file_open(): the file is the one that will be used, whatever other threads do to names and descriptors meanwhile.
 * Every way to open comes by here, io_uring and 32-bit calls too; not O_PATH. Nothing else on the host pays for it.
 */
static __always_inline int opening(struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct mw_task *t = state_of(task);
	const char *pointer = NULL;
	u64 call;

	if ((t && t->excluded) || file->f_flags & FMODE_EXEC)
		return 0;
	if (regs) {
		call = regs->orig_ax;
		if (call == NR_OPEN || call == NR_CREAT)
			pointer = (const char *)regs->di;
		else if (call == NR_OPENAT || call == NR_OPENAT2)
			pointer = (const char *)regs->si;
	}
	return file_opened(task, t, file, pointer, 0);
}

DOOR("lsm/file_open", on_file_open, 0)

SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	opening(file);
	return 0;
}

DOOR("fexit/security_file_open", on_file_opened, 0)

SEC("fexit/security_file_open")
int BPF_PROG(on_file_opened, struct file *file, int refused)
{
	if (!refused)
		opening(file);
	return 0;
}
