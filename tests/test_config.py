"""Settings: where a value comes from, and that nothing unknown or wrong gets past the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from citewell.config import load_settings, origin
from citewell.errors import ConfigError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of this machine is seen; the working directory is empty."""
    import os

    for name in [n for n in os.environ if n.upper().startswith("CITEWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_argument_before_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    assert load_settings().k == 5
    (bare / "citewell.toml").write_text("k = 6\nport = 81\n")
    assert (load_settings().k, origin("k")) == (6, "citewell.toml")
    monkeypatch.setenv("CITEWELL_K", "7")
    assert (load_settings().k, origin("k")) == (7, "CITEWELL_K")
    assert (load_settings(k=8).k, origin("k", {"k": 8})) == (8, "argument")
    assert (load_settings().port, origin("host")) == (81, "default")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CITEWELL_ALPHA", "1.5", "alpha"),
        ("CITEWELL_STACK", "docker", "embedded"),
        ("CITEWELL_REDIS_URL", "http://x", "redis://"),
        ("CITEWELL_ELASTICSEARCH_URL", "localhost:9200", "http://"),
        ("CITEWELL_INDEX_NAME", "Upper Case", "index_name"),
        ("CITEWELL_PASSAGE_TOKEN", "100", "CITEWELL_PASSAGE_TOKEN"),
    ],
)
def test_a_wrong_or_unknown_name_in_the_environment_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_near_name_is_suggested(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    (bare / "citewell.toml").write_text("passage_token = 100\n")
    with pytest.raises(ConfigError, match="did you mean `passage_tokens`"):
        load_settings()
    (bare / "citewell.toml").unlink()
    monkeypatch.setenv("CITEWELL_PASSAGE_TOKEN", "100")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "CITEWELL_PASSAGE_TOKENS" in caught.value.remedy


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(k=0, alpha=-1)
    assert "`k`" in caught.value.message
    assert "`alpha`" in caught.value.message


@pytest.mark.parametrize("content", [b"k = ", b"\xff\xfe"])
def test_a_broken_file_is_named(bare: Path, content: bytes) -> None:
    (bare / "citewell.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"citewell\.toml"):
        load_settings()


def test_a_named_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITEWELL_CONFIG", "absent.toml")
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_settings()


def test_secrets_do_not_show() -> None:
    assert "s3cret" not in repr(load_settings(api_key="s3cret"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("x.org", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert load_settings(host=host).on_loopback() is loopback
