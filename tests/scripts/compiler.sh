#!/bin/sh
# Refuses what has a word of $REFUSED in its command, with the words of a real compiler; else gives what $BUILT has.
for word in $REFUSED; do
    case " $* " in *"$word"*)
        echo "source.c:1:10: fatal error: $SAID" >&2
        echo "compilation terminated." >&2
        exit 1;;
    esac
done
while [ $# -gt 1 ]; do
    case "$1" in -o) out=$2;; esac
    shift
done
case "$out" in *.so) cp "$BUILT/${out##*/fastact/}" "$out";; *) : > "$out";; esac
