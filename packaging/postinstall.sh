#!/bin/sh
# The managers that run find the generator now, not only at the next boot. What
# runs already goes on, with the proxy that it has.
#
# Nothing runs as a user here: a process of theirs would have root's terminal,
# descriptors and environment, and could be stopped. SIGHUP has a manager do what
# daemon-reload does (systemd(1)), and nobody waits for it. One that starts just
# now would die of it.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl kill --kill-who=main --signal=HUP --state=active 'user@*.service' || true
fi
