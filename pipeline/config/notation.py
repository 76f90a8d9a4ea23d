"""What a text in YAML says, by the core schema of YAML 1.2.2, section 10.3.

YAML is read piece by piece as it is scanned, so that a text whose aliases, nesting or digits would have no end is
refused where it goes too far. What YAML 1.1 reads as something else and a person may mean (010, merge keys) is too.
"""

import io
import re
import sys
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from pipeline.config.textfiles import DEEPEST, TOO_DEEP, WHOLE_NUMBERS, shown, unusable
from pipeline.errors import ConfigError

MOST_VALUES = 20_000  # of a text with its aliases written out, seconds of reading; shipped ones have hundreds
_LINE_ENDS = "\x85\u2028\u2029"  # to YAML 1.1, by whose rules texts are folded when they are written
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUTH = {text: truth for truth in (True, False) for t in [str(truth)] for text in (t, t.lower(), t.upper())}
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def parse_value(text: str, source: str) -> Any:
    """Return the content of a text in YAML; ``source`` names it in messages.

    Raises:
        ConfigError: it is not valid YAML 1.2, or says something that no configuration says.
    """
    try:
        if wrong := unusable(text):
            raise _Wrong(f"holds {wrong}", _line(text, next(i for i, c in enumerate(text) if unusable(c))))
        reader = _Reader()
        for event in YAML(typ="safe", pure=True).parse(text):
            reader.take(event)
        return reader.value
    except _Wrong as error:
        raise ConfigError(f"{source}, line {error.line}: not valid YAML: {error}") from None
    except MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"{source}{place}: not valid YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        place, code = f", line {_line(text, error.position)}", ord(text[error.position])
        raise ConfigError(f"{source}{place}: not valid YAML: holds the character U+{code:04X}") from None
    except (YAMLError, ValueError, OverflowError) as error:  # the last two of escapes like "\UFFFFFFFF"
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def written(content: object) -> str:
    """Return a content in YAML, which ``parse_value`` reads back."""
    text = _dumped(content, escaped=False)
    return _dumped(content, escaped=True) if any(character in text for character in _LINE_ENDS) else text


def _dumped(content: object, *, escaped: bool) -> str:
    """Return a value in YAML; ``escaped`` writes every character that is not ASCII by its number."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = not escaped
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()


class _Wrong(Exception):
    """What is wrong in a line, counted from 1."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class _Open:
    """A list or mapping that has not ended: what it holds so far, and the key that waits for its value."""

    def __init__(self, content: dict[object, object] | list[object], anchor: str | None, before: int) -> None:
        self.content, self.anchor, self.before = content, anchor, before
        self.key: object = None
        self.has_key = False

    def add(self, value: object, line: int) -> None:
        """Read the next item; in a mapping, keys and values in turn."""
        if isinstance(self.content, list):
            self.content.append(value)
        elif self.has_key:
            self.content[self.key] = value
            self.has_key = False
        elif isinstance(value, list | dict):
            kind = "list" if isinstance(value, list) else "mapping"
            raise _Wrong(f"a {kind} stands where a key is expected; a text with brackets needs quotes", line)
        elif value in self.content:
            raise _Wrong(f"key {shown(value)} appears twice; remove one", line)
        else:
            self.key, self.has_key = value, True


class _Reader:
    """Values of the events of a YAML parser, which it puts together without calling itself."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._values = 0
        self._documents = 0

    def take(self, event: events.Event) -> None:
        """Go on with the next event."""
        line = event.start_mark.line + 1
        if isinstance(event, events.DocumentStartEvent):
            self._begin(event, line)
        elif isinstance(event, events.CollectionStartEvent):
            self._deeper({} if isinstance(event, events.MappingStartEvent) else [], event, line)
        elif isinstance(event, events.CollectionEndEvent):
            ended = self._open.pop()
            self._add(ended.content, line, ended.anchor, self._values - ended.before)
        elif isinstance(event, events.ScalarEvent):
            _require_plain(event, line)
            self._count(1, line)
            self._add(_scalar(event, line), line, event.anchor, 1)
        elif isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise _Wrong(f"alias *{event.anchor} stands before its anchor or inside it", line)
            value, size = self._anchors[event.anchor]
            self._count(size, line)
            self._add(value, line, None, size)

    def _begin(self, event: events.DocumentStartEvent, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _Wrong("a second document begins; one file holds one, remove the line ---", line)
        if event.version not in (None, (1, 2)):
            raise _Wrong("YAML is read by the rules of 1.2; remove the line %YAML", line)

    def _deeper(
        self, content: dict[object, object] | list[object], event: events.CollectionStartEvent, line: int
    ) -> None:
        _require_plain(event, line)
        if len(self._open) == DEEPEST:
            raise _Wrong(TOO_DEEP, line)
        self._open.append(_Open(content, event.anchor, self._values))
        self._count(1, line)

    def _add(self, value: object, line: int, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = value, size
        if self._open:
            self._open[-1].add(value, line)
        else:
            self.value = value

    def _count(self, more: int, line: int) -> None:
        self._values += more
        if self._values > MOST_VALUES:
            raise _Wrong(f"it has more than {MOST_VALUES} values, its aliases written out", line)


def _require_plain(event: events.ScalarEvent | events.CollectionStartEvent, line: int) -> None:
    if event.tag is not None:
        raise _Wrong(f"the tag {event.tag} is not read here; write the value without a tag", line)


def _scalar(event: events.ScalarEvent, line: int) -> object:
    """Return a text, or what a text without quotes stands for."""
    text: str = event.value
    if wrong := unusable(text):
        raise _Wrong(f"a text holds {wrong}", line)
    if not event.implicit[0]:  # in quotes, or a block
        return text
    if text == "<<":
        raise _Wrong("merge keys (<<) are not read; write the keys out, or let the file extend another", line)
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _WHOLE.fullmatch(text):
        return _whole(text, line)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return _decimal(text, line) if _DECIMAL.fullmatch(text) else text


def _whole(text: str, line: int) -> int:
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        plain = digits.lstrip("0") or "0"
        raise _Wrong(
            f"{shown(text)} is an octal number to some and a decimal one to others; write {plain} or 0o{plain}, or "
            "put a text in quotes",
            line,
        )
    too_long = len(digits) > len(str(WHOLE_NUMBERS))
    if too_long or not -WHOLE_NUMBERS < (number := int(text, 0)) < WHOLE_NUMBERS:
        raise _Wrong(f"the whole number {shown(digits)} is too large; at most {WHOLE_NUMBERS - 1}", line)
    return number


def _decimal(text: str, line: int) -> float:
    number = float(text)
    lost = abs(number) < sys.float_info.min and re.search("[1-9]", re.split("[eE]", text)[0])
    if abs(number) == float("inf") or lost:
        raise _Wrong(
            f"the number {shown(text)} is beyond what 64 bits hold with full precision, "
            f"{sys.float_info.min:.1e} to {sys.float_info.max:.1e}",
            line,
        )
    return number
