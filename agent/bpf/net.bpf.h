/* Connects, listening sockets, and answers: what is sent on a socket that a listening one accepted. */
#include "refusals.h"

static __always_inline void fill_net(struct mw_header *h, u32 family, u32 type, u32 protocol, u16 port)
{
	h->net.family = family;
	h->net.port = port;
	h->net.transport = protocol == IPPROTO_TCP || (!protocol && type == SOCK_STREAM) ? 1 :
			   protocol == IPPROTO_UDP || (!protocol && type == SOCK_DGRAM) ? 2 : 4;
}

static __always_inline void emit_net(struct mw_scratch *s)
{
	struct mw_repeat_key key;

	repeat_key(&key, &s->h);
	__builtin_memcpy(key.object, s->h.net.address, 16);
	key.object[2] = (u64)s->h.net.family << 32 | s->h.net.port;
	key.object[3] = s->h.net.transport;
	if (repeated(&key, &s->h))
		return;
	remember(&key, s);
	emit(s, 0);
}

/* The address as the kernel copied it, before the attempt: no race, and no toll on other system calls. */
static __always_inline int connecting(struct bpf_sock_addr *ctx, u32 family)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = state_of(task);
	struct mw_scratch *s;
	u32 *address;

	if (!t || t->excluded)
		return 1;
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_NET_CONNECT);
		return 1;
	}
	if (fill(&s->h, task, t, MW_NET_CONNECT)) {
		address = (u32 *)s->h.net.address;
		if (family == AF_INET) {
			address[0] = ctx->user_ip4;
		} else {
			address[0] = ctx->user_ip6[0];
			address[1] = ctx->user_ip6[1];
			address[2] = ctx->user_ip6[2];
			address[3] = ctx->user_ip6[3];
		}
		fill_net(&s->h, family, ctx->type, ctx->protocol, bpf_ntohs(ctx->user_port));
		s->h.outcome = MW_ATTEMPTED;
		emit_net(s);
	}
	release(s);
	return 1;
}

DOOR("cgroup/connect4", connect4, 1)

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return connecting(ctx, AF_INET);
}

DOOR("cgroup/connect6", connect6, 1)

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return connecting(ctx, AF_INET6);
}

struct mw_sockaddr {
	u16 family;
	u16 port;
	union {
		u32 ip4;
		struct {
			u32 flow;
			u32 ip6[4];
		};
	};
};

/* A connect to an address that was read already. */
static __noinline int connected(struct task_struct *task, struct mw_task *t, struct mw_sockaddr *a, u32 type, u32 outcome)
{
	struct mw_scratch *s = claim();

	if (!s) {
		count(MW_HOP_MISSED, MW_NET_CONNECT);
		return 0;
	}
	if (fill(&s->h, task, t, MW_NET_CONNECT)) {
		if (a->family == AF_INET)
			__builtin_memcpy(s->h.net.address, &a->ip4, 4);
		else
			__builtin_memcpy(s->h.net.address, a->ip6, 16);
		fill_net(&s->h, a->family, type, 0, bpf_ntohs(a->port));
		s->h.outcome = outcome;
		emit_net(s);
	}
	release(s);
	return 0;
}

/* security_socket_connect(): the address as the kernel copied it, io_uring's too. For kernels whose cgroup programs cannot have a
 * task's state, as 6.1's.
 */
static __always_inline int connecting_by(struct socket *socket, void *address, int length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mw_task *t = state_of(task);
	struct mw_sockaddr a = {};

	if (!t || t->excluded || length < 8)
		return 0;
	bpf_probe_read_kernel(&a, 8, address);
	if (a.family == AF_INET6 && length >= sizeof(a))
		bpf_probe_read_kernel(&a, sizeof(a), address);
	else if (a.family != AF_INET)
		return 0;
	return connected(task, t, &a, socket->type, MW_ATTEMPTED);
}

DOOR("lsm/socket_connect", on_socket_connect, 0)

SEC("lsm/socket_connect")
int BPF_PROG(on_socket_connect, struct socket *socket, void *address, int length)
{
	connecting_by(socket, address, length);
	return 0;
}

