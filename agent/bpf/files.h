/* What records say of files, and what the descriptors of a task are. */
#ifndef MODELWARD_FILES_H
#define MODELWARD_FILES_H

#include "answers.h"

#define NANOSECONDS (~(1u << 31))	/* since 6.13 the top bit is I_CTIME_QUERIED */

static __always_inline u64 changed_ns(struct inode *inode)
{
	u64 m, c;

	if (bpf_core_field_exists(inode->i_mtime_sec)) {
		m = BPF_CORE_READ(inode, i_mtime_sec) * 1000000000ULL + BPF_CORE_READ(inode, i_mtime_nsec);
		c = BPF_CORE_READ(inode, i_ctime_sec) * 1000000000ULL + (BPF_CORE_READ(inode, i_ctime_nsec) & NANOSECONDS);
	} else if (bpf_core_field_exists(((struct inode___before_6_11 *)inode)->__i_ctime)) {
		struct inode___before_6_11 *old = (void *)inode;

		m = BPF_CORE_READ(old, i_mtime.tv_sec) * 1000000000ULL + BPF_CORE_READ(old, i_mtime.tv_nsec);
		c = BPF_CORE_READ(old, __i_ctime.tv_sec) * 1000000000ULL + BPF_CORE_READ(old, __i_ctime.tv_nsec);
	} else {
		struct inode___before_6_6 *old = (void *)inode;

		m = BPF_CORE_READ(old, i_mtime.tv_sec) * 1000000000ULL + BPF_CORE_READ(old, i_mtime.tv_nsec);
		c = BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ULL + BPF_CORE_READ(old, i_ctime.tv_nsec);
	}
	return m > c ? m : c;
}

/* Object members and flags that say what sort of file it is. */
static __always_inline void fill_file(struct mw_header *h, struct file *file)
{
	struct dentry *dentry = READ(file, file, f_path.dentry);
	struct inode *inode = READ(file, file, f_inode);
	struct super_block *sb = READ(inode, inode, i_sb);
	u64 magic = READ(super_block, sb, s_magic);
	char head[6] = {};

	h->file.inode = READ(inode, inode, i_ino);
	h->file.device = READ(super_block, sb, s_dev);
	h->file.links = READ(inode, inode, i_nlink);
	if (h->file.links == 0 || (!READ(dentry, dentry, d_hash.pprev) && dentry != READ(dentry, dentry, d_parent)))
		h->flags |= MW_F_UNLINKED;
	if (magic == TMPFS_MAGIC || magic == RAMFS_MAGIC) {
		h->flags |= MW_F_TMPFS;
		bpf_probe_read_kernel(head, sizeof(head), READ(dentry, dentry, d_name.name));
		if (dentry == READ(dentry, dentry, d_parent) && head[0] == 'm' && head[1] == 'e' && head[2] == 'm' &&
		    head[3] == 'f' && head[4] == 'd' && head[5] == ':')
			h->flags |= MW_F_MEMFD;
	}
}

static __always_inline struct file *file_at(struct task_struct *task, u32 fd)
{
	struct files_struct *files = READ(task_struct, task, files);
	struct fdtable *table = READ(files_struct, files, fdt);
	struct file *file = NULL;
	u64 slots;

	if (fd >= READ(fdtable, table, max_fds))
		return NULL;
	slots = (u64)BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), (void *)(slots + fd * sizeof(file))))
		return NULL;
	return file;
}

/* A connection to the network: unix sockets are the standard output of services under systemd. */
static __always_inline bool is_connection(struct task_struct *task, u32 fd)
{
	struct file *file = file_at(task, fd);
	struct socket *socket;
	u16 family;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return false;
	socket = BPF_CORE_READ(file, private_data);
	family = BPF_CORE_READ(socket, sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6;
}

struct mw_listener_search {
	u64 files;
	u32 found;
};

static long find_listener(u32 index, struct mw_listener_search *search)
{
	struct file *file = NULL;
	struct socket *socket;

	if (bpf_probe_read_kernel(&file, sizeof(file), (void *)(search->files + index * sizeof(file))))
		return 1;
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	if (BPF_CORE_READ(socket, sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	search->found = 1;
	return 1;
}

/* Has the program that was started a listening socket from its starter? */
static __noinline u32 has_listener(struct task_struct *task)
{
	struct mw_listener_search search = {};
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	u32 room = BPF_CORE_READ(table, max_fds);

	search.files = (u64)BPF_CORE_READ(table, fd);
	bpf_loop(room < MW_FDS ? room : MW_FDS, find_listener, &search, 0);
	return search.found;
}

#endif
