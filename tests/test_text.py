"""Text from elsewhere: nothing in it hides, moves the cursor or gives a key away."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.text import brief, environment_secrets, redact, redact_all, shown, visible

BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("a\u202eb\u2066c", "a<U+202E>b<U+2066>c"),
        ("zero\u200bwidth\ufeff", "zero<U+200B>width<U+FEFF>"),
        ("\x00\x7f\x85", "␀␡<U+0085>"),
        ("line\r\nnext\rover\ttab\u2028sep", "line\nnext␍over\ttab<U+2028>sep"),
        ("half \ud800 pair", "half \N{REPLACEMENT CHARACTER} pair"),
        ("一加二 é 😀 <b>", "一加二 é 😀 <b>"),  # letters, emoji and markup are left alone
    ],
)
def test_visible_names_what_hides_or_reorders(text: str, seen: str) -> None:
    assert visible(text) == seen


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_visible_text_has_no_control_left_and_stays_as_it_is(text: str) -> None:
    seen = visible(text)
    assert all(unicodedata.category(one) != "Cc" or one in "\n\t" for one in seen)
    assert all(unicodedata.bidirectional(one) not in BIDI_CONTROLS for one in seen)
    assert seen == visible(seen)
    seen.encode("utf-8")


KEY = "Zq7" * 12  # of no known shape


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "MY_DB_PASSWORD"):
        monkeypatch.setenv(name, f"{name[:2]}{KEY}")
    monkeypatch.setenv("MY_SECRET_SAUCE", "tomato42")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "12345678901234567890x")  # no key
    monkeypatch.setenv("SSH_KEY_FILE", "/home/me/.ssh/a_file_with_a_long_name_1")
    monkeypatch.setenv("MAX_TOKEN", "4096")
    monkeypatch.setenv("KEY_MODE", "development")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGPASSWORD", "correct9horse"),
        ("MYSQL_PWD", "correct9horse"),
        ("SSH_PASSPHRASE", "correct9horse"),
        ("HFTOKEN", KEY),
        ("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),  # no such path
    ],
)
def test_names_that_end_in_a_secret_and_values_that_look_like_paths(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"it said {value}!") == "it said ***!"


def test_places_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_TOKEN", str(tmp_path))  # a file that holds it
    monkeypatch.setenv("PWD", "/a/folder/with/a/long/name/1")
    assert redact(f"{tmp_path} /a/folder/with/a/long/name/1").count("*") == 0


def test_a_key_is_gone_before_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "correct9horse")
    assert brief("x" * 190 + " correct9horse", 200) == "x" * 190 + " ***"


def test_keys_of_the_environment_go_wherever_they_stand(keys: None) -> None:
    text = f"401 for HF{KEY}, WA{KEY}x and tomato42; development, 4096, {'x' * 40}"
    assert redact(text) == f"401 for ***, ***x and ***; development, 4096, {'x' * 40}"
    assert len(environment_secrets()) >= 5
    assert redact("12345678901234567890x /home/me/.ssh/a_file_with_a_long_name_1").count("*") == 0
    assert redact_all({"a": [f"MY{KEY}", 1, None, {"b": f"({KEY})"}]}) == {
        "a": ["***", 1, None, {"b": f"({KEY})"}]  # alone it is nobody's key
    }


def test_a_key_that_begins_another_is_not_half_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    monkeypatch.setenv("B_KEY", KEY + "tail9")
    assert redact(f"<{KEY}tail9> <{KEY}>") == "<***> <***>"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:pw@host/x, http://me@host", "https://***@host/x, http://***@host"),
        ("GET /x?token=abc&page=2&key=def HTTP", "GET /x?token=***&page=2&key=*** HTTP"),
        ("password=hunter2 api_key=abc", "password=*** api_key=***"),
        ("Authorization: Bearer abc.def-12", "Authorization: Bearer ***"),
        (f"hf_{'aB3' * 11}", "***"),
        (f"key sk-proj-{'a1' * 12}.", "key ***."),
        (f"ghp_{'x1' * 18} AKIA{'A1' * 8} glpat-{'x' * 20}", "*** *** ***"),
        # nothing to hide
        ("a@b.org eos_token=</s> num_tokens=5 x?monkey=1", None),
        ("the key is: token 5, sk-learn, hf_hub, risk-free", None),
        ("0123456789abcdef0123456789abcdef01234567", None),  # a commit
    ],
)
def test_what_looks_like_a_key_goes(text: str, left: str | None) -> None:
    assert redact(text) == (text if left is None else left)


def test_what_is_shown_has_neither() -> None:
    assert shown("\x1b]52;c;aGk=\x07 https://a:b@c") == "␛]52;c;aGk=␇ https://***@c"
