"""Sources: every format, and every way in which a file can be bad; a bad line never stops the load."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from citewell.ingest.sources import Limits, bounded_lines, read_sources
from citewell.records import Document, Outcome

LIMITS = Limits(file_bytes=100_000, text_characters=2_000)


def read(*paths: Path) -> tuple[list[Document], list[Outcome]]:
    items = list(read_sources([str(path) for path in paths], LIMITS))
    return [i for i in items if isinstance(i, Document)], [i for i in items if isinstance(i, Outcome)]


def lines(*records: object) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in records)


def test_json_lines_with_every_field(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        lines(
            {
                "_id": "x",
                "title": "T",
                "text": "Hola",
                "url": "u",
                "lang": "es",
                "metadata": {"a": 1},
                "groups": ["b", "a"],
            }
        )
    )
    (document,), failures = read(file)
    assert not failures
    assert document == Document(
        id="x", title="T", text="Hola", url="u", lang="es", metadata={"a": 1}, groups=("a", "b")
    )


def test_a_bad_line_costs_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    bad: list[object] = ["{nope", {"_id": "n"}, {"_id": "e", "text": " "}, "[1]", {"_id": ["x"], "text": "t"}]
    bad += [
        {"_id": "m", "text": "t", "metadata": 3},
        {"_id": "s", "text": "\ud800"},
        '{"_id": "nan", "text": "t", "metadata": {"a": NaN}}',
    ]
    bad += ["[" * 100_000, {"_id": "big", "text": "x" * 3_000}, {"_id": "w", "text": 5}]
    content = lines({"_id": "first", "text": "one"}, *bad).encode("utf-8", "surrogatepass")
    file.write_bytes(
        content + b'{"_id": "latin", "text": "caf\xe9"}\n' + lines({"_id": "last", "text": "two"}).encode()
    )
    documents, failures = read(file)
    assert [d.id for d in documents] == ["first", "last"]
    assert len(failures) == len(bad) + 1
    assert all(f.status == "failed" and f.reason and f.remedy for f in failures)
    places = [f.doc_id for f in failures]
    assert places[0] == "a.jsonl:2", "a failure names file and line"
    assert "UTF-8" in failures[-1].reason


def test_ids_fall_back_to_url_then_to_the_place(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines({"text": "one", "url": "https://x/1"}, {"text": "two"}, {"id": 7, "text": "three"}))
    documents, _ = read(file)
    assert [d.id for d in documents] == ["https://x/1", "a.jsonl:2", "7"]


def test_a_line_over_the_limit_is_not_read_whole() -> None:
    stream = io.BytesIO(b"short\n" + b"x" * 50_000 + b"\nafter\n" + b"y" * 101)
    assert list(bounded_lines(stream, 100)) == [b"short\n", None, b"after\n", None]


def test_gzip_and_its_breakage(tmp_path: Path) -> None:
    whole, cut, fake = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.gz"
    packed = gzip.compress(lines(*({"_id": f"d{n}", "text": f"text {n} {n * 7919}"} for n in range(200))).encode())
    whole.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) // 2])
    fake.write_bytes(b"no gzip at all")
    documents, failures = read(whole)
    assert len(documents) == 200
    assert not failures
    documents, failures = read(cut, fake)
    assert all(f.remedy for f in failures)
    assert [f.doc_id for f in failures] == ["b.jsonl.gz", "c.jsonl.gz"]


def test_json_as_a_list_and_as_one_object(tmp_path: Path) -> None:
    many, one = tmp_path / "a.json", tmp_path / "b.json"
    many.write_text(json.dumps([{"id": "a", "text": "one"}, {"id": "b"}, 3]))
    one.write_text(json.dumps({"id": "c", "text": "two"}))
    documents, failures = read(many, one)
    assert [d.id for d in documents] == ["a", "c"]
    assert [f.doc_id for f in failures] == ["a.json:2", "a.json:3"]


def test_csv_with_metadata_columns_and_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(
        b"id,title,text,groups,section\n1,T,one,a|b,shipping\n2,T,\n3,T,caf\xe9,,\n4,T,four,,,,extra\n"
        b'5,T,"five\nlines",,\n'
    )
    documents, failures = read(file)
    assert [(d.id, d.text) for d in documents] == [("1", "one"), ("5", "five\nlines")]
    assert documents[0].groups == ("a", "b")
    assert documents[0].metadata == {"section": "shipping"}
    assert len(failures) == 3
    (tmp_path / "b.csv").write_text("id,body\n1,x\n")
    assert "no column `text`" in read(tmp_path / "b.csv")[1][0].reason


def test_a_folder_is_read_sorted_and_ids_are_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.md").write_text("# X\n\nSecret.")
    (tmp_path / "sub" / "b.md").write_text("# B\n\nBody.")
    (tmp_path / "a.txt").write_text("Plain.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    documents, failures = read(tmp_path)
    assert [d.id for d in documents] == ["a.txt", "sub/b.md"]
    assert [f.doc_id for f in failures] == ["picture.png"]
    assert "unknown kind" in failures[0].reason


def test_a_test_collection_is_loaded_by_its_corpus_alone(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text(lines({"_id": "q", "text": "a question"}))
    (tmp_path / "corpus.jsonl").write_text(lines({"_id": "d", "text": "a document"}))
    (tmp_path / "meta.json").write_text("{}")
    documents, failures = read(tmp_path)
    assert [d.id for d in documents] == ["d"]
    assert not failures


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"", "empty"),
        ("empty.jsonl", b"\n\n", "empty"),
        ("empty.csv", b"", "empty"),
        ("empty.json", b"[]", "empty"),
        ("latin.md", b"caf\xe9", "not UTF-8"),
        ("huge.txt", b"x" * 100_001, "more than 100000 bytes"),
        ("long.txt", b"x" * 2_001, "2001 characters"),
        ("broken.json", b"{", "no JSON"),
    ],
)
def test_a_bad_file_is_one_failure_with_reason_and_remedy(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    documents, (failure,) = read(tmp_path / name)
    assert not documents
    assert reason in failure.reason
    assert failure.remedy


def test_a_source_that_is_missing_and_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _, failures = read(tmp_path / "absent", tmp_path / "empty")
    assert ["does not exist" in failures[0].reason, "holds no files" in failures[1].reason] == [True, True]
