# Ends the command's tree when the worker says so, when the line to the worker closes, and when the worker has not been
# heard for as long as the command may live without news of it. $$ is the command's own process, which leads the group
# in which all of this runs; whoever has left the group is known by $mark in its environment, on Linux.
trap '' HUP INT QUIT TERM

# Sends a signal to those who have left the group. False if there are none.
strays() {
    found=1
    for file in $(grep -lsFe "$mark" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        pid=${pid%/environ}
        read -r stat <"/proc/$pid/stat" || continue
        # After the name: state, parent, group.
        set -- "$1" ${stat##*) }
        [ "$4" = "$$" ] && continue
        kill -s "$1" "$pid" && found=0
    done
    return "$found"
}

# What has left the group of a command that has ended by itself is not ours any more.
finish() {
    if kill -s 0 "$$"; then
        rounds=0
        while strays KILL && [ "$rounds" -lt 5 ]; do rounds=$((rounds + 1)); done
    fi
    kill -s KILL -- "-$$"
}

# Finishes after so many seconds, unless it is told that the worker was heard.
patience() {
    (
        sleeper=
        trap '[ -z "$sleeper" ] || kill -s KILL "$sleeper"; exit' USR1
        sleep "$1" &
        sleeper=$!
        # It may have been killed by the command.
        wait "$sleeper" && finish
    ) &
    timer=$!
}

patience "$seconds"
while read -r word seconds; do
    case $word in
    live)
        kill -s USR1 "$timer"
        wait "$timer"
        patience "$seconds"
        ;;
    term)
        strays TERM
        kill -s TERM -- "-$$"
        ;;
    *) break ;;
    esac
done
finish
