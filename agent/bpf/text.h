/* Scratch space, texts of a record, and the path of a file: walked from its dentry up across mounts, built from the end. */
#ifndef MODELWARD_TEXT_H
#define MODELWARD_TEXT_H

#include "state.h"

#define MW_PATH_MAX	4096
#define MW_TEXT_ROOM	(MW_LARGE_SIZE - MW_HEADER_SIZE)
#define MW_WALK_STEPS	2200	/* 2,047 folders fit in a path; the rest are mounts crossed */

/* What makes two effects equal. Objects by identity, not by text: a file by its dentry, and by name and parent in
 * case it is renamed.
 */
struct mw_repeat_key {
	u64 start_ns;
	u64 instance;
	u64 origin_instance;
	u64 object[4];
	u32 tgid;
	u32 flags;		/* role, server, raced, ... */
	u32 how;		/* open flags */
	u16 kind;
	u8 phase;
	u8 scope;
	u8 evidence;
	u8 outcome;
	u8 origin_scope;
	u8 origin_via;
	u32 uid;
	char name[MW_NAME];	/* opens: the end of the name; raced ones: of the name asked for, which the file does not bear out */
};

/* What a scope is opened for. */
struct mw_opening {
	u64 inode;		/* 0: no artifact yet */
	u64 folder;
	u64 above;		/* the folder that that one is in */
	u32 device;
	u32 trigger;
	u32 evidence;
	u32 depth;
	struct mw_detail detail;	/* empty: none */
	char stem[MW_STEM];
};

/* Offsets are masked with 8191 and lengths are at most 4096: the rooms are as large as that can reach. */
struct mw_scratch {
	u64 busy;
	/* From here on the value of the repeat table, see emit.h. */
	u64 repeats;
	u64 last_ns;
	struct mw_header h;
	char text[8192 + MW_PATH_MAX];
	char path[8192];
	char asked[MW_PATH_MAX];
	u32 used;		/* of text */
	u32 asked_length;
	u32 pad[2];
	/* Of an open: there is no room for them on the stack. */
	struct mw_repeat_key key;
	struct mw_opening opening;
	struct mw_held loaded;
};

/* Programs of some hooks can be preempted, and interrupts nest: a program claims one of several. */
#define MW_SCRATCHES	3

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MW_SCRATCHES);
	__type(key, u32);
	__type(value, struct mw_scratch);
} scratches SEC(".maps");

static __always_inline struct mw_scratch *claim(void)
{
	struct mw_scratch *s;

	for (u32 i = 0; i < MW_SCRATCHES; i++) {
		u32 index = i;

		s = bpf_map_lookup_elem(&scratches, &index);
		if (s && !__sync_lock_test_and_set(&s->busy, 1)) {
			__builtin_memset(&s->h, 0, sizeof(s->h));
			s->used = 0;
			return s;
		}
	}
	return NULL;
}

