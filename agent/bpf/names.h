/* What the name of a file says: whether it is a model's, and what shards of one model have in common. */
#ifndef MODELWARD_NAMES_H
#define MODELWARD_NAMES_H

#include "state.h"

struct mw_name {
	char text[MW_NAME];	/* the end of a longer one */
	u32 length;
};

static __always_inline void name_of(struct mw_name *name, struct dentry *dentry)
{
	const unsigned char *from = READ(dentry, dentry, d_name.name);
	u32 length = READ(dentry, dentry, d_name.len);

	__builtin_memset(name, 0, sizeof(*name));
	if (length > MW_NAME - 1) {
		from += length - (MW_NAME - 1);
		length = MW_NAME - 1;
	}
	/* clang knows the bound and drops the mask; the verifier of 6.1 has lost it by then. */
	barrier_var(length);
	if (length && !bpf_probe_read_kernel(name->text, length & (MW_NAME - 1), from))
		name->length = length;
}

/* What a name has in common with those of other shards: what stands before the first digit or dot. */
static __noinline int stem_of(char *stem, const struct mw_name *name)
{
	__builtin_memset(stem, 0, MW_STEM);
	for (u32 i = 0; i < MW_STEM; i++) {
		char c = name->text[i];

		if (!c || c == '.' || (c >= '0' && c <= '9'))
			break;
		stem[i] = c;
	}
	return 0;
}

/* How the extension of a name is listed: ~0 when it is not. ASCII capitals count as small letters. */
APART u32 extension_of(struct mw_name *name)
{
	char key[MW_EXTENSION] = {};
	u32 length, dot = 0, *rule;

	if (!name)
		return ~0u;
	length = name->length;

	for (u32 i = 1; i < MW_EXTENSION && i < length; i++) {
		if (name->text[(length - i) & (MW_NAME - 1)] == '.') {
			dot = i;
			break;
		}
	}
	if (dot < 2)
		return ~0u;
	for (u32 i = 0; i < MW_EXTENSION - 1; i++) {
		s32 c, other;

		if (i + 1 >= dot)
			break;
		c = name->text[(length - dot + 1 + i) & (MW_NAME - 1)];
		/* negative unless c is a capital; without a branch, or the verifier walks 2^15 paths */
		other = (c - 'A') | ('Z' - c);
		key[i] = c + ((~other >> 31 & 1) << 5);
	}
	rule = bpf_map_lookup_elem(&extensions, key);
	return rule ? *rule : ~0u;
}

static __always_inline bool starts_with(const struct mw_name *name, const char *head, u32 length)
{
	for (u32 i = 0; i < length; i++)
		if (name->text[i] != head[i])
			return false;
	return true;
}
#define STARTS_WITH(name, literal) starts_with(name, literal, sizeof(literal) - 1)

/* pytorch_model.bin, model.bin, model-00001-of-00002.bin, ...; not the model_id.bin of a database column. */
APART u32 is_model_bin(struct mw_name *name)
{
	if (!name)
		return 0;
	return STARTS_WITH(name, "pytorch_model") || STARTS_WITH(name, "model.bin") || STARTS_WITH(name, "model-0") ||
	       STARTS_WITH(name, "ggml-") || STARTS_WITH(name, "openvino_model.bin") ||
	       STARTS_WITH(name, "diffusion_pytorch_model") || STARTS_WITH(name, "adapter_model") ||
	       STARTS_WITH(name, "consolidated.0");
}

APART u32 names_artifact(struct mw_name *name, u64 dentry_address)
{
	struct dentry *dentry = (void *)dentry_address;
	u32 rule = extension_of(name);
	struct mw_name parent;

	if (!name || rule == ~0u)
		return false;
	if (rule & MW_EXT_MODEL_BIN && !is_model_bin(name))
		return false;
	if (rule & MW_EXT_NOT_SITE) {
		name_of(&parent, BPF_CORE_READ(dentry, d_parent));
		if (STARTS_WITH(&parent, "site-packages") || STARTS_WITH(&parent, "dist-packages") ||
		    STARTS_WITH(&parent, "lib2to3"))
			return false;
	}
	return true;
}

#endif
