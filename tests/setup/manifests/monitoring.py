"""Monitoring: promtool's own checks, and that nothing names a metric or an alert that does not exist."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml

from common import DEPLOY, Check, text

FOLDER = DEPLOY / "monitoring"
METRIC = re.compile(r"\b(?:keyferry|kube)_[a-z_]+\b")
# kube-state-metrics' own, by its documentation (docs/metrics/workload).
FOREIGN = {
    "kube_cronjob_created", "kube_cronjob_status_last_successful_time", "kube_job_created", "kube_job_failed", "kube_job_owner",
    "kube_pod_init_container_status_last_terminated_exitcode", "kube_pod_init_container_status_restarts_total", "kube_pod_status_phase",
}


def files(_):
    document = {path.name: path.read_text() for path in FOLDER.iterdir()}
    document["operate.md"] = text("docs/operate.md")
    yield "monitoring", document


def promtool(document):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in document.items():
            (pathlib.Path(folder) / name).write_text(content)
        for arguments in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
            done = subprocess.run([shutil.which("promtool"), *arguments], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                yield f"promtool {arguments[0]}: {' '.join((done.stdout + done.stderr).split())[:600]}"


def names(document):
    catalogue = set(re.findall(r"^\| `(keyferry_[a-z_]+)` \|", document["operate.md"], re.M)) | FOREIGN
    if len(catalogue) < 15:
        yield f"docs/operate.md has only {len(catalogue)} metrics"
    groups = yaml.safe_load(document["rules.yaml"])["groups"]
    for group in groups:
        if f"\n| `{group['name']}` |" not in document["operate.md"]:
            yield f"{group['name']}: docs/operate.md does not say where its metrics come from"
    rules = [rule for group in groups for rule in group["rules"]]
    panels = json.loads(document["dashboard.json"])["panels"]
    expressions = [(rule["alert"], rule["expr"]) for rule in rules]
    expressions += [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    for where, expression in expressions:
        for name in set(METRIC.findall(expression)) - catalogue:
            yield f"{where}: {name} is in no catalogue"
        if not METRIC.search(expression):
            yield f"{where}: no metric at all"
    for name in set(METRIC.findall(document["rules_test.yaml"])) - catalogue:
        yield f"rules_test.yaml: {name} is in no catalogue"
    tested = set(re.findall(r"alertname: (\w+)", document["rules_test.yaml"]))
    for rule in rules:
        alert = rule["alert"]
        if f"### {alert}\n" not in document["operate.md"]:
            yield f"{alert}: docs/operate.md has no paragraph"
        if rule["annotations"]["runbook"] != f"docs/operate.md#{alert.lower()}":
            yield f"{alert}: its runbook is another alert's"
        if alert not in tested:
            yield f"{alert}: no test"
    paragraphs = re.findall(r"^### (Keyferry\w+)$", document["operate.md"], re.M)
    for alert in set(paragraphs) - {rule["alert"] for rule in rules}:
        yield f"docs/operate.md: {alert} is no alert"
    for paragraph in re.split(r"^### ", document["operate.md"], flags=re.M)[1:]:
        if not ("\nFirst: " in paragraph and "\nFix: " in paragraph):
            yield f"docs/operate.md: {paragraph.splitlines()[0]} lacks a first command or a fix"


def text_in(name, old, new):
    def apply(document):
        assert old in document[name], old
        document[name] = document[name].replace(old, new, 1)

    return apply


CHECKS = [
    Check("promtool: rules and their tests", files, promtool, [
        ("an expression that is none", text_in("rules.yaml", "_up == 0", "_up === 0"), "check"),
        ("another threshold", text_in("rules.yaml", "expiry < 600", "expiry < 60"), "test"),
        ("too late", text_in("rules.yaml", "for: 5m", "for: 50m"), "test"),
        ("audit the wrong way round", text_in("rules.yaml", "audit_writable == 0", "audit_writable == 1"), "test"),
        ("a failed job that a later success does not end", text_in("rules.yaml", "unless on (namespace, job_name)", "unless on (namespace)"), "test"),
        ("a pod that has ended", text_in("rules.yaml", "Pending|Running", "Pending|Running|Failed"), "test"),
        ("a CronJob that never succeeded", text_in("rules.yaml", "kube_cronjob_created{namespace=~\".*keyferry.*\"}", "kube_cronjob_created{namespace=\"x\"}"), "test"),
        ("a counter that has just appeared", text_in("rules.yaml", "offset 15m", ""), "test"),
        ("another code", text_in("rules.yaml", 'code="L505"', 'code="L501"'), "test"),
    ]),
    Check("metrics, alerts, runbook", files, names, [
        ("a metric that is not", text_in("rules.yaml", "keyferry_broker_upstream_up", "keyferry_broker_upstream_ok"), "upstream_ok"),
        ("a metric that kube-state-metrics does not have", text_in("rules.yaml", "_last_terminated_exitcode", "_exitcode"), "status_exitcode"),
        ("a group that comes from nowhere", text_in("rules.yaml", "name: keyferry-kubernetes", "name: keyferry-k8s"), "come from"),
        ("one on the dashboard", text_in("dashboard.json", "keyferry_broker_sessions_open", "keyferry_broker_open"), "keyferry_broker_open"),
        ("an alert without a paragraph", text_in("operate.md", "### KeyferryNoRun", "### KeyferryNoRuns"), "no paragraph"),
        ("a paragraph without a fix", text_in("operate.md", "\nFix: ", "\nThen: "), "a fix"),
        ("an alert without a test", lambda d: d.update({"rules_test.yaml": d["rules_test.yaml"].replace("KeyferrySecretNotTaken", "KeyferryNoRun")}), "no test"),
    ]),
]
