/* What is a model's file: by its name, by its inode, by the first bytes that are read of it, by the folder that it is in. */
#ifndef MODELWARD_ARTIFACTS_H
#define MODELWARD_ARTIFACTS_H

#include "tracking.h"

#define MW_GROUP_ARTIFACTS	2048	/* that one group may have remembered by inode */
#define MW_LARGE_COMPANION	(1 << 20)

struct mw_inode {
	u64 inode;
	u32 device;
	u32 group;		/* low half of the id of the only group that it counts for; 0: for all, as user space says */
};

struct mw_known {
	u32 generation;		/* of the inode: its number may be another file's tomorrow */
	u32 has_generation;	/* 0: user space named it, which has none */
};

/* Inodes that a group opened as artifacts, and those that user space knows of: shards, external data, siblings. A hard link, a new
 * name, a blob without extension and a descriptor opened anew are found by it. What one workload calls a model is none to others,
 * or a link to any file would begin loads wherever that file is opened.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mw_inode);
	__type(value, struct mw_known);
} artifacts SEC(".maps");

static __noinline struct mw_known *known_as(struct mw_task *t, struct inode *inode)
{
	struct mw_inode key = { .inode = BPF_CORE_READ(inode, i_ino), .device = BPF_CORE_READ(inode, i_sb, s_dev) };
	struct mw_known *known;

	key.group = (u32)t->group;
	known = bpf_map_lookup_elem(&artifacts, &key);
	if (!known) {
		key.group = 0;
		known = bpf_map_lookup_elem(&artifacts, &key);
	}
	if (!known || !known->has_generation || known->generation == BPF_CORE_READ(inode, i_generation))
		return known;
	bpf_map_delete_elem(&artifacts, &key);
	return NULL;
}

/* Remember an artifact by its inode; a group over its quota has it known by name alone, which is counted. */
static __noinline int know_artifact(struct mw_task *t, struct inode *inode)
{
	struct mw_inode key = { .inode = BPF_CORE_READ(inode, i_ino), .device = BPF_CORE_READ(inode, i_sb, s_dev) };
	struct mw_known known = { .generation = BPF_CORE_READ(inode, i_generation), .has_generation = 1 }, *before;
	struct mw_group *g = group_at(t->group_slot, t->group);

	key.group = (u32)t->group;
	before = bpf_map_lookup_elem(&artifacts, &key);
	if (before)
		*before = known;	/* it may be another file by now */
	if (!g || before)
		return 0;
	if (g->artifacts >= MW_GROUP_ARTIFACTS) {
		count(MW_HOP_MISSED, MW_LIFECYCLE);
		return 0;
	}
	__sync_fetch_and_add(&g->artifacts, 1);
	bpf_map_update_elem(&artifacts, &key, &known, BPF_ANY);
	return 0;
}

#define MW_DIGEST	63	/* hexadecimal digits that are looked at, of the 64 of a sha256 */

/* Is a file named by its digest? So are the blobs of Ollama (sha256-...) and of caches of Hugging Face. */
APART u32 names_content(struct mw_name *name)
{
	u32 digits = 0;

	if (!name)
		return 0;
	for (u32 i = 0; i < MW_DIGEST; i++) {
		s32 c = name->text[i];
		/* without a branch, as in extension_of(): negative unless it is a digit, or a small letter up to f */
		s32 digit = (c - '0') | ('9' - c), letter = (c - 'a') | ('f' - c);

		digits += (~(digit & letter)) >> 31 & 1;
	}
	return digits == MW_DIGEST;
}

#define MW_YOUNG_NS		120000000000ULL
#define MW_YOUNG_SERVER_NS	10000000000ULL

/* A group starts or loads, or has just done so. */
static __always_inline bool is_young(struct mw_group *g, u64 now)
{
	return now - g->active_ns <= (g->phase < MW_PHASE_SERVE ? MW_YOUNG_NS : MW_YOUNG_SERVER_NS);
}

