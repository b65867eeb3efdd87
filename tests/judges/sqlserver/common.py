"""What the Python clients of SQL Server share: proofs, the statements of statements.txt, values as text."""

import datetime
import decimal
import os
import pathlib
import re
import sys
import uuid

HOST = os.environ["SQLSERVER_HOST"]
PORT = int(os.environ["SQLSERVER_PORT"])
DATABASE = os.environ["SQLSERVER_DATABASE"]
LOGIN = os.environ["SQLSERVER_LOGIN"]
PASSWORD = os.environ["SQLSERVER_PASSWORD"]
CA = os.environ["SQLSERVER_CA"]


class Judge:
    """Prints one line for each proof; its exit code says whether there was a miss."""

    def __init__(self):
        self.missed = 0

    def proved(self, topic, what):
        print(f"proved  {topic}: {what}", flush=True)

    def miss(self, topic, what, detail):
        self.missed += 1
        print(f"MISSED  {topic}: {what}: {detail}", flush=True)

    def vendor(self, topic, what, words):
        print(f"vendor  {topic}: {what}: {words}", flush=True)

    def same(self, topic, what, found, expected):
        if found == expected:
            self.proved(topic, what)
        else:
            self.miss(topic, what, f"found {found!r}, expected {expected!r}")

    def proof(self, topic, what, check, *arguments):
        """A proof that returns what it found and what is right, or raises."""
        try:
            found, expected = check(*arguments)
        except Exception as error:  # a judge goes on after whatever its client raises
            self.miss(topic, what, f"{type(error).__name__}: {error}".replace("\n", " "))
        else:
            self.same(topic, what, found, expected)

    def exit(self):
        sys.exit(1 if self.missed else 0)


class Case:
    """One case of statements.txt."""

    def __init__(self, topic, tags, what):
        self.topic, self.tags, self.what = topic, tags, what
        self.sql, self.results, self.counts, self.error = "", [], [], None
        self.next_result = True

    def read(self, line):
        if line == ">>":
            self.next_result = True
        elif line.startswith("> "):
            if self.next_result:
                self.results.append([])
                self.next_result = False
            if line != "> (none)":
                self.results[-1].append(line[2:].split(" | "))
        elif match := re.match(r"# (\d+)$", line):
            self.counts.append(int(match[1]))
        elif match := re.match(r"! (\d+) (\d+) (\d+) (\d+) (.*)", line):
            self.error = (*(int(match[at]) for at in range(1, 5)), match[5])
        elif line.strip() and not line.startswith("# "):
            self.sql += ("\n" if self.sql else "") + line


def cases(me):
    """The cases of statements.txt with this client's names in them."""
    whole = (pathlib.Path(__file__).parent / "statements.txt").read_text(encoding="utf-8")
    found = []
    for line in whole.replace("{me}", me).replace("{db}", DATABASE).splitlines():
        if match := re.match(r"## (\w+)(?: \[(.*)\])?: (.*)", line):
            found.append(Case(match[1], set((match[2] or "").split()), match[3]))
        elif found:
            found[-1].read(line)
    return found


def text(value):
    """A value as statements.txt writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, uuid.UUID):
        return str(value).upper()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex().upper()
    if isinstance(value, datetime.datetime):
        # Padded by hand: strftime leaves out leading zeros of the year.
        day, clock = text(value.date()), text(value.time())
        if value.tzinfo is None:
            return f"{day} {clock}"
        minutes = int(value.utcoffset().total_seconds() // 60)
        return f"{day} {clock} {'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if isinstance(value, datetime.date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    if isinstance(value, datetime.time):
        fraction = f".{value.microsecond:06}".rstrip("0").rstrip(".")
        return f"{value.hour:02}:{value.minute:02}:{value.second:02}{fraction}"
    if value == "":
        return "''"
    return str(value)


def agrees(value, expected, exact):
    """Whether a value is the expected text; numbers that a client gives as floats are compared as floats, and where
    it drops the zeros of a decimal's end, decimals as numbers."""
    if isinstance(value, float):
        return expected not in ("NULL", "''") and float(expected) == value
    if isinstance(value, decimal.Decimal) and not exact:
        return expected not in ("NULL", "''") and decimal.Decimal(expected) == value
    return text(value) == expected


def rows_agree(found, expected, exact):
    return len(found) == len(expected) and all(
        len(row) == len(wanted) and all(agrees(cell, one, exact) for cell, one in zip(row, wanted))
        for row, wanted in zip(found, expected)
    )


def run_cases(judge, me, run, leave_out=(), exact=True):
    """Runs every case. `run(sql)` returns (results, counts or None, error or None) and the error as a tuple
    (number, class, state, line, text) of which each part may be None when the client does not tell it. Not `exact`:
    results without rows are not told either."""
    for case in cases(me):
        if case.tags & set(leave_out):
            continue
        try:
            results, counts, error = run(case.sql)
        except Exception as unforeseen:
            judge.miss(case.topic, case.what, f"{type(unforeseen).__name__}: {unforeseen}".replace("\n", " "))
            continue
        problem = differs(case, results, counts, error, exact)
        if problem:
            judge.miss(case.topic, case.what, problem)
        elif case.topic != "setup":
            judge.proved(case.topic, case.what)


def differs(case, results, counts, error, exact):
    if error is not None and case.error is None:
        return f"found error {error}, expected none"
    if case.error is not None:
        if error is None:
            return f"found {results}, expected error {case.error}"
        for at, (found, expected) in enumerate(zip(error, case.error)):
            if found is None or (at == 3 and expected == 0):
                continue
            if found != expected:
                return f"found error {error}, expected {case.error}"
    if case.topic == "setup":
        return None
    if case.error is not None:  # some clients hide a result without rows that an error ends
        results = [rows for rows in results if rows]
    wanted = case.results
    if not exact:
        results, wanted = [rows for rows in results if rows], [rows for rows in wanted if rows]
    if len(results) != len(wanted) or not all(rows_agree(rows, one, exact) for rows, one in zip(results, wanted)):
        shown = [[[text(value) for value in row] for row in rows] for rows in results]
        return f"found {shown}, expected {case.results}"
    if counts is not None and case.counts and counts != case.counts:
        return f"found counts {counts}, expected {case.counts}"
    return None
