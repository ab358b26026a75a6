#!/bin/sh
# The managers that run find the generator now, not only at the next boot. What
# runs already goes on, with the proxy that it has.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	for user in /run/user/*; do
		[ -S "$user/systemd/private" ] || continue
		setpriv --reuid="$(stat -c %u "$user")" --regid="$(stat -c %g "$user")" --clear-groups \
			env XDG_RUNTIME_DIR="$user" systemctl --user daemon-reload || true
	done
fi