/* Could a file be a model although the extension of its name does not say so? Then the first read of it is looked at: whatever it
 * is called while its group is young; later only if it is a blob of a store of models, for a server reads much that begins like a
 * pickle.
 */
static __noinline int remember_candidate(struct mw_task *t, struct inode *inode, struct mw_name *name, u64 now)
{
	struct mw_group *g = group_at(t->group_slot, t->group);

	t->candidate_inode = 0;
	if (!g || BPF_CORE_READ(inode, i_size) < 16)
		return 0;
	if (!is_young(g, now) && !names_content(name))
		return 0;
	t->candidate_device = BPF_CORE_READ(inode, i_sb, s_dev);
	t->candidate_inode = BPF_CORE_READ(inode, i_ino);
	return 0;
}

/* A file beside an artifact of the scope, or in a folder beside it: tokenizer, index, variables. Opening it is part of the load. */
static __noinline int companion_opened(struct mw_scope_slot *scope, struct dentry *dentry, u64 inode, u32 device, u64 now)
{
	u64 folder = BPF_CORE_READ(dentry, d_parent, d_inode, i_ino), above = BPF_CORE_READ(dentry, d_parent, d_parent, d_inode, i_ino);

	for (u32 i = 0; i < MW_SCOPE_FILES; i++) {
		if (!scope->inode[i] || scope->device[i] != device || (scope->folder[i] != folder && scope->folder[i] != above))
			continue;
		scope->last_io_ns = now;
		reopen(scope);
		if (BPF_CORE_READ(dentry, d_inode, i_size) >= MW_LARGE_COMPANION)
			note_artifact(scope, inode, device, folder);
		return 1;
	}
	return 0;
}

struct mw_first {
	u64 size;		/* of the file */
	u32 length;		/* bytes of it that follow */
	u8 text[16];
};

/* Do the first bytes of a file say that it is a model? Strict: a wrong yes opens a load. ZIP is too common to tell. */
static __noinline bool is_model(struct mw_first *f)
{
	u8 *b = f->text;
	u64 header;

	if (b[0] == 'G' && b[1] == 'G' && b[2] == 'U' && b[3] == 'F')
		return true;
	if ((b[0] == 'l' && b[1] == 'm' && b[2] == 'g' && b[3] == 'g') || (b[0] == 't' && b[1] == 'j' && b[2] == 'g' && b[3] == 'g'))
		return true;	/* ggml, ggjt */
	if (f->length < 8)
		return false;
	if (b[0] == 0x89 && b[1] == 'H' && b[2] == 'D' && b[3] == 'F' && b[4] == '\r' && b[5] == '\n')
		return true;
	if (b[4] == 'T' && b[5] == 'F' && b[6] == 'L' && b[7] == '3')
		return true;
	if (f->length < 16)
		return false;
	/* pickle: protocol, then a frame, or what a dumped object begins with */
	if (b[0] == 0x80 && (b[1] == 4 || b[1] == 5) && b[2] == 0x95 && !b[8] && !b[9] && !b[10])
		return b[11] == 0x8c || b[11] == '}' || b[11] == ']' || b[11] == '(';
	if (b[0] == 0x80 && (b[1] == 2 || b[1] == 3))
		return b[2] == 'c' || b[2] == '}' || b[2] == ']' || (b[2] == '(' && b[3] != 'K');
	/* ONNX: IR version, then the producer's name */
	if (b[0] == 8 && b[1] > 0 && b[1] < 20 && b[2] == 0x12 && b[3] > 0 && b[3] < 64 && b[4] >= 'A' && b[4] <= 'z')
		return true;
	/* safetensors: length of the header, which is JSON */
	header = b[0] | (u64)b[1] << 8 | (u64)b[2] << 16 | (u64)b[3] << 24;
	return header >= 2 && header < 100000000 && header + 8 <= f->size && !b[4] && !b[5] && !b[6] && !b[7] && b[8] == '{' &&
	       (b[9] == '"' || b[9] == ' ' || b[9] == '}');
}

#endif
