/* From a filled scratch to a ring or the table of repeats, and the counters that account for every effect:
 * seen = sum of counts in records + dropped at a full ring + still in the table.
 */
#ifndef MODELWARD_EMIT_H
#define MODELWARD_EMIT_H

#include "text.h"

#define RING(name) struct { \
	__uint(type, BPF_MAP_TYPE_RINGBUF); \
	__uint(max_entries, 1 << 20);	/* set by user space before the load */ \
} name SEC(".maps")

RING(ring_control);
RING(ring_control_large);
RING(ring_events);
RING(ring_events_large);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MW_RING_MAX);
	__type(key, u32);
	__type(value, u64);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MW_HOP_MAX * MW_KIND_MAX);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

struct mw_repeat {
	u64 repeats;		/* beyond the first, which went out as a record */
	u64 last_ns;
	struct mw_small record;
};

struct mw_generation {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct mw_repeat_key);
	__type(value, struct mw_repeat);
} generation_a SEC(".maps"), generation_b SEC(".maps");

/* User space swaps the inner map; the update waits for the programs that still write the old one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct mw_generation);
} generations SEC(".maps") = { .values = { &generation_a } };

static __always_inline void count(enum mw_hop hop, u32 kind)
{
	u32 index = hop * MW_KIND_MAX + kind;
	u64 *n = bpf_map_lookup_elem(&counters, &index);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline u64 next_number(u32 ring)
{
	u64 *n = bpf_map_lookup_elem(&numbers, &ring);

	return n ? __sync_fetch_and_add(n, 1) + 1 : 0;
}

/* Flag of a record whose group is settling: it would name no model. Control records go out all the same. */
#define MW_UNSETTLED	(1u << 31)

APART int emit(struct mw_scratch *s, u32 control)
{
	struct mw_header *h;
	u32 large, kind;
	long err;

	if (!s)
		return 0;
	h = &s->h;
	if (h->flags & MW_UNSETTLED && !control)
		return 0;
	h->flags &= ~MW_UNSETTLED;
	large = s->used > MW_SMALL_SIZE - MW_HEADER_SIZE;
	kind = h->kind < MW_KIND_MAX ? h->kind : 0;
	h->ring = (control ? MW_RING_CONTROL : MW_RING_EVENTS) + (large ? 1 : 0);
	h->cpu = bpf_get_smp_processor_id();
	h->count = 1;
	h->number = next_number(h->ring);
	count(MW_HOP_SEEN, kind);
	if (control && large)
		err = bpf_ringbuf_output(&ring_control_large, h, MW_LARGE_SIZE, BPF_RB_NO_WAKEUP);
	else if (control)
		err = bpf_ringbuf_output(&ring_control, h, MW_SMALL_SIZE, BPF_RB_NO_WAKEUP);
	else if (large)
		err = bpf_ringbuf_output(&ring_events_large, h, MW_LARGE_SIZE, BPF_RB_NO_WAKEUP);
	else
		err = bpf_ringbuf_output(&ring_events, h, MW_SMALL_SIZE, BPF_RB_NO_WAKEUP);
	if (err)
		count(MW_HOP_DROPPED, kind);
	return 0;
}

static __always_inline void repeat_key(struct mw_repeat_key *key, const struct mw_header *h)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->start_ns = h->start_ns;
	key->instance = h->instance;
	key->origin_instance = h->origin_instance;
	key->tgid = h->tgid;
	key->kind = h->kind;
	key->phase = h->phase;
	key->scope = h->scope;
	key->evidence = h->evidence;
	key->outcome = h->outcome;
	key->origin_scope = h->origin_scope;
	key->origin_via = h->origin_via;
	key->uid = h->uid;
	key->flags = h->flags;
}

/* Is this effect equal to one of this generation that went out? Then it is only counted. */
static __always_inline bool repeated(const struct mw_repeat_key *key, const struct mw_header *h)
{
	u32 zero = 0;
	void *generation = bpf_map_lookup_elem(&generations, &zero);
	struct mw_repeat *r = generation ? bpf_map_lookup_elem(generation, key) : NULL;

	if (h->flags & MW_UNSETTLED)
		return true;
	if (!r)
		return false;
	__sync_fetch_and_add(&r->repeats, 1);
	r->last_ns = h->time_ns;
	count(MW_HOP_SEEN, h->kind < MW_KIND_MAX ? h->kind : 0);
	count(MW_HOP_MERGED, h->kind < MW_KIND_MAX ? h->kind : 0);
	return true;
}

/* Later equal effects are to be counted. A full table refuses: then they go out one by one. */
static __always_inline void remember(const struct mw_repeat_key *key, struct mw_scratch *s)
{
	u32 zero = 0;
	void *generation;

	if (s->used > MW_SMALL_SIZE - MW_HEADER_SIZE)
		return;
	generation = bpf_map_lookup_elem(&generations, &zero);
	if (!generation)
		return;
	s->repeats = 0;
	s->last_ns = s->h.time_ns;
	bpf_map_update_elem(generation, key, &s->repeats, BPF_NOEXIST);
}

#endif
