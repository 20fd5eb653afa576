import codecs

import pytest

from paczero.data.tables import decode, read_table
from paczero.errors import PACZeroError


def table(text: str, separator: str = ",") -> list[dict[str, str]]:
    return list(read_table(text, separator, "data 'x'"))


def test_quotes_line_ends_and_blank_lines() -> None:
    text = '\n text ,label\n"a, ""b""\nc",1\n\n,\n NA ,0\n'
    assert table(text) == [{"text": 'a, "b"\nc', "label": "1"}, {"text": " NA ", "label": "0"}]


def test_an_index_column_without_a_name_is_dropped() -> None:
    assert table(",text\n0,a\n") == [{"text": "a"}]


def test_stray_quotes_in_tabs() -> None:
    text = 'text\tlabel\n"so-called comedy\t0\na "b" c\t1\n"quoted ""whole"""\t1\n"open\t0\nclosed"\t1\n'
    assert [row["text"] for row in table(text, "\t")] == [
        '"so-called comedy',
        'a "b" c',
        '"quoted ""whole"""',
        '"open',
        'closed"',
    ]


def test_quotes_around_whole_fields_in_tabs() -> None:
    text = 'text\tlabel\n"quoted ""whole"""\t0\nplain\t"1"\n""\t0\n'
    assert [row["text"] for row in table(text, "\t")] == ['quoted "whole"', "plain", ""]
    assert table(text + 'one " more\t1\n', "\t")[0]["text"] == '"quoted ""whole"""'


def test_quoted_line_ends_in_tabs() -> None:
    assert table('text\tlabel\n"a\nb"\t1\n', "\t") == [{"text": "a\nb", "label": "1"}]


@pytest.mark.parametrize(
    ("text", "separator", "message"),
    [
        ("text;label\na;1\n", ",", "one column, 'text;label', and looks separated by a semicolon"),
        ("text\tlabel\na, b\t1\n", ",", "looks separated by a tab; expected a comma; name it .tsv"),
        ("text,label\na,1\n", "\t", "looks separated by a comma"),
        ("text,label,text\na,1,b\n", ",", "column 'text' is in the header more than once"),
        ("text,label\na,1\nb, c,0\n", ",", r'line 3 has 3 fields, the header 2; put "quotes"'),
        ("text,label\na\n", ",", "line 2 has 1 fields"),
        ('text,label\na,1\n"b,0\nc,1\n', ",", "line 4 is broken"),
        ('text,label\n"b" c,0\n', ",", "line 2 is broken"),
    ],
)
def test_refusals(text: str, separator: str, message: str) -> None:
    with pytest.raises(PACZeroError, match=message) as caught:
        table(text, separator)
    assert str(caught.value).startswith("data 'x': ")


def test_decoding() -> None:
    assert decode(codecs.BOM_UTF8 + "é\r\n".encode(), "x") == "é\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\né".encode("latin-1"), "line 3 is not UTF-8 .byte 0xe9.*iconv"),
        ("a".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04..", "Excel or zip"),
        (b"PAR1..", "parquet"),
        (b"a\n\0", "line 2 has a zero byte"),
    ],
)
def test_no_text(content: bytes, message: str) -> None:
    with pytest.raises(PACZeroError, match=message):
        decode(content, "data 'x'")


def test_a_very_long_field_is_read() -> None:
    assert len(table("text,label\n" + "a" * 200_000 + ",1\n")[0]["text"]) == 200_000
