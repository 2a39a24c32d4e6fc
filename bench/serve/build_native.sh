#!/bin/sh
# Build llama.cpp's server for this processor from the sources in llama-cpp-python's sdist: build_native.sh FOLDER
# Fetches the file from the configured package index without running its build, and prints the server's path.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python "$here/fetch_sdist.py" llama-cpp-python 0.3.36 "$folder/sources.tar.gz"
mkdir -p "$folder/sources"
tar -xzf "$folder/sources.tar.gz" -C "$folder/sources" --strip-components=1
cmake -S "$folder/sources/vendor/llama.cpp" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
  -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF \
  -DLLAMA_BUILD_WEBUI=OFF > "$folder/cmake.log"
cmake --build "$folder/build" --target llama-server -j2 > "$folder/build.log"
echo "$folder/build/bin/llama-server"
