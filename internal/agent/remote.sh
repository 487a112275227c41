# Runs one flow on an SSH server, as the user that the agent has signed in as,
# and leaves nothing of it behind.
#
# The agent's bootstrap has read this from standard input. There follow three
# lines of shell words: settings of this script, variables for the flow, and the
# flow's command. Then comes an empty line every few seconds, as a sign of life.
# At the end of standard input, or when it is silent for twelve times $doze
# seconds, the flow ends.
#
# The line "$ready …" says how far this has come. What standard output has before
# it is not the flow's: the user's shell may have written it.

IFS= read -r settings && IFS= read -r vars && IFS= read -r words || exit 1
exec 3<&0 </dev/null
eval "$settings"
eval "set -- $words"
[ -f "$1" ] && [ -x "$1" ] || { echo "$ready missing"; exit 1; }
trap : PIPE # an agent that is gone must not end this before it has cleaned up
work=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-run-XXXXXX") && cd "$work" || { echo "$ready no-folder"; exit 1; }

# The flow gets a process group of its own, by which it is ended.
group=
if command -v setsid >/dev/null 2>&1; then group=setsid; else set -m; fi
echo "$ready started" || { cd / && rm -rf "$work"; exit 1; }
(
	exec 3<&-
	eval "$vars"
	TMPDIR=$work
	export TMPDIR
	exec $group "$@"
) &
flow=$!
exec >/dev/null 2>&1

stop() {
	kill -s TERM -- "-$flow" || kill -s TERM "$flow"
	n=0
	while [ "$n" -lt "$grace" ] && kill -s 0 -- "-$flow"; do
		sleep 1
		n=$((n + 1))
	done
	kill -s KILL -- "-$flow"
}
(
	trap 'kill "$nap"; exit' TERM
	trap 'silent=0; kill "$nap"' USR1
	silent=0
	while [ "$silent" -lt 12 ]; do
		sleep "$doze" &
		nap=$!
		wait "$nap"
		silent=$((silent + 1))
	done
	stop
) &
timer=$!
(
	while IFS= read -r line; do kill -s USR1 "$timer"; done
	stop
) <&3 &
reader=$!
exec 3<&-

trap stop HUP INT TERM
wait "$flow"
code=$?
while [ "$code" -gt 128 ] && kill -s 0 "$flow"; do # a signal for this script ended the wait
	wait "$flow"
	code=$?
done
trap '' HUP INT TERM
kill -s KILL -- "-$flow"
kill "$timer" "$reader"
# What has left the group is known by the run's mark, where /proc shows it.
n=0
while [ "$n" -lt 20 ]; do
	found=$(grep -lszxF -e "$mark" /proc/[0-9]*/environ)
	[ -n "$found" ] || break
	for p in $found; do
		p=${p#/proc/}
		kill -s KILL "${p%/environ}"
	done
	n=$((n + 1))
done
cd /
rm -rf "$work"
exit "$code"
