"""Flags and segments of a kernel record (``agent/bpf/events.h``)."""

F_TRUNCATED = 1 << 0
F_RACED = 1 << 1
F_OUTSIDE_ROOT = 1 << 2
F_UNLINKED = 1 << 3
F_TMPFS = 1 << 4
F_MEMFD = 1 << 5
F_STDIO_SOCKET = 1 << 6
F_LEADER = 1 << 7
F_ROOT = 1 << 8
F_SERVER = 1 << 9
F_ARTIFACT = 1 << 10
F_NEWER_THAN_ROOT = 1 << 11
F_THREAD = 1 << 13

SEG_PATH, SEG_ASKED, SEG_INTERPRETER, SEG_CWD, SEG_ARGV = range(5)
