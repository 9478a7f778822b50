/* Opens asked of io_uring: they pass no system call of their own. Seen when submitted, so that the result is not known yet. */

#define IORING_OP_OPENAT	18
#define IORING_OP_OPENAT2	28

struct io_kiocb {
	u8 opcode;
} RELOCATED;

struct filename {
	const char *name;
} RELOCATED;

struct open_how {
	u64 flags;
} RELOCATED;

/* io_uring/openclose.c keeps this in the request itself. */
struct io_open {
	struct filename *filename;
	struct open_how how;
} RELOCATED;

DOOR("tp_btf/io_uring_submit_req", on_uring_submit, 0)

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_uring_submit, struct io_kiocb *request)
{
	u8 opcode = request->opcode;
	struct task_struct *task;
	struct mw_name asked;
	struct mw_scratch *s;
	struct mw_task *t, *l;
	u64 filename, flags;

	if (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2)
		return 0;
	task = bpf_get_current_task_btf();
	t = state_of(task);
	if (!t || t->excluded)
		return 0;
	l = process_of(task, t);
	s = claim();
	if (!s) {
		count(MW_HOP_MISSED, MW_FILE_OPEN);
		return 0;
	}
	if (!fill(&s->h, task, t, l, MW_FILE_OPEN))
		goto out;
	flags = BPF_CORE_READ((struct io_open *)request, how.flags);
	filename = (u64)BPF_CORE_READ((struct io_open *)request, filename, name);
	s->h.outcome = MW_ATTEMPTED;
	s->h.file.open_flags = flags;
	s->h.file.access = flags & O_PATH ? 0 : ((flags & O_ACCMODE) + 1) & 3;
	s->asked_length = 0;
	long n = bpf_probe_read_kernel_str(s->asked, MW_PATH_MAX, (void *)filename);
	if (n > 1 && n <= MW_PATH_MAX)
		s->asked_length = n - 1;
	last_part(&asked, s, s->asked_length);
	/* Not resolved: an absolute name is the best that is known of the path. */
	append(s, s->asked[0] == '/' ? MW_SEG_PATH : MW_SEG_ASKED, s->asked, s->asked_length);
	if (s->h.file.access == 1 && names_artifact(&asked, 0)) {
		s->h.flags |= MW_F_ARTIFACT;
		describe_opening(s, NULL, MW_BY_ARTIFACT_OPEN);
		stem_of(s->opening.stem, &asked);
		artifact_opened(s, task, t, l);
	}
	emit(s, names_credential(&asked));
out:
	release(s);
	return 0;
}
