"""Structured logs of the daemons: one JSON object a line on stderr, or short text on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from modelward_proto.text import escape

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Writes time (UTC), level, logger, message and every ``extra`` field."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({k: v for k, v in record.__dict__.items() if k not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """One line a person reads. Control characters from a workload cannot reach the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v}" for k, v in record.__dict__.items() if k not in _STANDARD)
        line = f"{_utc(record.created)} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        lines = [line, *(self.formatException(record.exc_info).split("\n") if record.exc_info else ())]
        return "\n".join(escape(line.encode("utf-8", "surrogateescape")).replace("\\x5c", "\\") for line in lines)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def configure(level: str = "info", form: str = "auto") -> None:
    """Send all logs to stderr. ``form``: ``json``, ``text`` or ``auto`` (text on a terminal)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if resolved(form) == "text" else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def resolved(form: str) -> str:
    """``json`` or ``text``: what ``auto`` means here."""
    return ("text" if sys.stderr.isatty() else "json") if form == "auto" else form
