"""`paczero report`: writes the page again and says where it is."""

import webbrowser


def test_the_page_is_written_again(paczero, finished):
    page = finished / "report" / "index.html"
    page.unlink()
    assert paczero("report", finished) == (0, f"{page}\n", "")
    assert "<html" in page.read_text()


def test_it_opens_in_a_browser_where_there_is_one(paczero, finished, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert paczero("report", finished, "--open")[0] == 0
    assert opened == [(finished / "report" / "index.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    code, out, _ = paczero("report", finished, "--open")
    assert code == 0 and "by hand" in out


def test_no_run(refusal, tmp_path):
    assert "holds no run" in refusal("report", tmp_path)
