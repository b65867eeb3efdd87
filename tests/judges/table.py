#!/usr/bin/env python3
"""Prints the table of judges from their logs: one row for each client, one column for each topic.

A log holds `proved  TOPIC: what`, `MISSED  TOPIC: what: detail` and `vendor  TOPIC: what: the vendor's own words`, and lines
of Rust's tests (`test name ... ok`). Exit code: how many clients missed, failed, proved nothing or were skipped.
"""

import pathlib
import re
import sys
import textwrap

LINE = re.compile(r"^(proved|MISSED|vendor)  ([a-z0-9/ -]+): (.*)$")
PLAIN = re.compile(r"^(proved|MISSED)  (.*)$")
RUST = re.compile(r"^test (\S+) +\.\.\. (ok|FAILED)")


class Log:
    """What one client's log says."""

    def __init__(self, path):
        self.client, self.judged, self.status, self.skipped = path.stem, "", None, None
        self.proved, self.missed, self.vendor = {}, [], []
        for line in path.read_text(errors="replace").splitlines():
            self.read(line)

    def read(self, line):
        word, _, rest = line.partition("  ")
        if word in ("client", "judged", "skipped"):
            setattr(self, word, rest)
        elif word == "exit":
            self.status = int(rest)
        elif match := LINE.match(line) or PLAIN.match(line):
            kind, topic, what = match.groups() if match.re is LINE else (match[1], "other", match[2])
            self.add(kind, topic, what)
        elif match := RUST.match(line):
            topic = match[1].split("::")[-2] if "::" in match[1] else "values"
            self.add("proved" if match[2] == "ok" else "MISSED", topic, match[1])

    def add(self, kind, topic, what):
        if kind == "proved":
            self.proved[topic] = self.proved.get(topic, 0) + 1
        elif kind == "MISSED":
            self.missed.append(f"{topic}: {what}")
        else:
            self.vendor.append(f"{topic}: {what}")

    def outcome(self):
        if self.skipped is not None:
            return f"SKIPPED: {self.skipped}"
        if self.missed:
            return f"{len(self.missed)} MISSED"
        if self.status != 0:
            return f"FAILED (exit {self.status})"
        if not self.proved:
            return "PROVED NOTHING"
        return f"agreed, {len(self.vendor)} by the vendor's word" if self.vendor else "agreed"


def main():
    logs = [Log(path) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.log"))]
    logs.sort(key=lambda log: (log.judged, log.client))
    rows = [("client", "judges", "proofs", "by topic", "outcome")]
    for log in logs:
        topics = ", ".join(f"{topic} {count}" for topic, count in log.proved.items())
        rows.append((log.client, log.judged, str(sum(log.proved.values())), topics, log.outcome()))
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    widths[3] = min(widths[3], 72)
    for row in rows:
        topics = textwrap.wrap(row[3], widths[3]) or [""]
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {topics[0]:<{widths[3]}}  {row[4]}")
        for more in topics[1:]:
            print(" " * (widths[0] + widths[1] + widths[2] + 6) + more)
    for title, lines in (
        ("missed", [(log.client, line) for log in logs for line in log.missed]),
        ("not ours, by the vendor's own text", [(log.client, line) for log in logs for line in log.vendor]),
    ):
        if lines:
            print(f"\n{title}:")
            for client, line in lines:
                print(f"  {client}: {line}")
    bad = sum(not log.outcome().startswith("agreed") for log in logs)
    print(f"\n{len(logs)} clients, {sum(sum(log.proved.values()) for log in logs)} proofs, {bad} clients that did not agree")
    return min(bad, 100) if logs else 1


if __name__ == "__main__":
    sys.exit(main())
