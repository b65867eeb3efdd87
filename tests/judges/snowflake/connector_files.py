"""PUT, GET, LIST and REMOVE: what goes up encrypted comes back byte for byte."""

import gzip
import io
import os

from account import rows
from proof import attempt, refusal
from snowflake.connector.errors import Error


def down(cursor, location, folder):
    folder.mkdir()
    found = rows(cursor, f"GET {location} 'file://{folder}'")
    return [row[2] for row in found], {path.name: path.read_bytes() for path in folder.iterdir()}


def judge(bench):
    cursor, folder, stage = bench.cursor, bench.folder, bench.fresh_stage()
    plain = os.urandom(100_000)
    (folder / "plain.bin").write_bytes(plain)

    def put():
        found = rows(cursor, f"PUT 'file://{folder}/plain.bin' @{stage}/a/ AUTO_COMPRESS = FALSE")
        return [(row[0], row[1], row[2], row[6]) for row in found], [("plain.bin", "plain.bin", len(plain), "UPLOADED")]

    attempt("put-get", "PUT encrypts and uploads", put)
    attempt("put-get", "GET decrypts to the same bytes", lambda: (
        down(cursor, f"@{stage}/a/", folder / "down"), (["DOWNLOADED"], {"plain.bin": plain})))
    attempt("put-get", "PUT of a file that is there is SKIPPED, with OVERWRITE it is not", lambda: (
        [rows(cursor, f"PUT 'file://{folder}/plain.bin' @{stage}/a/ AUTO_COMPRESS = FALSE OVERWRITE = {word}")[0][6]
         for word in ("FALSE", "TRUE")], ["SKIPPED", "UPLOADED"]))

    def compressed():
        text = b"line\n" * 5000
        (folder / "text.csv").write_bytes(text)
        found = rows(cursor, f"PUT 'file://{folder}/text.csv' @{stage}/z/")[0]
        status, files = down(cursor, f"@{stage}/z/", folder / "down-z")
        return (found[1], found[5], found[6], status, gzip.decompress(files["text.csv.gz"]) == text), (
            "text.csv.gz", "GZIP", "UPLOADED", ["DOWNLOADED"], True)

    attempt("put-get", "AUTO_COMPRESS packs with gzip on the way", compressed)

    def many():
        for at in range(6):
            (folder / f"many-{at}.bin").write_bytes(os.urandom(10 + at))
        found = rows(cursor, f"PUT 'file://{folder}/many-*.bin' @{stage}/many/ AUTO_COMPRESS = FALSE PARALLEL = 3")
        status, files = down(cursor, f"@{stage}/many/", folder / "down-many")
        same = all((folder / name).read_bytes() == data for name, data in files.items())
        return (sorted({row[6] for row in found}), len(found), len(files), set(status), same), (
            ["UPLOADED"], 6, 6, {"DOWNLOADED"}, True)

    attempt("put-get", "a pattern of local files, several at once", many)
    attempt("put-get", "LIST names size and folder", lambda: (
        [(row[0].split("/", 1)[1], row[1] >= 10) for row in rows(cursor, f"LIST @{stage}/many/ PATTERN = '.*many-[01].bin'")],
        [("many/many-0.bin", True), ("many/many-1.bin", True)]))
    attempt("put-get", "REMOVE removes", lambda: (
        (len(rows(cursor, f"REMOVE @{stage}/many/")), rows(cursor, f"LIST @{stage}/many/")), (6, [])))

    def parts():
        big = os.urandom(20 << 20)
        (folder / "big.bin").write_bytes(big)
        found = rows(cursor, f"PUT 'file://{folder}/big.bin' @{stage}/big/ AUTO_COMPRESS = FALSE THRESHOLD = 8388608")
        status, files = down(cursor, f"@{stage}/big/", folder / "down-big")
        return (found[0][6], status, files["big.bin"] == big), ("UPLOADED", ["DOWNLOADED"], True)

    attempt("put-get", "20 MiB go up in parts and come back", parts)

    def own_stages():
        table = bench.fresh_table("X NUMBER")
        found = []
        for name in (f"~/{bench.stage}", f"%{table}"):
            rows(cursor, f"PUT 'file://{folder}/plain.bin' @{name}/ AUTO_COMPRESS = FALSE")
            key = name.strip("~%/")
            found.append(down(cursor, f"@{name}/", folder / f"down-{key}")[1] == {"plain.bin": plain})
        rows(cursor, f"REMOVE @~/{bench.stage}")
        return found, [True, True]

    attempt("put-get", "the stages of the user and of a table", own_stages)

    def stream():
        rows(cursor, f"PUT file://memory.bin @{stage}/stream/ AUTO_COMPRESS = FALSE", file_stream=io.BytesIO(plain))
        return down(cursor, f"@{stage}/stream/", folder / "down-stream")[1], {"memory.bin": plain}

    attempt("put-get", "PUT from memory", stream)
    attempt("put-get", "a stage that is missing is error 2003", lambda: (
        refusal(lambda: cursor.execute(f"PUT 'file://{folder}/plain.bin' @NO_SUCH_STAGE"), Error), (2003, "02000")))
    attempt("put-get", "an empty file", lambda: (
        (folder / "empty.bin").write_bytes(b"") == 0
        and rows(cursor, f"PUT 'file://{folder}/empty.bin' @{stage}/e/ AUTO_COMPRESS = FALSE")[0][6] == "UPLOADED"
        and down(cursor, f"@{stage}/e/", folder / "down-e")[1], {"empty.bin": b""}))
