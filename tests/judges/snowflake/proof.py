"""One line for each proof: `proved  TOPIC: what` or `MISSED  TOPIC: what: found …, expected …`."""

MISSES = []


def proved(topic, what):
    print(f"proved  {topic}: {what}", flush=True)


def missed(topic, what, detail):
    detail = " ".join(str(detail).split())
    print(f"MISSED  {topic}: {what}: {detail[:2000]}", flush=True)
    MISSES.append(what)


def vendor(topic, what, words):
    print(f"vendor  {topic}: {what}: {words}", flush=True)


def attempt(topic, what, action):
    """Runs one proof; an exception is a miss, not the end. The action answers True, or (found, expected)."""
    try:
        result = action()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is a miss
        missed(topic, what, f"found {type(error).__name__}: {error}")
        return
    if isinstance(result, tuple):
        found, expected = result
        if found != expected:
            missed(topic, what, f"found {found!r}, expected {expected!r}")
            return
    elif result is not True:
        missed(topic, what, f"found {result!r}")
        return
    proved(topic, what)


def refusal(action, *kinds):
    """The error number and SQLSTATE that an action is refused with."""
    try:
        found = action()
    except kinds as error:
        return getattr(error, "errno", None), getattr(error, "sqlstate", None)
    return "no error", found


def finish():
    print(f"{len(MISSES)} missed" if MISSES else "all proved", flush=True)
    return 1 if MISSES else 0
