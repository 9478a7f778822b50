/* What is attached, and what user space keeps in the kernel between two agents. */
#ifndef MODELWARD_DOORS_H
#define MODELWARD_DOORS_H

#include "kernel.h"

/* A hook runs door_NAME, which jumps to the program NAME. An upgrade puts the new program into the door's one slot: of
 * each event exactly one of the two hears, and nothing is ever detached. (Tracing links cannot be updated; two programs
 * side by side that look at a word would now and then both hear, or neither.)
 */
#define DOOR(section, name, otherwise) \
struct { \
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
	__uint(max_entries, 1); \
	__uint(key_size, sizeof(u32)); \
	__uint(value_size, sizeof(u32)); \
} slot_##name SEC(".maps"); \
SEC(section) \
int door_##name(void *ctx) \
{ \
	bpf_tail_call(ctx, &slot_##name, 0); \
	return otherwise; \
}

#define MW_NOTE	16384

/* Text of user space's own: JSON, padded with zeros. Pinned files cannot hold any. */
struct mw_note {
	char text[MW_NOTE];
};

struct mw_notes {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct mw_note);
} about SEC(".maps"), progress SEC(".maps");	/* what these maps and programs are; how much of the rings is on disk */

#endif
