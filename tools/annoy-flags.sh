#!/bin/sh
# Print ANNOY_COMPILER_ARGS for an Annoy that runs on other machines of the kind too, x86 ones since about 2015.
# They replace all flags of Annoy's setup.py, so its own are repeated here, but for -march=native.
# usage: export ANNOY_COMPILER_ARGS="$(tools/annoy-flags.sh [MACHINE])"
set -eu
march=
case ${1:-$(uname -m)} in
x86_64 | amd64) march=-march=x86-64-v3, ;;
esac
echo "-D_CRT_SECURE_NO_WARNINGS,-fpermissive,$march-O3,-ffast-math,-fno-associative-math,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14"
