"""Web pages and sitemaps as sources, against a real server on loopback: manners, bounds, and what goes wrong."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from citewell.errors import BadInput
from citewell.ingest.sources import Known, Limits, SourceOptions, incomplete, open_source, still_there
from citewell.ingest.sources.fetch import Site as Host
from citewell.records import Document, Outcome
from tests import made_files
from tests.web_site import Reply, Request, Site, html, running_site, sitemap

LIMITS = Limits(file_bytes=100_000, text_characters=20_000)
NOTHING = Known()


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as site:
        yield site


def read(url: str, known: Known = NOTHING, **options: Any) -> tuple[list[Document], list[Outcome]]:
    source = open_source(url, LIMITS, SourceOptions(**{"pause": 0.0, "timeout": 1.0, **options}))
    items = list(source.items(known, lambda _: None))
    return [i for i in items if isinstance(i, Document)], [i for i in items if isinstance(i, Outcome)]


def knows(documents: list[Document]) -> Known:
    revisions = {document.id: document.revision for document in documents}
    return Known(revision=lambda doc_id: revisions.get(doc_id, ""), revisions=lambda: iter(revisions.values()))


def test_one_page(site: Site) -> None:
    site.pages["/a?b=1"] = html("Opening hours", "We open at nine.", ETag='"one"')
    (document,), outcomes = read(f"{site.url}/a?b=1#part")
    assert not outcomes
    assert (document.id, document.url) == (f"{site.url}/a?b=1", f"{site.url}/a?b=1")
    assert document.title == "Opening hours"
    assert document.text == "# Opening hours\n\nWe open at nine."
    assert document.lang == "en"
    assert site.requests[0].path == "/robots.txt"
    assert site.requests[1].headers["user-agent"].startswith("citewell/")


def test_a_sitemap_stands_for_its_pages_each_once(site: Site) -> None:
    site.pages["/sitemap.xml"] = sitemap(f"{site.url}/a", "/b", f"{site.url}/a#again", "")
    site.pages["/a"], site.pages["/b"] = html("A", "One."), html("B", "Two.")
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert not outcomes
    assert [d.id for d in documents] == [f"{site.url}/a", f"{site.url}/b"]
    assert site.paths() == ["/sitemap.xml", "/a", "/b"]


def test_an_index_of_packed_sitemaps(site: Site) -> None:
    site.pages["/map"] = sitemap("/one.xml.gz", "/two.xml.gz", "/one.xml.gz", index=True)
    for name, page in (("one", "/a"), ("two", "/b")):
        packed = gzip.compress(sitemap(page).body)
        site.pages[f"/{name}.xml.gz"] = Reply(packed, headers={"Content-Type": "application/x-gzip"})
        site.pages[page] = html(page, f"Page {page}.")
    documents, outcomes = read(f"{site.url}/map")
    assert not outcomes
    assert [d.id for d in documents] == [f"{site.url}/a", f"{site.url}/b"]


def test_what_has_not_changed_is_not_fetched_again(site: Site) -> None:
    day = "Thu, 01 Jan 2026 10:00:00 GMT"
    site.pages["/sitemap.xml"] = sitemap("/tag", "/day", "/plain", "/both")
    site.pages["/tag"] = html("Tag", "One.", ETag='W/"1"')
    site.pages["/day"] = html("Day", "Two.", **{"Last-Modified": day})
    site.pages["/plain"] = html("Plain", "Three.")
    site.pages["/both"] = html("Both", "Four.", ETag='"2"', **{"Last-Modified": day})
    first, _ = read(f"{site.url}/sitemap.xml")
    assert [bool(d.revision) for d in first] == [True, True, False, True]
    again, outcomes = read(f"{site.url}/sitemap.xml", known=knows(first))
    assert [d.id for d in again] == [f"{site.url}/plain"]
    assert [(o.doc_id, o.status) for o in outcomes] == [
        (f"{site.url}{path}", "unchanged") for path in ("/tag", "/day", "/both")
    ]
    assert site.requests[-1].headers["if-none-match"] == '"2"'
    assert site.requests[-1].headers["if-modified-since"] == day
    site.pages["/tag"] = html("Tag", "New.", ETag='W/"3"')
    again, _ = read(f"{site.url}/sitemap.xml", known=knows(first))
    assert [d.text for d in again] == ["# Tag\n\nNew.", "# Plain\n\nThree."]
    strange = Known(revision=lambda _: "number:5")
    assert len(read(f"{site.url}/sitemap.xml", known=strange)[0]) == 4


def test_gone_is_told_from_what_may_come_back(site: Site) -> None:
    site.pages["/sitemap.xml"] = sitemap("/good", "/absent", "/removed", "/broken", "/late", "/secret")
    site.pages["/good"] = html("Good", "Here.")
    site.pages["/removed"] = Reply(status=410)
    site.pages["/broken"] = Reply(status=500)
    site.pages["/late"] = Reply(b"x", pieces=(b"x", b"y"), pause=3.0)
    site.pages["/secret"] = Reply(status=403)
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert [d.title for d in documents] == ["Good"]
    told = {o.doc_id.removeprefix(site.url): (o.code, still_there(o)) for o in outcomes}
    assert told == {
        "/absent": ("gone", False),
        "/removed": ("gone", False),
        "/broken": ("source_unavailable", True),
        "/late": ("source_unavailable", True),
        "/secret": ("bad_input", True),
    }
    assert all(o.reason and o.remedy and not incomplete(o, f"{site.url}/sitemap.xml") for o in outcomes)


def test_a_page_alone_that_is_gone_and_one_that_fails(site: Site) -> None:
    _, (outcome,) = read(f"{site.url}/absent")
    assert not incomplete(outcome, f"{site.url}/absent"), "the source is read: it has nothing"
    assert not still_there(outcome)
    site.pages["/absent"] = Reply(status=503)
    _, (outcome,) = read(f"{site.url}/absent")
    assert incomplete(outcome, f"{site.url}/absent")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=404), "status 404"),
        (Reply(status=502), "status 502"),
        (Reply(sitemap("/a", "/b").body[:-20]), "no whole XML"),
        (Reply(gzip.compress(sitemap("/a", "/b").body)[:-12]), "no whole gzip"),
        (Reply(b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + sitemap("/&a;").body[21:]), "document type"),
        (Reply(gzip.compress(sitemap("/a").body + b" " * 60_000_000)), "more than 52428800 bytes"),
    ],
)
def test_a_sitemap_that_cannot_be_read_is_a_failure_of_the_source(site: Site, reply: Reply, reason: str) -> None:
    site.pages["/sitemap.xml"] = reply
    site.pages["/a"] = site.pages["/b"] = html("P", "Page.")
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert [incomplete(o, f"{site.url}/sitemap.xml") for o in outcomes] == [True]
    assert reason in outcomes[0].reason
    assert len(documents) <= 2


def test_an_inner_sitemap_that_is_gone_hides_pages_and_the_others_are_read(site: Site) -> None:
    site.pages["/sitemap.xml"] = sitemap("/one.xml", "/two.xml", index=True)
    site.pages["/two.xml"] = sitemap("/b")
    site.pages["/b"] = html("B", "Two.")
    documents, (outcome,) = read(f"{site.url}/sitemap.xml")
    assert [d.title for d in documents] == ["B"]
    assert incomplete(outcome, f"{site.url}/sitemap.xml")
    site.pages["/one.xml"] = sitemap("/deep.xml", index=True)
    site.pages["/deep.xml"] = sitemap("/deeper.xml", index=True)
    site.pages["/deeper.xml"] = sitemap("/c")
    _, (outcome,) = read(f"{site.url}/sitemap.xml")
    assert "more than 3 deep" in outcome.reason


def test_more_pages_than_the_bound(site: Site) -> None:
    site.pages["/sitemap.xml"] = sitemap(*(f"/{n}" for n in range(5)))
    for n in range(5):
        site.pages[f"/{n}"] = html(str(n), "Page.")
    documents, (outcome,) = read(f"{site.url}/sitemap.xml", pages=3)
    assert len(documents) == 3
    assert incomplete(outcome, f"{site.url}/sitemap.xml")
    assert "--max-pages" in outcome.remedy


def test_robots_are_obeyed(site: Site) -> None:
    rules = "User-agent: other\nDisallow: /\n\nUser-agent: Citewell\nDisallow: /private/\nDisallow: /*.pdf$\n"
    rules += "Allow: /private/but\n"
    site.pages["/robots.txt"] = Reply(rules.encode())
    site.pages["/sitemap.xml"] = sitemap("/private/a", "/private/but", "/x.pdf", "/open", "/moves")
    for path in ("/private/a", "/private/but", "/open"):
        site.pages[path] = html(path, "Page.")
    site.pages["/moves"] = Reply(status=302, headers={"Location": "/private/a"})
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert [d.title for d in documents] == ["/private/but", "/open"]
    assert [o.doc_id.removeprefix(site.url) for o in outcomes] == ["/private/a", "/x.pdf", "/moves"]
    assert all("robots.txt" in o.reason and still_there(o) for o in outcomes)
    assert [r.path for r in site.requests].count("/robots.txt") == 1
    assert "/x.pdf" not in site.paths()


@pytest.mark.parametrize("status", [403, 404])
def test_without_robots_everything_may_be_read(site: Site, status: int) -> None:
    site.pages["/robots.txt"] = Reply(status=status)
    site.pages["/a"] = html("A", "One.")
    assert len(read(f"{site.url}/a")[0]) == 1


def test_robots_that_cannot_be_read_forbid_everything(site: Site) -> None:
    site.pages["/robots.txt"] = Reply(status=503)
    site.pages["/a"] = html("A", "One.")
    documents, (outcome,) = read(f"{site.url}/a")
    assert not documents
    assert incomplete(outcome, f"{site.url}/a")
    assert "robots.txt answered with status 503" in outcome.reason
    assert site.paths() == []


def test_requests_keep_their_distance(site: Site) -> None:
    site.pages["/sitemap.xml"] = sitemap("/a", "/b")
    site.pages["/a"] = site.pages["/b"] = html("P", "Page.")
    read(f"{site.url}/sitemap.xml", pause=0.2)
    times = [request.at for request in site.requests]
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(times))
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nCrawl-delay: 0.3\n")
    site.requests.clear()
    read(f"{site.url}/sitemap.xml")
    times = [request.at for request in site.requests]
    assert all(later - earlier >= 0.29 for earlier, later in itertools.pairwise(times[1:]))


def test_an_overloaded_server_is_asked_again_after_its_time(site: Site) -> None:
    def busy(request: Request) -> Reply:
        return html("A", "One.") if site.paths().count("/a") == 2 else Reply(status=429, headers={"Retry-After": "2"})

    site.pages["/a"] = busy
    (document,), outcomes = read(f"{site.url}/a")
    assert not outcomes
    assert document.title == "A"
    first, second = (r.at for r in site.requests if r.path == "/a")
    assert second - first >= 1.9
    site.pages["/b"] = Reply(status=429, headers={"Retry-After": "3600"})
    started = time.monotonic()
    _, (outcome,) = read(f"{site.url}/b")
    assert time.monotonic() - started < 5, "an hour is not waited for"
    assert outcome.code == "source_unavailable"


def test_redirects_stay_on_the_host(site: Site) -> None:
    with running_site() as other:
        other.pages["/a"] = html("Elsewhere", "Not ours.")
        site.pages["/within"] = Reply(status=301, headers={"Location": "/a#x"})
        site.pages["/a"] = html("A", "One.")
        site.pages["/out"] = Reply(status=302, headers={"Location": f"{other.url}/a"})
        site.pages["/file"] = Reply(status=302, headers={"Location": "file:///etc/passwd"})
        site.pages["/loop"] = Reply(status=307, headers={"Location": "/loop"})
        site.pages["/sitemap.xml"] = sitemap("/within", "/out", "/file", "/loop", f"{other.url}/a")
        documents, outcomes = read(f"{site.url}/sitemap.xml")
        assert [(d.id, d.url) for d in documents] == [(f"{site.url}/within", f"{site.url}/a")]
        reasons = [o.reason for o in outcomes]
        assert "redirects to another host" in reasons[0]
        assert "redirects to another host: file:///etc/passwd" in reasons[1]
        assert "redirects more than 5 times" in reasons[2]
        assert "is on another host" in reasons[3]
        assert other.requests == []


@pytest.mark.parametrize(
    ("source", "other", "same"),
    [
        ("http://a.example", "https://a.example/x", True),
        ("http://A.example:80", "http://a.example/x", True),
        ("https://a.example", "http://a.example/x", False),
        ("https://a.example", "https://www.a.example/x", False),
        ("https://a.example", "https://a.example:8443/x", False),
        ("https://a.example", "https://a.example@b.example/x", False),
        ("https://a.example", "ftp://a.example/x", False),
        ("https://a.example", "https://a.example:x/", False),
    ],
)
def test_what_is_the_same_host(source: str, other: str, same: bool) -> None:
    assert Host.of(source).has(other) is same


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"x" * 100_001, headers={"Content-Type": "text/plain"}), "more than 100000 bytes"),
        (Reply(b"x" * 30_000, headers={"Content-Type": "text/plain"}), "30000 characters"),
        (Reply(b"\x89PNG", headers={"Content-Type": "image/png"}), "is image/png"),
        (Reply(b"what", headers={}), "of no kind that the server names"),
        (Reply(b"", headers={"Content-Type": "text/html"}), "empty"),
        (Reply(b"caf\xe9", headers={"Content-Type": "text/plain"}), "not UTF-8"),
        (Reply(b"caf\xe9s", headers={"Content-Type": "text/plain; charset=utf-16"}), "character set"),
        (Reply(b"x", headers={"Content-Type": "text/plain; charset=klingon"}), "`klingon`"),
        (Reply(b"part", headers={"Content-Type": "text/html"}, promised=1000), "broke off"),
        (Reply(b"no gzip", headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}), "broke off"),
    ],
)
def test_a_bad_page_is_one_failure(site: Site, reply: Reply, reason: str) -> None:
    site.pages["/sitemap.xml"] = sitemap("/bad", "/good")
    site.pages["/bad"] = reply
    site.pages["/good"] = html("Good", "Page.")
    documents, (outcome,) = read(f"{site.url}/sitemap.xml")
    assert [d.title for d in documents] == ["Good"]
    assert outcome.doc_id == f"{site.url}/bad"
    assert reason in outcome.reason
    assert outcome.remedy


def test_a_page_that_unpacks_without_end_stops_at_the_limit(site: Site) -> None:
    bomb = gzip.compress(b"<p>" + b"a" * 200_000_000)
    site.pages["/bomb"] = Reply(bomb, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})
    _, (outcome,) = read(f"{site.url}/bomb")
    assert "more than 100000 bytes" in outcome.reason


def test_kinds_of_pages_and_character_sets(site: Site) -> None:
    site.pages["/a.md"] = Reply(b"# Guide\n\nRead *me*.", headers={"Content-Type": "text/plain"})
    site.pages["/b.txt"] = Reply("Müller".encode("latin-1"), headers={"Content-Type": "text/plain; charset=iso-8859-1"})
    site.pages["/c"] = Reply(b"# C", headers={"Content-Type": "text/markdown; charset=utf-8"})
    meta = "<html><head><meta charset='shift_jis'></head><body><h1>時間</h1><p>九時。</p></body></html>"
    site.pages["/d"] = Reply(meta.encode("shift_jis"), headers={"Content-Type": "text/html"})
    site.pages["/e"] = html("E", "<a>Five</a>.")
    link = "<html><head><link rel='canonical' href='{}'></head><body><p>Linked.</p></body></html>"
    site.pages["/f"] = Reply(link.format("/canonical").encode(), headers={"Content-Type": "application/xhtml+xml"})
    site.pages["/g"] = Reply(link.format("https://evil.example/").encode(), headers={"Content-Type": "text/html"})
    site.pages["/sitemap.xml"] = sitemap("/a.md", "/b.txt", "/c", "/d", "/e", "/f", "/g")
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert not outcomes
    assert [d.text for d in documents[:5]] == [
        *("# Guide\n\nRead me.", "Müller", "# C", "# 時間\n\n九時。", "# E\n\nFive.")
    ]
    assert documents[5].url == f"{site.url}/canonical"
    assert documents[6].url == f"{site.url}/g", "a page cannot speak for another host"


def test_user_and_password_go_to_the_host_alone(site: Site) -> None:
    site.pages["/a"] = html("A", "One.")
    address = site.url.replace("//", "//reader:s3cr%40t@") + "/a"
    source = open_source(address, LIMITS, SourceOptions(pause=0.0))
    assert source.name == f"{site.url}/a"
    (document,) = source.items(NOTHING, lambda _: None)
    assert isinstance(document, Document)
    assert "s3cr" not in document.to_json()
    assert site.requests[-1].headers["authorization"] == "Basic cmVhZGVyOnMzY3JAdA=="


def test_addresses_and_tags_that_are_broken_cost_themselves_alone(site: Site) -> None:
    bad = ("http://[bad", "http://127.0.0.1:port/", "http://u:s3cret@[bad", "mailto:x", "http://:80/")
    site.pages["/sitemap.xml"] = sitemap(*bad, "/moves", "/odd", f"{site.url.replace('//', '//u:s3cret@')}/named")
    site.pages["/moves"] = Reply(status=302, headers={"Location": "http://[bad"})
    link = "<html><head><link rel='canonical' href='http://[bad'></head><body><p>Odd.</p></body></html>"
    site.pages["/odd"] = Reply(link.encode(), headers={"Content-Type": "text/html", "ETag": '"\xe9"'})
    site.pages["/named"] = html("Named", "Page.")
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert [(d.id, d.url) for d in documents] == [(f"{site.url}{path}",) * 2 for path in ("/odd", "/named")]
    assert len(outcomes) == len(bad) + 1
    assert "s3cret" not in "".join(map(str, outcomes))
    again, _ = read(f"{site.url}/sitemap.xml", known=knows(documents))
    assert [d.id for d in again] == [f"{site.url}/odd", f"{site.url}/named"]
    numbers = Known(revision=lambda _: "5")
    assert len(read(f"{site.url}/sitemap.xml", known=numbers)[0]) == 2


def test_a_server_that_is_not_there() -> None:
    _, (outcome,) = read("http://user:s3cret@127.0.0.1:1/page")
    assert incomplete(outcome, "http://127.0.0.1:1/page")
    assert outcome.code == "source_unavailable"
    assert "s3cret" not in str(outcome)


def test_addresses_and_options_that_make_no_sense() -> None:
    for address in ("http://", "https://host:port/", "http:///path"):
        with pytest.raises(BadInput, match="no address of a web page"):
            open_source(address, LIMITS)
    with pytest.raises(BadInput, match="web pages take no `since`"):
        open_source("https://host/", LIMITS, SourceOptions(since="day"))
    assert open_source("https://host", LIMITS).name == "https://host/"


def test_something_else_than_elasticsearch(site: Site) -> None:
    url = site.url.replace("http:", "elasticsearch:") + "/index"
    site.pages["/_cluster/health"] = Reply(b"{}")
    (outcome,) = open_source(url, LIMITS).items(NOTHING, lambda _: None)
    assert isinstance(outcome, Outcome)
    assert outcome.code == "source_unavailable"


# Files of other programs, and pages that are made to hold a parser up


def served(data: bytes, kind: str) -> Reply:
    return Reply(data, headers={"Content-Type": kind, "ETag": '"1"'})


def test_files_of_other_programs_are_pages(site: Site) -> None:
    office = "application/vnd.openxmlformats-officedocument"
    site.pages["/manual"] = served(made_files.pdf_file(), "application/pdf")
    site.pages["/hand.docx"] = served(made_files.docx_file(), "application/zip")
    site.pages["/slides"] = served(made_files.pptx_file(), f"{office}.presentationml.presentation")
    site.pages["/prices.xlsx"] = served(made_files.xlsx_file(), "application/octet-stream")
    site.pages["/book"] = served(made_files.epub_file(), "application/epub+zip")
    site.pages["/sitemap.xml"] = sitemap("/manual", "/hand.docx", "/slides", "/prices.xlsx", "/book")
    documents, outcomes = read(f"{site.url}/sitemap.xml")
    assert outcomes == []
    assert [d.id.removeprefix(site.url) for d in documents] == [
        "/manual", "/hand.docx", "/slides", "/prices.xlsx", "/book"
    ]  # fmt: skip
    assert [(d.title, len(d.pages)) for d in documents] == [
        ("A manual", 3), ("R&D handbook", 0), ("First slide", 2), ("Prices", 0), ("Book of lamps", 0)
    ]  # fmt: skip
    assert all(d.url == d.id for d in documents)
    again, outcomes = read(f"{site.url}/sitemap.xml", known=knows(documents))
    assert again == []
    assert {outcome.status for outcome in outcomes} == {"unchanged"}


def test_files_that_are_locked_broken_or_traps_fail_alone(site: Site) -> None:
    site.pages["/locked"] = served(made_files.pdf_file("secret"), "application/pdf")
    site.pages["/cut.docx"] = served(made_files.docx_file()[:3000], "application/octet-stream")
    site.pages["/bomb"] = served(made_files.pdf_that_unpacks_to(400), "application/pdf")
    site.pages["/slow"] = served(made_files.pdf_that_draws_without_end(), "application/pdf")
    site.pages["/deep"] = served(b"<p>" + b"<i>" * 60_000 + b"x", "text/html")
    site.pages["/good"] = html("Good", "Page. " * 2000)
    site.pages["/sitemap.xml"] = sitemap("/locked", "/cut.docx", "/bomb", "/slow", "/deep", "/good")
    limits = Limits(50_000_000, 1_000_000, parse_seconds=10, parse_bytes=200_000_000)
    source = open_source(f"{site.url}/sitemap.xml", limits, SourceOptions(pause=0.0))
    items = list(source.items(NOTHING, lambda _: None))
    assert [item.title for item in items if isinstance(item, Document)] == ["Good"]
    failures = {item.doc_id.removeprefix(site.url): item for item in items if isinstance(item, Outcome)}
    assert list(failures) == ["/locked", "/cut.docx", "/bomb", "/slow", "/deep"]
    for path, word in (("/locked", "password"), ("/cut.docx", "no readable DOCX"), ("/bomb", "memory")):
        assert word in failures[path].reason
    slow = failures["/slow"].reason  # it eats time and memory: which limit is met first is the machine's
    assert "longer than 10 seconds" in slow or "memory" in slow
    assert "nested too deeply" in failures["/deep"].reason
    assert all(f.source == source.name and f.remedy and still_there(f) for f in failures.values())


@pytest.mark.parametrize("kind", ["text/html", "text/markdown"])
def test_a_small_page_that_is_nested_deeply_is_one_failure(site: Site, kind: str) -> None:
    site.pages["/a"] = Reply(
        b"<i>" * 1300 + b"x" if kind == "text/html" else b">" * 3000 + b"x", headers={"Content-Type": kind}
    )
    documents, outcomes = read(f"{site.url}/a")
    assert len(documents) + len(outcomes) == 1
    assert all(outcome.reason and outcome.remedy for outcome in outcomes)
