"""The check's page: whole in one file, with every finding, table and picture."""

from html.parser import HTMLParser

import pytest

from giblet_train.data.checks.findings import Finding
from giblet_train.data.checks.html_report import page, write_data_page
from giblet_train.data.checks.run_checks import DataReport
from giblet_train.data.statistics.lag import lag_table
from giblet_train.schema.errors import DataError
from tests.made_study import made_study

STUDY = made_study(scan_lengths_trs=(100, 80))
FINDING = Finding(finding="spikes", severity="warning", sentence="Jumps at <3> TRs.", action="Look & see.")


class Tags(HTMLParser):
    """Which tags a page has, what its pictures and links point to, and its words."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href") and not value.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_page_with_pictures_needs_no_other_file():
    html = Tags(page(DataReport([FINDING], {}, {}, lag_table(STUDY), STUDY)))
    assert not html.open
    assert html.tags.count("svg") == 1 + (1 + 1) * len(STUDY.subjects), "light; scale of tSNR, carpet"
    assert html.tags.count("img") == 2 + (3 + 3 + 1) * len(STUDY.subjects), "bad examples; slices, tSNR, carpet"
    assert all(source.startswith(("data:image/png;base64,", "data:,")) for source in html.sources)
    assert "0 errors, 1 warning" in html.words
    assert "Jumps at <3> TRs." in html.words
    assert "Look & see." in html.words
    assert "average" in html.words


def test_files_that_could_not_be_read_leave_a_page_without_pictures(tmp_path):
    error = Finding(finding="truncated_file", severity="error", subject="sub-01", sentence="It ends early.")
    write_data_page(DataReport([error], {}, {}, ()), tmp_path / "new" / "check.html")
    html = Tags((tmp_path / "new" / "check.html").read_text())
    assert "1 error, 0 warnings" in html.words
    assert "img" not in html.tags
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_data_page(DataReport([], {}, {}, ()), tmp_path / "file" / "check.html")
