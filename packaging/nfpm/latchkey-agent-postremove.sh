#!/bin/sh
# The machine's keys go only when deb is told to purge.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	;;
purge)
	rm -rf /var/lib/latchkey-agent
	;;
esac
