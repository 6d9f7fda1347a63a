#!/bin/sh
# One node's part of bringing a packed environment to its own disk:
#
#     sh stage.sh hold PLACE              a folder of our own; all goes, if the input ends before it
#                                         has a line
#     sh stage.sh room PLACE KIB          once it is held: is so much free?
#     sh stage.sh unpack PLACE SHA256 SHARED yes|no
#     sh stage.sh share PLACE SHARED      once it is held: the shared environment in its place
#     sh stage.sh remove PLACE
#
# PLACE/packed is the file, PLACE/root the environment. What cannot be done is told with the node and
# ends with 1; unpack with `yes` puts the shared environment in its place instead.

act=$1
place=$2
read -r host </proc/sys/kernel/hostname
owner="$SLURM_JOB_ID $HPCRUN_ATTEMPT"

fail() {
    echo "hpcrun: cannot stage the environment on $host: $1" >&2
    exit 1
}

# Whether a process of ours is of the job that staged a folder, or something came there just now.
in_use() {
    [ -n "$(find "$1" "$1/packed" -maxdepth 0 -mmin -10 2>/dev/null)" ] && return 0
    read -r job _ <"$1/job" || return 1
    grep -qsz "^SLURM_JOB_ID=$job\$" /proc/[0-9]*/environ
}

# What killed jobs of ours have left on this node. The task that holds our own place clears that.
sweep() {
    for left in "${place%/*}"/hpcrun-*-env; do
        if [ "$left" != "$place" ] && [ -d "$left" ] && [ -O "$left" ] && ! [ -L "$left" ] && ! in_use "$left"; then
            rm -rf "$left"
        fi
    done
}

# Others may be writing to it still, and are killed.
gone() {
    [ ! -O "$place" ] || until rm -rf "$place/packed" "$place" 2>/dev/null; do sleep 0.1; done
}

# The task that holds our place was started at the same time: what comes there before, it takes for
# an earlier attempt's, and would stay where the job is canceled.
await_hold() {
    tries=6000
    until [ "$(cat "$place/job" 2>/dev/null)" = "$owner" ]; do
        ! is_barred || fail "$place cannot be made: choose another storage.node_tmp in the site file"
        [ "$tries" != 0 ] || fail "$place was not made within ten minutes: the lines before may say why"
        tries=$((tries - 1))
        sleep 0.1
    done
}

# Whether our place is another user's, or where we may make none.
is_barred() {
    [ ! -O "$place" ] && { [ -e "$place" ] || [ ! -w "${place%/*}" ]; }
}

# A job that is canceled or requeued meanwhile: nobody else comes to this node.
case $act in
room | hold | unpack) trap 'trap "" TERM; gone; exit 143' TERM ;;
esac

case $act in
hold)
    # An earlier attempt's goes; another user's stays, and is never taken for ours.
    [ ! -O "$place" ] || rm -rf "$place"
    if mkdir -m 700 "$place"; then echo "$owner" >"$place/job"; fi
    # Whoever should have said that it is there is gone, as by a cancel. Where srun heard of that,
    # it has killed the other tasks.
    read -r _ || gone
    ;;
room)
    sweep
    await_hold
    free=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
    [ "${free:-0}" -ge "$3" ] || fail "${place%/*} has $((${free:-0} / 1024)) MiB free, and it needs $(($3 / 1024)): free some, or another storage.node_tmp"
    ;;
unpack)
    trouble=
    if [ "$(sha256sum <"$place/packed" | cut -c 1-64)" != "$3" ]; then
        trouble="the packed file arrived damaged"
    elif ! mkdir "$place/part" || ! said=$(tar -xzf "$place/packed" -C "$place/part" 2>&1); then
        trouble="it cannot be unpacked: $(printf %s "$said" | tail -n 1)"
    else
        mv "$place/part" "$place/root"
    fi
    rm -f "$place/packed"
    [ -n "$trouble" ] || exit 0
    rm -rf "$place/part"
    [ "$5" = yes ] || fail "$trouble"
    echo "hpcrun: $host takes the environment from $4: $trouble" >&2
    ln -s "$4" "$place/root" || fail "$place cannot be written"
    ;;
share)
    await_hold
    rm -rf "$place/packed" "$place/root"
    ln -s "$3" "$place/root" || fail "$place cannot be written"
    echo "hpcrun: $host takes the environment from $3" >&2
    ;;
remove)
    [ ! -O "$place" ] || rm -rf "$place"
    ;;
esac
