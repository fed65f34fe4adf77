"""Configuration messages of TensorFlow Serving that no Python package carries.

From tensorflow_serving/servables/tensorflow/session_bundle_config.proto, config/monitoring_config.proto and
config/ssl_config.proto.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

FIELD = descriptor_pb2.FieldDescriptorProto
INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", INT64),
        ("batch_timeout_micros", INT64),
        ("max_enqueued_batches", INT64),
        ("num_batch_threads", INT64),
        ("thread_pool_name", STRING),
        ("allowed_batch_sizes", [FIELD.TYPE_INT64]),
        ("pad_variable_length_inputs", FIELD.TYPE_BOOL),
    ],
    "PrometheusConfig": [("enable", FIELD.TYPE_BOOL), ("path", FIELD.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", ".tensorflow.serving.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", FIELD.TYPE_STRING),
        ("server_cert", FIELD.TYPE_STRING),
        ("custom_ca", FIELD.TYPE_STRING),
        ("client_verify", FIELD.TYPE_BOOL),
    ],
}


def _pool():
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields, start=1):
            field = described.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL)
            if isinstance(kind, str):
                field.type, field.type_name = FIELD.TYPE_MESSAGE, kind
            elif isinstance(kind, list):
                (field.type,), field.label = kind, FIELD.LABEL_REPEATED
            else:
                field.type = kind
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(wrappers)
    pool.Add(file)
    return pool


POOL = _pool()


def parse(message, text):
    """Return the message of that name that a text says; fails on a field that it does not have."""
    message_class = message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{message}"))
    return text_format.Parse(text, message_class())


def check_batch_sizes(batching):
    """What the server checks of allowed_batch_sizes, and what it would not tell."""
    sizes = list(batching.allowed_batch_sizes)
    assert sizes[0] == 1
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert all(larger <= 2 * smaller for smaller, larger in zip(sizes, sizes[1:], strict=False))
