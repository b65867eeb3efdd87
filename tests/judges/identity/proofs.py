"""How a judge says what it found: one line for each proof."""

import sys

MISSES = []


def proof(topic, what, ok, detail=""):
    line = f"{'proved' if ok else 'MISSED'}  {topic}: {what}"
    if not ok:
        MISSES.append(what)
        line += ": " + " ".join(str(detail).split("\n"))
    print(line, flush=True)


def equal(topic, what, found, expected):
    proof(topic, what, found == expected, f"found {found!r}, expected {expected!r}")


def attempt(topic, what, action):
    """Runs one proof: a pair is (found, expected). An exception is a miss, not the end."""
    try:
        found, expected = action()
        equal(topic, what, found, expected)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is a miss
        proof(topic, what, False, f"{type(error).__name__}: {error}")


def end():
    sys.exit(1 if MISSES else 0)
