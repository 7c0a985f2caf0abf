"""Sources: every format, and every way in which a file can be bad; a bad line never stops the load."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from citewell.ingest.sources import Item, Known, Limits, bounded_lines, open_source
from citewell.ingest.sources.files import FileSource
from citewell.records import Document, Outcome
from tests import made_files

LIMITS = Limits(file_bytes=100_000, text_characters=2_000)


def items_of(argument: str) -> Iterator[Item]:
    return open_source(argument, LIMITS).items(Known(), lambda _: None)


def read(*paths: Path) -> tuple[list[Document], list[Outcome]]:
    items = [item for path in paths for item in items_of(str(path))]
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


# Packed files, archives, globs, standard input, Parquet


def test_zst_and_its_breakage(tmp_path: Path) -> None:
    content = lines(*({"_id": f"d{n}", "text": f"text {n} {n * 7919}"} for n in range(3000))).encode()
    zst = bytes(pa.compress(content, "zstd", asbytes=True))
    (tmp_path / "a.jsonl.zst").write_bytes(zst)
    (tmp_path / "b.jsonl.zst").write_bytes(zst[: len(zst) // 2])
    (tmp_path / "c.jsonl.zst").write_bytes(b"no zst at all")
    (tmp_path / "d.md.zst").write_bytes(bytes(pa.compress(b"# T\n\nWords.", "zstd", asbytes=True)))
    documents, failures = read(tmp_path / "a.jsonl.zst")
    assert (len(documents), failures) == (3000, [])
    _, failures = read(tmp_path / "b.jsonl.zst", tmp_path / "c.jsonl.zst")
    assert {f.doc_id.partition(":")[0] for f in failures} == {"b.jsonl.zst", "c.jsonl.zst"}
    assert all("no whole zst file" in f.reason and f.remedy for f in failures if ":" not in f.doc_id)
    assert [f.doc_id for f in failures if ":" not in f.doc_id] == ["b.jsonl.zst", "c.jsonl.zst"]
    assert [d.title for d in read(tmp_path / "d.md.zst")[0]] == ["T"]


def test_an_archive_s_members_are_files(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {
        "a.jsonl": lines({"_id": "x", "text": "one"}, "{bad"),
        "sub/b.md": "# B\n\nBody.",
        "sub/c.jsonl.gz": gzip.compress(lines({"_id": "y", "text": "two"}).encode()),
        "m.eml": made_files.eml_file(),
        "__MACOSX/a.jsonl": "junk",
        ".hidden.md": "secret",
        "inner.zip": made_files.zip_file({"a.md": "x"}),
        "picture.png": b"\x89PNG",
    }
    (tmp_path / "all.zip").write_bytes(made_files.zip_file(members))
    documents, failures = read(tmp_path / "all.zip")
    assert [d.id for d in documents] == ["x", "all.zip/sub/b.md", "y", "all.zip/m.eml"]
    assert [(f.doc_id, f.reason.partition(":")[0]) for f in failures] == [
        ("all.zip/a.jsonl:2", "the line is no JSON"),
        ("all.zip/inner.zip", "an archive within an archive is not unpacked"),
        ("all.zip/picture.png", "unknown kind of file"),
    ]


def test_archives_that_are_traps_or_broken(tmp_path: Path) -> None:
    whole = made_files.zip_file({"a.txt": "some words " * 200, "b.txt": "other words"})
    at = whole.index(b"PK\x01\x02")
    locked = whole[: at + 8] + b"\x01\x00" + whole[at + 10 :]
    spoiled = bytearray(whole)
    spoiled[60] ^= 0xFF
    overlapping = bytearray(whole)
    overlapping[at + 20 : at + 24] = (10**6).to_bytes(4, "little")
    files = {
        "bomb.zip": made_files.zip_file({"a.txt": bytes(20_000_000), "b.txt": "words"}),
        "locked.zip": locked,
        "spoiled.zip": bytes(spoiled),
        "overlap.zip": bytes(overlapping),
        "cut.zip": whole[: len(whole) // 2],
        "empty.zip": made_files.zip_file({}),
    }
    reasons = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        documents, (failed,) = read(tmp_path / name)
        reasons[name] = failed.reason
        assert failed.remedy
        alone = name in ("bomb.zip", "locked.zip", "spoiled.zip")
        assert [d.id for d in documents] == ([f"{name}/b.txt"] if alone else []), "the other member is loaded"
    assert "unpacks to 20000000 bytes" in reasons["bomb.zip"]
    assert "password" in reasons["locked.zip"]
    assert "overlap" in reasons["overlap.zip"]
    assert all("no whole zip" in reasons[name] for name in ("spoiled.zip", "cut.zip"))
    assert "no files" in reasons["empty.zip"]


def test_a_glob_gives_the_ids_of_its_folder(tmp_path: Path) -> None:
    for name in ("a.md", "sub/b.md", "sub/deep/c.md", "sub/d.txt", "sub/.hidden.md"):
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(f"Words of {name}.")
    documents, _ = read(tmp_path / "docs" / "**" / "*.md")
    assert [d.id for d in documents] == ["a.md", "sub/b.md", "sub/deep/c.md"]
    assert {d.id for d in documents} < {d.id for d in read(tmp_path / "docs")[0]}
    assert "no file matches" in read(tmp_path / "docs" / "*.pdf")[1][0].reason
    (tmp_path / "odd[1].txt").write_text("A name with brackets.")
    assert [d.id for d in read(tmp_path / "odd[1].txt")[0]] == ["odd[1].txt"]


@pytest.mark.parametrize(
    ("argument", "data", "ids"),
    [
        ("-", b'{"text": "one"}\n{"_id": "b", "text": "two"}\n', ["stdin.jsonl:1", "b"]),
        ("csv:-", b"id,text\n1,one\n", ["1"]),
        ("jsonl.gz:-", gzip.compress(b'{"_id": "z", "text": "one"}\n'), ["z"]),
        ("eml:-", made_files.eml_file(), ["stdin.eml"]),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, argument: str, data: bytes, ids: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    items = list(items_of(argument))
    assert [item.id for item in items if isinstance(item, Document)] == ids
    assert FileSource(argument, LIMITS).name == "standard input"


def test_parquet_with_types_and_bad_rows(tmp_path: Path) -> None:
    table = pa.table({
        "id": [1, 2, 3], "text": ["one", None, "three"], "groups": [["b", "a"], [], None],
        "year": [2020, None, 2022], "price": [decimal.Decimal("6.90"), None, decimal.Decimal("7")],
        "day": [datetime.date(2026, 1, 2), None, None],
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    documents, failures = read(tmp_path / "a.parquet")
    assert [(d.id, d.text, d.groups) for d in documents] == [("1", "one", ("a", "b")), ("3", "three", ())]
    assert documents[0].metadata == {"year": 2020, "price": 6.9, "day": "2026-01-02"}
    assert [f.doc_id for f in failures] == ["a.parquet:2"]
    parquet.write_table(pa.table({"id": [1], "body": ["x"]}), tmp_path / "b.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[:-20])
    _, failures = read(tmp_path / "b.parquet", tmp_path / "c.parquet")
    assert ["no column `text`" in failures[0].reason, "no whole Parquet" in failures[1].reason] == [True, True]


# Files that change or lead nowhere, several encodings, long lines


def test_what_vanishes_or_leads_nowhere_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.pdf", "d.txt"):
        (tmp_path / name).write_text(f"Words of {name}.")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    items = items_of(str(tmp_path))
    first = next(items)
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.pdf").unlink()
    rest = list(items)
    assert isinstance(first, Document)
    assert [item.id for item in rest if isinstance(item, Document)] == ["d.txt"]
    found = {item.doc_id: item.reason for item in rest if isinstance(item, Outcome)}
    assert set(found) == {"b.txt", "c.pdf", "gone", "pipe.txt"}
    assert "disappeared" in found["b.txt"]
    assert "leads nowhere" in found["gone"]
    assert "no regular file" in found["pipe.txt"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz"])
def test_a_file_that_is_cut_while_it_is_read_is_named(tmp_path: Path, name: str) -> None:
    """Also between two lines, where it looks whole: a sync must not take the rest for deleted."""
    file = tmp_path / name
    numbers = [n * 7919 % 99_991 for n in range(30_000)]
    if name == "a.csv":
        content = b"id,text\n" + b"".join(b"d%05d,%09d words\n" % (n, number) for n, number in enumerate(numbers))
    else:
        content = b"".join(b'{"id":"d%05d","text":"%09d"}\n' % (n, number) for n, number in enumerate(numbers))
    packed = gzip.compress(content) if name.endswith(".gz") else content
    file.write_bytes(packed)
    items = items_of(str(file))
    first = next(items)
    os.truncate(file, len(packed) // 2 if name.endswith(".gz") else content.index(b"\n", len(content) // 2) + 1)
    found = [first, *items]
    documents = [item for item in found if isinstance(item, Document)]
    failures = [item for item in found if isinstance(item, Outcome)]
    assert 0 < len(documents) < 30_000
    assert failures[-1].doc_id == name
    assert "shorter while it was read" in failures[-1].reason
    assert failures[-1].remedy
    assert not failures[-1].exact, "it may hide documents"


def test_several_encodings_in_one_folder(tmp_path: Path) -> None:
    for name, data in {
        "a.txt": "sí".encode(),
        "b.txt": "sí".encode("latin-1"),
        "c.txt": "sí".encode("utf-16"),
        "d.html": '<html><head><meta charset="iso-8859-1"></head><body><p>sí</p></body></html>'.encode("latin-1"),
        "e.csv": "id,text\n1,sí\n".encode("utf-16"),
        "f.csv": "id,text\n1,sí\n".encode() + "2,sí\n".encode("latin-1") + b"3,no\n",
    }.items():
        (tmp_path / name).write_bytes(data)
    documents, failures = read(tmp_path)
    assert [(d.id, d.text) for d in documents] == [("a.txt", "sí"), ("d.html", "sí"), ("1", "sí"), ("3", "no")]
    assert [f.doc_id for f in failures] == ["b.txt", "c.txt", "e.csv", "f.csv:3"]
    assert all("UTF-8" in f.reason for f in failures)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_line_of_two_gigabytes_takes_no_memory(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with file.open("wb") as made:
        made.write(b'{"_id": "a", "text": "one"}\n' if name == "a.jsonl" else b"id,text\na,one\n")
        made.seek(2_000_000_000, os.SEEK_CUR)  # a hole: nothing is written
        made.write(b'\n{"_id": "b", "text": "two"}\n' if name == "a.jsonl" else b"\nb,two\n")
    code = (
        "import pathlib, sys; from citewell.ingest.sources import Known, Limits, open_source; "
        "items = open_source(sys.argv[1], Limits(100_000, 200_000)).items(Known(), lambda _: None); "
        "print([getattr(i, 'id', None) or i.code for i in items]); "
        # ru_maxrss would count the process that this one was forked from.
        "status = pathlib.Path('/proc/self/status').read_text(); print(status.partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True, timeout=120)
    found, kilobytes = done.stdout.splitlines()
    assert found == "['a', 'too_large', 'b']"
    assert int(kilobytes) < 300_000
