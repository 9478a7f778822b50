/* Probes on functions of frameworks and drivers. Which function it was is the cookie of the attachment, an index into `probes`,
 * which user space fills and which says what a call means. Nothing needs them: they tell earlier and better what files, sockets
 * and quiet time tell too. What they say is the word of code in the workload, so it is context, never permission.
 *
 * Returns are probed only of functions that no exception leaves: the unwinder ends a program where it meets a probed return.
 */

#define MW_PROBES	256
#define MW_HANDLES	4096
#define MW_BRACKETS	8
#define MW_FUNCTION	32
#define MW_ENOUGH_HITS	1000	/* of functions that run for each token: then they are listened to no more until the next load */

enum mw_means { MW_MEANS_NOTHING, MW_LOADS, MW_BEGINS, MW_ENDS, MW_INFERS, MW_USES_DEVICE, MW_UNLOADS };
enum mw_result { MW_RESULT_IGNORED, MW_RESULT_HANDLE, MW_RESULT_ERROR };	/* null fails; anything but null fails */

struct mw_probe {
	char name[MW_FUNCTION];	/* of the function; padded with zeros */
	u8 length;
	u8 means;		/* enum mw_means */
	u8 result;		/* enum mw_result */
	u8 model_argument;	/* 1 or 2: the argument that is the model's name; 0 none */
	u8 what;		/* device: which use of it */
	u8 hot;			/* runs for each token or launch */
	u8 fired;		/* a tracked process called it */
	u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MW_PROBES);
	__type(key, u32);
	__type(value, struct mw_probe);
} probes SEC(".maps");

/* The brackets that a thread is in. A function's is known by where its return address stands on the stack: of one that an exception
 * or longjmp left, that is below any later one's. An object's is known by the object's address.
 */
struct mw_brackets {
	u64 instance;		/* of the scope that the first of them opened */
	u64 token[MW_BRACKETS];	/* 0: free */
	u32 object[MW_BRACKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mw_brackets);
} brackets SEC(".maps");

struct mw_handle {
	u64 address;
	u32 tgid;
	u32 pad;
};

/* Models by what the framework gave for them, so that giving it back names the right one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MW_HANDLES);
	__type(key, struct mw_handle);
	__type(value, u64);
} handles SEC(".maps");

struct pt_regs___at_call {
	unsigned long di, si, dx, ax, sp;
} RELOCATED;

static __always_inline struct mw_probe *probe_of(void *ctx)
{
	u32 index = bpf_get_attach_cookie(ctx);

	return bpf_map_lookup_elem(&probes, &index);
}

/* "FUNCTION" or "FUNCTION MODEL", ended by NUL. */
static __always_inline void describe_call(struct mw_detail *detail, struct mw_probe *p, u64 model)
{
	u32 length = p->length & (MW_FUNCTION - 1);

	__builtin_memset(detail, 0, sizeof(*detail));
	bpf_probe_read_kernel(detail->text, MW_FUNCTION, p->name);
	if (model && bpf_probe_read_user_str(detail->text + length + 1, MW_DETAIL - MW_FUNCTION, (void *)model) > 1)
		detail->text[length] = ' ';
}

/* Brackets of a scope that ended otherwise count no more. */
static __always_inline bool in_brackets(struct mw_task *t, struct mw_brackets *b)
{
	return b && b->instance && b->instance == t->scope_instance && scope_at(t->scope_slot, t->scope_instance);
}

#define MW_CAME_IN	(1u << 0)	/* it is the thread's only one now */
#define MW_WERE_LEFT	(1u << 1)	/* the thread had some, all of which were left without a return */

static __noinline u32 come_in(struct mw_brackets *b, u64 token, u32 object)
{
	u32 live = 0, left = 0, known = 0, free = MW_BRACKETS;

	for (u32 i = 0; i < MW_BRACKETS; i++) {
		u64 other = b->token[i];

		if (!other) {
			free = i;
		} else if (other == token && b->object[i] == object) {
			/* a function that ended in a jump to this one, or a constructor that calls another */
			known = 1;
		} else if (!object && !b->object[i] && other < token) {
			b->token[i] = 0;
			left = 1;
			free = i;
		} else {
			live = 1;
		}
	}
	if (known)
		return 0;
	if (free < MW_BRACKETS) {
		b->token[free] = token;
		b->object[free] = object;
	}
	return live ? 0 : MW_CAME_IN | (left ? MW_WERE_LEFT : 0);
}

/* 1: it was the last one; 2: there are others; 0: it is not known. */
static __noinline u32 go_out(struct mw_brackets *b, u64 token, u32 object)
{
	u32 live = 0, known = 0;

	for (u32 i = 0; i < MW_BRACKETS; i++) {
		u64 other = b->token[i];

		if (!other)
			continue;
		if (other == token && b->object[i] == object) {
			b->token[i] = 0;
			known = 1;
		} else if (!object && !b->object[i] && other < token) {
			b->token[i] = 0;
		} else {
			live = 1;
		}
	}
	return !known ? 0 : live ? 2 : 1;
}

