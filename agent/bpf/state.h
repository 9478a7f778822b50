/* What the kernel side remembers: per task, per server group, per load scope; and the lists that user space fills.
 *
 * A task holds slot numbers, so that a change of phase is one write. A slot is reused: each reference carries the id
 * it was made with, and one whose id no longer stands in the slot is void. That is also how closing a scope closes it
 * for every task that inherited it.
 */
#ifndef MODELWARD_STATE_H
#define MODELWARD_STATE_H

#include "doors.h"
#include "events.h"

#define MW_GROUPS	1024
#define MW_SCOPES	1024
#define MW_GROUP_SCOPES	128	/* quota of one group: beyond it, a load is judged as load without an instance of its own */
#define MW_SCOPE_FILES	8
#define MW_RELOAD_NS	60000000000ULL	/* an artifact opened in a tail this long quiet is another load */
#define MW_HELD_NS	60000000000ULL	/* an artifact that is held open without being read keeps a load from being over no longer */
#define MW_DOUBT_NS	50000000ULL	/* a load that an answer finds going on has so long to show it */
#define MW_SETTLING_NS	5000000000ULL	/* a server that was there before the agent is rebuilt in milliseconds */
#define MW_TURN_NS	30000000ULL	/* threads that run by turns each ran so long ago */
#define MW_MODELS	4
#define MW_DETAIL	64
#define MW_ASKED	208
#define MW_NAME		64	/* of a program, module or file in the lists; padded with zeros */
#define MW_EXTENSION	16
#define MW_STEM		32	/* of a name: what stands before digits and extension, padded with zeros */

enum mw_hop { MW_HOP_SEEN, MW_HOP_MISSED, MW_HOP_MERGED, MW_HOP_DROPPED, MW_HOP_MAX };

/* Where a name of the list of servers may stand. */
#define MW_AS_PROGRAM	(1u << 0)	/* base name of the program */
#define MW_AS_SCRIPT	(1u << 1)	/* base name of a script that Python runs */
#define MW_AS_MODULE	(1u << 2)	/* python -m */
#define MW_AS_EXCLUDED	(1u << 3)	/* program that never becomes tracked by reading an artifact */
#define MW_AS_WORKER	(1u << 4)	/* script or module that a server starts for its own work: it starts as one, but is none by itself */

/* Of a transition: a probe's function, what was declared; ended by NUL. */
struct mw_detail {
	char text[MW_DETAIL];
};

/* What else must hold for an extension to make an artifact. */
#define MW_EXT_MODEL_BIN	(1u << 0)	/* only pytorch_model*, model* and the like */
#define MW_EXT_NOT_SITE		(1u << 1)	/* not in site-packages: .pth files of Python itself */

enum mw_adoption { MW_FIND_HOLDERS, MW_FIND_MODELS };

struct mw_config {
	u64 wall_offset_ns;	/* wall clock minus boot clock */
	u64 quiet_ns;
	u32 adoption;		/* enum mw_adoption: what the iterators look for */
	u32 settled;		/* groups made so far whose descendants have all been looked for */
};

/* Models of a process or a group: the last load of each artifact. Those beyond the room are only counted. */
struct mw_models {
	u64 instance[MW_MODELS];	/* 0: free */
	u64 inode[MW_MODELS];
	u32 device[MW_MODELS];
	u32 owner[MW_MODELS];	/* process that loaded it */
	u32 looks[MW_MODELS];	/* at which a process mapped it, after its load */
	u32 found[MW_MODELS];	/* mapped, at the look that goes on */
	u32 count;
};

