#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# box.sh NAME UNITS BUILD - systemd as process 1 of namespaces of its own (the network's is the caller's), with
# the units of that folder and no others, and what is in BUILD as installed below /run/local, since a build below
# /tmp is nothing that a service with PrivateTmp= finds. NAME: its control group.
set -e
if [ "$1" = inside ]; then
	mount -t proc proc /proc
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t tmpfs tmpfs /run -o mode=755
	install -D -t /run/local/bin "$3/nstack"
	install -D -t /run/local/sbin "$3/nstackd" "$3/nstack-host"
	install -D -t /run/local/lib "$3/libnsocket.so"
	exec env -i PATH="$PATH" container=nstack SYSTEMD_UNIT_PATH="$2" SYSTEMD_LOG_TARGET=console \
		/lib/systemd/systemd --system --unit=box.target --show-status=no
fi
mount --make-rprivate /
mount -t cgroup2 cgroup2 /mnt
mkdir "/mnt/$1"
echo $$ > "/mnt/$1/cgroup.procs"
umount /mnt
exec unshare --mount --pid --cgroup --fork --kill-child "$0" inside "$2" "$3"
