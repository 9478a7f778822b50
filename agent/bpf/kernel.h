/* The few kernel types and constants that the programs use.
 *
 * Only members that are read are declared: libbpf relocates each access to the running kernel's layout (CO-RE). A
 * name with ___ is another version's form of the same type.
 */
#ifndef MODELWARD_KERNEL_H
#define MODELWARD_KERNEL_H

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef unsigned long size_t;
typedef long ssize_t;
typedef long long loff_t;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

enum bpf_map_type_used {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_F_NO_PREALLOC (1u << 0)
#define BPF_F_CLONE (1u << 9)
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1ULL
#define BPF_RB_NO_WAKEUP 1ULL
#define BPF_RB_FORCE_WAKEUP 2ULL

#define CLONE_VM 0x100
#define CLONE_FILES 0x400
#define CLONE_THREAD 0x10000
#define PF_KTHREAD 0x200000
#define O_ACCMODE 3
#define O_WRONLY 1
#define O_PATH 010000000
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define TMPFS_MAGIC 0x01021994
#define RAMFS_MAGIC 0x858458f6
#define SIGINT 2
#define SIGTERM 15
#define SIGNAL_GROUP_EXIT 4
#define PIDTYPE_SID 3
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define EINPROGRESS 115

/* A function of its own to the verifier, which then checks it once and not at each call. Takes scalars and pointers
 * to whole structs.
 */
#define APART __attribute__((noinline))

#define RELOCATED __attribute__((preserve_access_index))

struct list_head {
	struct list_head *next, *prev;
} RELOCATED;

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
} RELOCATED;

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
} RELOCATED;

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
} RELOCATED;

struct inode {
	u16 i_mode;
	unsigned long i_ino;
	u32 i_nlink;
	u32 i_generation;
	struct super_block *i_sb;
	s64 i_size;
	s64 i_mtime_sec;		/* 6.11 and later */
	s64 i_ctime_sec;
	u32 i_mtime_nsec;
	u32 i_ctime_nsec;
} RELOCATED;

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
} RELOCATED;

struct inode___before_6_11 {
	struct timespec64 i_mtime;
	struct timespec64 __i_ctime;	/* 6.6 to 6.10 */
} RELOCATED;

struct inode___before_6_6 {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
} RELOCATED;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
} RELOCATED;

struct vfsmount {
	struct dentry *mnt_root;
} RELOCATED;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} RELOCATED;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} RELOCATED;

struct socket {
	short type;
	struct sock *sk;
} RELOCATED;

struct rb_node;

struct rb_root {
	struct rb_node *rb_node;
} RELOCATED;

struct rb_root_cached {
	struct rb_root rb_root;
} RELOCATED;

struct address_space {
	struct rb_root_cached i_mmap;
} RELOCATED;

struct file {
	void *private_data;
	struct inode *f_inode;
	struct address_space *f_mapping;
	u32 f_flags;
	s64 f_pos;
	struct path f_path;
} RELOCATED;

struct fdtable {
	u32 max_fds;
	struct file **fd;
} RELOCATED;

typedef struct {
	int counter;
} atomic_t;

struct files_struct {
	atomic_t count;
	struct fdtable *fdt;
} RELOCATED;

struct fs_struct {
	struct path root;
	struct path pwd;
} RELOCATED;

struct mm_struct {
	unsigned long start_stack;
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
} RELOCATED;

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t euid;
} RELOCATED;

struct kernfs_node {
	u64 id;
} RELOCATED;

struct cgroup {
	struct kernfs_node *kn;
} RELOCATED;

struct css_set {
	struct cgroup *dfl_cgrp;
} RELOCATED;

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
	struct task_struct *group_exec_task;	/* the thread that execs, while the others end */
	int group_exit_code;
	u32 flags;
} RELOCATED;

struct sched_info {
	u64 last_arrival;	/* on a CPU */
} RELOCATED;

struct pid;

struct task_struct {
	u32 __state;
	u32 flags;
	int exit_code;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct list_head children;
	struct list_head sibling;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
	unsigned long min_flt;
	unsigned long maj_flt;
	struct sched_info sched_info;
} RELOCATED;

struct linux_binprm {
	struct file *file;
	int argc;
	const char *filename;
	const char *interp;
} RELOCATED;

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
} RELOCATED;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
} RELOCATED;

struct ns_common {
	u32 inum;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

typedef struct {
	struct net *net;
} possible_net_t;

struct upid {
	int nr;
} RELOCATED;

struct pid {
	u32 level;
	struct upid numbers[1];
} RELOCATED;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} RELOCATED;

typedef struct {
	int owned;	/* by a system call */
} RELOCATED socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	struct pid *sk_peer_pid;
	socket_lock_t sk_lock;
} RELOCATED;

struct sk_buff {
	struct sock *sk;
	unsigned char *head;
	unsigned char *data;
	u32 len;
	int skb_iif;		/* where it came in from; 0: made here */
	u16 transport_header;	/* offset from head */
} RELOCATED;

struct trace_event_raw_sys_enter {
	long id;
	unsigned long args[6];
} RELOCATED;

struct trace_event_raw_sys_exit {
	long id;
	long ret;
} RELOCATED;

struct pt_regs {
	unsigned long di, si, dx, r10, r8, r9, orig_ax, ax;
} RELOCATED;

struct bpf_iter_meta {
	void *seq;
	u64 session_id;
	u64 seq_num;
} RELOCATED;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} RELOCATED;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
} RELOCATED;

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
} RELOCATED;

/* Read a member of a kernel object that is known by address alone. With bpf_rdonly_cast (Linux 6.2) that is a plain
 * load; without, a call. A pointer read this way keeps its type, so that what must be a plain number to the verifier
 * is read by BPF_CORE_READ.
 */
#ifdef MW_CASTS
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym;
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
#define READ(type, object, member) \
	(((struct type *)bpf_rdonly_cast((const void *)(object), bpf_core_type_id_kernel(struct type)))->member)
#else
#define READ(type, object, member) BPF_CORE_READ((struct type *)(object), member)
#endif

/* UAPI: the verifier rewrites these accesses, so no relocation. */
struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family;
	u32 type;
	u32 protocol;
};

#endif
