"""What the checks share."""

import pathlib
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
BROKER, LOADER, GROUP = 10001, 10002, 10000
# Where metrics are served where something outside is to scrape them.
METRICS = 8080


@dataclass
class Check:
    """One check: what it reads, what it finds wrong, and the mistakes that it must find."""

    name: str
    # rendered folder -> (name, document); the first one is what the mistakes are made in
    documents: Callable[[str], Iterable[tuple[str, Any]]]
    problems: Callable[[Any], Iterable[str]]
    # (what, change in place or a new document, words of the problem)
    wrong: list[tuple[str, Callable[[Any], Any], str]] = field(default_factory=list)


def read(path):
    """All documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def text(path):
    return (ROOT / path).read_text()
