/* Which processes belong to a server group: those that match the list of servers, those that read an artifact, and
 * what they start.
 */
#ifndef MODELWARD_TRACKING_H
#define MODELWARD_TRACKING_H

#include "lifecycle.h"

#define MW_MATCH_ARGUMENTS 12

struct mw_group_search {
	u64 id;
	u32 slot;
	u32 found;
};

static long find_free_group(u32 index, struct mw_group_search *search)
{
	u32 slot = index;
	struct mw_group *g = bpf_map_lookup_elem(&groups, &slot);

	if (!g)
		return 1;
	if (g->id || __sync_val_compare_and_swap(&g->id, 0, search->id))
		return 0;
	search->slot = slot;
	search->found = 1;
	return 1;
}

/* Make a group whose root is the task's process, and put the task in it. The leader gets an entry too: threads find
 * theirs by it.
 */
static __noinline struct mw_task *new_group(struct task_struct *task, u32 phase, u32 evidence, u32 server)
{
	struct task_struct *leader = task->group_leader;
	struct mw_group_search search = {
		.id = ((u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32()) | 1,
	};
	struct mw_task *t;
	struct mw_group *g;

	if (!leader)
		return NULL;
	bpf_loop(MW_GROUPS, find_free_group, &search, 0);
	g = bpf_map_lookup_elem(&groups, &search.slot);
	if (!search.found || !g) {
		/* so many groups at a time, and this process is not watched: the ledger must say so */
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return NULL;
	}
	raise_mark(&totals.group_mark, search.slot + 1);
	g->root_tgid = task->tgid;
	g->root_start_ns = leader->start_boottime;
	__builtin_memset(&g->models, 0, sizeof(g->models));
	g->answered_ns = 0;
	g->artifacts = 0;
	g->active_ns = bpf_ktime_get_boot_ns();
	g->pending = 1;
	g->tasks = 1;
	g->phase = phase;
	g->evidence = evidence;
	g->loaded = 0;
	g->open_scopes = 0;
	g->live_scopes = 0;
	g->overflow = 0;
	g->listening = 0;
	t = bpf_task_storage_get(&tasks, leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t || __sync_val_compare_and_swap(&t->group, 0, search.id)) {
		/* another thread of the process was faster */
		g->id = 0;
		if (t)
			return state_of(task);
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return NULL;
	}
	t->group_slot = search.slot;
	t->server = server;
	__sync_fetch_and_add(&totals.groups_made, 1);
	if (phase != MW_PHASE_START)
		look_for_libraries(task->tgid);
	return task->pid == task->tgid ? t : state_of(task);
}

static __always_inline void leave_group(struct mw_task *t)
{
	struct mw_group *g = group_at(t->group_slot, t->group);

	if (g && __sync_fetch_and_add(&g->tasks, -1) == 1)
		g->id = 0;
	t->group = 0;
}

/* Look a name up in the list of programs: how it may match, 0 when it is not listed. */
static __noinline u32 listed(const void *name, u32 length)
{
	char key[MW_NAME] = {};
	u32 *how;

	if (length == 0 || length > MW_NAME - 1)
		return 0;
	if (bpf_probe_read_kernel(key, length & (MW_NAME - 1), name))
		return 0;
	how = bpf_map_lookup_elem(&programs, key);
	return how ? *how : 0;
}

static __always_inline u32 program_listed(struct file *exe)
{
	return exe ? listed(BPF_CORE_READ(exe, f_path.dentry, d_name.name), BPF_CORE_READ(exe, f_path.dentry, d_name.len)) : 0;
}

/* Offset of the base name in a text of scratch->path that ends at `length`; names longer than a key cannot match anyway. */
APART u32 base_of(struct mw_scratch *s, u32 length)
{
	u32 at = length;

	if (!s)
		return 0;
	for (u32 i = 0; i < MW_NAME && at > 0; i++) {
		if (s->path[(at - 1) & 8191] == '/')
			break;
		at--;
	}
	return at;
}

struct mw_match {
	struct mw_scratch *s;
	u32 at;			/* of the next argument in s->asked */
	u32 end;
	u32 module;		/* the argument before was -m */
	u32 value;		/* the argument before takes this one as its value */
	u32 code;		/* the argument before was -c */
	u32 found;
};

/* What a program is by its name and arguments. */
#define MW_SERVER	1
#define MW_WORKER	2

static __always_inline bool begins_with(const char *text, const char *head, u32 length)
{
	for (u32 i = 0; i < length; i++)
		if (text[i] != head[i])
			return false;
	return true;
}
#define BEGINS_WITH(text, literal) begins_with(text, literal, sizeof(literal) - 1)

/* The code with which Python's multiprocessing starts a worker, or what forks its workers. */
static __always_inline bool is_spawned(const char *code)
{
	return BEGINS_WITH(code, "from multiprocessing.spawn import spawn_main") ||
	       BEGINS_WITH(code, "from multiprocessing.forkserver import main");
}

/* One argument of a Python command line: the script, or the module after -m; options before it are passed over. */
static long match_argument(u32 index, struct mw_match *m)
{
	struct mw_scratch *s = m->s;
	u32 at = m->at, length, base, how;
	long n;

	if (at >= m->end || at > MW_PATH_MAX - 1)
		return 1;
	n = bpf_probe_read_kernel_str(s->path, MW_PATH_MAX, &s->asked[at & (MW_PATH_MAX - 1)]);
	if (n <= 0 || n > MW_PATH_MAX)
		return 1;
	length = n - 1;
	m->at = at + n;
	if (index == 0)
		return 0;
	if (m->code) {
		if (is_spawned(s->path))
			m->found = MW_WORKER;
		return 1;
	}
	if (m->module) {
		how = listed(s->path, length);
		m->found = how & MW_AS_MODULE ? MW_SERVER : how & MW_AS_WORKER ? MW_WORKER : 0;
		return 1;
	}
	if (m->value) {
		m->value = 0;
		return 0;
	}
	if (s->path[0] == '-' && length >= 2) {
		/* -m may end a cluster of short options, as in -um */
		char last = s->path[(length - 1) & 8191];

		if (s->path[1] == '-')
			return 0;
		m->code = last == 'c';
		m->module = last == 'm';
		m->value = last == 'W' || last == 'X';
		return 0;
	}
	base = base_of(s, length);
	how = listed(&s->path[base & 8191], length - base);
	m->found = how & MW_AS_SCRIPT ? MW_SERVER : how & MW_AS_WORKER ? MW_WORKER : 0;
	return 1;
}

static __always_inline bool is_python(const unsigned char *name)
{
	char head[8] = {};

	bpf_probe_read_kernel_str(head, sizeof(head), name);
	return (head[0] == 'p' && head[1] == 'y' && head[2] == 't' && head[3] == 'h' && head[4] == 'o' && head[5] == 'n') ||
	       (head[0] == 'p' && head[1] == 'y' && head[2] == 'p' && head[3] == 'y');
}

/* Is the program just started a server of the list, or a worker (MW_SERVER, MW_WORKER)? Its arguments, `length` bytes, are in scratch->asked. */
APART u32 match_server(struct mw_scratch *s, u64 exe_address, u32 length)
{
	struct file *exe = (void *)exe_address;
	struct mw_match m = {};

	if (!s)
		return 0;
	m.s = s;
	m.end = length;
	m.at = zero_start;
	if (program_listed(exe) & MW_AS_PROGRAM)
		return MW_SERVER;
	if (!exe || !is_python(BPF_CORE_READ(exe, f_path.dentry, d_name.name)))
		return 0;
	bpf_loop(MW_MATCH_ARGUMENTS, match_argument, &m, 0);
	return m.found;
}

struct mw_name {
	char text[MW_NAME];	/* the end of a longer one */
	u32 length;
};

static __always_inline void name_of(struct mw_name *name, struct dentry *dentry)
{
	const unsigned char *from = READ(dentry, dentry, d_name.name);
	u32 length = READ(dentry, dentry, d_name.len);

	__builtin_memset(name, 0, sizeof(*name));
	if (length > MW_NAME - 1) {
		from += length - (MW_NAME - 1);
		length = MW_NAME - 1;
	}
	/* clang knows the bound and drops the mask; the verifier of 6.1 has lost it by then. */
	barrier_var(length);
	if (length && !bpf_probe_read_kernel(name->text, length & (MW_NAME - 1), from))
		name->length = length;
}

/* What a name has in common with those of other shards: what stands before the first digit or dot. */
static __noinline int stem_of(char *stem, const struct mw_name *name)
{
	__builtin_memset(stem, 0, MW_STEM);
	for (u32 i = 0; i < MW_STEM; i++) {
		char c = name->text[i];

		if (!c || c == '.' || (c >= '0' && c <= '9'))
			break;
		stem[i] = c;
	}
	return 0;
}

/* Say in scratch->opening for which file, described in the record, a scope is to be opened. */
static __noinline int describe_opening(struct mw_scratch *s, struct dentry *dentry, u32 trigger)
{
	__builtin_memset(&s->opening, 0, sizeof(s->opening));
	s->opening.inode = s->h.file.inode;
	s->opening.device = s->h.file.device;
	s->opening.folder = BPF_CORE_READ(dentry, d_parent, d_inode, i_ino);
	s->opening.above = BPF_CORE_READ(dentry, d_parent, d_parent, d_inode, i_ino);
	s->opening.trigger = trigger;
	s->opening.evidence = MW_OBSERVED;
	return 0;
}

/* How the extension of a name is listed: ~0 when it is not. ASCII capitals count as small letters. */
APART u32 extension_of(struct mw_name *name)
{
	char key[MW_EXTENSION] = {};
	u32 length, dot = 0, *rule;

	if (!name)
		return ~0u;
	length = name->length;

	for (u32 i = 1; i < MW_EXTENSION && i < length; i++) {
		if (name->text[(length - i) & (MW_NAME - 1)] == '.') {
			dot = i;
			break;
		}
	}
	if (dot < 2)
		return ~0u;
	for (u32 i = 0; i < MW_EXTENSION - 1; i++) {
		s32 c, other;

		if (i + 1 >= dot)
			break;
		c = name->text[(length - dot + 1 + i) & (MW_NAME - 1)];
		/* negative unless c is a capital; without a branch, or the verifier walks 2^15 paths */
		other = (c - 'A') | ('Z' - c);
		key[i] = c + ((~other >> 31 & 1) << 5);
	}
	rule = bpf_map_lookup_elem(&extensions, key);
	return rule ? *rule : ~0u;
}

static __always_inline bool starts_with(const struct mw_name *name, const char *head, u32 length)
{
	for (u32 i = 0; i < length; i++)
		if (name->text[i] != head[i])
			return false;
	return true;
}
#define STARTS_WITH(name, literal) starts_with(name, literal, sizeof(literal) - 1)

/* pytorch_model.bin, model.bin, model-00001-of-00002.bin, ...; not the model_id.bin of a database column. */
APART u32 is_model_bin(struct mw_name *name)
{
	if (!name)
		return 0;
	return STARTS_WITH(name, "pytorch_model") || STARTS_WITH(name, "model.bin") || STARTS_WITH(name, "model-0") ||
	       STARTS_WITH(name, "ggml-") || STARTS_WITH(name, "openvino_model.bin") ||
	       STARTS_WITH(name, "diffusion_pytorch_model") || STARTS_WITH(name, "adapter_model") ||
	       STARTS_WITH(name, "consolidated.0");
}

APART u32 names_artifact(struct mw_name *name, u64 dentry_address)
{
	struct dentry *dentry = (void *)dentry_address;
	u32 rule = extension_of(name);
	struct mw_name parent;

	if (!name || rule == ~0u)
		return false;
	if (rule & MW_EXT_MODEL_BIN && !is_model_bin(name))
		return false;
	if (rule & MW_EXT_NOT_SITE) {
		name_of(&parent, BPF_CORE_READ(dentry, d_parent));
		if (STARTS_WITH(&parent, "site-packages") || STARTS_WITH(&parent, "dist-packages") ||
		    STARTS_WITH(&parent, "lib2to3"))
			return false;
	}
	return true;
}

#endif
