# Arguments: the folder of PostgreSQL's programs, the folder to work in, and
# whether what is committed survives a loss of power: on or off.
# Standard input is a pipe that nobody writes to. It ends when the process that
# started this shell stops the server or dies, and then nothing is left behind.
bin=$1 dir=$2 durable=$3
trap '' HUP INT TERM
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit
exec 3<&0 </dev/null

"$bin/initdb" -D data -U postgres -A trust --no-sync --locale=C -E UTF8 3<&- || exit

# Everything is in this folder, shared memory included: removing it removes all.
"$bin/postgres" -D data -k "$dir" \
	-c listen_addresses= -c port=5432 -c unix_socket_permissions=0700 \
	-c max_connections=200 -c max_pred_locks_per_transaction=256 -c shared_buffers=64MB -c dynamic_shared_memory_type=mmap \
	-c fsync="$durable" -c full_page_writes="$durable" -c autovacuum="$durable" \
	-c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB 3<&- &
server=$!
# A shell starts background programs with SIGQUIT ignored, and a signal that
# comes before the server has set its own handlers is lost: say it again.
(
	trap exit TERM
	read -r _ <&3
	while kill -QUIT "$server"; do sleep 0.2; done
) 2>/dev/null &
guard=$!
exec 3<&-

wait "$server"
status=$?
kill "$guard" 2>/dev/null
wait "$guard"
exit "$status"
