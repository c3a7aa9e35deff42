#!/bin/sh
# A Rekindle machine on Google Cloud, computing on its processor.
#
#   ZONE=europe-west4-a [TYPE=c3-highcpu-4] ./gcp.sh
#
# Debian's image there has no cloud-init, so Ubuntu's is taken. Your network's rules decide what is
# open; SSH suffices: gcloud compute ssh rekindle -- -L 8000:127.0.0.1:8000.
set -eu
cd "$(dirname "$0")"
: "${ZONE:?a zone, as in europe-west4-a}"

gcloud compute instances create rekindle --zone "$ZONE" --machine-type "${TYPE:-c3-highcpu-4}" \
  --image-family "${IMAGE:-ubuntu-2404-lts-amd64}" --image-project "${PROJECT:-ubuntu-os-cloud}" \
  --boot-disk-size 40GB --shielded-secure-boot \
  --metadata-from-file user-data=cloud-init.yml \
  --format 'value(networkInterfaces[0].accessConfigs[0].natIP)'
