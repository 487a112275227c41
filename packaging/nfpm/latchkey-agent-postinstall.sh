#!/bin/sh
# An agent that runs is not restarted: that would end its flows.
set -e
case $1 in
configure | [0-9]*) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