DOOR("fentry/security_socket_connect", on_connecting, 0)

SEC("fentry/security_socket_connect")
int BPF_PROG(on_connecting, struct socket *socket, void *address, int length)
{
	return connecting_by(socket, address, length);
}

/* The last door of connect: the address is read from user memory after the call. */
DOOR("tracepoint", exit_connect, 0)

SEC("tracepoint")
int exit_connect(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct mw_task *t = state_of(task);
	struct mw_sockaddr a = {};
	struct socket *socket;
	struct file *file;
	long ret = ctx->ret;

	if (!t || t->excluded || !regs)
		return 0;
	bpf_probe_read_user(&a, 8, (void *)regs->si);
	if (a.family == AF_INET6)
		bpf_probe_read_user(&a, sizeof(a), (void *)regs->si);
	else if (a.family != AF_INET)
		return 0;
	file = file_at(task, regs->di);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return connected(task, t, &a, BPF_CORE_READ(socket, type),
			 ret == 0 ? MW_SUCCESS : ret == -EINPROGRESS ? MW_RESULT_UNKNOWN : MW_FAILURE);
}

/* Keeps account of the connections that tracked processes make. */
static __always_inline int connection_changed(struct sock *sk, int before, int after)
{
	struct mw_client *client;
	struct mw_task *t;

	if (after == TCP_SYN_SENT) {
		t = state_of(bpf_get_current_task_btf());
		if (!t || t->excluded)
			return 0;
		client = bpf_sk_storage_get(&clients, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (client)
			client->group = t->group;
		return 0;
	}
	if (after != TCP_CLOSE && (after != TCP_ESTABLISHED || before != TCP_SYN_SENT))
		return 0;
	client = bpf_sk_storage_get(&clients, sk, 0, 0);
	if (!client)
		return 0;
	if (after == TCP_ESTABLISHED) {
		client_end(&client->end, sk, 0);
		bpf_map_update_elem(&own_clients, &client->end, &client->group, BPF_ANY);
	} else if (client->end.port) {
		bpf_map_delete_elem(&own_clients, &client->end);
	}
	return 0;
}

struct mw_listening {
	u64 group;
	u32 tgid;
	u32 itself;	/* it answers for itself */
};

static long note_listener(u32 index, struct mw_listening *n)
{
	struct mw_scope_slot *scope = live_scope(index);

	if (scope && scope->group == n->group && scope->tgid == n->tgid)
		scope->listens = n->itself;
	return 0;
}

/* From now on its loads are over when it answers itself, not when its group does. */
static __noinline int now_listens(struct task_struct *task, struct mw_task *t)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_task *l = process_of(task, t);
	struct mw_listening n = { .tgid = task->tgid };

	if (!g || !l)
		return 0;
	g->listening = 1;
	l->listens = 1;
	n.group = g->id;
	n.itself = answers_itself(l);
	if (g->live_scopes)
		bpf_loop(totals.scope_mark, note_listener, &n, 0);
	return 0;
}

/* It answered a process of its own group: a proxy before it tells the client, and its loads are over when that has answered. */
static __noinline int answered_inside(struct task_struct *task, struct mw_task *t)
{
	struct mw_task *l = process_of(task, t);

	if (!l || l->answered_ns || l->answers_inside)
		return 0;
	l->answers_inside = 1;
	return now_listens(task, t);
}

/* Every listening socket of the host is tagged: its process may become tracked only later. */
DOOR("tp_btf/inet_sock_set_state", on_sock_state, 0)

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_sock_state, struct sock *sk, int before, int after)
{
	struct task_struct *task;
	struct mw_scratch *s;
	struct mw_task *t;

	if (after != TCP_LISTEN)
		return connection_changed(sk, before, after);
	bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	now_listens(task, t);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_NET_LISTEN);
		return 0;
	}
	if (fill(&s->h, task, t, MW_NET_LISTEN)) {
		if (sk->__sk_common.skc_family == AF_INET) {
			u32 address = sk->__sk_common.skc_rcv_saddr;

			__builtin_memcpy(s->h.net.address, &address, 4);
		} else {
			BPF_CORE_READ_INTO(&s->h.net.address, sk, __sk_common.skc_v6_rcv_saddr);
		}
		fill_net(&s->h, sk->__sk_common.skc_family, SOCK_STREAM, IPPROTO_TCP, sk->__sk_common.skc_num);
		emit(s, 0);
	}
	release(s);
	return 0;
}

