#!/bin/sh
# Without the generator the units are gone at the reload, and what they ran would
# stay for ever: it is stopped, by a unit that the generator has made, which knows
# what is zerolet's. The manager of a user does so by itself: nothing runs as a
# user here. The files are plain Quadlet files again.
set -e
case "$1" in
remove | 0) ;; # of dpkg, and of rpm
*) exit 0 ;;
esac
if [ -d /run/systemd/system ] && systemctl cat zerolet-removed.service >/dev/null 2>&1; then
	timeout 90 systemctl start zerolet-removed.service || true # else it goes on without us
	rm -rf /run/zerolet-entry /run/zerolet-waker               # of sockets, root's alone; systemd leaves them
fi
