#!/usr/bin/env bash
# User data of the instances: the folders of task-definition.json with their owners, before the first task. Docker would make
# them as root, and the broker refuses an audit log that it cannot open (B601). Put the configuration where the last lines say.
set -euo pipefail
# The programs' own. A file system of its own with noexec is better for the spool.
install -d -m 0700 -o 10001 -g 10000 /var/log/keyferry
install -d -m 0700 -o 10002 -g 10000 /var/spool/keyferry
# broker/: broker.yaml, krb5.conf, role-id; loader/: pipeline.yaml; root:10000, 0440.
install -d -m 0750 -o root -g 10000 /etc/keyferry /etc/keyferry/broker /etc/keyferry/loader
