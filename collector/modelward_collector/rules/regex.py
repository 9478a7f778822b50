"""The regular expressions that RE2 (ClickHouse) and Rust's engine (polars) read alike, rewritten so that
they do.

Read here: literals, ``.``, ``|``, groups ``( )`` and ``(?: )``, ``* + ? {n} {n,} {n,m}`` and their lazy
forms, ``^ $ \\b``, classes ``[a-z]`` and ``[^a-z]``, ``\\d \\w \\s`` and their negations, ``\\n \\t \\r
\\f \\v``, ``\\xHH`` below 80, escaped punctuation. Anything else is an error, because the engines differ on
it or one lacks it. In what is written ``\\d \\w \\s \\b`` are ASCII, ``.`` matches a newline too, and with
the modifier ``i`` each ASCII letter is a class of both cases (the engines' own folding differs outside
ASCII).
"""

from __future__ import annotations

import string

MAX_PATTERN = 2000
MAX_REPEAT = 200
MAX_PRODUCT = 1000
MAX_GROUPS = 30

_SETS = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\x0b\f\r "}
_CONTROLS = {"n": r"\n", "t": r"\t", "r": r"\r", "f": r"\f", "v": r"\x0b"}
_SPECIAL = set(r"\.+*?()|[]{}^$#&-~/ ")


class RegexError(ValueError):
    """Not in the common subset: says what and at which character (from 1)."""


def common(pattern: str, ignore_case: bool = False) -> str:
    """The canonical form of a pattern, for a search anywhere in the text. Raises :class:`RegexError`."""
    if len(pattern) > MAX_PATTERN:
        raise RegexError(f"pattern is longer than {MAX_PATTERN} characters")
    if ignore_case and not pattern.isascii():
        raise RegexError("ignoring case works for ASCII letters only: the engines fold others differently")
    return "(?s)" + _Reader(pattern, ignore_case).read()


def escape(text: str) -> str:
    """A literal, escaped for both engines."""
    return "".join(_literal(char) for char in text)


def _literal(char: str) -> str:
    if char in _SPECIAL and char not in "/ #&~-":
        return "\\" + char
    return rf"\x{ord(char):02x}" if ord(char) < 0x20 or char in "#&~- " or ord(char) == 0x7F else char


