#!/bin/sh
# TensorFlow Serving from the shell, with grpcurl (github.com/fullstorydev/grpcurl).
# usage: grpcurl.sh status | card | latents IMAGE...
# SERVER, MODEL, PROTOSET and GRPCURL_OPTIONS in the environment replace the values below; PROTOSET comes from protoset.py.
set -eu
SERVER=${SERVER:-127.0.0.1:8500}
MODEL=${MODEL:-fashion}
PROTOSET=${PROTOSET:-serving.protoset}
# For TLS: "-cacert ca.pem", and "-cert client.pem -key client.key"; for a token: "-H authorization:..."
GRPCURL_OPTIONS=${GRPCURL_OPTIONS:--plaintext}

# The request on standard input, the answer as JSON.
call() {
    # shellcheck disable=SC2086 # several options
    grpcurl $GRPCURL_OPTIONS -protoset "$PROTOSET" -max-msg-sz 67108864 -d @ "$SERVER" "tensorflow.serving.$1"
}

case "${1:-}" in
status)
    printf '{"model_spec": {"name": "%s"}}' "$MODEL" | call ModelService/GetModelStatus
    ;;
card)
    printf '{"model_spec": {"name": "%s", "signature_name": "describe"}}' "$MODEL" | call PredictionService/Predict
    ;;
latents)
    shift
    # Bytes are base64 in JSON. A whole file as argument of a command can be too long for the system: hence no argument.
    {
        printf '{"model_spec": {"name": "%s", "signature_name": "encode_bytes"},' "$MODEL"
        printf '"inputs": {"image_bytes": {"dtype": "DT_STRING",'
        printf '"tensor_shape": {"dim": [{"size": %d}]}, "string_val": [' $#
        comma=
        for image in "$@"; do
            printf '%s"' "$comma"
            base64 <"$image" | tr -d '\n'
            printf '"'
            comma=,
        done
        printf ']}}}'
    } | call PredictionService/Predict
    ;;
*)
    echo "usage: $0 status | card | latents IMAGE..." >&2
    exit 2
    ;;
esac
