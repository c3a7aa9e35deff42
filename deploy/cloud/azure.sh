#!/bin/sh
# A Rekindle machine on Azure, computing on its processor.
#
#   GROUP=my-resource-group [TYPE=Standard_F4s_v2] ./azure.sh
#
# Nothing but SSH is open: reach the server by ssh -L 8000:127.0.0.1:8000 azureuser@ADDRESS.
set -eu
cd "$(dirname "$0")"
: "${GROUP:?the name of a resource group}"

az vm create --resource-group "$GROUP" --name rekindle \
  --image "${IMAGE:-Debian:debian-13:13-gen2:latest}" --size "${TYPE:-Standard_F4s_v2}" \
  --os-disk-size-gb 40 --admin-username azureuser --generate-ssh-keys \
  --nsg-rule SSH --public-ip-sku Standard --custom-data cloud-init.yml \
  --query publicIpAddress --output tsv
