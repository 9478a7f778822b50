/* Which processes belong to a server group: those that match the list of servers, those that read an artifact, and
 * what they start.
 */
#ifndef MODELWARD_TRACKING_H
#define MODELWARD_TRACKING_H

#include "lifecycle.h"
#include "names.h"

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
	g->made_ns = bpf_ktime_get_boot_ns();
	g->active_ns = g->made_ns;
	g->pending = 1;
	g->tasks = 1;
	g->phase = phase;
	g->evidence = evidence;
	g->loaded = 0;
	g->open_scopes = 0;
	g->live_scopes = 0;
	g->overflow = 0;
	g->listening = 0;
	g->settling = evidence == MW_RECONSTRUCTED;
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
	u32 differ = 0;

	/* without a branch, or the verifier walks on from each letter that may differ */
	for (u32 i = 0; i < length; i++)
		differ |= text[i] ^ head[i];
	return !differ;
}
#define BEGINS_WITH(text, literal) begins_with(text, literal, sizeof(literal) - 1)

/* Is the text of scratch->path the code with which Python's multiprocessing starts a worker, or what forks its workers? */
APART bool is_spawned(struct mw_scratch *s)
{
	if (!s)
		return false;
	return BEGINS_WITH(s->path, "from multiprocessing.spawn import spawn_main") ||
	       BEGINS_WITH(s->path, "from multiprocessing.forkserver import main");
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
		if (is_spawned(s))
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

/* Is the program just started a server of the list, or a worker (MW_SERVER, MW_WORKER)? Its arguments, `length` bytes, are in
 * scratch->asked.
 */
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

#endif