static __always_inline void begin_bracket(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail,
					  u64 token, u32 object)
{
	struct mw_brackets *b = bpf_task_storage_get(&brackets, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	u32 how;

	if (!b || !token)
		return;
	if (!in_brackets(t, b))
		__builtin_memset(b, 0, sizeof(*b));
	how = come_in(b, token, object);
	if (!(how & MW_CAME_IN))
		return;
	if (how & MW_WERE_LEFT)
		scope_leave(task, t, l, 1, detail);
	scope_enter(task, t, l, detail, MW_BY_PROBE_ENTER);
	b->instance = t->scope_instance;
}

/* `failed`: with it the whole load, whatever else of it has not returned. `handle`: what the load gave for the model, or 0. */
static __always_inline void end_bracket(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail,
					u64 token, u32 object, u32 failed, u64 handle)
{
	struct mw_brackets *b = bpf_task_storage_get(&brackets, task, 0, 0);
	struct mw_handle key = { .address = handle, .tgid = task->tgid };
	u32 last;

	if (!in_brackets(t, b))
		return;
	last = go_out(b, token, object);
	if (!last)
		return;
	if (handle && !failed)
		bpf_map_update_elem(&handles, &key, &b->instance, BPF_ANY);
	if (last == 2 && !failed)
		return;
	scope_leave(task, t, l, failed, detail);
	__builtin_memset(b, 0, sizeof(*b));
}

/* Not counted while the thread itself loads: loads end with a trial. */
static __always_inline void infer(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail,
				  struct mw_probed *process)
{
	if (in_brackets(t, bpf_task_storage_get(&brackets, task, 0, 0)))
		return;
	if (inference_called(task, t, l, detail) && __sync_fetch_and_add(&process->hits, 1) < MW_ENOUGH_HITS)
		return;
	__sync_fetch_and_or(&process->spent, MW_SPENT_INFERENCE);
	tell_probes();
}

/* `process`: of a function that runs often, else NULL. */
static __always_inline void use_device(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail,
				       struct mw_probe *p, struct mw_probed *process)
{
	device_used(task, t, l, detail, p->what);
	if (process && !(__sync_fetch_and_or(&process->spent, MW_SPENT_DEVICE) & MW_SPENT_DEVICE))
		tell_probes();
}

/* Not what a load tried and gives up itself. */
static __always_inline void unload(struct task_struct *task, struct mw_task *t, struct mw_task *l, struct mw_detail *detail,
				   u64 handle)
{
	struct mw_handle key = { .address = handle, .tgid = task->tgid };
	u64 *instance = bpf_map_lookup_elem(&handles, &key);

	/* also of a load that began before it was probed */
	if (in_brackets(t, bpf_task_storage_get(&brackets, task, 0, 0)) || (!instance && own_scope(task, t)))
		return;
	unloaded(task, t, l, instance ? *instance : 0, detail);
	bpf_map_delete_elem(&handles, &key);
}

/* A function is entered. */
SEC("uprobe")
int probe_call(struct pt_regs___at_call *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_probe *p = probe_of(ctx);
	u64 first = ctx->di, second = ctx->si, stack = ctx->sp;
	struct mw_probed *process = NULL;
	u32 tgid = task->tgid;
	struct mw_task *t, *l;
	struct mw_detail detail;

	/* else clang computes which of them to read, which the verifier does not allow */
	barrier_var(first);
	barrier_var(second);
	if (!p)
		return 0;
	if (p->hot) {
		/* What runs most often is asked first whether it still matters. */
		process = bpf_map_lookup_elem(&probed, &tgid);
		if (!process || process->spent & (p->means == MW_INFERS ? MW_SPENT_INFERENCE : MW_SPENT_DEVICE))
			return 0;
	}
	t = state_of(task);
	if (!t || !t->group || t->excluded)
		return 0;
	l = process_of(task, t);
	if (!p->fired)
		p->fired = 1;
	describe_call(&detail, p, p->model_argument == 2 ? second : p->model_argument == 1 ? first : 0);
	switch (p->means) {
	case MW_LOADS:
		begin_bracket(task, t, l, &detail, stack, 0);
		break;
	case MW_BEGINS:
		begin_bracket(task, t, l, &detail, first, 1);
		break;
	case MW_ENDS:
		end_bracket(task, t, l, &detail, first, 1, 0, 0);
		break;
	case MW_INFERS:
		if (process)
			infer(task, t, l, &detail, process);
		break;
	case MW_USES_DEVICE:
		use_device(task, t, l, &detail, p, process);
		break;
	case MW_UNLOADS:
		unload(task, t, l, &detail, first);
	}
	return 0;
}

/* A function that loads returns: its return address is off the stack by now. */
SEC("uretprobe")
int probe_return(struct pt_regs___at_call *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = bpf_task_storage_get(&tasks, task, 0, 0);
	struct mw_probe *p = probe_of(ctx);
	u64 result = ctx->ax;
	struct mw_detail detail;
	u32 failed;

	if (!p || !t)
		return 0;
	failed = p->result == MW_RESULT_HANDLE ? !result : p->result == MW_RESULT_ERROR ? !!result : 0;
	describe_call(&detail, p, 0);
	end_bracket(task, t, process_of(task, t), &detail, ctx->sp - 8, 0, failed, p->result == MW_RESULT_HANDLE ? result : 0);
	return 0;
}

/* Once, when user space begins: libraries that tracked processes have mapped already. */
SEC("iter/task_vma")
int find_libraries(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct mw_task *t;
	struct file *file;

	if (!task || !vma || task->pid != task->tgid)
		return 0;
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!t || !t->group || t->excluded || !(BPF_CORE_READ(vma, vm_flags) & MW_VM_EXEC))
		return 0;
	file = BPF_CORE_READ(vma, vm_file);
	if (file && is_known_library((u64)BPF_CORE_READ(file, f_path.dentry), 1))
		look_for_libraries(task->tgid);
	return 0;
}
