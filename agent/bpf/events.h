/* The record: the only contract between the kernel side and the agent.
 *
 * User space derives its numpy dtypes from these structs through BTF at load time; nothing repeats this layout. A
 * ring carries records of one fixed size, so that a drain is one strided numpy view. Numbers in the enums are grouped
 * by topic, and never reused. Their names stand in modelward_proto/fields.py in the same order.
 */
#ifndef MODELWARD_EVENTS_H
#define MODELWARD_EVENTS_H

enum mw_kind {
	MW_PROCESS_EXEC = 1,
	MW_PROCESS_FORK = 2,
	MW_PROCESS_EXIT = 3,
	MW_FILE_OPEN = 16,
	MW_NET_CONNECT = 32,
	MW_NET_LISTEN = 33,
	MW_LIFECYCLE = 48,
	MW_LIBRARY = 50,	/* a library that probes know was mapped into a tracked process */
	MW_HOST_CANARY = 64,	/* 49 and 65 to 67 (identity, loss, silence, two of one identity) are made in user space */
	MW_KIND_MAX = 68,
};

enum mw_phase { MW_PHASE_UNKNOWN, MW_PHASE_START, MW_PHASE_LOAD, MW_PHASE_WARMUP, MW_PHASE_SERVE, MW_PHASE_STOP };
enum mw_scope { MW_SCOPE_NONE, MW_SCOPE_OPEN, MW_SCOPE_TAIL };
enum mw_evidence { MW_OBSERVED, MW_RECONSTRUCTED, MW_DECLARED };
enum mw_via { MW_VIA_NONE, MW_VIA_THREAD, MW_VIA_FORK, MW_VIA_EXEC };
enum mw_outcome { MW_SUCCESS, MW_FAILURE, MW_RESULT_UNKNOWN, MW_ATTEMPTED };
enum mw_trigger {
	MW_BY_NONE, MW_BY_EXEC, MW_BY_ARTIFACT_OPEN, MW_BY_QUIET, MW_BY_ANSWER, MW_BY_SIGNAL, MW_BY_EXIT, MW_BY_ADOPTED,
	MW_BY_UNLOAD, MW_BY_REOPENED,
	MW_BY_PROBE_ENTER, MW_BY_PROBE_RETURN, MW_BY_INFERENCE, MW_BY_DEVICE, MW_BY_ARTIFACT_READ, MW_BY_ARTIFACT_MAP,
	MW_BY_DECLARED, MW_BY_LATE,
};
enum mw_ring { MW_RING_CONTROL, MW_RING_CONTROL_LARGE, MW_RING_EVENTS, MW_RING_EVENTS_LARGE, MW_RING_MAX };

/* mw_event.flags */
#define MW_F_TRUNCATED		(1u << 0)	/* some text was longer than its room */
#define MW_F_RACED		(1u << 1)	/* asked name and opened file disagree */
#define MW_F_OUTSIDE_ROOT	(1u << 2)
#define MW_F_UNLINKED		(1u << 3)
#define MW_F_TMPFS		(1u << 4)
#define MW_F_MEMFD		(1u << 5)
#define MW_F_STDIO_SOCKET	(1u << 6)	/* standard input or output is a connection to the network */
#define MW_F_LEADER		(1u << 7)	/* thread group leader: role main */
#define MW_F_ROOT		(1u << 8)	/* first tracked process of its group */
#define MW_F_SERVER		(1u << 9)	/* matched the list of servers */
#define MW_F_ARTIFACT		(1u << 10)	/* the opened file is an artifact */
#define MW_F_NEWER_THAN_ROOT	(1u << 11)
#define MW_F_REPEATS		(1u << 12)	/* came from the repeat table: count further effects equal to an earlier record */
#define MW_F_THREAD		(1u << 13)	/* fork: the child is a thread */

/* Texts follow the header packed one after another, without terminators; seg[i] is the length of text i. */
enum mw_segment {
	MW_SEG_PATH,		/* open: resolved path; exec: resolved program; connect: none */
	MW_SEG_ASKED,		/* open: name asked for, when it differs; exec: name given to execve; lifecycle: detail */
	MW_SEG_INTERPRETER,	/* exec only */
	MW_SEG_CWD,		/* exec only */
	MW_SEG_ARGV,		/* exec only: arguments, each ended by NUL */
	MW_SEG_MAX,
};

#define MW_SMALL_SIZE	336
#define MW_LARGE_SIZE	8704
#define MW_HEADER_SIZE	176

struct mw_header {
	unsigned long long number;		/* per (ring, cpu), from 1, taken before the reserve: a gap is a loss */
	unsigned long long time_ns;		/* bpf_ktime_get_boot_ns */
	unsigned long long start_ns;		/* group leader's start_boottime: with tgid, the process key */
	unsigned long long parent_start_ns;
	unsigned long long root_start_ns;	/* workload's first tracked process */
	unsigned long long group;		/* server group id, never 0 for a tracked task */
	unsigned long long instance;		/* model instance, 0 none known */
	unsigned long long origin_instance;
	unsigned long long origin_time_ns;	/* when the task left its origin's scope, 0 none */
	unsigned long long cgroup;		/* id in the unified hierarchy */
	unsigned int tgid;
	unsigned int tid;
	unsigned int parent_tgid;
	unsigned int root_tgid;
	unsigned int uid;			/* effective */
	unsigned int flags;			/* MW_F_* */
	unsigned int count;			/* effects this record stands for */
	unsigned short kind;			/* enum mw_kind */
	unsigned short cpu;
	unsigned char ring;			/* enum mw_ring of the number; repeats: 255 */
	unsigned char phase;
	unsigned char scope;
	unsigned char evidence;
	unsigned char origin_scope;
	unsigned char origin_via;
	unsigned char outcome;
	unsigned char pad;
	/* By kind. Members of one kind may stand for nothing in another. */
	union {
		struct {			/* open; exec uses inode, device, links and changed_ns for the program */
			unsigned long long inode;
			unsigned long long changed_ns;	/* exec: max(ctime, mtime) of the program, wall clock */
			unsigned int device;		/* s_dev */
			unsigned int links;
			unsigned int open_flags;
			unsigned int args_length;	/* exec: bytes of all arguments */
			unsigned int args_count;	/* exec */
			unsigned int access;		/* 0 none, 1 read, 2 write, 3 both */
		} file;
		struct {
			unsigned char address[16];	/* IPv4 in the first four bytes */
			unsigned short family;
			unsigned short port;		/* host order */
			unsigned char transport;	/* 0 none, 1 tcp, 2 udp, 3 unix, 4 other */
		} net;
		struct {
			unsigned long long child_start_ns;
			unsigned int child_tgid;
			unsigned int child_tid;
		} fork;
		struct {
			int code;			/* exit status; -1 when killed */
			unsigned int signal;
		} exit;
		struct {
			unsigned long long inode;	/* artifact */
			unsigned int device;
			unsigned char from;
			unsigned char to;
			unsigned char trigger;
		} lifecycle;
		unsigned char by_kind[40];
	};
	unsigned short seg[MW_SEG_MAX];		/* lengths in bytes */
	unsigned short pad2;
	unsigned int pad3;
};

struct mw_small {
	struct mw_header h;
	char text[MW_SMALL_SIZE - MW_HEADER_SIZE];
};

struct mw_large {
	struct mw_header h;
	char text[MW_LARGE_SIZE - MW_HEADER_SIZE];
};

#endif
