#!/bin/sh
# The data, the master key among it, goes only when deb is told to purge. The
# user stays: files elsewhere may be its.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	;;
purge)
	rm -rf /var/lib/latchkey
	;;
esac
