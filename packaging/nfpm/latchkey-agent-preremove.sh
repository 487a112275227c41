#!/bin/sh
# Not for an upgrade, to which deb says "upgrade" and rpm 1.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now latchkey-agent.service
	fi
	;;
esac
