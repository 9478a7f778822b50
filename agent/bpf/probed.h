/* Which processes have libraries that probes know, for user space to attach to; and when its probes have nothing more to tell. */
#ifndef MODELWARD_PROBED_H
#define MODELWARD_PROBED_H

#include "context.h"

#define MW_LIBRARY_STEM	32
#define MW_VM_EXEC	4

/* Names up to the first dot or hyphen, as builders append versions and hashes; padded with zeros. Values: user space's own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, char[MW_LIBRARY_STEM]);
	__type(value, u32);
} libraries SEC(".maps");

#define MW_SPENT_INFERENCE	(1u << 0)
#define MW_SPENT_DEVICE		(1u << 1)

struct mw_probed {
	u32 looks;	/* grows when its maps are to be read: a library was opened, or it was there before it became tracked */
	u32 spent;	/* MW_SPENT_*: probes on these functions have told what they can */
	u32 hits;	/* since the last load began */
	u32 pad;
};

/* By process. User space removes the entries of those that ended. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct mw_probed);
} probed SEC(".maps");

/* How often anything in `probed` changed: user space looks at it only then. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} probe_news SEC(".maps");

static __always_inline void tell_probes(void)
{
	u32 zero = 0;
	u64 *news = bpf_map_lookup_elem(&probe_news, &zero);

	if (news)
		__sync_fetch_and_add(news, 1);
}

/* A process may have mapped such libraries: read its maps. */
static __noinline int look_for_libraries(u32 tgid)
{
	struct mw_probed fresh = { .looks = 1 }, *p = bpf_map_lookup_elem(&probed, &tgid);

	if (p)
		__sync_fetch_and_add(&p->looks, 1);
	else
		bpf_map_update_elem(&probed, &tgid, &fresh, BPF_NOEXIST);
	tell_probes();
	return 0;
}

/* A load begins: what inference tells is news again. */
static __always_inline void probes_wanted_again(u32 tgid)
{
	struct mw_probed *p = bpf_map_lookup_elem(&probed, &tgid);

	if (!p)
		return;
	p->hits = 0;
	if (__sync_fetch_and_and(&p->spent, ~MW_SPENT_INFERENCE) & MW_SPENT_INFERENCE)
		tell_probes();
}

/* 1 or 0 without a branch, of which the verifier would walk both sides for each letter. */
#define IS(a, b)	(((u32)(u8)((a) ^ (b)) - 1) >> 31)

/* Is it a library that probes know? `program`: or such a program, with whatever linked into it. */
APART bool is_known_library(u64 dentry_address, u32 program)
{
	struct dentry *dentry = (void *)dentry_address;
	char name[MW_NAME] = {}, stem[MW_LIBRARY_STEM] = {};
	u32 library = program, ended = 0;

	if (bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name)) <= 4)
		return false;
	for (u32 i = 0; i < MW_LIBRARY_STEM - 1; i++) {
		ended |= IS(name[i], '.') | IS(name[i], '-') | IS(name[i], 0);
		stem[i] = name[i] & (ended - 1);
	}
	if (!ended || !bpf_map_lookup_elem(&libraries, stem))
		return false;
	for (u32 i = 0; i < MW_NAME - 3; i++)
		library |= IS(name[i], '.') & IS(name[i + 1], 's') & IS(name[i + 2], 'o') &
			   (IS(name[i + 3], 0) | IS(name[i + 3], '.'));
	return library;
}

/* A tracked process opened a file, whose record with its path is in the scratch and was emitted. */
static __noinline int library_opened(struct mw_scratch *s, struct task_struct *task, struct dentry *dentry)
{
	u64 inode = s->h.file.inode;
	u32 device = s->h.file.device;

	if (!is_known_library((u64)dentry, 0))
		return 0;
	look_for_libraries(task->tgid);
	s->h.kind = MW_LIBRARY;
	s->h.seg[MW_SEG_ASKED] = 0;
	__builtin_memset(s->h.by_kind, 0, sizeof(s->h.by_kind));
	s->h.lifecycle.inode = inode;
	s->h.lifecycle.device = device;
	emit(s, 1);
	return 0;
}

/* A tracked task runs another program now. */
static __always_inline void program_started(struct task_struct *task, struct file *exe)
{
	if (exe && is_known_library((u64)BPF_CORE_READ(exe, f_path.dentry), 1))
		look_for_libraries(task->tgid);
}

#endif
