# Argument: a variable with its value. Standard input is a pipe with one line, what
# every secret begins with. It ends with the test, however that ends. Agents end
# with the test too, and nobody is left to end what their flows started, which has
# the variable in its environment, and to remove what they were handed.
trap '' HUP INT TERM
read -r mark
while read -r _; do :; done
for _ in 1 2 3 4 5; do
	for environ in /proc/[0-9]*/environ; do
		if grep -qszxF "$1" "$environ"; then
			process=${environ#/proc/}
			kill -KILL "${process%/environ}"
		fi
	done 2>/dev/null
	sleep 0.2
done
for file in /dev/shm/latchkey-credentials-*; do
	if [ -n "$mark" ] && grep -qsF "$mark" "$file"; then rm -f "$file"; fi
done
