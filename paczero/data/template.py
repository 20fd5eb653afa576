"""The prompt template: text with `{column}` placeholders, and `{label}` at its end.

>>> template = Template.parse("{text} It was {label}")
>>> template.render({"text": "A fine film. "}), template.gap
('A fine film. It was', ' ')

Only names of columns are looked up, in the record and nowhere else: `str.format` is never called, so a template
cannot reach attributes or items of anything. `{{` and `}}` stand for braces.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter

from paczero.errors import PACZeroError

LABEL = "label"


@dataclass(frozen=True)
class Template:
    """A parsed template; make one with `Template.parse`.

    Attributes:
        source: the template as it was written.
        parts: pairs of a literal text and the column that follows it, up to the label.
        tail: the literal text before the label, without its white space at the end.
        gap: that white space, which belongs to the label word (" great" is one token where "great" is another).
    """

    source: str
    parts: tuple[tuple[str, str], ...]
    tail: str
    gap: str

    @classmethod
    def parse(cls, source: str) -> "Template":
        """Takes a template apart.

        Raises:
            PACZeroError: a brace that stands alone, anything but a plain name between braces, `{label}` not at the
                end or not once, or no other placeholder.
        """
        try:
            pieces = list(Formatter().parse(source))
        except ValueError as error:
            raise _refusal(source, f"({error})", "write {{ and }} for literal braces") from None
        parts: list[tuple[str, str]] = []
        text = ""
        for literal, name, form, conversion in pieces:
            text += literal
            if name is None:  # the text before an escaped brace, or what follows the last placeholder
                continue
            if form or conversion or not name.strip():
                raise _refusal(source, "", "put the plain name of a column between the braces, as in {text}")
            parts.append((text, name))
            text = ""
        names = [name for _, name in parts]
        if text or names.count(LABEL) != 1 or names[-1] != LABEL:
            raise _refusal(source, "", "end it with {label}, which stands there once")
        if len(parts) == 1:
            raise _refusal(source, "and holds no text of the record", "name a column in it, as in {text}")
        literal = parts.pop()[0]
        tail = literal.rstrip()
        return cls(source, tuple(parts), tail, literal[len(tail) :])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once, in order."""
        return tuple(dict.fromkeys(name for _, name in self.parts))

    def check(self, columns: Collection[str]) -> None:
        """Refuses a placeholder that is none of `columns`.

        Raises:
            PACZeroError: names the placeholder and the columns that exist.
        """
        for name in self.columns:
            if name not in columns:
                plain = "" if name.isidentifier() else " (only plain names are taken)"
                raise PACZeroError(
                    f"task.template: {{{name}}} is no column of the data{plain}; its columns are {listed(columns)}"
                )

    def render(self, record: Mapping[str, str]) -> str:
        """The prompt of a record, without white space at its end; each column's text is stripped.

        Args:
            record: column -> text; a column of the template that it lacks counts as empty.
        """
        body = "".join(literal + record.get(name, "").strip() for literal, name in self.parts)
        return (body + self.tail).rstrip()


def listed(names: Collection[str], most: int = 20) -> str:
    """Names in quotes for a message, not too many of them."""
    shown = ", ".join(repr(name) for name in list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") if names else "none"


def _refusal(source: str, what: str, advice: str) -> PACZeroError:
    given = f"{source!r} was given {what}".strip()
    return PACZeroError(f"task.template: {given}; expected columns and the label in braces; {advice}")
