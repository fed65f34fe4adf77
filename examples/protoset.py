"""Write the descriptors that grpcurl needs, as TensorFlow Serving has no server reflection.

usage: python examples/protoset.py >serving.protoset

The messages are those that ae_search itself speaks; neither TensorFlow nor its stubs are needed.
"""

import sys
from importlib import resources

from google.protobuf import descriptor_pb2

METHODS = {
    "PredictionService": ("Predict", "PredictRequest", "PredictResponse"),
    "ModelService": ("GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse"),
}


def protoset() -> bytes:
    """Return a FileDescriptorSet with two services and their messages."""
    wire = resources.files("ae_search.client").joinpath("wire.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(wire)
    services = descriptor_pb2.FileDescriptorProto(
        name="services.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["tensorflow_serving/apis/predict.proto", "tensorflow_serving/apis/get_model_status.proto"],
    )
    for service, (method, request, response) in METHODS.items():
        described = services.service.add(name=service).method.add(name=method)
        described.input_type = f".tensorflow.serving.{request}"
        described.output_type = f".tensorflow.serving.{response}"
    files.file.append(services)
    for file in files.file:
        for message in file.message_type:
            name_json_fields(message)
    return files.SerializeToString()


def name_json_fields(message: descriptor_pb2.DescriptorProto) -> None:
    """Say what each field is called in JSON, which versions of grpcurl otherwise decide differently."""
    for field in message.field:
        first, *rest = field.name.split("_")
        field.json_name = field.json_name or first + "".join(word.capitalize() for word in rest)
    for nested in message.nested_type:
        name_json_fields(nested)


if __name__ == "__main__":
    sys.stdout.buffer.write(protoset())