/* Could an answer of the task change anything? */
static __always_inline bool matters(struct task_struct *task, struct mw_task *t)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_task *l = process_of(task, t);

	return g && l && (g->pending || g->live_scopes || l->stopping || (l->phase ? l->phase : g->phase) != MW_PHASE_SERVE);
}

static __noinline int sent_by(struct task_struct *task, struct mw_task *t, u32 *state, u32 length)
{
	struct mw_head head = {};

	fetch_head(&head, task, length);
	if (is_answer(&head, state, length))
		answered(task, t);
	return 0;
}

/* Something was sent on a socket of the network. */
static __always_inline int sent_far(struct sock *sk, int length)
{
	u32 *state = length > 0 ? bpf_sk_storage_get(&listeners, sk, 0, 0) : NULL;
	struct mw_endpoint client;
	struct task_struct *task;
	struct mw_task *t;
	u64 *group;

	if (!state)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded || !matters(task, t))
		return 0;
	client_end(&client, sk, 1);
	group = bpf_map_lookup_elem(&own_clients, &client);
	return group && *group == t->group ? answered_inside(task, t) : sent_by(task, t, state, length);
}

/* Something was sent on a unix socket. */
static __always_inline int sent_near(struct sock *sk, int length)
{
	struct task_struct *task;
	struct mw_task *t;
	u32 *state;

	if (length <= 0)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded || !matters(task, t) || !accepted_by_name(sk))
		return 0;
	if (of_group(BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr), t->group))
		return answered_inside(task, t);
	state = bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return state ? sent_by(task, t, state, length) : 0;
}

/* net/socket.c: after each send on any socket, since 6.3. */
DOOR("tp_btf/sock_send_length", on_send, 0)

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_send, struct sock *sk, int length, int flags)
{
	return sk->__sk_common.skc_family == AF_UNIX ? sent_near(sk, length) : sent_far(sk, length);
}

/* net/ipv4/tcp.c and net/unix/af_unix.c */
DOOR("fexit/tcp_sendmsg", on_tcp_sendmsg, 0)

SEC("fexit/tcp_sendmsg")
int BPF_PROG(on_tcp_sendmsg, struct sock *sk, void *message, unsigned long size, int length)
{
	return sent_far(sk, length);
}

DOOR("fexit/unix_stream_sendmsg", on_unix_sendmsg, 0)

SEC("fexit/unix_stream_sendmsg")
int BPF_PROG(on_unix_sendmsg, struct socket *socket, void *message, unsigned long size, int length)
{
	return sent_near(socket->sk, length);
}

/* Bytes in a packet of TCP, beyond its headers. */
static __always_inline int payload_of(struct sk_buff *skb)
{
	u64 header = (u64)BPF_CORE_READ(skb, head) + skb->transport_header;
	u8 words = 0;	/* of the header, in the upper half */

	bpf_probe_read_kernel(&words, 1, (void *)header + 12);
	return skb->len - (u32)(header - (u64)BPF_CORE_READ(skb, data)) - (words >> 4) * 4;
}

/* net/core/dev.c: each packet that leaves, at its first device. As long as a system call owns the socket nobody else sends on it, so
 * the current task does. What leaves later, because the client acknowledged something, is no current task's.
 */
DOOR("tp_btf/net_dev_queue", on_packet, 0)

SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_packet, struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (!sk || skb->skb_iif || !bpf_sk_storage_get(&listeners, sk, 0, 0) || !sk->sk_lock.owned)
		return 0;
	return sent_far(sk, payload_of(skb));
}
