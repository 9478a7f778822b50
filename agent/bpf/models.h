/* Sets of models: which one an event outside any load names, if there is only one. */
#ifndef MODELWARD_MODELS_H
#define MODELWARD_MODELS_H

#include "state.h"

static __always_inline u64 only_model(struct mw_models *m)
{
	return m->count == 1 ? m->instance[0] : 0;
}

/* A load of a model began: in place of the last load of the same artifact. `inode` 0: not known yet. */
APART int add_model(struct mw_models *m, u64 instance, u64 inode, u32 device, u32 owner)
{
	if (!m)
		return 0;
	for (u32 i = 0; i < MW_MODELS; i++) {
		if (!m->instance[i] || (inode && m->inode[i] == inode && m->device[i] == device)) {
			if (!m->instance[i])
				m->count++;
			m->instance[i] = instance;
			m->inode[i] = inode;
			m->device[i] = device;
			m->owner[i] = owner;
			m->looks[i] = 0;
			return 0;
		}
	}
	m->count++;
	return 0;
}

/* The artifact of a load that began without one: a load of the same artifact before it is replaced. */
static __noinline int name_model(struct mw_models *m, u64 instance, u64 inode, u32 device)
{
	for (u32 i = 0; i < MW_MODELS; i++) {
		if (m->instance[i] == instance) {
			m->inode[i] = inode;
			m->device[i] = device;
		}
	}
	return 0;
}

/* Has it a load that began with this file, by the process itself? */
static __always_inline bool has_model(struct mw_models *m, u64 inode, u32 device, u32 tgid)
{
	for (u32 i = 0; i < MW_MODELS; i++)
		if (m->instance[i] && m->inode[i] == inode && m->device[i] == device && m->owner[i] == tgid)
			return true;
	return false;
}

/* Has it this load, and by the process itself? */
static __always_inline bool owns_model(struct mw_models *m, u64 instance, u32 tgid)
{
	for (u32 i = 0; i < MW_MODELS; i++)
		if (instance && m->instance[i] == instance && m->owner[i] == tgid)
			return true;
	return false;
}

/* Later ones move up: the first place holds the only one. */
APART int remove_model(struct mw_models *m, u64 instance)
{
	u32 at = 0;

	if (!m || !instance)
		return 0;
	while (at < MW_MODELS && m->instance[at] != instance)
		at++;
	if (at == MW_MODELS)
		return 0;
	for (u32 i = 0; i < MW_MODELS - 1; i++) {
		if (i < at)
			continue;
		m->instance[i] = m->instance[i + 1];
		m->inode[i] = m->inode[i + 1];
		m->device[i] = m->device[i + 1];
		m->owner[i] = m->owner[i + 1];
		m->looks[i] = m->looks[i + 1];
		m->found[i] = m->found[i + 1];
	}
	m->instance[MW_MODELS - 1] = 0;
	m->inode[MW_MODELS - 1] = 0;
	m->looks[MW_MODELS - 1] = 0;
	m->found[MW_MODELS - 1] = 0;
	m->count--;
	return 1;
}

static __always_inline bool same_stem(const char *a, const char *b)
{
	for (u32 i = 0; i < MW_STEM; i += 8)
		if (*(u64 *)&a[i] != *(u64 *)&b[i])
			return false;
	return true;
}

#endif
