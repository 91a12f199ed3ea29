#!/bin/bash
# A PC with a stock Debian kernel and its real drivers, emulated by qemu on a host that may have neither KVM nor modules:
# for tests/test_lab.py, and by hand.
#
#   guest.sh                 the good path: the real services behind the kernel's own 1-wire, I²C and Bluetooth drivers
#   guest.sh faults [-k X]   the fault matrix, or part of it; further arguments go to pytest
#   guest.sh pulses [MINUTES [CUTS]]   pulses on a real GPIO line, through kills, restarts and power cuts (10 minutes, 3 cuts)
#   guest.sh run CMD...      any command, as root of the guest
#
# Its root is this machine's own, read-only over 9p below an overlay in memory: the virtual environment, mosquitto and
# bluetoothd are there at once, and whatever is written vanishes. What is to stay goes to $LAB, which is .venv/lab/results
# here, or $LAB_RESULTS. The kernel is downloaded once, into .venv/lab. Exit code 77 says, in one sentence, why this host
# cannot do that, and which tests did not run. After $LAB_LIMIT seconds (600, faults 1800, each life between two power cuts
# 3600) the guest is switched off.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$project/.venv/lab
results=${LAB_RESULTS:-$cache/results}
tests=
# Its time is that of its instructions, 2 ns each, and stands still while this machine does something else: a conversion
# of 1 ms, or an answer in 5 s, is in time however busy this machine is.
processor=(-accel tcg,thread=single -icount shift=1 -cpu max -smp 1)
boot_modules=(virtio_pci 9pnet_virtio 9p overlay)

cannot() {
  local names=()
  [ -z "$tests" ] || mapfile -t names < <(sed -n 's/^def \(test_\w*\).*/\1/p' "$project/tests/lab/$tests")
  echo "$*${names:+: ${#names[@]} tests of $tests did not run, ${names[*]}}" >&2
  exit 77
}

look_for_tools() {
  [ "$(uname -m)" = x86_64 ] || cannot "the guest is a PC with this machine's own root, and this machine is $(uname -m)"
  local tool package
  while read -r tool package; do
    PATH=$PATH:/usr/sbin:/sbin:/usr/libexec/bluetooth command -v "$tool" >/dev/null || cannot "$tool is missing: apt install $package"
  done <<-END
	qemu-system-x86_64 qemu-system-x86
	busybox busybox-static
	modprobe kmod
	cpio cpio
	bluetoothd bluez
	btvirt bluez-test-tools
	dbus-daemon dbus-daemon
	mosquitto mosquitto
	END
}

fetch_kernel() { # the newest that apt knows; the parts that no lab needs are left out
  local package unpacked
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$2 ~ /^linux-image-[0-9]/ { print $2; exit }') || true
  [ -n "$package" ] || cannot "apt knows no kernel linux-image-amd64: the guest needs Debian's package lists (apt-get update)"
  echo "Downloading $package"
  unpacked=$(mktemp -d "$cache/new.XXXXXX")
  (cd "$unpacked" && apt-get -o APT::Sandbox::User=root download -qq "$package" && dpkg-deb --fsys-tarfile ./*.deb |
    tar -x --exclude='*/drivers/'{gpu,net,media,scsi,infiniband,staging} --exclude='*/kernel/sound') ||
    { rm -rf "$unpacked"; cannot "apt could not download $package: the guest needs a Debian mirror in reach, once"; }
  rm -f "$unpacked"/*.deb
  [ -d "$unpacked/lib" ] || mv "$unpacked/usr/lib" "$unpacked/lib" # from Debian 13 on the modules lie in /usr/lib
  rm -rf "$unpacked/usr"
  local release=${package#linux-image-}
  /sbin/depmod -b "$unpacked" "$release"
  ln "$unpacked/boot/vmlinuz-$release" "$unpacked/vmlinuz"
  echo "$release" >"$unpacked/release"
  chmod 755 "$unpacked"
  mv -T "$unpacked" "$cache/kernel"
}

make_initrd() { # busybox, the modules that reach the root, and the way there
  local tree=$cache/kernel work
  work=$(mktemp -d)
  mkdir -p "$work"/{bin,proc,sys,dev,root,lower,memory,modules}
  cp "$(command -v busybox)" "$work/bin/busybox"
  for module in "${boot_modules[@]}"; do
    /sbin/modprobe -d "$tree" -S "$(cat "$tree/release")" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$work/modules/"
    echo "/bin/busybox insmod /modules/${file##*/}" >>"$work/load"
  done
  cat >"$work/init" <<-'END'
	#!/bin/busybox sh
	set -e
	/bin/busybox --install -s /bin
	mount -t proc proc /proc
	mount -t devtmpfs dev /dev
	. /load
	share() { mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,$3 "$1" "$2"; }
	share root /lower ro,cache=loose
	mount -t tmpfs -o mode=755 memory /memory
	mkdir /memory/upper /memory/work
	mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root
	mkdir -p /root/lib/modules /root/lab
	share modules /root/lib/modules ro,cache=loose
	share results /root/lab rw
	mount --move /dev /root/dev
	mount --move /proc /root/proc
	exec switch_root /root /bin/busybox sh /lab/boot
	END
	chmod +x "$work/init"
  (cd "$work" && find . | cpio --quiet -o -H newc | gzip -1) >"$cache/kernel/initrd.new"
  mv "$cache/kernel/initrd.new" "$cache/kernel/initrd"
  rm -rf "$work"
}

