/* The kernel side: one object, so that all programs share its maps. A file per topic holds bodies and their doors. */
#ifndef MW_PLAIN
#define MW_CASTS
#endif
#include "process.bpf.h"
#include "file.bpf.h"
#include "uring.bpf.h"
#include "connect.bpf.h"
#include "net.bpf.h"
#include "lifecycle.bpf.h"
#include "loads.bpf.h"
#include "late.bpf.h"
#include "adopt.bpf.h"
#include "declare.bpf.h"
#include "probes.bpf.h"

/* Types that no map or program names, kept in the BTF for user space. */
struct mw_exported {
	struct mw_large large;
	enum mw_kind kind;
	enum mw_phase phase;
	enum mw_scope scope;
	enum mw_evidence evidence;
	enum mw_via via;
	enum mw_outcome outcome;
	enum mw_trigger trigger;
	enum mw_ring ring;
	enum mw_segment segment;
	enum mw_hop hop;
};
const struct mw_exported *exported __attribute__((unused));

char LICENSE[] SEC("license") = "GPL";
