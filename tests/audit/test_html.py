"""The page of an audit, from its document alone: every text is escaped, old plots are deleted."""

import html
import json

from paczero.audit import html as audit_page
from paczero.audit.report import Parts, build

from ..written_runs import make_header
from .results import exact, parts


def test_the_page_shows_each_bound_and_escapes_all(tmp_path):
    document = json.loads(json.dumps(build(parts())))
    path = audit_page.write(document, tmp_path / "audit", make_header("mi"))
    text = path.read_text(encoding="utf-8")
    assert "<b>one</b>" not in text and "runs/&lt;b&gt;one&lt;/b&gt;" in text
    assert 'src="http' not in text and "href=" not in text and "<script" not in text
    plain = html.unescape(text)
    for expected in ("60.0 %", "55.0 %", "within", "caught", "0.700", "40 of 40"):
        assert expected in plain
    assert "Left out" not in plain
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "audit.json", "bounds.png", "canaries.png", "families.png", "index.html", "spent.png"
    ]  # fmt: skip
    assert json.loads((path.parent / "audit.json").read_text()) == document


def test_the_page_names_the_parts_left_out_and_old_plots_are_deleted(tmp_path):
    audit_page.write(json.loads(json.dumps(build(parts()))), tmp_path, make_header("mi"))
    few = build(Parts(run="runs/one", release="", exact=exact(budget=0.0)))
    text = audit_page.write(json.loads(json.dumps(few)), tmp_path, make_header("zpl")).read_text(encoding="utf-8")
    assert few["left_out"] == ["reruns", "controls", "families", "canaries", "exposure"]
    assert "Left out: reruns, controls, families, canaries, exposure." in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.json", "index.html"]
