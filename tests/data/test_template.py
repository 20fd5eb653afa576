import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.data.template import Template, listed
from paczero.errors import PACZeroError

NAMES = st.text(st.characters(exclude_characters="{}!:[].\0", exclude_categories=("Cs",)), min_size=1).filter(
    lambda name: name.strip() and name != "label"
)


def test_rendering() -> None:
    template = Template.parse("{title}: {text} It was {label}")
    assert template.columns == ("title", "text")
    assert template.render({"title": " T ", "text": "Fine.\n"}) == "T: Fine. It was"
    assert template.gap == " "


@pytest.mark.parametrize(
    ("source", "prompt", "gap"),
    [
        ("{text}{label}", "a", ""),
        ("{text}\n{label}", "a", "\n"),
        ("{text} {label}", "a", " "),
        ("{text} A:{label}", "a A:", ""),
        ("{{{text}}} is {label}", "{a} is", " "),
        ("Q {text} {text} {label}", "Q a a", " "),
        ("{review text} = {label}", "b =", " "),
    ],
)
def test_the_white_space_before_the_label_is_the_labels(source: str, prompt: str, gap: str) -> None:
    template = Template.parse(source)
    assert (template.render({"text": "a ", "review text": "b"}), template.gap) == (prompt, gap)


@given(NAMES, st.text(), st.text())
def test_only_the_record_is_looked_up(name: str, literal: str, value: str) -> None:
    escaped = literal.replace("{", "{{").replace("}", "}}")
    template = Template.parse(f"{escaped}{{{name}}} so {{label}}")
    assert template.columns == (name,)
    assert template.render({name: value}) == f"{literal}{value.strip()} so"


def test_braces_in_a_text_stay_text() -> None:
    assert Template.parse("{text} {label}").render({"text": "{label} {0} {text.x}"}) == "{label} {0} {text.x}"


@pytest.mark.parametrize("source", ["{text.__class__} {label}", "{text[0]} {label}"])
def test_attributes_and_items_are_no_columns(source: str) -> None:
    with pytest.raises(PACZeroError, match=r"is no column .*only plain names"):
        Template.parse(source).check(["text", "label"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{text {label}", "braces"),
        ("text} {label}", r"Single '}'.*\{\{ and \}\}"),
        ("{text!r} {label}", "plain name"),
        ("{text:>10} {label}", "plain name"),
        ("{} {label}", "plain name"),
        ("{text}", r"end it with \{label\}"),
        ("{label} {text}", r"end it with \{label\}"),
        ("{text} {label}.", r"end it with \{label\}"),
        ("{label} {text} {label}", "once"),
        ("", r"end it with \{label\}"),
        ("It was {label}", "holds no text of the record"),
        ("{text} {{label}}", r"end it with \{label\}"),
    ],
)
def test_refusals(source: str, message: str) -> None:
    with pytest.raises(PACZeroError, match=message) as caught:
        Template.parse(source)
    assert str(caught.value).startswith("task.template: ")
    assert "\n" not in str(caught.value)


def test_a_placeholder_that_is_no_column_names_the_columns() -> None:
    with pytest.raises(PACZeroError, match=r"\{text\} is no column of the data; its columns are 'sentence', 'label'"):
        Template.parse("{text} {label}").check(["sentence", "label"])


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"], most=2) == "'a', 'b' and 1 more"
    assert listed([]) == "none"
