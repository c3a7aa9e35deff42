#!/bin/sh
# A Rekindle machine on AWS. g4ad.xlarge has a Radeon Pro V520; c7i.xlarge computes on its processor.
#
#   IMAGE=ami-... KEY=my-ssh-key [TYPE=g4ad.xlarge] ./aws.sh
#
# IMAGE is Debian 13 of your region (https://wiki.debian.org/Cloud/AmazonEC2Image). Nothing but SSH
# is open: reach the server by ssh -L 8000:127.0.0.1:8000 admin@ADDRESS.
set -eu
cd "$(dirname "$0")"
: "${IMAGE:?the id of a Debian 13 image}" "${KEY:?the name of your SSH key pair}"

group=$(aws ec2 create-security-group --group-name "rekindle-$(date +%s)" \
  --description "Rekindle: SSH only" --query GroupId --output text)
aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 22 \
  --cidr "${FROM:-0.0.0.0/0}"
aws ec2 run-instances --image-id "$IMAGE" --instance-type "${TYPE:-c7i.xlarge}" \
  --key-name "$KEY" --security-group-ids "$group" --user-data file://cloud-init.yml \
  --metadata-options HttpTokens=required \
  --block-device-mappings 'DeviceName=/dev/xvda,Ebs={VolumeSize=40,VolumeType=gp3}' \
  --tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=rekindle}]' \
  --query 'Instances[0].InstanceId' --output text
