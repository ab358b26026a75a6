#!/bin/sh
# Without the generator the units are gone at the reload, and what they ran
# would stay for ever: it is stopped. The files are plain Quadlet files again.
set -e
case "$1" in
remove | purge | 0) ;; # of dpkg, and of rpm
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0

# Stops what zerolet's units have left in a manager.
clear_manager() {
	"$@" daemon-reload || return 0
	"$@" list-units --all --plain --no-legend --full '*-proxy.socket' | while read -r socket load active _; do
		[ "$load" = not-found ] && [ "$active" = active ] || continue
		name=$(basename "$socket" -proxy.socket) # rpm takes a percent sign in a script for a macro
		"$@" stop -- "$socket" "$name-proxy.service" "$name.service" || true
	done
}

clear_manager systemctl
for user in /run/user/*; do
	[ -S "$user/systemd/private" ] || continue
	clear_manager setpriv --reuid="$(stat -c %u "$user")" --regid="$(stat -c %g "$user")" --clear-groups \
		env XDG_RUNTIME_DIR="$user" systemctl --user
done
