#!/bin/sh
# Holds the arrows between the library's rooms: a room includes only rooms below it. docs/architecture.md draws them.
# Prints each include that points up, or sideways, and fails on any.
set -u
cd "$(dirname "$0")/.." || exit 1

# Prints the rooms that a room may include, beside itself.
below() {
    case $1 in
    base) echo "" ;;
    io | text | vk) echo "base" ;;
    weights) echo "base io vk" ;;
    forward) echo "base io vk weights" ;;
    tuning) echo "base io vk weights forward" ;;
    engine) echo "base io text vk weights forward tuning" ;;
    api) echo "base io text vk weights forward tuning engine" ;;
    *) return 1 ;;
    esac
}

failed=0
for room in lib/*/; do
    room=$(basename "$room")
    if ! allowed=$(below "$room"); then
        echo "lib/$room is no room of the house: see docs/architecture.md"
        failed=1
        continue
    fi
    for line in $(grep -rno '#include "[a-z]*/' "lib/$room" | sed 's/:#include "/:/; s,/$,,'); do
        target=${line##*:}
        case " $room $allowed " in
        *" $target "*) ;;
        *)
            [ -d "lib/$target" ] || continue
            echo "${line%:*}: $room includes $target, which is not below it"
            failed=1
            ;;
        esac
    done
done
[ $failed = 0 ] && echo "The arrows point down."
exit $failed
