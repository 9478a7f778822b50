"""What a pickle would make, found out without making it: the names that it looks up, and the class of what it holds.

The stack machine of pickle is followed with stand-ins for values; nothing is imported, looked up or called.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from modelward_agent.identity.header import Cursor, HeaderError
from modelward_agent.identity.pickle_opcodes import TEXT, Argument, instructions
from modelward_agent.identity.pickle_values import ITEMS, Thing, Value, class_of

_NAMES = 1024
_NESTED = 16
_MAKERS = frozenset((
    "copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copy_reg.__newobj__", "copyreg.__newobj_ex__",
))  # fmt: skip
"""Functions whose first argument is the class of what they make."""
_CLASS_INSIDE = "cloudpickle.cloudpickle._make_skeleton_class"
"""Makes a class that the pickle itself holds: of a kind, a name, bases and a dictionary."""
_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_NUMBERS = re.compile(r"[<>=|]?([?biufcSaUVmM])(\d{0,9})\Z")


class PickleScan:
    """Follows one pickle after another through an artifact."""

    def __init__(self, cursor: Cursor) -> None:
        self.names: dict[str, None] = {}
        """Global names that the pickles look up, in their order, as module.name; at most 1,024."""
        self._cursor = cursor
        self._stack: list[Value] = []
        self._marked: list[list[Value]] = []
        self._memo: dict[int, Value] = {}
        self._outer: list[tuple[list[Value], list[list[Value]], dict[int, Value]]] = []
        self._follow = self._table()

    def run(self) -> Value:
        """Follow one pickle to its end; what it makes.

        Raises:
            HeaderError, ValueError: it is cut off, damaged or too large; :meth:`so_far` says what was seen.
        """
        self._stack, self._marked, self._memo, self._outer = [], [], {}, []
        try:
            for code, argument in instructions(self._cursor):
                if code != ord("."):
                    self._follow[code](argument)
                elif self._outer:
                    self._stack, self._marked, self._memo = self._outer.pop()
                else:
                    return self._stack.pop()
        except (IndexError, KeyError):
            raise HeaderError("the pickle is damaged") from None
        raise HeaderError("the pickle is cut off")

    def so_far(self) -> str:
        """Class of the outermost object of a pickle that could not be followed to its end."""
        levels = [(stack, marked) for stack, marked, _ in self._outer] + [(self._stack, self._marked)]
        for stack, marked in levels:
            for part in (*marked, stack):
                for value in part:
                    if found := class_of(value):
                        return found
        return ""

    def _table(self) -> dict[int, Callable[[Argument], None]]:
        names: dict[bytes, Callable[[Argument], None]] = {
            b"(": self._mark, b"0": self._pop, b"1": self._pop_mark, b"2": self._dup,
            b"S": self._string, b"V": self._line, b"X\x8c\x8d": self._text, b"TU": self._old_text,
            b"I": self._int, b"JKM\x8a": self._number, b"\x88": lambda _: self._push(1), b"\x89": lambda _: self._push(0),
            b"NFLG\x8b": lambda _: self._push(None),
            b"BC\x8e\x96P\x97": lambda _: self._push(Thing()), b"]})\x8f": lambda _: self._push(Thing()),
            b"Q": self._persistent, b"\x82\x83\x84": self._extension,
            b"c": self._global, b"\x93": self._stack_global, b"i": self._inst, b"o": self._obj,
            b"R": self._reduce, b"\x81": self._new, b"\x92": self._new_ex, b"b": self._build,
            b"t": self._marked_tuple,
            b"\x85": lambda _: self._tuple(1), b"\x86": lambda _: self._tuple(2), b"\x87": lambda _: self._tuple(3),
            b"ld\x91": self._marked_tuple, b"a": self._append, b"e\x90": self._appends, b"s": self._set, b"u": self._sets,
            b"pqr": self._put, b"\x94": lambda _: self._memo.__setitem__(len(self._memo), self._stack[-1]), b"ghj": self._get,
            b"\x80\x95\x98": lambda _: None,
        }  # fmt: skip
        return {code: follow for codes, follow in names.items() for code in codes}

    def _push(self, value: Value) -> None:
        self._stack.append(value)

    def _mark(self, _: Argument) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Value]:
        found, self._stack = self._stack, self._marked.pop()
        return found

    def _pop(self, _: Argument) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Argument) -> None:
        self._since_mark()

    def _dup(self, _: Argument) -> None:
        self._push(self._stack[-1])

    def _string(self, argument: Argument) -> None:
        quoted = argument.strip() if isinstance(argument, bytes) else b""
        if len(quoted) < 2 or quoted[:1] not in (b"'", b'"') or quoted[:1] != quoted[-1:]:
            self._push(None)
        else:
            self._push(codecs.escape_decode(quoted[1:-1])[0].decode("latin-1"))

    def _line(self, argument: Argument) -> None:
        if isinstance(argument, bytes) and len(argument) < TEXT:
            self._push(argument.decode("raw-unicode-escape", "replace"))
        else:
            self._push(None)

    def _text(self, argument: Argument) -> None:
        self._push(argument.decode("utf-8", "surrogatepass") if isinstance(argument, bytes) else None)

    def _old_text(self, argument: Argument) -> None:
        self._push(argument.decode("latin-1") if isinstance(argument, bytes) else None)

    def _int(self, argument: Argument) -> None:
        self._push(_line_number(argument))

    def _number(self, argument: Argument) -> None:
        self._push(argument if isinstance(argument, int) else None)

    def _persistent(self, _: Argument) -> None:
        named = self._stack.pop()
        items = named.items if isinstance(named, Thing) else ()
        # An old torch file names the class of a module so, with its source beside it.
        self._push(items[1] if len(items) > 1 and items[0] == "module" else Thing())

    def _extension(self, argument: Argument) -> None:
        self._push(self._named(f"copyreg.extension_{_line_number(argument)}"))

    def _named(self, name: str) -> Thing:
        if len(self.names) < _NAMES:
            self.names[name] = None
        return Thing(name)

    def _global(self, argument: Argument) -> None:
        module, name = argument if isinstance(argument, tuple) else (b"", b"")
        self._push(self._named(f"{module.decode('utf-8', 'replace')}.{name.decode('utf-8', 'replace')}"))

    def _stack_global(self, _: Argument) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        known = isinstance(name, str) and isinstance(module, str)
        self._push(self._named(f"{module}.{name}" if known else "unknown"))

    def _inst(self, argument: Argument) -> None:
        values = self._since_mark()
        self._global(argument)
        self._call(self._stack.pop(), Thing("", values))

    def _obj(self, _: Argument) -> None:
        values = self._since_mark()
        self._call(values[0], Thing("", values[1:]))

    def _reduce(self, _: Argument) -> None:
        values, made_by = self._stack.pop(), self._stack.pop()
        self._call(made_by, values)

    def _new(self, _: Argument) -> None:
        self._reduce(None)

    def _new_ex(self, _: Argument) -> None:
        self._stack.pop()
        self._reduce(None)

    def _call(self, made_by: Value, values: Value) -> None:
        name = made_by.made_by if isinstance(made_by, Thing) else ""
        items = values.items if isinstance(values, Thing) else ()
        if name in _MAKERS and items and isinstance(items[0], Thing):
            name, items = items[0].made_by, items[1:]
        elif name == _CLASS_INSIDE and len(items) > 3 and isinstance(items[1], str):
            told = items[3].state if isinstance(items[3], Thing) else None
            module = (told or {}).get("__module__")
            name = f"{module}.{items[1]}" if isinstance(module, str) else items[1]
        made = Thing(name, items)
        made.hold(made_by)
        made.hold(values)
        self._push(made)

    def _build(self, _: Argument) -> None:
        state, thing = self._stack.pop(), self._stack[-1]
        if not isinstance(thing, Thing):
            return
        thing.hold(state)
        if thing.made_by == _ARRAY and isinstance(state, Thing):
            self._array(state.state or {})

    def _marked_tuple(self, _: Argument) -> None:
        self._push(Thing("", self._since_mark()))

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise HeaderError("the pickle is damaged")
        values = self._stack[-count:]
        del self._stack[-count:]
        self._push(Thing("", values))

    def _append(self, _: Argument) -> None:
        self._hold([self._stack.pop()])

    def _appends(self, _: Argument) -> None:
        self._hold(self._since_mark())

    def _set(self, _: Argument) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._hold([key, value], pairs=True)

    def _sets(self, _: Argument) -> None:
        self._hold(self._since_mark(), pairs=True)

    def _hold(self, values: list[Value], *, pairs: bool = False) -> None:
        thing = self._stack[-1]
        if not isinstance(thing, Thing):
            return
        for value in values:
            if thing.inner:
                break
            thing.hold(value)
        if pairs:
            thing.state = {} if thing.state is None else thing.state
            for key, value in zip(values[::2], values[1::2], strict=False):
                if len(thing.state) >= ITEMS:
                    break
                if isinstance(key, str):
                    thing.state[key] = value

    def _put(self, argument: Argument) -> None:
        self._memo[_line_number(argument)] = self._stack[-1]

    def _get(self, argument: Argument) -> None:
        self._push(self._memo[_line_number(argument)])

    def _array(self, state: dict[str, Value]) -> None:
        """joblib writes an array behind the instruction that would make it: numbers are left out, objects are a pickle."""
        shape, dtype = state.get("shape"), state.get("dtype")
        kind = dtype.items[0] if isinstance(dtype, Thing) and dtype.items else None
        sizes = shape.items if isinstance(shape, Thing) else (-1,)
        if kind in ("O8", "|O", "O"):
            if len(self._outer) >= _NESTED:
                raise HeaderError("the pickle is nested too deeply")
            self._outer.append((self._stack, self._marked, self._memo))
            self._stack, self._marked, self._memo = [], [], {}
            return
        found = _NUMBERS.match(kind) if isinstance(kind, str) else None
        if found is None:
            raise HeaderError("the pickle holds an array of unknown type")
        length = int(found[2] or 1) * (4 if found[1] == "U" else 1)
        for size in sizes:
            if not isinstance(size, int) or size < 0:
                raise HeaderError("the pickle holds an array of unknown size")
            length *= size
        if state.get("numpy_array_alignment_bytes") is not None:
            self._cursor.skip(self._cursor.byte())
        self._cursor.skip(length)


def _line_number(argument: Argument) -> int:
    return argument if isinstance(argument, int) else int(argument) if isinstance(argument, bytes) else 0
