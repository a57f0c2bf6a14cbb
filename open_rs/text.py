"""Text that came from elsewhere, made fit to be shown or kept: nothing in it hides, moves a
terminal's cursor or gives a key away.
"""

import os
import re
from typing import Any

# Bidirectional controls, zero-width and other format characters that change or hide text.
_FORMAT_CHARACTERS = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATES = re.compile("[\ud800-\udfff]")

REMOVED = "***"
SECRET_WORDS = {
    *("APIKEY", "AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "PASS", "PASSWD", "PASSWORD", "PAT"),
    *("PASSPHRASE", "PWD", "SECRET", "TOKEN"),
}
SECRET_ENDS = ("APIKEY", "PASSPHRASE", "PASSWD", "PASSWORD", "PASS", "SECRET", "TOKEN")
PLACE_WORDS = {"DIR", "FILE", "HOME", "OLDPWD", "PATH", "SOCK"}  # in a name: the value is a place
# What a key looks like, whoever holds it: Hugging Face, OpenAI and its like, GitHub, GitLab, Slack,
# Google, AWS
_KEYS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|[spr]k-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}"
    r"|AKIA[0-9A-Z]{16})"
)
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s/@\"'<>]+(?=@)")
# In a query, an assignment or a header
_NAMED = re.compile(
    r"((?:[?&;](?:key|token|auth|sig|signature|secret)|\b(?:password|passwd|api[_-]?key"
    r"|access_token))=|\bbearer )[^\s&\"'<>]{3,}",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    """`text` with every character that could hide, reorder or restyle it shown by name.

    Controls become control pictures (escape: U+241B), format characters <U+202E>; line breaks and
    tabs stay. HTML is escaped later, by the template or by the JSON writer.
    """
    text = text.replace("\r\n", "\n")
    text = _CONTROL_CHARACTERS.sub(lambda found: _control_picture(ord(found[0])), text)
    text = _FORMAT_CHARACTERS.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _control_picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"<U+{code:04X}>"


def redact(text: str) -> str:
    """`text` without keys, tokens and passwords: those of the environment, by their values, and
    what looks like one.
    """
    for secret in environment_secrets():
        text = text.replace(secret, REMOVED)
    text = _USER_AND_PASSWORD.sub(REMOVED, _KEYS.sub(REMOVED, text))
    return _NAMED.sub(rf"\1{REMOVED}", text)


def brief(error: object, length: int = 200) -> str:
    """The beginning of what an error says, in one line. What is cut must be without keys before it
    is: half of one would not be known for what it is.
    """
    return redact(" ".join(str(error).split()))[:length]


def redact_all(value: Any) -> Any:
    """`redact` on every text inside a JSON value."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [redact_all(one) for one in value]
    if isinstance(value, dict):
        return {key: redact_all(one) for key, one in value.items()}
    return value


def environment_secrets() -> list[str]:
    """The values of variables such as HF_TOKEN or WANDB_API_KEY, the longest first. What is too
    short or too plain to be a key, and paths, are not.
    """
    found = {
        value.strip()
        for name, value in os.environ.items()
        if _names_secret(name.upper()) and _may_be_secret(value.strip())
    }
    return sorted(found, key=len, reverse=True)


def _names_secret(name: str) -> bool:
    words = set(name.split("_"))
    if name == "PWD" or words & PLACE_WORDS:
        return False
    return bool(words & SECRET_WORDS) or any(word.endswith(SECRET_ENDS) for word in words)


def _may_be_secret(value: str) -> bool:
    if value.startswith(("/", "~", ".")) and os.path.exists(os.path.expanduser(value)):
        return False
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return len(value) >= 20 or (len(value) >= 8 and mixed)


def shown(text: str) -> str:
    """What a person sees on a terminal."""
    return redact(visible(text))