struct mw_task {
	u64 group;		/* 0: not tracked */
	u64 scope_instance;	/* 0: in no scope */
	u32 group_slot;
	u32 scope_slot;
	u64 origin_instance;
	u64 origin_time_ns;
	u8 origin_scope;
	u8 origin_via;
	u8 excluded;		/* the agent itself and what it starts */
	u8 server;		/* the program matched the list of servers */
	u8 adopted;		/* was there before the agent: 1 to be told of, 2 told */
	u8 other_program;	/* runs another program than the process whose load it is in */
	u8 pad[2];
	/* Of the process: valid in the thread group leader's entry. */
	u32 stopping;
	u32 ended;		/* its exit was told */
	u32 owner;		/* tid of the task that it was counted for: a copy of another's is not counted yet */
	u32 phase;		/* the process' own; unknown: that of the group */
	u32 evidence;
	u32 listens;		/* has a listening socket, or answered on what one accepted */
	u32 answers_inside;	/* its last answer went to a process of its own group */
	u32 scopes_begun;
	u32 inherited;		/* its models were loaded by the process that forked it */
	u32 devices_told;
	u64 ready_ns;		/* when its last load was over, as far as it knows itself */
	u64 answered_ns;	/* its last answer that was looked at */
	u64 loads[MW_MODELS];	/* its last ones: instances, and slots of their scopes */
	u32 load_slots[MW_MODELS];
	struct mw_models models;
	/* File that this thread opened last, if it could be a model. */
	u64 candidate_inode;
	u32 candidate_device;
	u32 pad2;
	/* Name given to the open that this thread is in, taken before the kernel reads it. */
	u32 asked_length;
	u32 asked_flags;
	u64 asked_pointer;
	char asked[MW_ASKED];
};

struct mw_group {
	u64 id;
	u64 root_start_ns;
	u64 answered_ns;	/* last answer that was looked at */
	u64 made_ns;
	u64 active_ns;		/* last exec of a server, or begin of a load */
	u64 ended_ns;		/* last end of a load that was no answer */
	struct mw_models models;
	u32 root_tgid;
	u32 tasks;
	u32 phase;
	u32 evidence;
	u32 loaded;		/* loads that are over, and well */
	u32 open_scopes;
	u32 live_scopes;	/* open and tail */
	u32 overflow;
	u32 listening;		/* a process of it listens, or did */
	u32 artifacts;		/* remembered by inode */
	u32 settling;		/* it was there before the agent, and what is known of it is being rebuilt */
	u32 pending;		/* something changed since the last answer: the next one is looked at */
};

struct mw_scope_slot {
	u64 instance;		/* 0: free */
	u64 group;
	u64 last_io_ns;
	u32 state;		/* enum mw_scope */
	u32 group_slot;
	u32 tgid;
	u32 files;
	u32 evidence;
	u32 tid;		/* that opened it */
	u32 listens;		/* its process does */
	u32 depth;		/* calls of a framework that have not returned */
	u32 declared;		/* the process said so */
	u32 probed;		/* a framework's call opened it, and its return closes it */
	u64 thread;		/* address of the task that opened it */
	u64 answered_ns;	/* first answer that found the load going on in its tail */
	u64 checked_ns;
	u64 counted_ns;
	u64 faults;		/* page faults of that task, when they were counted last */
	u64 touching;		/* they came at the pace of a load */
	u64 inode[MW_SCOPE_FILES];
	u64 folder[MW_SCOPE_FILES];	/* inode of the folder that each is in */
	u32 device[MW_SCOPE_FILES];
	char stem[MW_STEM];	/* of the first artifact's name */
	struct mw_small record;	/* the record that told of its opening: later ones of this scope are made from it */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mw_task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MW_GROUPS);
	__type(key, u32);
	__type(value, struct mw_group);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MW_SCOPES);
	__type(key, u32);
	__type(value, struct mw_scope_slot);
} scopes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct mw_config);
} config SEC(".maps");

