"""What the URL of a log says, and what it must not say."""

from pathlib import Path

import pytest

from headwater.errors import InvalidOption
from headwater.transports.sqlite.settings import Settings, settings_of


def test_three_slashes_are_a_path_from_here_and_four_one_from_the_root() -> None:
    """As everywhere else; the path is absolute in the end, for a later change of folder."""
    assert settings_of("sqlite:///shop.db").path == str(Path.cwd() / "shop.db")
    assert settings_of("sqlite:///data/shop.db").path == str(Path.cwd() / "data" / "shop.db")
    assert settings_of("sqlite:////var/lib/shop.db").path == "/var/lib/shop.db"


def test_a_path_may_have_any_sign() -> None:
    """Written as in every URL."""
    assert settings_of("sqlite:////var/a%20b%3Fc.db").path == "/var/a b?c.db"
    assert settings_of("sqlite:////var/caf%C3%A9.db").path == "/var/café.db"


def test_settings_have_defaults_and_may_be_given() -> None:
    """All of them."""
    assert settings_of("sqlite:////a.db") == Settings("/a.db")
    given = "synchronous=NORMAL&lease=2.5&timeout=1&poll=0.5&retain=60&max_bytes=2048"
    assert settings_of(f"sqlite:////a.db?{given}") == Settings(
        "/a.db", "normal", 2.5, 1.0, 0.5, 60.0, 2048
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite://shop.db", "third slash is missing"),
        ("sqlite://data/shop.db", "third slash is missing"),
        ("sqlite://", "got no path"),
        ("sqlite:///", "got no path"),
        ("sqlite:///?lease=1", "got no path"),
        ("sqlite:///a.db?leese=1", "unknown setting 'leese'; did you mean 'lease'?"),
        ("sqlite:///a.db?path=/b.db", "unknown setting 'path'"),
        ("sqlite:///a.db?synchronous=off", "synchronous: expected full or normal, got 'off'"),
        ("sqlite:///a.db?lease=0", "lease: expected a number >= 0.001, got '0'"),
        ("sqlite:///a.db?lease=-1", "lease: expected a number"),
        ("sqlite:///a.db?lease=nan", "lease: expected a number"),
        ("sqlite:///a.db?timeout=inf", "timeout: expected a number"),
        ("sqlite:///a.db?poll=soon", "poll: expected a number >= 0.001, got 'soon'"),
        ("sqlite:///a.db?retain=-1", "retain: expected a number >= 0"),
        ("sqlite:///a.db?max_bytes=1.5", "max_bytes: expected a number >= 1, got '1.5'"),
        ("sqlite:///a.db?max_bytes=", "max_bytes: expected a number >= 1, got ''"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(url: str, text: str) -> None:
    """Before any file is touched."""
    before = list(Path().iterdir())
    with pytest.raises(InvalidOption) as caught:
        settings_of(url)
    assert text in str(caught.value)
    assert list(Path().iterdir()) == before
