# Turns a fresh minbase tree into the lab's tree. Runs in a chroot, once per tree.
set -eu

echo lab >/etc/hostname
printf '127.0.0.1 localhost lab\n::1 localhost lab\n' >/etc/hosts

# Modules, huge pages and the kernel's debug file systems belong to the host; nothing is to start by the clock.
for unit in systemd-modules-load.service dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer; do
	ln -s /dev/null "/etc/systemd/system/$unit"
done

# Quadlet's podman-user-wait-network-online.service waits for this target; nothing else would start it.
systemctl add-wants multi-user.target network-online.target

# Device nodes of the machine's own: a bind mount of the host's would hand out the host's modes.
cat >/etc/tmpfiles.d/lab.conf <<'CONF'
c /dev/fuse    0666 root root - 10:229
d /dev/net     0755 root root -
c /dev/net/tun 0666 root root - 10:200
CONF

# A host with cgroup v1 controllers lends none to v2, and nspawn's system call filter has no keyrings to
# give: both only take what no test needs.
mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<'CONF'
[containers]
pids_limit = 0
keyring = false
CONF
# crun 1.8 (bookworm) raises RLIMIT_MEMLOCK before it loads a device filter and fails where the host withholds
# CAP_SYS_RESOURCE. runc does not.
if command -v runc; then
	printf '[engine]\nruntime = "runc"\n' >>/etc/containers/containers.conf
fi

# The rootless user. useradd also writes /etc/subuid and /etc/subgid.
useradd --create-home --uid 1000 --shell /bin/bash --groups systemd-journal user
install -d /var/lib/systemd/linger
touch /var/lib/systemd/linger/user
install -d -o user -g user /home/user/.local /home/user/.local/share /home/user/.local/share/containers
install -d -o user -g user /home/user/.config /home/user/.config/containers /home/user/.config/containers/systemd
install -d /etc/containers/systemd /var/lib/containers

# A journal on disk outlives a reboot and keeps one file per user, so the user can read theirs.
install -d -g systemd-journal -m 2755 /var/log/journal

apt-get clean
rm -rf /usr/share/doc /usr/share/man /usr/share/locale /var/log/*.log /var/log/apt
: >/etc/resolv.conf # netavark wants one for a rootless bridge; there is no name server

# Nothing is left to update at the first boot (ConditionNeedsUpdate=, systemd.unit(5)).
ldconfig
journalctl --update-catalog
touch /etc/.updated /var/.updated
