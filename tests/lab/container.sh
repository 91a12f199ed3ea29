#!/bin/bash
# A real systemd as PID 1 of a container that is thrown away, on a host that may have none: for tests/test_systemd.py.
#
#   container.sh boot PROJECT      boots; prints "ready PID"; ends and cleans up when its standard input ends
#   container.sh enter PID CMD...  runs a command inside, as root of the container; with $CONTAINER_ONLINE in this machine's network
#
# Its root is this machine's own, or $CONTAINER_ROOT with a systemd of its own, read through an overlay: what is there, and PROJECT, is
# there at once, and whatever is written vanishes. Exit code 77 says, in one sentence, why this host cannot do that.
set -euo pipefail

cannot() { echo "$*" >&2; exit 77; }

enter() { # as little of our own power as the container itself has: above all, nobody sets the host's clock
  local init=$1 net=--net; shift
  [ -z "${CONTAINER_ONLINE:-}" ] || net="" # in this machine's network
  exec nsenter --target "$init" --mount --uts --ipc $net --pid --cgroup -- \
    setpriv --inh-caps=-all --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog -- \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

boot() {
  project=$1 init=""
  [ "$(id -u)" = 0 ] || cannot "a container with systemd needs root"
  command -v systemd-nspawn >/dev/null || cannot "systemd-nspawn is missing: apt install systemd-container"
  cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
  [ -n "$cgroups" ] || cannot "no cgroup2 hierarchy is mounted on this host"
  work=$(mktemp -d /tmp/constellation-container.XXXXXX)
  cgroup=$cgroups/${work##*/}
  mkdir "$cgroup" 2>/dev/null || { rmdir "$work"; cannot "this host lets nobody make a cgroup below $cgroups"; }

  clean() {
    local code=$?
    trap - EXIT
    if [ -n "${nspawn:-}" ]; then # nothing inside is worth an orderly end
      kill -KILL "${init:-$nspawn}" 2>/dev/null || true
      wait "$nspawn" 2>/dev/null || true
    fi
    for n in $(seq 20); do find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.05; done
    umount -q "$work/mnt/root" || umount -q -l "$work/mnt/root" || true
    umount -q "$work/mnt" || umount -q -l "$work/mnt" || true
    rm -rf --one-file-system "$work"
  exit "$code"
  }
  trap clean EXIT
  trap 'exit 130' INT TERM

  mkdir "$work/mnt"
  mount -t tmpfs -o mode=755 tmpfs "$work/mnt" 2>/dev/null || cannot "this host lets nobody mount (a container without CAP_SYS_ADMIN?)"
  mkdir "$work/mnt/upper" "$work/mnt/work" "$work/mnt/root"
  root=$work/mnt/root
  mount -t overlay overlay -o "lowerdir=${CONTAINER_ROOT:-/},upperdir=$work/mnt/upper,workdir=$work/mnt/work" "$root" 2>/dev/null ||
    cannot "this host's kernel cannot lay an overlay over /"

  # A machine of its own: its own id, a journal in memory, no services but those that the test starts.
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  rm -f "$root/.dockerenv"
  rm -rf "$root/etc/constellation" "$root/var/lib/constellation"
  mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system"
  printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$root/etc/systemd/system/lab.target"

  ( echo "$BASHPID" >"$cgroup/cgroup.procs"
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    # bpf: without it DeviceAllow= and IPAddressDeny= would be said, but not done. adjtimex: to look at the clock, which
    # nobody inside has the capability to set.
    exec systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --directory="$root" \
      --machine=lab --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
      --capability=CAP_BPF --system-call-filter="bpf adjtimex clock_adjtime" --bind-ro="$project" \
      systemd.unit=lab.target systemd.show_status=no </dev/null >"$work/console" 2>&1 ) &
  nspawn=$!
  for n in $(seq 1800); do # 90 s, of which an idle machine needs a quarter of one
    init=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null | tr -d ' ') || init=""
    [ -n "$init" ] && [ -S "/proc/$init/root/run/systemd/private" ] && break
    kill -0 "$nspawn" 2>/dev/null || { cat "$work/console" >&2; cannot "systemd-nspawn does not run on this host (see above)"; }
    sleep 0.05
  done
  [ -S "/proc/${init:-none}/root/run/systemd/private" ] || { cat "$work/console" >&2; echo "systemd did not start within 90 s (see above)" >&2; exit 1; }
  ( enter "$init" timeout 90 systemctl is-system-running --wait ) >/dev/null || true # degraded will do
  echo "ready $init"
  cat >/dev/null
}

case ${1:-} in
  boot) boot "$2" ;;
  enter) shift; enter "$@" ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