build_gpio_sim() { # Debian leaves it out: the driver of its kernel's source, as a module for that kernel
  local release work series package
  release=$(cat "$cache/kernel/release") series=$(cut -d. -f1,2 "$cache/kernel/release")
  work=$(mktemp -d "$cache/gpio.XXXXXX")
  echo "Downloading linux-source-$series, for the driver gpio-sim (140 MB, once)"
  (cd "$work"
    apt-get -o APT::Sandbox::User=root download -qq "linux-source-$series" "linux-headers-$release" \
      $(apt-cache depends "linux-headers-$release" | awk '$2 ~ /^linux-(headers|kbuild)/ { print $2 }')
    for package in linux-headers-*.deb linux-kbuild-*.deb; do dpkg-deb -x "$package" .; done
    dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' | tar -xJ --strip-components=1 \
      --wildcards '*/drivers/gpio/gpio-sim.c' '*/drivers/gpio/*.h' '*/kernel/irq/irq_sim.c'
    mkdir module
    mv drivers/gpio/* module
    mv module/gpio-sim.c module/sim.c # a module of several parts is named as none of them
    # Its simulated interrupts are no module of the kernel, which hands out no irq_to_desc(); by its number is the same.
    sed 's/handle_simple_irq(irq_to_desc(\(\w*\)))/generic_handle_irq(\1)/' kernel/irq/irq_sim.c >module/irq_sim.c
    printf 'obj-m := gpio-sim.o\ngpio-sim-y := sim.o irq_sim.o\n' >module/Makefile
    sed -i "s,/usr/src,$work/usr/src," "usr/src/linux-headers-$release/Makefile"
    make -s -C "usr/src/linux-headers-$release" M="$work/module" modules
  ) >"$cache/gpio.log" 2>&1 ||
    { rm -rf "$work"; cannot "gpio-sim could not be built for the kernel $release (see $cache/gpio.log): it takes make, gcc and a Debian mirror"; }
  install -D -m 644 "$work/module/gpio-sim.ko" "$cache/kernel/lib/modules/$release/updates/gpio-sim.ko"
  /sbin/depmod -b "$cache/kernel" "$release"
  rm -rf "$work"
}

systemd_units() { # for a guest that boots systemd: a target that ends with the command
  local environment='Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8'
  mkdir -p "$results/units"
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=lab.service\n' >"$results/units/lab.target"
  cat >"$results/units/lab.service" <<-END
	[Unit]
	After=basic.target
	[Service]
	Type=oneshot
	WorkingDirectory=$project
	$environment
	ExecStart=/bin/bash /lab/command
	StandardOutput=file:/dev/console
	StandardError=file:/dev/console
	ExecStopPost=/bin/sh -c 'echo \$EXIT_STATUS >/lab/code; journalctl --no-pager >/lab/journal.txt; exec busybox poweroff -f'
	END
}

boot() { # runs a command in the guest; its output and its exit code are ours
  mkdir -p "$results"
  printf '%q ' "$@" >"$results/command"
  cat >"$results/boot" <<-END
	#!/bin/busybox sh
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 LAB=/lab TMPDIR=/run/tmp
	mount -t sysfs sys /sys
	mount -t tmpfs -o mode=755 run /run
	if [ -d /lab/units ]; then # a machine with a disk and systemd
	  modprobe -a virtio_blk ext4
	  rm -rf /var/lib/constellation /etc/constellation /.dockerenv
	  mkdir -p /var/lib/constellation /run/systemd/system /etc/systemd/journald.conf.d
	  mount -t ext4 /dev/vda /var/lib/constellation
	  cp /lab/units/* /run/systemd/system
	  for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-udev-settle.service apparmor.service e2scrub_reap.service; do
	    ln -s /dev/null "/run/systemd/system/\$unit" # the first would empty this machine's /tmp, file by file
	  done
	  printf '[Journal]\nStorage=volatile\n' >/etc/systemd/journald.conf.d/lab.conf
	  touch /etc/.updated /var/.updated # it need not be told that /usr is new to it
	  exec /lib/systemd/systemd --unit=lab.target --show-status=no
	fi
	mkdir -p /run/tmp /run/lock /dev/pts /dev/shm
	mount -t devpts pts /dev/pts
	mount -t tmpfs shm /dev/shm
	ln -sf /proc/self/fd /dev/fd
	/bin/busybox ip link set lo up
	hostname lab
	stty -opost </dev/console
	cd $(printf %q "$project")
	/bin/bash /lab/command >/dev/console 2>&1 </dev/null
	echo \$? >/lab/code
	cp /run/tmp/tests/lab0/*.txt /run/tmp/tests/lab0/house/*.log /lab 2>/dev/null
	/bin/busybox poweroff -f
	END
  local qemu=(
    qemu-system-x86_64 -M q35,usb=off,sata=off,smbus=off,vmport=off "${processor[@]}" -m 1024
    -nodefaults -no-user-config -display none -no-reboot -serial stdio
    -kernel "$cache/kernel/vmlinuz" -initrd "$cache/kernel/initrd"
    -append "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t tsc=reliable no_timer_check random.trust_cpu=on mitigations=off audit=0"
    -device virtio-rng-pci
    -fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap" -device virtio-9p-pci,fsdev=root,mount_tag=root
    -fsdev "local,id=modules,path=$cache/kernel/lib/modules,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=modules,mount_tag=modules
    -fsdev "local,id=results,path=$results,security_model=none" -device virtio-9p-pci,fsdev=results,mount_tag=results
  )
  [ ! -d "$results/units" ] || qemu+=(-drive "file=$results/disk,format=raw,if=virtio")
  timeout -k 5 "$limit" setpriv --pdeathsig KILL "${qemu[@]}" </dev/null &
  local timer=$! watcher="" ended=0
  if [ -d "$results/units" ]; then # a power cut, when the guest asks for one: what it has not written is gone
    { until [ -e "$results/cut" ]; do sleep 0.2; done; kill -KILL "$timer"; } &
    watcher=$!
  fi
  trap 'kill "$timer" $watcher 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM
  wait "$timer" || ended=$?
  [ ! -e "$results/cut" ] || exit 0
  [ "$ended" != 124 ] || { echo "the guest was switched off after $limit s (LAB_LIMIT)" >&2; exit 124; }
  [ -e "$results/code" ] || { echo "the guest ended without a word (qemu: $ended)" >&2; exit 1; }
  exit "$(cat "$results/code")"
}

pytest() { # a file of tests, inside
  local file=$1; shift
  boot env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 .venv/bin/python -m pytest -p no:cacheprovider -vv --tb=short --color=no --durations=0 --durations-min=1 \
    --junit-xml=/lab/tests.xml --basetemp=/run/tmp/tests "tests/lab/$file" "$@"
}

pulses() { # a life of the guest after the other, on one disk
  local code
  systemd_units
  truncate -s 64M "$results/disk"
  /sbin/mkfs.ext4 -q "$results/disk"
  while :; do
    code=0
    (boot .venv/bin/python -m tests.lab.pulses "$@") || code=$?
    [ -e "$results/cut" ] || exit "$code"
    sleep 1 # the emulator lets go of the disk
    rm "$results/cut"
  done
}

case ${1:-good} in
  good) tests=good_path.py limit=600 ;;
  faults) tests=faults.py limit=1800 ;;
  pulses) limit=3600 ;;
  run) limit=600 ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
limit=${LAB_LIMIT:-$limit}
look_for_tools
mkdir -p "$cache"
( flock 9
  [ -e "$cache/kernel/release" ] || fetch_kernel
  [ "$cache/kernel/initrd" -nt "$0" ] || make_initrd
  [ "${1:-}" != pulses ] || [ -e "$cache/kernel/lib/modules/$(cat "$cache/kernel/release")/updates/gpio-sim.ko" ] || build_gpio_sim
) 9>"$cache/lock"
rm -rf "$results"
mkdir -p "$results"
# Its services can write nothing beside their code: what is not compiled here would be compiled at each of their starts.
"$project/.venv/bin/python" -m compileall -q "$project"/{bootstrap_lib,services,tests/lab,tests/harness.py}
case ${1:-good} in
  pulses) pulses "${2:-10}" "${3:-3}" ;;
  run) boot "${@:2}" ;;
  *) pytest "$tests" "${@:2}" ;;
esac