/* Lists. Names padded with zeros; values are MW_AS_* and MW_EXT_*. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, char[MW_NAME]);
	__type(value, u32);
} programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, char[MW_EXTENSION]);
	__type(value, u32);
} extensions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, char[MW_NAME]);
	__type(value, u32);
} credentials SEC(".maps");

#define MW_WANT_EXCLUDED	(1u << 0)
#define MW_WANT_SERVER		(1u << 1)
#define MW_WANT_CANARY		(1u << 2)	/* tracked even though it descends from the agent */
#define MW_WANT_TEST	(1u << 3)	/* the program that a child of this process starts is the test of the alarm */

/* Processes that user space wants adopted or excluded; read by the task iterator, and at an exec. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} wanted SEC(".maps");

struct mw_held {
	u64 inode;
	u32 device;
	u32 tgid;		/* 0: a listening port, in `inode` */
};

/* Adoption: artifacts that a process holds, and ports that are listened on, as far as already found. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct mw_held);
	__type(value, u32);
} held SEC(".maps");

/* The load that a process opened an artifact in: of a model in several files its list of models has the first one alone. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mw_held);
	__type(value, u64);
} loaded_files SEC(".maps");

/* Processes whose models may be mapped: by tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u32);
} residents SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, u32);
} listeners SEC(".maps");	/* tag of a listening socket, inherited by what it accepts */

struct mw_totals {
	u32 group_mark;		/* no slot of a group at or above this one was ever used */
	u32 scope_mark;		/* the same of scopes */
	u32 groups_made;
	u32 instance_count;
	u32 adopted;
};
struct mw_totals totals;	/* .bss */
volatile u32 zero_start;	/* in .bss, so that the verifier does not know it: loops that start from it converge */

static __always_inline u32 wish_for(u32 tgid)
{
	u32 *wish = bpf_map_lookup_elem(&wanted, &tgid);

	return wish ? *wish : 0;
}

static __always_inline struct mw_group *group_at(u32 slot, u64 id)
{
	struct mw_group *group = bpf_map_lookup_elem(&groups, &slot);

	return group && id && group->id == id ? group : NULL;
}

static __always_inline struct mw_scope_slot *scope_at(u32 slot, u64 instance)
{
	struct mw_scope_slot *scope = bpf_map_lookup_elem(&scopes, &slot);

	return scope && instance && scope->instance == instance ? scope : NULL;
}

/* Two programs may make the entry of one task at the same time, on_newtask and an iterator: true for one of them alone. */
static __always_inline bool first_to_count(struct mw_task *t, struct task_struct *task)
{
	return __sync_lock_test_and_set(&t->owner, (u32)task->pid) != (u32)task->pid;
}

/* Has so much time passed since? Not if it is yet to come: another CPU may have written it since `now` was read. */
static __always_inline bool passed(u64 now, u64 then, u64 ns)
{
	return now > then && now - then > ns;
}

static __always_inline u64 quiet_ns(void)
{
	u32 zero = 0;
	struct mw_config *c = bpf_map_lookup_elem(&config, &zero);

	return c && c->quiet_ns ? c->quiet_ns : 100000000ULL;
}

/* For searches, which go as far as the mark. NULL: the slot holds no load that goes on. */
static __always_inline struct mw_scope_slot *live_scope(u32 slot)
{
	struct mw_scope_slot *scope = bpf_map_lookup_elem(&scopes, &slot);

	return scope && scope->instance && scope->instance != ~0ULL && scope->state != MW_SCOPE_NONE ? scope : NULL;
}

static __always_inline void raise_mark(u32 *mark, u32 to)
{
	for (u32 i = 0; i < 8; i++) {
		u32 old = *mark;

		if (to <= old || __sync_val_compare_and_swap(mark, old, to) == old)
			return;
	}
}

/* A scope that has seen no artifact I/O for a while is a tail even before the sweep has written so. */
static __always_inline u32 scope_state(struct mw_scope_slot *scope, u64 now)
{
	if (scope->state != MW_SCOPE_OPEN)
		return scope->state;
	return passed(now, scope->last_io_ns, quiet_ns()) ? MW_SCOPE_TAIL : MW_SCOPE_OPEN;
}

#endif
