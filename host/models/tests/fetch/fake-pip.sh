#!/bin/sh
# Stands in for the Python interpreter in tests: `-m pip download ... NAME==VERSION -d FOLDER`.
# Tests run it through a symbolic link, and the folder of the link steers it:
#   wheels/NAME-VERSION.whl   the wheel that the index has
#   fail/NAME                 text for standard error; the download of NAME fails
#   wait                      if it is there, a download waits until it is gone
#   log                       gets a line for each download, with the package's name
here=$(dirname "$0")
while [ $# -gt 0 ]; do
    case "$1" in
    -d) shift; folder=$1 ;;
    *==*) name=${1%%==*}; version=${1##*==} ;;
    esac
    shift
done
echo "$name" >>"$here/log"
while [ -e "$here/wait" ]; do sleep 0.02; done
if [ -e "$here/fail/$name" ]; then
    cat "$here/fail/$name" >&2
    exit 1
fi
cp "$here/wheels/$name-$version.whl" "$folder/$name-$version-py3-none-any.whl"
