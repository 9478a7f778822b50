/* Connects. */
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
	struct mw_task *t = state_of(task), *l;
	struct mw_scratch *s;
	u32 *address;

	if (!t || t->excluded)
		return 1;
	l = process_of(task, t);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_NET_CONNECT);
		return 1;
	}
	if (fill(&s->h, task, t, l, MW_NET_CONNECT)) {
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
static __always_inline int connected(struct task_struct *task, struct mw_task *t, struct mw_sockaddr *a, u32 type, u32 outcome)
{
	struct mw_task *l = process_of(task, t);
	struct mw_scratch *s = claim();

	if (!s) {
		count(MW_HOP_MISSED, MW_NET_CONNECT);
		return 0;
	}
	if (fill(&s->h, task, t, l, MW_NET_CONNECT)) {
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
