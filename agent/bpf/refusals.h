/* What is sent on an accepted socket, and is no answer: an HTTP refusal, frames that keep a connection, and what goes to a process
 * of the same group. It is looked at only while that could change something. What cannot be read or told counts as an answer.
 */
#ifndef MODELWARD_REFUSALS_H
#define MODELWARD_REFUSALS_H

#include "answers.h"

#define MW_HEAD		64

/* Of an accepted socket, in sk_storage. */
#define MW_REFUSING	(1u << 0)	/* the rest of a refusal follows */
#define MW_FRAMES	(1u << 1)	/* HTTP/2 */

#define NR_WRITE	1
#define NR_WRITEV	20
#define NR_SENDTO	44
#define NR_SENDMSG	46

struct mw_head {
	u32 length;
	u8 text[MW_HEAD + 16];
};

struct mw_vector {
	u64 base;
	u64 length;
};

/* The first bytes of what the current system call sent. */
static __noinline int fetch_head(struct mw_head *head, struct task_struct *task, u32 sent)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct mw_vector vector = {};
	u64 call, from, vectors = 0;
	u32 length = sent;

	head->length = 0;
	if (!regs)
		return 0;
	call = regs->orig_ax;
	from = regs->si;
	if (call == NR_WRITEV)
		vectors = from;
	else if (call == NR_SENDMSG)
		bpf_probe_read_user(&vectors, sizeof(vectors), (void *)from + 16);	/* msg_iov */
	else if (call != NR_WRITE && call != NR_SENDTO)
		return 0;
	if (vectors) {
		bpf_probe_read_user(&vector, sizeof(vector), (void *)vectors);
		from = vector.base;
		if (vector.length < length)
			length = vector.length;
	} else if (regs->dx < length) {
		length = regs->dx;	/* what is sent now may have waited since another call */
	}
	if (length > MW_HEAD)
		length = MW_HEAD;
	barrier_var(length);
	if (!length || length > MW_HEAD || bpf_probe_read_user(head->text, length, (void *)from))
		return 0;
	head->length = length;
	return 0;
}

/* Are these HTTP/2 frames, and none of them of a response? SETTINGS, PING, WINDOW_UPDATE and the like keep a connection. */
static __noinline u32 only_keeps(struct mw_head *head, u32 sent)
{
	u32 at = zero_start, type;

	for (u32 i = 0; i < 5; i++) {
		if (at + 9 > head->length || at >= MW_HEAD)
			return at >= sent;
		type = head->text[(at + 3) & 63];
		if (type < 2 || type == 5 || type > 9)
			return 0;
		at += 9 + (head->text[at & 63] << 16 | head->text[(at + 1) & 63] << 8 | head->text[(at + 2) & 63]);
	}
	return 0;
}

static __noinline u32 is_answer(struct mw_head *head, u32 *state, u32 sent)
{
	u8 *text = head->text;

	if (head->length >= 12 && text[0] == 'H' && text[1] == 'T' && text[2] == 'T' && text[3] == 'P' && text[4] == '/' &&
	    text[5] == '1' && text[8] == ' ') {
		if (text[9] == '1')
			return 0;	/* 100 Continue */
		if (text[9] == '4' || text[9] == '5') {
			*state |= MW_REFUSING;
			return 0;
		}
		*state &= ~MW_REFUSING;
		return 1;
	}
	if (*state & MW_REFUSING)
		return 0;
	/* A server's first frame is SETTINGS on stream 0. */
	if (head->length >= 9 && !text[0] && !text[1] && text[3] == 4 && text[4] < 2 && !text[5] && !text[6] && !text[7] && !text[8])
		*state |= MW_FRAMES;
	return !(*state & MW_FRAMES && only_keeps(head, sent));
}

struct mw_endpoint {
	u32 address[4];
	u32 network;		/* namespace */
	u16 port;
	u16 server_port;
};

/* Connections that tracked processes made: what a server sends on one of its own group is no answer. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct mw_endpoint);
	__type(value, u64);
} own_clients SEC(".maps");

struct mw_client {
	u64 group;		/* of whoever connects the socket */
	struct mw_endpoint end;	/* as it was when it was connected: when it closes, its port is gone */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mw_client);
} clients SEC(".maps");

/* The client's end of a connection, seen from the client's socket or from the accepted one. */
static __noinline int client_end(struct mw_endpoint *e, struct sock *sk, u32 accepted)
{
	struct in6_addr six = {};

	__builtin_memset(e, 0, sizeof(*e));
	e->network = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	e->port = accepted ? bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) : BPF_CORE_READ(sk, __sk_common.skc_num);
	e->server_port = accepted ? BPF_CORE_READ(sk, __sk_common.skc_num) : bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		if (accepted)
			BPF_CORE_READ_INTO(&six, sk, __sk_common.skc_v6_daddr);
		else
			BPF_CORE_READ_INTO(&six, sk, __sk_common.skc_v6_rcv_saddr);
		__builtin_memcpy(e->address, &six, sizeof(e->address));
		/* IPv4 mapped into IPv6 */
		if (!e->address[0] && !e->address[1] && e->address[2] == bpf_htonl(0xffff)) {
			e->address[0] = e->address[3];
			e->address[2] = 0;
			e->address[3] = 0;
		}
		return 0;
	}
	e->address[0] = accepted ? BPF_CORE_READ(sk, __sk_common.skc_daddr) : BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	return 0;
}

#ifdef MW_CASTS
static __noinline bool of_group(u32 pid, u64 group)
{
	struct task_struct *task = bpf_task_from_pid(pid);
	struct mw_task *t;
	bool same;

	if (!task)
		return false;
	t = bpf_task_storage_get(&tasks, task, 0, 0);
	same = t && t->group == group;
	bpf_task_release(task);
	return same;
}
#else
/* No program can have a task by its number before Linux 6.2. */
static __noinline bool of_group(u32 pid, u64 group)
{
	return pid == bpf_get_current_pid_tgid() >> 32;
}
#endif

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
} RELOCATED;

/* Only a listening unix socket has a name; what it accepts shares it, and the client has none. */
static __always_inline bool accepted_by_name(struct sock *sk)
{
	struct unix_sock *u = (void *)sk, *peer = (void *)BPF_CORE_READ(u, peer);

	return BPF_CORE_READ(u, addr) && peer && !BPF_CORE_READ(peer, addr);
}

#endif