static __always_inline void release(struct mw_scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

/* Append a text of the kernel's; what does not fit is left out and flagged. */
static __noinline int append(struct mw_scratch *s, u32 segment, const void *from, u32 length)
{
	u32 used;

	if (segment >= MW_SEG_MAX)
		return 0;
	used = s->used;
	if (used >= MW_TEXT_ROOM || used > 8191) {
		if (length)
			s->h.flags |= MW_F_TRUNCATED;
		return 0;
	}
	if (length > MW_TEXT_ROOM - used) {
		length = MW_TEXT_ROOM - used;
		s->h.flags |= MW_F_TRUNCATED;
	}
	if (length > MW_PATH_MAX) {
		length = MW_PATH_MAX;
		s->h.flags |= MW_F_TRUNCATED;
	}
	if (length == 0)
		return 0;
	if (bpf_probe_read_kernel(&s->text[used & 8191], length, from))
		return 0;
	s->h.seg[segment] = length;
	s->used = used + length;
	return 0;
}

/* Append a string of the kernel's that ends with NUL. */
APART int append_string(struct mw_scratch *s, u32 segment, u64 from)
{
	u32 used;
	long n;

	if (!s || segment >= MW_SEG_MAX || s->used > 8191)
		return 0;
	used = s->used;
	n = bpf_probe_read_kernel_str(&s->text[used & 8191], MW_PATH_MAX, (void *)from);
	if (n <= 1)
		return 0;
	if (n == MW_PATH_MAX || used + n - 1 > MW_TEXT_ROOM)
		s->h.flags |= MW_F_TRUNCATED;
	if (used + n - 1 > MW_TEXT_ROOM)
		return 0;
	s->h.seg[segment] = n - 1;
	s->used = used + n - 1;
	return 0;
}

struct mw_walk {
	char *path;		/* 8,192 bytes, the first 4,096 are filled from their end */
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *root_dentry;	/* of the process */
	struct mount *root_mount;
	u32 at;
	u32 cut;
	u32 in_root;
	u32 ended;
};

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

static long walk_step(u32 index, struct mw_walk *w)
{
	struct dentry *dentry = w->dentry, *parent;
	struct mount *mount = w->mount, *above;
	const unsigned char *name;
	u32 length, at;

	if (dentry == w->root_dentry && mount == w->root_mount)
		w->in_root = 1;
	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount) {
			w->ended = 1;
			return 1;
		}
		w->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		w->mount = above;
		return 0;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	length = READ(dentry, dentry, d_name.len);
	name = READ(dentry, dentry, d_name.name);
	at = w->at;
	if (parent == dentry) {
		/* memfd, pipe, or a mount that is gone: its name stands alone */
		w->ended = 1;
		if (index || length == 0 || length > 255)
			return 1;
	}
	if (length > 255 || length + 1 > at) {
		w->cut = 1;
		return 1;
	}
	at -= length;
	if (length && bpf_probe_read_kernel(&w->path[at & 8191], length & 255, name))
		return 1;
	if (parent == dentry) {
		w->at = at;
		return 1;
	}
	at -= 1;
	w->path[at & 8191] = '/';
	w->at = at;
	w->dentry = parent;
	return 0;
}

/* Resolve and append the path of (mnt, dentry), in the view of the mount namespace's root. Sets MW_F_TRUNCATED, and,
 * when an fs_struct is given, MW_F_OUTSIDE_ROOT.
 */
APART int append_path(struct mw_scratch *s, u32 segment, u64 fs_address, u64 mnt, u64 dentry)
{
	struct fs_struct *fs = (void *)fs_address;
	struct mw_walk w = {};
	u32 at;

	if (!s)
		return 0;
	w.path = s->path;
	w.dentry = (void *)dentry;
	w.mount = mount_of((void *)mnt);
	w.at = MW_PATH_MAX + zero_start;
	if (fs) {
		w.root_dentry = BPF_CORE_READ(fs, root.dentry);
		w.root_mount = mount_of(BPF_CORE_READ(fs, root.mnt));
	}
	bpf_loop(MW_WALK_STEPS, walk_step, &w, 0);
	at = w.at;
	if (w.cut || !w.ended)
		s->h.flags |= MW_F_TRUNCATED;
	if (at > MW_PATH_MAX)
		return 0;
	if (at == MW_PATH_MAX) {
		at -= 1;
		s->path[at & 8191] = '/';
	}
	if (fs && !w.in_root && s->path[at & 8191] == '/')
		s->h.flags |= MW_F_OUTSIDE_ROOT;
	return append(s, segment, &s->path[at & 8191], MW_PATH_MAX - at);
}

struct mw_compare {
	struct mw_scratch *s;
	u32 length;
	u32 differs;
};

static long compare_step(u32 index, struct mw_compare *c)
{
	u32 at = index * 8;

	if (at + 8 > c->length) {
		if (at >= c->length)
			return 1;
		at = c->length - 8;	/* the last step overlaps the one before */
	}
	at &= MW_PATH_MAX - 1;
	if (at > MW_PATH_MAX - 8)
		return 1;
	if (*(u64 *)&c->s->text[at] != *(u64 *)&c->s->asked[at]) {
		c->differs = 1;
		return 1;
	}
	return 0;
}

/* Append the name asked for, unless it is the path itself, which must be the record's first text. */
APART int append_asked(struct mw_scratch *s)
{
	struct mw_compare c = { .s = s };

	if (!s)
		return 0;
	c.length = s->asked_length;
	if (s->asked_length == s->h.seg[MW_SEG_PATH] && s->asked_length >= 8 && s->asked_length < MW_PATH_MAX) {
		bpf_loop(MW_PATH_MAX / 8, compare_step, &c, 0);
		if (!c.differs)
			return 0;
	}
	return append(s, MW_SEG_ASKED, s->asked, s->asked_length);
}

#endif
