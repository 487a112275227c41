#!/bin/sh
# deb calls it with "configure" and the version before, rpm with the number of
# versions that are installed then.
set -e
case $1 in
configure | [0-9]*) ;;
*) exit 0 ;;
esac
if ! getent passwd latchkey >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers latchkey.conf
	else
		useradd --system --user-group --no-create-home --home-dir /var/lib/latchkey \
			--shell /usr/sbin/nologin --comment 'Latchkey server' latchkey
	fi
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# Only one that runs: starting and enabling it is for its admin. Agents and
	# their flows wait while the server is away.
	systemctl try-restart latchkey.service
fi
