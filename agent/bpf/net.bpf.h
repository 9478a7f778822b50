/* Listening sockets, and answers: what is sent on a socket that a listening one accepted. */

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
static __noinline int now_listens(struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	struct mw_group *g = group_at(t->group_slot, t->group);
	struct mw_listening n = { .tgid = task->tgid };

	if (!g)
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
static __noinline int answered_inside(struct task_struct *task, struct mw_task *t, struct mw_task *l)
{
	if (l->answers_inside)
		return 0;
	l->answers_inside = 1;
	return now_listens(task, t, l);
}

/* Every listening socket of the host is tagged: its process may become tracked only later. */
DOOR("tp_btf/inet_sock_set_state", on_sock_state, 0)

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_sock_state, struct sock *sk, int before, int after)
{
	struct task_struct *task;
	struct mw_scratch *s;
	struct mw_task *t, *l;

	if (after != TCP_LISTEN)
		return connection_changed(sk, before, after);
	bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	l = process_of(task, t);
	now_listens(task, t, l);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_NET_LISTEN);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_NET_LISTEN)) {
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
static __always_inline bool matters(struct mw_task *t, struct mw_task *l)
{
	struct mw_group *g = group_at(t->group_slot, t->group);

	return g && (g->pending || g->live_scopes || l->stopping || (l->phase ? l->phase : g->phase) != MW_PHASE_SERVE);
}

static __noinline int sent_by(struct task_struct *task, struct mw_task *t, struct mw_task *l, u32 *state, u32 length)
{
	struct mw_head head = {};

	fetch_head(&head, task, length);
	if (is_answer(&head, state, length))
		answered(task, t, l);
	return 0;
}

/* Something was sent on a socket of the network. */
static __always_inline int sent_far(struct sock *sk, int length)
{
	u32 *state = length > 0 ? bpf_sk_storage_get(&listeners, sk, 0, 0) : NULL;
	struct mw_endpoint client;
	struct task_struct *task;
	struct mw_task *t, *l;
	u64 *group;

	if (!state)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	l = process_of(task, t);
	if (!matters(t, l))
		return 0;
	client_end(&client, sk, 1);
	group = bpf_map_lookup_elem(&own_clients, &client);
	return group && *group == t->group ? answered_inside(task, t, l) : sent_by(task, t, l, state, length);
}

/* Something was sent on a unix socket. */
static __always_inline int sent_near(struct sock *sk, int length)
{
	struct task_struct *task;
	struct mw_task *t, *l;
	u32 *state;

	if (length <= 0)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	l = process_of(task, t);
	if (!matters(t, l) || !accepted_by_name(sk))
		return 0;
	if (of_group(BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr), t->group))
		return answered_inside(task, t, l);
	state = bpf_sk_storage_get(&listeners, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return state ? sent_by(task, t, l, state, length) : 0;
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

/* Bytes in a packet of a TCP socket, beyond its headers. */
static __always_inline int payload_of(struct sk_buff *skb, struct sock *sk)
{
	u64 header = (u64)BPF_CORE_READ(skb, head) + skb->transport_header;
	u8 words = 0;	/* of the header, in the upper half */
	u16 port[2] = {};	/* of source and destination */

	bpf_probe_read_kernel(port, sizeof(port), (void *)header);
	/* In a tunnel it comes by again, with another header in that place; one of the two may have been translated. */
	if (bpf_ntohs(port[0]) != sk->__sk_common.skc_num && port[1] != sk->__sk_common.skc_dport)
		return 0;
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
	return sent_far(sk, payload_of(skb, sk));
}
