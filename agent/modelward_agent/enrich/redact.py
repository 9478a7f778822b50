"""Secrets in arguments are replaced before anything leaves the host.

Three sorts are known: an argument whose *name* says that its value is secret (``--api-key X``,
``HF_TOKEN=X``, ``X-Api-Key: X``), a value whose
*shape* says so (``hf_…``, ``sk-…``, ``AKIA…``, a JWT), and what a tool's own syntax puts in a place (URL
user information, ``curl -u``).
Every pattern is linear in the length of the argument: arguments are hostile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

REDACTED = b"[redacted]"

_SECRET_NAME = re.compile(
    rb"(?:^|[-_.])(?:api[-_]?keys?|[a-z0-9]*(?:token|password|passwd|passphrase|secret)|pass(?:code)?|pwd|secrets|"
    rb"(?:secret|access|account|private|signing|encryption|auth|license)[-_]?key|credentials?|signature|sig|jwt|pat)"
    rb"\Z",
    re.IGNORECASE,
)
# Names that end like a secret and are words of language models, not of authentication.
_HARMLESS = re.compile(
    rb"(?:^|[-_.])(?:pad|eos|bos|unk|sep|cls|mask|stop|start|end|image|audio|video|special|max|min|num|n|per|prompt|first|last|next|"
    rb"new|begin|think|tool|draft|extra|each|by|bypass|no|add|skip|trust)[-_.]?(?:token|pass)\Z|(?:^|[-_.])detoken\Z",
    re.IGNORECASE,
)

_SHAPES = re.compile(
    rb"(?<![A-Za-z0-9_])(?:"
    rb"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}"
    rb"|sk-(?:[A-Za-z0-9]{1,10}-){0,3}[A-Za-z0-9_]{16,}[A-Za-z0-9_-]*"
    rb"|(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"
    rb"|gh[opsur]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    rb"|xox[abeoprs]-[A-Za-z0-9-]{10,}|nvapi-[A-Za-z0-9_-]{20,}|gsk_[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{30,}"
    rb"|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_-]{20,}|dckr_pat_[A-Za-z0-9_-]{20,}"
    rb"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
    rb")"
)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*", re.DOTALL)
_USERINFO = re.compile(rb"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@'\"]+(?:@[^\s/?#@'\"]*)*@")
_AUTHORIZATION = re.compile(
    rb"((?:proxy-)?authorization['\"]?\s{0,8}[:=]\s{0,8}['\"]?(?:(?:bearer|basic|token|digest|negotiate|apikey)\s{1,8})?)"
    rb"([^\s'\"]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(rb"(?<![A-Za-z0-9])(bearer\s{1,8})([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_COOKIE = re.compile(rb"((?<![A-Za-z0-9-])(?:set-)?cookie:\s{0,8})([^'\"\r\n]+)", re.IGNORECASE)
_ASSIGNMENT = re.compile(rb"(?<![\w.-])([\w.-]{1,80})(['\"]?\s{0,4}(?:=|:(?!//))\s{0,4})(\"[^\"]*\"?|'[^']*'?|[^\s\"'&;,|<>}]+)")
_OPTION_WITHIN = re.compile(rb"(?<![\w-])(--?[A-Za-z][\w.-]{0,80})(\s{1,8})(\"[^\"]*\"?|'[^']*'?|[^\s\"'&;|<>-][^\s\"'&;|<>]*)")
# An option with its value, or a variable for env: the value is no shell text, whatever it looks like.
_WHOLE = re.compile(rb"(--?([A-Za-z][\w.-]{0,80})=).|(([A-Z_][A-Z0-9_]{0,80})=)[^\s;|&]+\Z", re.DOTALL)
# A reference or an expression is no secret, and hiding it would hide what an attacker's one-liner does.
_CODE = re.compile(rb"\$|[A-Za-z_][\w.]{0,200}[(\[]|\(|\[redacted|(?:None|True|False|null|true|false)(?![A-Za-z0-9_])")

# Tools whose short options carry a secret: (separate argument, attached to the option).
_TOOLS: dict[bytes, tuple[frozenset[bytes], bytes]] = {
    b"curl": (frozenset((b"-u", b"--user", b"-U", b"--proxy-user")), b"-u"),
    b"sshpass": (frozenset((b"-p",)), b"-p"),
    b"redis-cli": (frozenset((b"-a", b"--pass")), b""),
    b"mysql": (frozenset(), b"-p"),
    b"mysqldump": (frozenset(), b"-p"),
    b"mariadb": (frozenset(), b"-p"),
    b"smbclient": (frozenset((b"-U",)), b""),
    b"docker": (frozenset((b"-p",)), b""),
}


def redact(arguments: Sequence[bytes]) -> list[bytes]:
    """The arguments with every secret replaced by ``[redacted]``, one for one."""
    tool = arguments[0].rsplit(b"/", 1)[-1] if arguments else b""
    separate, attached = _TOOLS.get(tool, (frozenset[bytes](), b""))
    if tool == b"docker" and b"login" not in arguments[:3]:
        separate = frozenset()
    found: list[bytes] = []
    hide = False
    for argument in arguments:
        if hide and argument and not _is_option(argument):
            found.append(REDACTED)
            hide = False
            continue
        hide = argument in separate or (_is_option(argument) and b"=" not in argument and _is_secret(argument.lstrip(b"-")))
        if attached and argument.startswith(attached) and len(argument) > len(attached):
            found.append(attached + REDACTED)
        elif (whole := _WHOLE.match(argument)) and _is_secret(whole.group(2) or whole.group(4)):
            found.append((whole.group(1) or whole.group(3)) + REDACTED)
        else:
            found.append(redact_text(argument))
    return found


def redact_text(text: bytes) -> bytes:
    """One text with the secrets in it replaced; a text without any comes back as it is."""
    if len(text) < 6:
        return text
    text = _PRIVATE_KEY.sub(REDACTED, text)
    text = _USERINFO.sub(rb"\1" + REDACTED + b"@", text)
    text = _AUTHORIZATION.sub(rb"\1" + REDACTED, text)
    text = _BEARER.sub(rb"\1" + REDACTED, text)
    text = _COOKIE.sub(rb"\1" + REDACTED, text)
    text = _SHAPES.sub(REDACTED, text)
    text = _ASSIGNMENT.sub(_named, text)
    if b" " in text:
        text = _OPTION_WITHIN.sub(_named, text)
    return text


def _named(found: re.Match[bytes]) -> bytes:
    name, between, value = found.groups()
    bare = value.strip(b"'\"")
    if not bare or not _is_secret(name.lstrip(b"-")) or _CODE.match(bare):
        return found.group()
    quote = value[:1] if value[:1] in (b"'", b'"') else b""
    return bytes(name + between + quote + REDACTED + (quote if value.endswith(quote) else b""))


def _is_option(argument: bytes) -> bool:
    return argument.startswith(b"-") and len(argument) > 1


def _is_secret(name: bytes) -> bool:
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS.search(name)
