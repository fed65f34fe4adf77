#!/bin/sh
# Say in one sentence each what is missing to install ae-search; annoy is compiled from source.
# usage: tools/check-prerequisites.sh PYTHON
set -u
python=${1:-}
missing=0

lacks() {
	echo "$1" >&2
	missing=1
}

version=$("${python:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
case $version in
3.11 | 3.12 | 3.13) ;;
*)
	lacks "Python 3.11, 3.12 or 3.13 is needed, and ${python:-python3} is ${version:-no working Python}: apt-get install python3.11 python3.11-venv python3.11-dev (python3.13 on newer releases), or name another one with make PYTHON=..."
	exit 1
	;;
esac
python=${python:-python3}

# Debian's python3 has venv but, without the package, neither ensurepip nor its wheels.
"$python" -c 'import venv, ensurepip; ensurepip.version()' 2>/dev/null ||
	lacks "The venv module of Python $version is missing: apt-get install python$version-venv."

compiler=
for candidate in ${CXX:-} c++ g++ clang++; do
	command -v "$candidate" >/dev/null 2>&1 && compiler=$candidate && break
done
[ -n "$compiler" ] || lacks "A C++ compiler is missing: apt-get install g++."

include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$include/Python.h" ] || lacks "The C headers of Python $version are missing: apt-get install python$version-dev."

exit $missing
