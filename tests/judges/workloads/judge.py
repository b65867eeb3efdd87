#!/usr/bin/env python3
"""Runs one of deploy/examples as its own user, with a token from the broker, and says what was proved.

    judge.py python|node|jdbc|dbt

It runs inside a world whose tables the loader has moved. As root each workload has the uid that deploy/examples/policy.yaml
gives it; otherwise all run as the one user that there is, and the refusal of another uid is not proved.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

REPO = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES, JUDGES = REPO / "deploy/examples", REPO / "target/judges"
WORLD = pathlib.Path(os.environ["WORLD"])
ROOT = os.geteuid() == 0
GID = int(os.environ["BROKER_GID"])
STRANGER = 10099
PIPELINES = {"python": "python-report", "node": "node-report", "jdbc": "jdbc-report", "dbt": "dbt"}
# TPC-H's orders at scale 0.01, which every generator makes alike.
REPORT = ["F 7304", "O 7333", "P 363"]
MISSES = []


def proof(topic, what, ok, found="", expected=""):
    if ok:
        print(f"proved  {topic}: {what}", flush=True)
    else:
        MISSES.append(what)
        detail = " ".join(f"found {found!r}, expected {expected!r}".split("\n"))
        print(f"MISSED  {topic}: {what}: {detail}", flush=True)


def equal(topic, what, found, expected):
    proof(topic, what, found == expected, found, expected)


class Workload:
    """One user with a folder of its own and what brokerctl needs to know."""

    def __init__(self, name):
        self.name = name
        line = next(line for line in (EXAMPLES / "policy.yaml").read_text().splitlines() if f"pipeline: {PIPELINES[name]}," in line)
        self.uid = int(re.search(r"uid: (\d+)", line)[1]) if ROOT else os.geteuid()
        self.home = WORLD / "workloads" / name
        self.home.mkdir(parents=True)
        if ROOT:
            os.chown(self.home, self.uid, GID)
        self.home.chmod(0o700)
        self.brokerctl = within_reach(REPO / "target/debug/brokerctl", "brokerctl")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "KEYFERRY_SOCKET": os.environ["BROKER_SOCKET"],
            "KEYFERRY_SERVER_UID": os.environ["BROKER_UID"],
            "KEYFERRY_PIPELINE": PIPELINES[name],
            "KEYFERRY_RUN_ID": f"judge-{name}",
        }

    def start(self, command, uid=None, **env):
        uid = uid or self.uid
        user = ["setpriv", f"--reuid={uid}", f"--regid={GID}", "--clear-groups", "env"] if ROOT else []
        return subprocess.Popen(
            [*user, *map(str, command)], env={**self.env, **env}, cwd=self.home if uid == self.uid else "/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def run(self, command, uid=None, **env):
        started = self.start(command, uid, **env)
        try:
            out, err = started.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            started.kill()
            out, err = started.communicate()
            err += "\nkilled after 240 s"
        if started.returncode:
            print(f"{' '.join(map(str, command))} ended with {started.returncode}\n{out[-3000:]}\n{err[-3000:]}", flush=True)
        return started.returncode, out, err

    def ctl(self, *arguments, uid=None, **env):
        return self.run([self.brokerctl, *arguments], uid, **env)


def within_reach(path, name):
    """The path itself, or a copy that other users can reach when a folder above it is closed to them."""
    if not ROOT or subprocess.run(
        ["setpriv", f"--reuid={STRANGER}", f"--regid={GID}", "--clear-groups", "test", "-r", str(path)], check=False
    ).returncode == 0:
        return path
    copy = WORLD / "reach" / name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy, **({"symlinks": True} if path.is_dir() else {}))
    return copy


def identity_proofs(work):
    code, out, _ = work.ctl("whoami", "--output", "json")
    who = json.loads(out) if code == 0 else {}
    grants = [(g["pipeline"], g["grant"], g["use"]) for g in who.get("grants", []) if g["pipeline"] == PIPELINES[work.name]]
    equal("identity", "the broker sees its own uid and its one grant", (who.get("uid"), grants), (work.uid, [(PIPELINES[work.name], "reporting", "token")]))
    if ROOT:
        marker = work.home / "started"
        code, out, err = work.ctl("exec", "reporting", "--", "touch", marker, uid=STRANGER)
        equal("identity", "another uid gets no token (exit 77) and its command is not started", (code, out, marker.exists()), (77, "", False))
        code, _, _ = work.ctl("token", "reporting", KEYFERRY_PIPELINE="payroll")
        equal("identity", "it may not act for another pipeline", code, 77)
    code, _, _ = work.ctl("token", "analytics")
    equal("identity", "the loader's grant is not its own", code, 77)


def report_proofs(work, command, **env):
    """The three programs that print the same report."""
    _, token, _ = work.ctl("token", "reporting")
    token = token.strip()
    ctl = [work.brokerctl, "exec", "reporting", "--"]
    code, out, err = work.run([*ctl, *command], **env)
    lines = out.splitlines()
    equal("token", "a token from brokerctl exec logs in, as the grant's user and role", (code, lines[:1]), (0, ["connected as SVC_REPORTS with role REPORTER"]))
    equal("query", "it reads what the loader has loaded, with a bound parameter", [" ".join(line.split()[:2]) for line in lines[1:]], REPORT)
    totals = [line.split()[2] for line in lines[1:] if len(line.split()) == 3]
    proof("query", "sums of money come with their two digits", len(totals) == 3 and all(re.fullmatch(r"\d+\.\d\d", total) for total in totals), totals)
    proof("secrecy", "no token is in what it printed", bool(token) and token not in out + err, "the token")
    code, out, err = work.run([work.brokerctl, "exec", "reporting", "--env", "UNUSED", "--", *command], SNOWFLAKE_TOKEN=tampered(token), **env)
    proof("errors", "a token with a broken signature is refused with 390303", code != 0 and "390303" in out + err, (code, (out + err)[-300:]), 390303)
    with_file(work, command, env)


def tampered(token):
    head, body, signature = token.split(".")
    return ".".join([head, body, signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]])


def with_file(work, command, env):
    code, out, _ = work.run([work.brokerctl, "exec", "reporting", "--file-env", "SNOWFLAKE_TOKEN_FILE", "--", *command], **env)
    equal("token file", "brokerctl exec --file-env: the token comes by a file", (code, [" ".join(line.split()[:2]) for line in out.splitlines()[1:]]), (0, REPORT))
    file = work.home / "run" / "token"
    watch = work.start([work.brokerctl, "watch", "reporting", "--file", file, "--remove-on-exit"])
    deadline = time.monotonic() + 60
    while not file.exists() and watch.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    mode = oct(file.stat().st_mode & 0o7777) if file.exists() else None
    settings = {key: os.environ[key] for key in ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_WAREHOUSE")}
    host, port = re.fullmatch(r"https://([^:/]+):(\d+)", os.environ["SNOWFLAKE_URL"]).groups()
    code, out, _ = work.run(
        command, SNOWFLAKE_TOKEN_FILE=str(file), SNOWFLAKE_USER="SVC_REPORTS", SNOWFLAKE_ROLE="REPORTER", SNOWFLAKE_HOST=host,
        SNOWFLAKE_PORT=port, **settings, **env,
    )
    equal("token file", "beside brokerctl watch: the token comes by a file of mode 0600", (mode, code, [" ".join(line.split()[:2]) for line in out.splitlines()[1:]]), ("0o600", 0, REPORT))
    watch.terminate()
    watch.communicate(timeout=30)
    equal("token file", "the watch ends in order and takes the file with it", (watch.returncode, file.exists()), (0, False))


def python(work):
    interpreter = within_reach(JUDGES / "venvs/workloads", "venv") / "bin/python"
    report_proofs(work, [interpreter, within_reach(EXAMPLES / "python", "python") / "report.py"], REQUESTS_CA_BUNDLE=os.environ["SNOWFLAKE_CA"])


def node(work):
    modules = within_reach(JUDGES / "npm/report", "npm") / "node_modules"
    script = within_reach(EXAMPLES / "node", "node") / "report.js"
    report_proofs(work, ["node", script], NODE_PATH=str(modules), NODE_EXTRA_CA_CERTS=os.environ["SNOWFLAKE_CA"])


def jdbc(work):
    jars = within_reach(JUDGES / "jars/report", "jars")
    classes, store = WORLD / "classes", WORLD / "truststore.p12"
    subprocess.run(["javac", "-d", classes, EXAMPLES / "jdbc/Report.java"], check=True)
    subprocess.run(
        ["keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", os.environ["SNOWFLAKE_CA"], "-keystore", store,
         "-storetype", "PKCS12", "-storepass", "changeit"], check=True, stderr=subprocess.DEVNULL)
    store.chmod(0o644)
    for path in [classes, *classes.rglob("*")]:
        path.chmod(0o755)
    report_proofs(work, ["java", f"-Duser.home={work.home}", f"-Duser.name={work.uid}", f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit", "-cp", f"{jars}/*:{classes}", "Report"])


def dbt(work):
    interpreter = within_reach(JUDGES / "venvs/workloads", "venv") / "bin/python"
    project = work.home / "project"
    shutil.copytree(EXAMPLES / "dbt", project)
    if ROOT:
        for path in [project, *project.rglob("*")]:
            os.chown(path, work.uid, GID)
    _, token, _ = work.ctl("token", "reporting")
    token = token.strip()
    env = {"REQUESTS_CA_BUNDLE": os.environ["SNOWFLAKE_CA"], "DBT_PROJECT_DIR": str(project), "DBT_PROFILES_DIR": str(project),
           "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    main = "from dbt.cli.main import cli; cli()"
    said = ""

    def run(*arguments, variable="DBT_ENV_SECRET_SNOWFLAKE_TOKEN", **more):
        nonlocal said
        code, out, err = work.run([work.brokerctl, "exec", "reporting", "--env", variable, "--", interpreter, "-c", main, "--no-use-colors", *arguments], **env, **more)
        said += out + err
        return code, out

    def results():
        path = project / "target/run_results.json"
        return [(r["unique_id"].split(".")[2], r["status"]) for r in json.loads(path.read_text())["results"]] if path.exists() else []

    code, out = run("debug")
    proof("token", "dbt debug logs in with account, user and token from the environment", code == 0 and "Connection test: [OK connection ok]" in out, (code, out[-500:]))
    for time_of in ("first", "second"):
        code, _ = run("run")
        equal("statements", f"dbt run builds a table and a view the {time_of} time", (code, sorted(results())), (0, [("large_nations", "success"), ("orders_by_nation", "success")]))
    code, _ = run("test")
    found = results()
    equal("statements", "dbt test: not_null, unique, relationships and accepted_values hold", (code, len(found), {status for _, status in found}), (0, 9, {"pass"}))
    code, _ = run("docs", "generate")
    catalog = project / "target/catalog.json"
    nodes = json.loads(catalog.read_text())["nodes"] if catalog.exists() else {}
    columns = {key.split(".")[-1]: [c.lower() for c in node["columns"]] for key, node in nodes.items()}
    equal("statements", "dbt docs generate reads the catalog of what was built", (code, columns),
          (0, {"orders_by_nation": ["nation", "orders", "customers", "revenue", "last_order"], "large_nations": ["nation", "revenue", "place"]}))
    code, out = run("show", "--inline", "select sum(orders) as n, count(*) as m from {{ ref('orders_by_nation') }}", "--output", "json")
    rows = json.loads(out[out.index("{"):])["show"] if code == 0 and "{" in out else None
    equal("query", "what dbt built adds up to what the loader loaded", rows, [{"N": 15000, "M": 25}])
    code, out = run("run", "--select", "no_such_column", "--project-dir", str(broken(work, project)))
    proof("errors", "a model with a wrong column fails with Snowflake's own error 000904", code == 1 and "000904" in out, (code, out[-400:]))
    code, out = run("debug", variable="UNUSED", DBT_ENV_SECRET_SNOWFLAKE_TOKEN=tampered(token))
    proof("errors", "a token with a broken signature is refused with 390303", code != 0 and "390303" in out, (code, out[-400:]))
    logs = "".join(path.read_text(errors="replace") for path in project.rglob("*") if path.is_file())
    proof("secrecy", "no token is in what dbt printed, logged or compiled", bool(token) and "dbt.log" in str(list(project.rglob("*.log"))) and token not in said + logs, "the token")


def broken(work, project):
    copy = work.home / "broken"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("target", "logs"))
    (copy / "models/no_such_column.sql").write_text("select no_such_column from {{ source('sales', 'nation') }}\n")
    if ROOT:
        for path in [copy, *copy.rglob("*")]:
            os.chown(path, work.uid, GID)
    return copy


def main():
    name = sys.argv[1]
    work = Workload(name)
    identity_proofs(work)
    {"python": python, "node": node, "jdbc": jdbc, "dbt": dbt}[name](work)
    return 1 if MISSES else 0


if __name__ == "__main__":
    sys.exit(main())
