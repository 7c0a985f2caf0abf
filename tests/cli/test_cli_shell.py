"""What holds for every command: messages, streams, settings, and the commands that look after the house."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from rich.cells import cell_len
from typer.main import get_command

from citewell import __version__
from citewell.cli import app
from citewell.cli.output import clean, one_line
from tests.cli.terminal import PROGRAM, Terminal

COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]


def test_version_and_help(terminal: Terminal) -> None:
    assert terminal.run("--version").stdout == f"citewell {__version__}\n"
    text = terminal.run("--help").stdout
    assert all(re.search(rf"^│ {name} ", text, re.MULTILINE) for name in COMMANDS)
    assert terminal.run(status=2).stdout == text
    for name in COMMANDS:
        assert f"citewell {name}" in terminal.run(name, "-h").stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, citewell.cli as c\n"
        "try: c.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'lancedb', 'pydantic', 'structlog', 'httpx', 'citewell.engine', 'celery'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stderr.strip() == "[]"


def test_a_wrong_command_names_the_nearest(terminal: Terminal) -> None:
    result = terminal.run("sarch", status=2)
    assert result.stderr.startswith("error: No such command 'sarch'. Did you mean 'search'?")
    assert "remedy: " in result.stderr


def test_an_unknown_setting_stops_every_command(terminal: Terminal) -> None:
    wrong = terminal.with_settings(passage_token="50")
    for words in (("config",), ("search", "x"), ("ingest", "x"), ("answers", "show", "x"), ("worker",), ("serve",)):
        error = wrong.json(*words, status=1)["error"]
        assert error["code"] == "config"
        assert "CITEWELL_PASSAGE_TOKEN," in error["message"]
        assert "CITEWELL_PASSAGE_TOKENS?" in error["remedy"]
    assert "did you mean" in wrong.run("doctor", status=1).stdout.lower()


# Config


def test_config_tells_values_and_where_they_come_from(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('k = 7\nredis_url = "redis://:hush@127.0.0.1:6379/0"\n', "utf-8")
    mine = terminal.with_settings(config=str(file), depth="50", api_key="hush-hush")
    shown = {row["name"]: row for row in mine.json("config")["settings"]}
    assert (shown["k"]["value"], shown["k"]["origin"]) == (7, str(file))
    assert (shown["depth"]["value"], shown["depth"]["origin"]) == (50, "CITEWELL_DEPTH")
    assert (shown["rrf_k"]["value"], shown["rrf_k"]["origin"]) == (60, "default")
    assert (shown["alpha"]["value"], shown["alpha"]["origin"]) == (None, "default")
    assert shown["api_key"]["value"] == "********"
    assert shown["redis_url"]["value"] == "redis://********@127.0.0.1:6379/0"
    text = mine.run("config").stdout
    assert "hush" not in text
    assert all(name in text for name in shown)
    assert [row["name"] for row in mine.json("config", "k", "depth")["settings"]] == ["k", "depth"]
    assert "`depth`" in mine.json("config", "detph", status=1)["error"]["remedy"]


def test_a_broken_settings_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for content, word in (("k = ", "cannot be read"), ("kk = 3", "`kk` is no setting"), ('k = "many"', "`k`")):
        file.write_text(content, "utf-8")
        assert word in terminal.with_settings(config=str(file)).json("config", status=1)["error"]["message"]
    assert "does not exist" in terminal.with_settings(config="/nowhere.toml").run("config", status=1).stderr


# Doctor


def test_doctor_finds_a_healthy_house(shop: Terminal) -> None:
    report = shop.json("doctor")
    assert report["ok"]
    details = {check["name"]: check["detail"] for check in report["checks"] if check["ok"]}
    assert list(details) == ["settings", "python", "data_dir", "embedder", "generator", "index", "answers"]
    assert "53 documents" in details["index"]
    assert re.search(r"weights [0-9a-f]{12}, 384 dimensions", details["embedder"])
    assert "all 7 checks are ok" in shop.run("doctor").stdout


def test_doctor_names_each_problem_with_its_remedy(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = Terminal(tmp_path / "file" / "data", embedder="/nowhere", generator="oracle")
    report = broken.json("doctor", status=1)
    problems = {check["name"]: check for check in report["checks"] if not check["ok"]}
    assert not report["ok"]
    assert set(problems) == {"data_dir", "embedder", "generator", "index", "answers"}
    assert all(check["reason"] and check["remedy"] for check in problems.values())
    assert "5 of 7 checks" in broken.run("doctor", status=1).stdout
    report = terminal.with_settings(port="many").json("doctor", status=1)
    assert report["checks"][0]["name"] == "settings"
    assert "`port`" in report["checks"][0]["reason"]


def test_doctor_on_servers_that_are_not_there(terminal: Terminal) -> None:
    away = terminal.with_settings(
        stack="served", elasticsearch_url="http://127.0.0.1:9", redis_url="redis://127.0.0.1:9/0"
    )
    report = away.json("doctor", status=1)
    problems = {check["name"]: check for check in report["checks"] if not check["ok"]}
    assert set(problems) == {"index", "answers", "queue", "workers"}
    assert all(check["reason"] and check["remedy"] for check in problems.values())


# Streams


def test_text_is_cut_by_columns() -> None:
    assert one_line("返品は三十日以内です", 11) == "返品は三十…"
    assert cell_len(one_line("반품 기간은 삼십 일입니다", 12)) <= 12
    assert one_line(" a \n b ", 10) == "a b"
    assert clean("a\x1b[1mb\r\n\tc\u202e\udc80") == "a\ufffd[1mb\ufffd\n\tc\ufffd\\udc80"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_reader_that_leaves_is_no_error(terminal: Terminal) -> None:
    read, write = os.pipe()
    os.close(read)
    process = terminal.start("config", "--json", stdout=write)
    os.close(write)
    _, stderr = process.communicate(timeout=60)
    assert stderr == ""
    assert process.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_colours_on_a_terminal_unless_unwanted(terminal: Terminal) -> None:
    import pty

    def seen(no_color: str) -> str:
        main, side = pty.openpty()
        env = terminal.environment() | {"TERM": "xterm-256color", "NO_COLOR": no_color}
        process = subprocess.Popen([*PROGRAM, "config", "nothing"], env=env, stdout=side, stderr=side)
        os.close(side)
        text = b""
        while True:
            try:
                data = os.read(main, 4096)
            except OSError:  # Linux's way to say that the other side is closed
                data = b""
            if not data:
                break
            text += data
        os.close(main)
        process.wait(timeout=60)
        return text.decode()

    assert "\x1b[1;31merror: " in seen("")
    assert "31m" not in seen("1")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_shows_no_traceback(terminal: Terminal) -> None:
    process = terminal.start("ask", "Which kettle?")
    timer = threading.Timer(1.5, process.send_signal, (signal.SIGINT,))
    timer.start()
    _, stderr = process.communicate(timeout=120)
    timer.join()
    assert "Traceback" not in stderr
    assert process.returncode in (130, 1)  # 1 when it had found the empty index before


# Serve, and the commands that go there


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, str]]:
    """A running service with a key on an empty folder, and its address."""
    folder = tmp_path_factory.mktemp("service")
    terminal = Terminal(folder / "data", api_key="open-sesame")
    process = terminal.start("serve", "--port", "0", "--json", stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    address = _address(process.stderr)
    rest = threading.Thread(target=process.stderr.read)  # a full pipe would stop the service
    rest.start()
    yield terminal, address
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    rest.join()
    process.stderr.close()


def _address(log: IO[str]) -> str:
    """Where the service listens, by its log, every line of which is a JSON object."""
    for line in log:
        found = json.loads(line)
        if found["event"] == "listening":
            return str(found["address"])
    raise AssertionError("the service did not start")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_commands_against_a_running_service(service: tuple[Terminal, str], tmp_path: Path) -> None:
    terminal, url = service
    assert "holds no documents" in terminal.json("ask", "Anything?", "--url", url, status=1)["error"]["message"]
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "lamp.md").write_text("# Lamp\n\nThe lamp burns for nine hours on one charge.\n", "utf-8")
    (folder / "bad.jsonl").write_text("{\n", "utf-8")
    report = terminal.json("ingest", str(folder), "--url", url, status=1)
    assert report["counts"] == {"added": 1, "changed": 0, "unchanged": 0, "failed": 1}
    assert report["failed"][0]["doc_id"] == "bad.jsonl:1"
    found = terminal.json("search", "lamp", "--url", url)
    assert [hit["passage"]["doc_id"] for hit in found["hits"]] == ["lamp.md"]
    there = terminal.with_settings(url=url, api_key="open-sesame")
    assert there.json("search", "lamp")["hits"]
    text = there.run("ask", "How long does the lamp burn?").stdout
    assert "nine hours" in text
    assert "[1] Lamp" in text
    answer_id = terminal.run("ask", "How long does the lamp burn?", "--no-wait", "--url", url).stdout.strip()
    assert terminal.json("answers", "show", answer_id, "--wait", "30", "--url", url)["state"] == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_wrong_key_and_no_service(service: tuple[Terminal, str]) -> None:
    terminal, url = service
    error = terminal.json("search", "lamp", "--url", url, "--key", "wrong", status=1)["error"]
    assert error["code"] == "unauthorized"
    for address in ("http://127.0.0.1:9", "nonsense"):
        error = terminal.json("search", "lamp", "--url", address, status=1)["error"]
        assert error["remedy"]


def test_serve_refuses_what_cannot_work(terminal: Terminal) -> None:
    assert "API key" in terminal.json("serve", "--host", "0.0.0.0", status=1)["error"]["message"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "in use" in terminal.json("serve", "--port", port, status=1)["error"]["message"]
    assert "--port" in terminal.json("serve", "--port", "70000", status=2)["error"]["message"]