class _Reader:
    def __init__(self, pattern: str, ignore_case: bool) -> None:
        self.pattern = pattern
        self.ignore_case = ignore_case
        self.at = 0
        self.groups = 0

    def fail(self, what: str) -> RegexError:
        return RegexError(f"{what} at character {self.at + 1} of the pattern")

    def peek(self, ahead: int = 0) -> str:
        return self.pattern[self.at + ahead : self.at + ahead + 1]

    def read(self) -> str:
        out, _ = self.alternatives()
        if self.at < len(self.pattern):
            raise self.fail("unmatched ')'")
        return out

    def alternatives(self) -> tuple[str, int]:
        """Text, and how far its repeats multiply: RE2 gives up where nested counts unfold too far."""
        parts: list[str] = []
        widest = 1
        while True:
            branch, product = self.branch()
            parts.append(branch)
            widest = max(widest, product)
            if self.peek() != "|":
                return "|".join(parts), widest
            self.at += 1

    def branch(self) -> tuple[str, int]:
        out: list[str] = []
        widest = 1
        while (char := self.peek()) and char not in "|)":
            atom, product, repeats = self.atom(char)
            count, factor = self.quantifier()
            if count and not repeats:
                raise self.fail("nothing to repeat before the quantifier")
            if product * factor > MAX_PRODUCT:
                raise self.fail(f"nested repeats multiply to more than {MAX_PRODUCT}")
            widest = max(widest, product * factor)
            out.append(atom + count)
        return "".join(out), widest

    def atom(self, char: str) -> tuple[str, int, bool]:
        if char == "(":
            return self.group()
        if char == "[":
            return self.charset(), 1, True
        if char == "\\":
            return self.escaped()
        if char in "*+?{":
            raise self.fail(f"nothing to repeat before {char!r} (escape it to mean the character)")
        self.at += 1
        if char in "^$":
            return char, 1, False
        if char == ".":
            return ".", 1, True
        return self.one(char), 1, True

    def one(self, char: str) -> str:
        if self.ignore_case and char in string.ascii_letters:
            return f"[{char.lower()}{char.upper()}]"
        return _literal(char)

    def group(self) -> tuple[str, int, bool]:
        self.groups += 1
        if self.groups > MAX_GROUPS:
            raise self.fail(f"more than {MAX_GROUPS} groups")
        self.at += 1
        if self.peek() == "?":
            if self.peek(1) != ":":
                raise self.fail(f"group '(?{self.peek(1)}' is not in the subset that both engines share")
            self.at += 2
        inner, product = self.alternatives()
        if self.peek() != ")":
            raise self.fail("missing ')'")
        self.at += 1
        return f"(?:{inner})", product, True

    def escaped(self) -> tuple[str, int, bool]:
        char = self.peek(1)
        if char == "b":
            self.at += 2
            # Polars' engine needs the flag for ASCII; RE2's \b is ASCII always, and a later back end drops
            # the flag.
            return r"(?-u:\b)", 1, False
        if char and char.lower() in _SETS:
            self.at += 2
            return f"[{'^' if char.isupper() else ''}{_SETS[char.lower()]}]", 1, True
        return self.one(self.escaped_char()), 1, True

    def escaped_char(self) -> str:
        char = self.peek(1)
        if not char:
            raise self.fail("pattern ends in a backslash")
        if char in _CONTROLS:
            self.at += 2
            return {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}[char]
        if char == "x":
            digits = self.pattern[self.at + 2 : self.at + 4]
            if len(digits) != 2 or any(d not in string.hexdigits for d in digits) or int(digits, 16) > 0x7F:
                raise self.fail("\\x needs two hex digits below 80")
            self.at += 4
            return chr(int(digits, 16))
        if char in string.punctuation or char == " ":
            self.at += 2
            return char
        raise self.fail(f"escape '\\{char}' is not in the subset that both engines share")

    def quantifier(self) -> tuple[str, int]:
        char = self.peek()
        factor = 1
        if char and char in "*+?":
            out = char
            self.at += 1
        elif char == "{":
            end = self.pattern.find("}", self.at)
            low, comma, high = self.pattern[self.at + 1 : max(end, self.at + 1)].partition(",")
            if end < 0 or not low.isdecimal() or not low.isascii() or (high and not (high.isdecimal() and high.isascii())):
                raise self.fail("'{' starts no repeat like {2} or {2,5} (escape it to mean the character)")
            if len(low) > 4 or len(high) > 4 or (factor := max(int(low), int(high or 0), 1)) > MAX_REPEAT:
                raise self.fail(f"a repeat of more than {MAX_REPEAT}")
            if high and int(high) < int(low):
                raise self.fail("a repeat whose end is below its start")
            out = "{" + str(int(low)) + comma + (str(int(high)) if high else "") + "}"
            self.at = end + 1
        else:
            return "", 1
        if self.peek() == "?":
            out += "?"
            self.at += 1
        if (after := self.peek()) and after in "*+?{":
            raise self.fail("a quantifier on a quantifier")
        return out, factor

    def charset(self) -> str:
        start = self.at
        self.at += 1
        out = "["
        if self.peek() == "^":
            out += "^"
            self.at += 1
        members = 0
        while (char := self.peek()) != "]":
            if not char:
                self.at = start
                raise self.fail("missing ']'")
            out += self.member(char)
            members += 1
        if not members:
            raise self.fail("an empty class")
        self.at += 1
        return out + "]"

    def member(self, char: str) -> str:
        if char == "\\" and self.peek(1) in ("d", "w", "s"):
            self.at += 2
            if self.peek() == "-" and self.peek(1) != "]":
                raise self.fail("a range from a set")
            return _SETS[self.pattern[self.at - 1]]
        low = self.member_char()
        if self.peek() != "-" or self.peek(1) in ("]", ""):
            return self.cases(low, low)
        self.at += 1
        if self.peek() == "\\" and self.peek(1).lower() in _SETS:
            raise self.fail("a range to a set")
        high = self.member_char()
        if high < low:
            raise self.fail("a range whose end is below its start")
        return self.cases(low, high)

    def member_char(self) -> str:
        char = self.peek()
        if char == "\\":
            return self.escaped_char()
        if char == "[" or (char in "&-~" and self.peek(1) == char):
            raise self.fail(f"{char!r} in a class (escape it to mean the character)")
        self.at += 1
        return char

    def cases(self, low: str, high: str) -> str:
        """A range; ignoring case, the letters of it in the other case too."""
        out = _in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}"
        if self.ignore_case:
            held = [c for c in string.ascii_letters if low <= c <= high]
            out += "".join(c.swapcase() for c in held if not low <= c.swapcase() <= high)
        return out


def _in_class(char: str) -> str:
    if ord(char) < 0x20 or char in "#&~- " or ord(char) == 0x7F:
        return rf"\x{ord(char):02x}"
    return "\\" + char if char in r"\]^[" else char
