#!/bin/sh
# Installs what building, the demo, the tests and the benches need (Debian 12). The only list.
set -eu
packages="gcc make pkg-config clang-14 llvm-14 libclang-rt-14-dev bpftool
 libxdp-dev libbpf-dev libelf-dev zlib1g-dev liburcu-dev libcjson-dev libmnl-dev linux-libc-dev
 libdpdk-dev dpdk-dev libncurses-dev
 iproute2 ethtool iputils-ping procps libcap2-bin kmod util-linux systemd
 python3 python3-pytest python3-pyte cppcheck
 nginx-light php-fpm redis-server redis-tools memcached iperf3 wrk apache2-utils curl netcat-openbsd
 socat webhook liburing-dev dnsmasq-base bind9-dnsutils openssh-client tshark strace jq
 haproxy openssh-server wget ncat netcat-traditional lighttpd vsftpd postgresql openssl
 liblwip-dev python3-uvloop libpython3.11-testsuite nodejs default-jre-headless
 apache2-bin gunicorn"
missing=""
for p in $packages; do
	dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "missing packages:$missing - run 'make deps' as root" >&2; exit 1; }
echo "installing:$missing"
# servers must not be started by their packages: policy-rc.d says no for this run
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; made=1; fi
trap '[ -z "$made" ] || rm -f $policy' EXIT
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
